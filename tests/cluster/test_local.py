"""Dask on this machine: results as they come, workers that die, and nothing left behind."""

import os
import signal
import time
from collections.abc import Container
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from cluster.dask_node import worker_command
from cluster.gpus import VISIBLE, dask_setup, visible_gpus
from cluster.local import local_dask, local_memory_bytes, local_processes, local_ray, local_resources
from cluster.memory import MemoryKills
from cluster.ray_node import usable_resources


def square(number: int) -> int:
    return number * number


def die_once(path: str) -> int:
    """Kill the worker that runs this, the first time."""
    if not Path(path).exists():
        Path(path).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return 1


def fail(number: int) -> int:
    raise ValueError(f"task {number}")


@pytest.mark.process
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_dask_maps_survives_a_killed_worker_and_leaves_nothing(folder: Path) -> None:
    before = set(psutil.Process().children(recursive=True))
    with local_dask(2) as map:
        assert sorted(map(square, range(50))) == [number * number for number in range(50)]
        assert list(map(die_once, [str(folder / "died")])) == [1]
        with pytest.raises(ValueError, match="task 3"):
            list(map(fail, [3]))
        assert list(map(square, [])) == []
    deadline = time.monotonic() + 10
    while left := [
        p for p in set(psutil.Process().children(recursive=True)) - before if "resource_tracker" not in str(p.cmdline())
    ]:
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def be_killed(number: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def children() -> set[psutil.Process]:
    found = [each for each in psutil.Process().children(recursive=True) if each.status() != psutil.STATUS_ZOMBIE]
    return {each for each in found if "resource_tracker" not in str(each.cmdline())}


@pytest.mark.process
def test_processes_keep_the_order_and_leave_nothing() -> None:
    before = children()
    with local_processes(2) as map:
        assert children() == before
        assert list(map(square, range(50))) == [number * number for number in range(50)]
        assert list(map(square, [])) == []
        started = children() - before
        assert list(map(square, [3])) == [9]
        assert len(started) >= 2
        assert children() - before <= started  # the same for every call
        with pytest.raises(ValueError, match="task 3"):
            list(map(fail, [3]))
    assert children() == before


@pytest.mark.process
def test_a_killed_process_ends_the_reading_with_its_likely_cause() -> None:
    before = children()
    with pytest.raises(OSError, match="was killed; if memory was short"), local_processes(2) as map:
        list(map(be_killed, range(4)))
    assert children() == before


@pytest.mark.process
def test_an_interrupt_does_not_wait_for_what_was_not_begun() -> None:
    def interrupted() -> None:
        with local_processes(2) as map:
            next(map(sleep, [0.1] * 3000))
            raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert time.monotonic() - began < 60


def first_gpu(number: int) -> tuple[str, str]:
    from distributed import get_worker

    return str(get_worker().name), os.environ[VISIBLE]


@pytest.mark.process
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_each_dask_worker_has_a_gpu_of_its_own_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VISIBLE, "GPU-a,GPU-b")
    with local_dask(3) as map:
        found = dict(map(first_gpu, range(60)))
    expected = {"0": "GPU-a,GPU-b", "1": "GPU-b,GPU-a", "2": "GPU-a,GPU-b"}
    assert len(found) > 1
    assert found.items() <= expected.items()


def test_workers_of_a_node_take_its_gpus_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    def given(name: object) -> dict[str, str]:
        nanny = SimpleNamespace(name=name, env={})
        dask_setup(nanny)
        return nanny.env

    monkeypatch.setenv(VISIBLE, "2,0,5")
    assert [given(f"node7-{number}")[VISIBLE] for number in range(4)] == ["2,0,5", "0,5,2", "5,2,0", "2,0,5"]
    assert given("node") == {}
    monkeypatch.setenv(VISIBLE, "-1")
    assert given("node7-1") == {}
    command = worker_command(Path("/f"), "tls://a:1", "a", "node7", Path("/t"), 4)
    assert "--preload-nanny=cluster.gpus" in command


def limit(number: int) -> int | None:
    """The memory that Dask lets the worker have that runs this."""
    from distributed import get_worker

    found: int | None = get_worker().memory_manager.memory_limit
    return found


@pytest.mark.process
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_dask_sets_workers_no_limit_of_memory() -> None:
    """At four fifths of one it would let them wait, for ever."""
    with local_dask(1) as map:
        assert list(map(limit, [0])) == [None]


def test_resources_follow_what_the_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    assert local_resources() == {"CPU": len(os.sched_getaffinity(0)), "GPU": 2}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert local_resources()["GPU"] == 0


@pytest.mark.parametrize(
    ("listed", "machine", "shown"),
    [
        (None, 2, ["0", "1"]),
        (None, None, []),
        ("", 2, []),
        ("-1", 2, []),
        ("none", 2, []),
        ("void", 2, []),
        ("NoDevFiles", 2, []),
        ("2,3", None, ["2", "3"]),
        ("1,0", 2, ["1", "0"]),
        ("0,1,", 2, ["0", "1"]),
        (" 1 , 0 ", 2, ["1", "0"]),
        (",0", 2, []),
        ("0,-1,1", 2, ["0"]),
        ("0,all", 2, ["0"]),
        ("0,5,1", 2, ["0"]),
        ("2", 2, []),
        ("0,0", 2, []),
        ("1,0,1", 2, []),
        ("0,-1,0", 2, ["0"]),
        ("1gpu2,0x", 2, ["1", "0"]),
        ("+1", 2, ["1"]),
        ("GPU-8932f937,GPU-1f22", 2, ["GPU-8932f937", "GPU-1f22"]),
        ("GPU-8932f937,1", 2, ["GPU-8932f937"]),
        ("0,GPU-8932f937", 2, ["0"]),
        ("GPU-8932f937,GPU-8932f937", 2, []),
        ("MIG-1b5d,MIG-77aa,", 1, ["MIG-1b5d", "MIG-77aa"]),
        ("MIG-GPU-8932f937/1/0", 1, ["MIG-GPU-8932f937/1/0"]),
    ],
)
def test_gpus_are_listed_as_cuda_reads_them(listed: str | None, machine: int | None, shown: list[str]) -> None:
    assert visible_gpus(machine, {} if listed is None else {"CUDA_VISIBLE_DEVICES": listed}) == shown


@pytest.mark.parametrize(
    ("environment", "gpus"),
    [
        ({"SLURM_GPUS_ON_NODE": "2"}, 2),
        ({"SLURM_GPUS_ON_NODE": "2", "CUDA_VISIBLE_DEVICES": "0,1"}, 2),
        ({}, 0),
        ({"SLURM_GPUS_ON_NODE": "2", "CUDA_VISIBLE_DEVICES": "NoDevFiles"}, 0),
        ({"CUDA_VISIBLE_DEVICES": "0,1"}, 0),
        ({"SLURM_GPUS_ON_NODE": "2", "CUDA_VISIBLE_DEVICES": "1,-1"}, 1),
    ],
)
def test_a_worker_has_the_gpus_that_both_slurm_and_cuda_show(environment: dict[str, str], gpus: int) -> None:
    assert usable_resources({**environment, "SLURM_CPUS_PER_TASK": "3"}) == (3, gpus)


@pytest.mark.process
def test_a_ray_that_does_not_start_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []

    def init(**options: object) -> None:
        tries.append(options["_temp_dir"])
        if len(tries) != 5:
            raise RuntimeError("The current node timed out\nduring startup.")

    monkeypatch.setattr("ray.init", init)
    with pytest.raises(OSError, match=r"Ray did not start here.*timed out during startup\.\)") as caught, local_ray():
        pass
    assert len(str(caught.value).splitlines()) == 1
    assert len(set(tries)) == 3
    with local_ray():  # it starts at the second try
        assert len(tries) == 5


def die(number: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def leave(number: int) -> None:
    os._exit(7)


def starts_that_fail(monkeypatch: pytest.MonkeyPatch, fails: Container[int]) -> None:
    """Let some starts of Dask's worker processes fail, by their number, as those do that end before they are known."""
    from distributed import Nanny

    instantiate, starts = Nanny.instantiate, count(1)  # which the nannies of local_dask call in turn

    async def failing(nanny: Nanny) -> object:
        if next(starts) not in fails:
            return await instantiate(nanny)
        await nanny.close(reason="nanny-instantiate-failed")
        raise RuntimeError("it does not start")

    monkeypatch.setattr(Nanny, "instantiate", failing)
    monkeypatch.setattr("cluster.local.LOOK_S", 0.1)


@pytest.mark.process
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_worker_that_dask_has_given_up_is_replaced(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    starts_that_fail(monkeypatch, {2, 3})
    with local_dask(1) as map:
        assert list(map(die_once, [str(folder / "died")])) == [1]


@pytest.mark.process
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_workers_that_never_start_again_end_the_work(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    starts_that_fail(monkeypatch, range(2, 1000))
    how = r"no process for it starts any more \(was killed by SIGKILL\);"
    with local_dask(1) as map, pytest.raises(OSError, match=how):
        list(map(die_once, [str(folder / "died")]))


@pytest.mark.process
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_task_that_ends_every_worker_is_one_sentence_that_says_how() -> None:
    """Memory is the reason only when the kernel says so."""
    for end, how in ((die, "was killed by SIGKILL"), (leave, "exited with code 7")):
        with local_dask(2) as map, pytest.raises(OSError, match="6 processes in a row died of the same task") as caught:
            list(map(end, [0]))
        assert f"({how});" in str(caught.value)
        assert "want of memory" not in str(caught.value)


def test_want_of_memory_is_what_the_kernel_counts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counters = folder / "vmstat"
    monkeypatch.setattr("cluster.memory.COUNTERS", counters)
    assert MemoryKills().said() == ""  # no such file
    counters.write_text("nr_free_pages 7\noom_kill 3\n")
    memory = MemoryKills()
    assert memory.said() == ""
    counters.write_text("nr_free_pages 7\noom_kill 5\n")
    assert memory.said() == "; the kernel killed 2 process(es) here for want of memory meanwhile"


def test_memory_is_no_more_than_a_job_of_slurm_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_MEM_PER_NODE", raising=False)
    monkeypatch.delenv("SLURM_MEM_PER_CPU", raising=False)
    assert 2**28 < local_memory_bytes() <= psutil.virtual_memory().total
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "100")
    assert local_memory_bytes() == 100 * 2**20
    monkeypatch.delenv("SLURM_MEM_PER_NODE")
    monkeypatch.setenv("SLURM_MEM_PER_CPU", "50")
    assert local_memory_bytes() == 50 * 2**20 * local_resources()["CPU"]
