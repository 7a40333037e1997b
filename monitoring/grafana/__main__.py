"""Write every dashboard to its file.

Invariant: the same code writes the same bytes.
"""

from pathlib import Path

from monitoring.grafana.boards import BOARDS
from monitoring.grafana.render import as_json

DASHBOARDS = Path(__file__).parent / "dashboards"


def main() -> None:
    """Write the files."""
    DASHBOARDS.mkdir(exist_ok=True)
    for board in BOARDS:
        (DASHBOARDS / f"{board.uid}.json").write_text(as_json(board), "utf-8")


if __name__ == "__main__":
    main()
