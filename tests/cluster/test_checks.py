"""What a site can't give is refused by name; what nobody can know here is let through."""

import itertools
import math
import re

import pytest

from cluster import scheduler
from cluster.checks import Nodes, _gpus, check_site, minutes, partitions, tiny_memory
from cluster.scheduler import RefusedError, SchedulerError
from cluster.site import Site

GPU = Nodes("gpu", True, True, 1440, 64, 256_000, frozenset({"a100", "nvlink"}), {"a100": 4})
OLD = Nodes("gpu", True, True, 1440, 32, 512_000, frozenset({"v100"}), {"v100": 2})
CPU = Nodes("cpu", False, True, 4320, 128, 512_000, frozenset(), {})
DOWN = Nodes("debug", False, False, 30, 8, 16_000, frozenset(), {})
ALL = [GPU, OLD, CPU, DOWN]


def site(**change: object) -> list[Site]:
    """A site with one kind of worker."""
    return [Site.model_validate({"nodes": 2, "time_min": 60, "gpus_per_node": 2, "cpus_per_node": 8} | change)]


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"partition": "gpu,cpu"},
        {"gpus_per_node": 4, "gpu_type": "a100", "constraint": "a100&nvlink"},
        {"constraint": "[a100|v100]"},
        {"constraint": "a100*2"},
        {"mem_gb": 0},
        {"controller": {"partition": "cpu", "cpus": 100, "time_min": 4320}},
    ],
)
def test_what_there_is_is_accepted(change: dict[str, object]) -> None:
    check_site(site(**change), ALL)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"partition": "gpus"}, r"partition: got gpus; allowed: cpu, debug, gpu; did you mean gpu\?"),
        ({"partition": "debug"}, r"partition: partition debug is down"),
        (
            {"constraint": "a100&nvlnk"},
            r"constraint: got nvlnk; allowed in .*: a100, nvlink, v100; did you mean nvlink\?",
        ),
        ({"constraint": "a100&v100"}, r"constraint: got a100&v100, but no node of the default partition has all"),
        ({"gpus_per_node": 8}, r"gpus_per_node: got 8; allowed: at most 4, the largest number of GPUs per node"),
        (
            {"controller": {"mem_gb": 9000}},
            r"controller\.mem_gb: got 9000; allowed: at most 500, the largest number of GB per node in the default",
        ),
        ({"gpu_type": "A100"}, r"gpu_type: got A100; allowed in the default partition: a100, v100"),
        ({"gpu_type": "v100", "gpus_per_node": 4}, r"gpus_per_node: got 4; allowed: at most 2"),
        ({"partition": "cpu"}, r"gpus_per_node: got 2; allowed: at most 0, .* in partition cpu"),
        ({"cpus_per_node": 65}, r"cpus_per_node: got 65; allowed: at most 64"),
        ({"mem_gb": 1000}, r"mem_gb: got 1000; allowed: at most 500, the largest number of GB per node"),
        (
            {"gpus_per_node": 4, "mem_gb": 400},
            r"no node of the default partition has 4 GPUs, 8 CPUs and 400 GB at once",
        ),
        ({"time_min": 2000}, r"time_min: got 2000; allowed: at most 1440 minutes, the time limit of the default"),
        ({"controller": {"partition": "cqu"}}, r"controller\.partition: got cqu; .* did you mean cpu\?"),
        ({"controller": {"time_min": 2000}}, r"controller\.time_min: got 2000; allowed: at most 1440"),
        ({"controller": {"cpus": 90}}, r"controller\.cpus: got 90; allowed: at most 64"),
    ],
)
def test_what_there_is_not_is_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(RefusedError, match=said):
        check_site(site(**change), ALL)


@pytest.mark.parametrize(
    ("gres", "gpus"),
    [
        ("gpu:a100:2", {"a100": 2}),
        ("gpu:1g.10gb:7(S:0),gpu:2g.20gb:3", {"1g.10gb": 7, "2g.20gb": 3}),
        ("gpu:7g.80gb", {"7g.80gb": 1}),
        ("gpu:2(IDX:0-1),gpu:a100:1", {"": 2, "a100": 1}),
        ("gpu", {"": 1}),
        ("(null)", {}),
        ("tmp:7,gpumem:40", {}),
        ("shard:gpu:8", {}),
    ],
)
def test_gpus_of_sinfo_by_their_kind(gres: str, gpus: dict[str, int]) -> None:
    assert _gpus(gres) == gpus


@pytest.mark.parametrize(
    ("kinds", "said"),
    [
        ([{"name": "a"}, {"name": "b", "partition": "cpu"}], r"^workers b: gpus_per_node: got 2; allowed: at most 0"),
        ([{"name": "a", "partition": "no"}, {"name": "b"}], r"^workers a: partition: got no; allowed: cpu, debug, gpu"),
        ([{"name": "a", "controller": {"cpus": 90}}, {"name": "b"}], r"^controller\.cpus: got 90; allowed: at most 64"),
    ],
)
def test_a_kind_of_worker_that_there_is_not_is_named(kinds: list[dict[str, object]], said: str) -> None:
    with pytest.raises(RefusedError, match=said):
        check_site([*itertools.chain(*(site(**change) for change in kinds))], ALL)


def test_kinds_that_get_no_jobs_are_not_checked() -> None:
    """The controller has the first kind's partition, whatever that kind gets."""
    (cpu,) = site(name="cpu", partition="cpu", controller={"cpus": 100, "time_min": 4320})
    check_site([cpu.model_copy(update={"nodes": 0}), *site(name="gpu")], ALL)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("infinite", math.inf), ("30:00", 30), ("1:30:00", 90), ("2-00:00:00", 2880), ("1-12", 2160), ("45", 45)],
)
def test_time_limits(text: str, expected: float) -> None:
    assert minutes(text) == expected


def test_lines_of_sinfo(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = (
        "gpu*|up|1-00:00:00|64|256000+|a100,nvlink|gpu:a100:4(S:0-1),tmp:100\n"
        "gpu*|up|1-00:00:00|32|512000|(null)|gpu:2\n"
        "cpu|down|infinite|128+|512000|(null)|(null)\n"
    )
    monkeypatch.setattr("cluster.checks.ask", lambda command: lines)
    assert partitions() == [
        Nodes("gpu", True, True, 1440, 64, 256_000, frozenset({"a100", "nvlink"}), {"a100": 4}),
        Nodes("gpu", True, True, 1440, 32, 512_000, frozenset(), {"": 2}),
        Nodes("cpu", False, False, math.inf, 128, 512_000, frozenset(), {}),
    ]


def test_without_slurm_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(RefusedError, match=r"SLURM is not installed here: there is no command sinfo; `ganlab run`"):
        check_site(site())


@pytest.mark.parametrize(
    ("change", "partition", "config", "said"),
    [
        ({}, "Default=YES DefMemPerCPU=128", "", r"^mem_gb: each job gets 1024 MB, the site's default, .* 1\.5$"),
        ({}, "Default=YES DefMemPerNode=UNLIMITED", "DefMemPerCPU = 100", "^mem_gb: each job gets 800 MB"),
        ({}, "Default=YES DefMemPerCPU=4000", "DefMemPerCPU = 100", None),
        ({}, "Default=NO DefMemPerCPU=1", "", None),
        ({"mem_gb": 0}, "Default=YES DefMemPerCPU=128", "", None),
        ({"mem_gb": 8}, "Default=YES DefMemPerCPU=128", "", None),
        ({"mem_gb": 1}, "Default=YES", "", r"^mem_gb: each job gets 1024 MB, what the file says"),
        ({"mem_gb": 8, "controller": {"mem_gb": 1}}, "Default=YES", "", r"^controller\.mem_gb: each job gets 1024 MB"),
        (
            {"mem_gb": 8, "controller": {"mem_gb": None}},
            "Default=YES DefMemPerCPU=128",
            "",
            "256 MB, the site's default",
        ),
    ],
)
def test_a_tiny_memory_is_named_before_anything_is_queued(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, object], partition: str, config: str, said: str | None
) -> None:
    answers = {"partition": f"PartitionName=gpu {partition} State=UP", "config": config}
    monkeypatch.setattr(scheduler, "ask", lambda command: answers[command[2]])
    warning = tiny_memory(site(**change))
    assert (warning is None) if said is None else re.search(said, str(warning)), warning


def test_where_slurm_does_not_answer_nothing_is_said_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(command: object) -> str:
        raise SchedulerError("no answer")

    monkeypatch.setattr(scheduler, "ask", silent)
    assert tiny_memory(site()) is None
