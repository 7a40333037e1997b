"""Tests that need the readers of other tools: collected only where they are named (`make test-exports`)."""

from pathlib import Path

import pytest


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave these tests out of runs that do not name their folder."""
    return None if any("exports" in argument for argument in config.args) else True
