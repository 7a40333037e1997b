"""Python processes that ganlab starts: what they search, in which order, and that all are started in one way."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.interpreter import STARTUP, USER_PATH, python, safe_environment, safe_exports, safe_python, user_path

ROOT = Path(__file__).parents[2]
PACKAGES = ("cluster", "ganlab", "jobs", "monitoring", "storage")
SEARCHED = "import json, sys; print(json.dumps(sys.path))"
PLANTED = ("cluster", "ganlab", "jobs", "monitoring", "storage", "click", "numpy", "yaml")


@pytest.fixture
def users(folder: Path) -> Path:
    """A folder of a user's, with modules that must not be imported, and one that must be found."""
    for name in PLANTED:
        (folder / f"{name}.py").write_text("raise SystemExit('shadowed by ' + __file__)\n")
    (folder / "mine.py").write_text("NAME = 'mine'\n")
    return folder


def run(command: list[str], cwd: Path, **environment: str) -> str:
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def environment(**variables: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", USER_PATH)}
    return kept | variables


@pytest.mark.process
def test_a_users_folders_are_searched_last_and_the_current_one_not_at_all(users: Path) -> None:
    program = "import cluster, ganlab, jobs, monitoring, storage, numpy, yaml, click, mine; print(mine.NAME)"
    safe = safe_environment(environment(PYTHONPATH=str(users)))
    assert run(python("-c", program), users, **safe) == "mine\n"
    searched = json.loads(run(python("-c", SEARCHED), users, **safe))
    assert searched[-1] == str(users)
    assert "" not in searched
    assert str(STARTUP) not in searched
    # What such a process starts in turn, by itself, is as safe.
    nested = f"import subprocess, sys; print(subprocess.check_output([sys.executable, '-c', {SEARCHED!r}], text=True))"
    assert json.loads(run(python("-c", nested), users, **safe)) == searched
    # Without a user's path, nothing is added; the current folder is not searched either.
    assert str(users) not in json.loads(run(python("-c", SEARCHED), users, **safe_environment(environment())))


def test_a_safe_environment_stays_as_it_is_and_relative_folders_stay_the_same(
    users: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(users)
    given = environment(PYTHONPATH=os.pathsep.join((".", "deeper", "/absolute")))
    safe = safe_environment(given)
    assert user_path(given) == user_path(safe) == [str(users), str(users / "deeper"), "/absolute"]
    monkeypatch.chdir("/")
    assert safe_environment(safe) == safe
    assert user_path(environment()) == []
    monkeypatch.setenv("PYTHONPATH", "/absolute")
    monkeypatch.delenv(USER_PATH, raising=False)
    with safe_python(), safe_python():
        assert os.environ["PYTHONPATH"] == str(STARTUP)
        assert os.environ[USER_PATH] == "/absolute"
    assert os.environ["PYTHONPATH"] == "/absolute"
    assert USER_PATH not in os.environ


@pytest.mark.process
def test_the_sitecustomize_that_python_would_have_run_runs_too(users: Path) -> None:
    (users / "sitecustomize.py").write_text("import sys\nsys.customized = True\n")
    safe = safe_environment(environment(PYTHONPATH=str(users)))
    assert run(python("-c", "import sys; print(sys.customized)"), users, **safe) == "True\n"


@pytest.mark.process
def test_a_batch_script_is_safe_for_a_copy_of_the_packages(users: Path, tmp_path: Path) -> None:
    """The copy is searched first, although ganlab is installed too."""
    copy = tmp_path / "copied code"
    copy.mkdir()
    for package in PACKAGES:
        (copy / package).symlink_to(ROOT / package)
    script = "\n".join([*safe_exports(copy), f'exec "{sys.executable}" -c "$1"'])
    program = "import jobs, mine, numpy, sys; print(jobs.__file__)"
    given = environment(PYTHONPATH=str(users))
    assert run(["sh", "-c", script, "sh", program], users, **given) == f"{copy}/jobs/__init__.py\n"


@pytest.mark.process
@pytest.mark.parametrize(
    "command",
    [
        [sys.executable, str(ROOT / "ganlab_command.py")],  # as the installed `ganlab` begins
        [sys.executable, "-m", "jobs.cli"],
    ],
    ids=["ganlab", "python -m jobs.cli"],
)
def test_the_command_itself_is_not_shadowed(users: Path, command: list[str]) -> None:
    if "-m" in command:  # Python looks for `jobs` where it starts before any code of ours can run
        (users / "jobs.py").unlink()
        given = environment()
    else:
        given = environment(PYTHONPATH=str(users))
    told = json.loads(run([*command, "plan", "known-support", "--no-timing", "--json"], users, **given))
    assert told["name"] == "known-support"


def test_the_installed_command_begins_in_a_module_of_its_own() -> None:
    assert 'ganlab = "ganlab_command:main"' in (ROOT / "pyproject.toml").read_text("utf-8")


NOT_PYTHON = {"jobs/cli/pipeline.py": 1, "cluster/scheduler.py": 1, "cluster/checks.py": 1}  # git, and SLURM's commands
SAFE_STARTS = {  # file: (calls that start Python, what makes them safe)
    "cluster/reaper.py": (2, "safe_python"),
    "cluster/supervise.py": (1, "safe_environment"),
    "cluster/local.py": (3, "guarded"),
    "cluster/ray_driver.py": (1, "in_empty_folder"),
    "ganlab/models/confined.py": (1, '"-I", "-B", str'),  # isolated, with an environment of its own
}
STARTS = {
    "Popen",
    "run",
    "call",
    "check_call",
    "check_output",
    "ensure_running",
    "LocalCluster",
    "init",
    "Process",
    "system",
    "execv",
    "execve",
    "execvp",
    "spawnv",
    "posix_spawn",
    "ProcessPoolExecutor",
    "Pool",
}
MODULES = {"subprocess", "os", "ray", "resource_tracker", "multiprocessing", ""}


def test_every_process_is_started_in_the_one_safe_way() -> None:
    starts: dict[str, int] = {}
    for file in sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py")):
        name, text = str(file.relative_to(ROOT)), file.read_text("utf-8")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Attribute) and (getattr(node.value, "id", ""), node.attr) == ("sys", "executable"):
                assert name in ("cluster/interpreter.py", "cluster/slurm.py", "ganlab/models/confined.py"), name
            if not isinstance(node, ast.Call):
                continue
            function = node.func
            called = getattr(function, "attr", getattr(function, "id", ""))
            module = getattr(getattr(function, "value", None), "id", "") if isinstance(function, ast.Attribute) else ""
            ours = (called == "Process" and not module) or (called in ("run", "call") and module != "subprocess")
            if called in STARTS and module in MODULES and not ours:
                starts[name] = starts.get(name, 0) + 1
    assert starts == NOT_PYTHON | {name: count for name, (count, _) in SAFE_STARTS.items()}
    for name, (_, safe) in SAFE_STARTS.items():
        assert f"{safe}(" in (ROOT / name).read_text("utf-8"), name
