"""Scripts say what CLUSTER.yaml says; their last lines put a job back into the queue when, and only when, they should."""

import multiprocessing
import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster import slurm
from cluster.controller import Child
from cluster.job import HANDED_OVER, Job
from cluster.rendezvous import ClusterFolder
from cluster.runs import DEATHS, WORDS, Run, bad_nodes, deaths, note_folders, read_runs
from cluster.scheduler import RefusedError, Submission, read_submission
from cluster.script import RESTARTS_AFTER_MEMORY, first_lines, last_lines
from cluster.site import Site, shipped_sites
from cluster.slurm import Jobs, Orders, _shares, job_scripts
from jobs.cli.cluster_file import load_site


def jobs(folder: Path) -> Jobs:
    return Jobs("demo", folder / "cluster", folder / "logs", folder / "code", (Child("train", ("{python}", "-V")),))


def options(script: str) -> dict[str, str]:
    lines = [line.removeprefix("#SBATCH --") for line in script.splitlines() if line.startswith("#SBATCH ")]
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


@pytest.mark.process
@pytest.mark.parametrize("name", shipped_sites())
def test_scripts_of_shipped_sites_are_shell(name: str, folder: Path) -> None:
    kinds = load_site(name)
    scripts = job_scripts(kinds, jobs(folder))
    own = kinds[0].controller
    assert list(scripts) == ["controller", *(f"workers {kind.name}".strip() for kind in kinds)]
    for (title, script), kind in zip(scripts.items(), (kinds[0], *kinds), strict=True):
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)
        found = options(script)
        assert "requeue" in found
        if title == "controller":
            assert "gpus-per-node" not in found
            assert found.get("partition") == (own.partition or kind.partition)
            continue
        assert found.get("partition") == kind.partition
        assert found["cpus-per-task"] == str(kind.cpus_per_node)
        assert found["time"] == str(kind.time_min)
        if kind.gpus_per_node:
            assert found["gpus-per-node"].split(":")[-1] == str(kind.gpus_per_node)


def test_each_kind_of_worker_has_arrays_of_its_own(folder: Path) -> None:
    gpu = Site(nodes=5, time_min=60, name="gpu", partition="gpu", gpus_per_node=7, gpu_type="1g.10gb")
    cpu = Site(nodes=1, time_min=30, name="cpu", account="other")
    none = Site(nodes=1, time_min=30, name="none").model_copy(update={"nodes": 0})
    scripts = job_scripts([gpu, none, cpu], jobs(folder), largest=4)
    assert list(scripts) == ["controller", "workers gpu", "workers gpu 2", "workers cpu"]
    assert options(scripts["workers gpu 2"])["gpus-per-node"] == "1g.10gb:7"
    assert options(scripts["workers gpu"])["array"] == "0-3%4"
    assert options(scripts["workers cpu"])["time"] == "30"
    assert options(scripts["workers cpu"])["account"] == "other"
    assert "gpus-per-node" not in options(scripts["workers cpu"])
    assert options(scripts["controller"])["partition"] == "gpu"


def test_lost_workers_of_a_kind_are_replaced_by_that_kind_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    queued: list[tuple[str, int, str | None, object]] = []

    def queue(site: Site, made: Jobs, array: Any) -> str:
        queued.append((array.title, array.tasks, array.parameters.get("partition"), array.parameters.get("exclude")))
        return str(100 + len(queued))

    monkeypatch.setattr(slurm, "_queue", queue)
    gpu, cpu = (Site(nodes=9, time_min=60, name=name, partition=f"p-{name}") for name in ("gpu", "cpu"))
    orders = Orders((gpu, cpu), jobs(folder), 4)
    assert orders.workers("name", "cpu", 5, {"n2", "n1"}) == ["101", "102"]
    assert orders.successor("name") == "103"
    assert queued == [
        ("workers cpu", 4, "p-cpu", "n1,n2"),
        ("workers cpu 2", 1, "p-cpu", "n1,n2"),
        ("controller", 1, "p-gpu", None),
    ]


def test_a_submission_is_recorded_by_name_before_sbatch_is_asked_and_taken_back_when_it_refuses(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, cancelled = jobs(folder), []
    seen: list[Submission | None] = []

    def queue(site: Site, _: Jobs, array: Any) -> str:
        seen.append(read_submission(made.folder))
        if array.kind is not None and len(seen) > 2:
            raise RefusedError("sbatch refuses")
        return str(100 + len(seen))

    monkeypatch.setattr(slurm.shutil, "which", lambda _: "sbatch")
    monkeypatch.setattr(slurm, "largest_array", lambda: 1001)
    monkeypatch.setattr(slurm, "ask", cancelled.append)
    monkeypatch.setattr(slurm, "_queue", queue)
    kinds = [Site(nodes=2, time_min=60)]
    done = slurm.submit(kinds, made)
    assert read_submission(made.folder) == done
    assert (done.controller, done.workers) == ("101", ("102",))
    first = seen[0]
    assert first is not None
    assert (first.name, first.controller, first.workers) == (done.name, "", ())
    assert done.kinds == {"102": ""}
    with pytest.raises(RefusedError):
        slurm.submit(kinds, made)
    name = cancelled[0][2].removeprefix("--name=")
    assert name != done.name
    assert cancelled == [["scancel", "--quiet", f"--name={name}", f"--user={done.user}"]]
    assert read_submission(made.folder) == done


def test_every_key_arrives(folder: Path) -> None:
    site = Site(
        nodes=5,
        time_min=60,
        array_parallelism=2,
        account="me",
        qos="low",
        constraint="a|b",
        exclusive=True,
        mem_gb=1.5,
        gpus_per_node=2,
        gpu_type="a100",
        sbatch=("--reservation=course", "--no-kill"),
        notice_s=90,
        python="python3.11",
        setup=("module load x",),
        environment={"GREETING": "a b"},
        prefix="apptainer exec x.sif",
        srun_args=("--mpi=none",),
    )
    script = job_scripts([site], jobs(folder))["workers"]
    assert (
        options(script).items()
        >= {
            "array": "0-4%2",
            "account": "me",
            "qos": "low",
            "constraint": "'a|b'",
            "exclusive": "",
            "mem": "1536M",
            "gpus-per-node": "a100:2",
            "reservation": "course",
            "no-kill": "",
            "signal": "USR2@90",
            "dependency": "'after:<controller job>'",
        }.items()
    )
    assert "\nmodule load x\n" in script
    assert "\nexport GREETING='a b'\n" in script
    assert "srun --unbuffered" in script
    assert "--cpus-per-task=1 --mpi=none apptainer exec x.sif python3.11 -u -m submitit.core._submit" in script


def test_arrays_are_cut_and_share_what_may_run_at_once(folder: Path) -> None:
    site = Site(nodes=10, time_min=60, array_parallelism=5)
    scripts = job_scripts([site], jobs(folder), largest=4)
    assert list(scripts) == ["controller", "workers", "workers 2", "workers 3"]
    arrays = [options(script).get("array") for title, script in scripts.items() if title != "controller"]
    assert arrays == ["0-3%2", "0-3%2", "0-1%1"]
    alone = job_scripts([Site(nodes=2, time_min=60)], jobs(folder), largest=1)  # a site without job arrays
    assert [options(script).get("array") for script in alone.values()] == [None, None, None]


@given(st.integers(1, 500), st.lists(st.integers(1, 100), min_size=1, max_size=8))
def test_shares(total: int, sizes: list[int]) -> None:
    total = min(total, sum(sizes))
    shares = _shares(total, sizes)
    assert all(share >= 1 for share in shares)
    assert total <= sum(shares) < total + len(sizes)


def run_script(
    folder: Path,
    command: str,
    *,
    restarts: int = 0,
    cancelled: bool = False,
    refusals: int = 0,
    controller: bool = True,
    preempted: bool = False,
) -> "tuple[int, list[str], Run]":
    """Run a job's script where scontrol refuses so often: its exit code, what it asked, and its record."""
    commands = folder / "bin"
    commands.mkdir()
    since = "2026-11-27T16:07:27" if preempted else "None"
    for name in ("scontrol", "scancel"):  # they write down what they are asked
        (commands / name).write_text(
            f'#!/bin/sh\nif [ "$1" = show ]; then echo "JobId=70 PreemptTime={since}"; exit; fi\n'
            f'echo {name} "$@" >> "{folder}/asked"\n'
            f'if [ {name} = scontrol ] && [ $(wc -l < "{folder}/asked") -le {refusals} ]; then echo not now; exit 1; fi\n'
        )
        (commands / name).chmod(0o755)
    (commands / "sleep").write_text("#!/bin/sh\n")
    (commands / "sleep").chmod(0o755)
    made = jobs(folder)
    files = ClusterFolder(made.folder)
    for each in (files.runs, made.logs):
        each.mkdir(parents=True)
    if cancelled:
        files.cancelled.touch()
    job = {
        "SLURM_JOB_ID": "77",
        "SLURM_ARRAY_JOB_ID": "70",
        "SLURM_ARRAY_TASK_ID": "7",
        "SLURM_RESTART_COUNT": str(restarts),
        "SLURMD_NODENAME": "n 7",
    }
    script = "\n".join([*first_lines(made.folder, made.logs, "a name", controller), command, *last_lines()])
    log = made.logs / "70_7_0_log.out"
    log.write_text("slurmstepd: error: Detected 1 oom-kill event(s): of an earlier run\n")
    with log.open("ab") as output:
        done = subprocess.run(
            ["bash", "-c", script],
            env=os.environ | job | {"PATH": f"{commands}:{os.environ['PATH']}"},
            check=False,
            stdout=output,
            stderr=output,
        )
    asked = (folder / "asked").read_text().splitlines() if (folder / "asked").exists() else []
    (run,) = read_runs(made.folder, made.logs, running=())
    return done.returncode, asked, run


@pytest.mark.process
@pytest.mark.parametrize(
    ("code", "restarts", "cancelled", "again"),
    [
        (75, 0, False, True),
        (75, 500, False, True),
        (0, 0, False, False),
        (1, 0, False, False),
        (137, 3, False, True),
        (137, 20, False, False),
        (75, 0, True, False),
        (143, 0, True, False),
    ],
)
def test_last_lines(folder: Path, code: int, restarts: int, cancelled: bool, again: bool) -> None:
    returned, asked, run = run_script(folder, f"(exit {code})", restarts=restarts, cancelled=cancelled)
    assert returned == code
    user = subprocess.check_output(["id", "-un"], text=True).strip()
    pending = f"scancel --quiet --state=PENDING --user={user} --name=a name"
    assert asked == (["scontrol requeue 70_7"] if again else [pending])
    assert (run.job_id, run.restart, run.node, run.code) == ("70_7", restarts, "n 7", code)
    assert run.requeue == ("asked" if again else "")


@pytest.mark.process
def test_a_controller_with_a_successor_ends_well_and_leaves_the_workers_in_the_queue(folder: Path) -> None:
    returned, asked, run = run_script(folder, f"(exit {HANDED_OVER})")
    assert (returned, asked, run.cause) == (0, [], "completed")


@pytest.mark.process
@pytest.mark.parametrize(
    ("command", "refusals", "cause", "words", "requeues"),
    [
        ("/no/such/python -c 1", 0, "not_started", "(exit code 127)", 0),
        ("no-such-module load cuda; exit 3", 0, "not_started", "(exit code 3)", 0),
        ("no-such-module load cuda; (exit 137)", 0, "killed", "(SIGKILL)", 1),
        ("echo 'no space left'; exit 1", 0, "failed", ": no space left", 0),
        ("kill -9 $$", 0, "vanished", "gone without a word", 0),
        ("(exit 137)", 0, "killed", "(SIGKILL)", 1),
        ("echo 'slurmstepd: error: Detected 1 oom-kill event(s)'; (exit 137)", 0, "memory", "killed for memory", 1),
        ("echo 'out of memory, a trial says'; (exit 137)", 0, "killed", "(SIGKILL)", 1),
        (
            "echo 'slurmstepd: error: *** JOB 70 CANCELLED AT now DUE TO TIME LIMIT ***'; (exit 143)",
            0,
            "time_limit",
            "time limit",
            1,
        ),
        (
            "echo 'slurmstepd: error: *** JOB 70 CANCELLED AT now DUE TO PREEMPTION ***'; (exit 143)",
            9,
            "preempted",
            "requeue refused: not now",
            1,
        ),
        ("echo 'slurmstepd: error: *** JOB 70 ON n7 CANCELLED AT now ***'; (exit 143)", 0, "cancelled", "", 0),
        ("echo 'slurmstepd: error: *** STEP 70.0 ON n7 CANCELLED AT now ***'; (exit 143)", 0, "killed", "(SIGTERM)", 1),
        ("(exit 75)", 2, "requeued", "", 3),
        ("(exit 75)", 9, "requeue_refused", "could not requeue itself", 4),
    ],
)
def test_every_death_has_a_name(
    folder: Path, command: str, refusals: int, cause: str, words: str, requeues: int
) -> None:
    """Cause, words, and how often the script asks to be requeued; the log of an earlier run does not count."""
    _, asked, run = run_script(folder, command, refusals=refusals, controller=False)
    assert run.cause == cause
    assert words in run.words
    assert asked == ["scontrol requeue 70_7"] * requeues
    assert f"on n 7 {WORDS.get(cause, cause)}" in run.words
    assert str(run.log) in run.words
    assert (run in deaths([run])) == (cause in DEATHS)
    assert set(bad_nodes([run], ())) == ({"n 7"} if cause in ("not_started", "failed") else set())


@pytest.mark.process
def test_a_job_that_is_preempted_with_time_to_leave_is_not_taken_for_a_cancelled_one(folder: Path) -> None:
    """SLURM then sends SIGTERM to the job's steps alone, and says why only when it is asked."""
    term = "echo 'slurmstepd-n7: error: *** STEP 70.0 ON n7 CANCELLED AT now ***'; (exit 143)"
    _, asked, run = run_script(folder, term, preempted=True)
    assert (asked, run.cause) == (["scontrol requeue 70_7"], "preempted")


@pytest.mark.process
def test_a_job_that_is_killed_for_memory_again_and_again_is_given_up_sooner(folder: Path) -> None:
    said = "echo 'slurmstepd: error: Job 70 exceeded memory limit (9 > 1), being killed'; (exit 137)"
    _, asked, run = run_script(folder, said, restarts=RESTARTS_AFTER_MEMORY, controller=False)
    assert (asked, run.cause) == ([], "memory")


@pytest.mark.process
@pytest.mark.parametrize(("code", "stays"), [(137, False), (1, True)])
def test_the_script_removes_what_killed_processes_leave(folder: Path, code: int, stays: bool) -> None:
    """Its supervisor's folders and semaphores that no process has open; a supervisor that ends removes them itself."""
    left, others = folder / f"ganlab{os.getuid()}-70_7-a b", folder / f"ganlab{os.getuid()}-"
    left.mkdir()
    others.mkdir()
    (left / "file").touch()
    semaphore = Path(f"/dev/shm/sem.mp-of-a-test-{os.getpid()}")
    semaphore.touch()
    opened = multiprocessing.get_context("spawn").Semaphore()
    try:
        record = f"temporary={left}\ntemporary={others}\ntemporary={folder}"  # the last two as cut short
        run_script(folder, f'echo {shlex.quote(record)} >> "$ganlab_run"; (exit {code})')
        assert (left.exists(), semaphore.exists()) == (stays, stays)
        assert others.exists()
        assert Path(f"/dev/shm/sem.{opened._semlock.name.strip('/')}").exists()
    finally:
        semaphore.unlink(missing_ok=True)


def test_a_supervisor_names_its_folders_once(folder: Path) -> None:
    made = jobs(folder)
    record = ClusterFolder(made.folder).runs / "7.0"
    record.parent.mkdir(parents=True)
    record.write_text("node=n1\nbegan=100\nfrom=0\n")
    note_folders(made.folder, Job("7", 0, "n1", made.logs), (Path("/tmp/a b"), Path("/tmp/a b")))
    assert record.read_text() == "node=n1\nbegan=100\nfrom=0\ntemporary=/tmp/a b\n"
