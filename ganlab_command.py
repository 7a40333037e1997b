"""Start of the command `ganlab`, in a module whose name no folder of a user's is likely to hold.

Invariant: the search path is in order (`cluster/startup/sitecustomize.py`) before any package is imported.
"""

import gc
import runpy
from pathlib import Path

OBJECTS = 50_000  # new ones before garbage is looked for; with Python's 700, looking takes a fifth of the start
STARTUP = Path(__file__).parent / "cluster" / "startup" / "sitecustomize.py"


def main() -> None:
    """Run the command line."""
    gc.set_threshold(OBJECTS)
    runpy.run_path(str(STARTUP))
    from jobs.cli.main import main

    main()


if __name__ == "__main__":
    main()
