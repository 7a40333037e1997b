"""Start of `python -m jobs.cli`.

Invariant: the search path is in order (`cluster/startup/sitecustomize.py`) before any of our packages is imported.
"""

import runpy
from pathlib import Path

runpy.run_path(str(Path(__file__).parents[2] / "cluster" / "startup" / "sitecustomize.py"))

from jobs.cli.main import main  # noqa: E402  # after the search path is in order

main()
