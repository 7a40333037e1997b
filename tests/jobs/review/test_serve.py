"""The process of the review page ends cleanly at any moment."""

from pathlib import Path

import pytest
from rich.console import Console

from jobs.review.serve import serve
from tests.jobs.review.sweeps import make_sweep


def test_ctrl_c_while_the_address_is_printed_leaves_no_token(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout, _ = make_sweep(folder / "sweep", samples=100, seeds=1)
    tokens: list[Path] = []

    def interrupted(*told: object) -> None:
        tokens.extend(each for each in told if isinstance(each, Path) and each.is_file())
        raise KeyboardInterrupt

    monkeypatch.setattr("jobs.review.serve._tell", interrupted)
    serve(layout, Console(), port=None, host="127.0.0.1", reviewer="", blind=False, drawn=10, samples=1)
    (token,) = tokens
    assert not token.exists()
