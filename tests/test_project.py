"""The project as a distribution: its five packages are its own, and what it says of itself holds."""

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import group_of
from tests.import_circles import circle, imports

PACKAGES = {"cluster", "ganlab", "jobs", "monitoring", "storage"}
ROOT = Path(__file__).parents[1]


def test_no_dependency_ships_one_of_our_names() -> None:
    for distribution in importlib.metadata.distributions():
        if distribution.metadata["Name"] == "ganlab":
            continue
        clash = {path.parts[0] for path in distribution.files or () if len(path.parts) > 1} & PACKAGES
        assert not clash, f"{distribution.metadata['Name']} ships {clash}"


def test_the_distribution_cannot_be_uploaded() -> None:
    assert "Private :: Do Not Upload" in importlib.metadata.metadata("ganlab").get_all("Classifier")


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_every_module_says_its_purpose_and_invariant(package: str) -> None:
    for module in sorted((ROOT / package).rglob("*.py")):
        docstring = compile(module.read_text("utf-8"), module, "exec").co_consts[0]
        assert isinstance(docstring, str), module
        assert "Invariant:" in docstring, module


def test_a_unit_test_cannot_start_a_process() -> None:
    with pytest.raises(AssertionError, match=r"test_a_unit_test_cannot.* is a unit test and starts a process; mark it"):
        subprocess.run([sys.executable, "-c", ""], check=True)
    with pytest.raises(AssertionError, match="mark it"):
        os.fork()
    subprocess.run(["git", "--version"], capture_output=True, check=True)  # as the provenance of a sweep does
    with pytest.raises(FileNotFoundError):
        subprocess.run(["/nowhere/at all"], check=True)


def test_the_tests_of_a_service_or_file_are_one_group(request: pytest.FixtureRequest) -> None:
    """So that two processes of a run never start two SLURMs, and a file's fixtures are made once."""
    groups = [group_of(f"tests/{name}::test[a/b]") for name in ("slurm/test_a.py", "slurm/test_b.py", "jobs/test_a.py")]
    assert groups == ["slurm", "slurm", "tests/jobs/test_a.py"]
    sharing = [item for item in request.session.items if "hosts" in getattr(item, "fixturenames", ())]
    assert {group_of(item.nodeid) for item in sharing} <= {"slurm"}


@pytest.mark.process
def test_help_is_quick_to_load() -> None:
    """No heavy library is imported for --help."""
    program = "import sys, jobs.cli.main; print({'torch', 'ray', 'dask', 'zarr', 'numpy'} & set(sys.modules))"
    assert (
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "set()\n"
    )


def test_the_architecture_names_every_folder() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    assert all(f"`{package}/`" in text for package in PACKAGES)


def test_no_module_imports_itself_by_way_of_others() -> None:
    """Also not for types alone, nor inside functions."""
    graph = imports()
    assert {"jobs.spec.sweep", "ganlab.models.families.base"} <= graph.keys()
    assert circle(graph) == []


def test_a_circle_of_imports_is_found() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) in (
        ["a", "b", "c", "a"],
        ["b", "c", "a", "b"],
        ["c", "a", "b", "c"],
    )


def test_measuring_imports_nothing_above_it() -> None:
    upper = ("jobs.review", "jobs.report", "jobs.watching", "jobs.cli.main")
    above = {
        name: [each for each in found if each.startswith(upper)]
        for name, found in imports().items()
        if name.startswith("jobs.measuring")
    }
    assert not any(above.values()), above
