"""CLUSTER.yaml: examples are valid, and every fault is one line that says what to write instead."""

import pytest

from cluster.site import Site, shipped_sites
from jobs.cli.cluster_file import load_site, read_kinds, site_content
from jobs.spec.validation import SpecError, validate

SMALL = {"nodes": 2, "time_min": 60}


@pytest.mark.parametrize("name", shipped_sites())
def test_shipped_examples_are_valid_and_explain_themselves(name: str) -> None:
    path = shipped_sites()[name]
    assert all(kind.nodes > 1 for kind in load_site(path))
    assert path.read_text().startswith("# ")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"gpu_per_node": 2}, r"gpu_per_node: unknown key .* did you mean gpus_per_node\?"),
        ({"controller": {"cpu": 2}}, r"controller\.cpu: unknown key .* did you mean cpus\?"),
        ({"nodes": 0}, r"nodes: got 0; allowed: a whole number of at least 1"),
        ({"time_min": "1:00:00"}, r"time_min: got \"1:00:00\"; allowed: a whole number of at least 1"),
        ({"sbatch": ["--gpus-per-node=2"]}, r"use the key gpus_per_node"),
        ({"sbatch": ["--array=0-3"]}, r"use the key array_parallelism"),
        ({"sbatch": ["--output=x"]}, r"ganlab sets it itself"),
        ({"sbatch": ["-p gpu"]}, r"allowed: options as in --reservation=course"),
        ({"environment": {"MY-NAME": "x"}}, r"environment"),
    ],
)
def test_faults_are_named(change: dict[str, object], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        validate(Site, SMALL | change)


def test_memory_of_a_measuring_process() -> None:
    assert Site(**SMALL, mem_gb=40, measure_workers=5).measure_memory_bytes == 2 * 10**9
    assert Site(**SMALL).measure_memory_bytes == 2 * 10**9
    assert Site(**SMALL, mem_gb=0).measure_memory_bytes == 2 * 10**9


KINDS = {
    "account": "mine",
    "time_min": 60,
    "cpus_per_node": 4,
    "controller": {"cpus": 1},
    "workers": [
        {"partition": "gpu", "gpu_type": "a100", "gpus_per_node": 2, "nodes": 3},
        {"partition": "cpu,long", "nodes": 5, "cpus_per_node": 16, "time_min": 30, "account": None},
        {"partition": "gpu", "gpu_type": "a100", "gpus_per_node": 1, "nodes": 1},
        {"name": "spare", "nodes": 1},
    ],
}


def test_what_stands_beside_the_kinds_holds_for_each_that_does_not_say_otherwise() -> None:
    kinds = read_kinds(KINDS)
    assert [kind.name for kind in kinds] == ["a100", "cpu-long", "a100-2", "spare"]
    assert [kind.cpus_per_node for kind in kinds] == [4, 16, 4, 4]
    assert [kind.time_min for kind in kinds] == [60, 30, 60, 60]
    assert [kind.account for kind in kinds] == ["mine", None, "mine", "mine"]
    assert {kind.controller.cpus for kind in kinds} == {1}
    assert read_kinds(site_content(kinds)) == kinds


def test_a_flat_file_is_one_kind_without_a_name() -> None:
    assert read_kinds(SMALL) == (Site(**SMALL),)
    assert read_kinds(site_content(read_kinds(SMALL))) == (Site(**SMALL),)
    assert Site(**SMALL).name == ""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"workers": []}, r"^workers: got \[\]; allowed: a list of kinds of worker"),
        ({"workers": {"nodes": 1}}, r"^workers: got .*; allowed: a list of kinds"),
        ({"workers": [{"nodes": 1}, 3]}, r"^workers: got .*; allowed: a list of kinds"),
        ({"workers": [{"nodes": 1}, {}]}, r"^workers\[1\]\.nodes: is missing; allowed: a whole number of at least 1"),
        ({"workers": [{"nodes": 1, "time_min": "x"}]}, r"^workers\[0\]\.time_min: got \"x\"; allowed: a whole"),
        ({"time_min": "x"}, r"^time_min: got \"x\"; allowed: a whole number"),
        (
            {"workers": [{"nodes": 1, "gpu_per_node": 1}]},
            r"^workers\[0\]\.gpu_per_node: unknown.*did you mean gpus_per",
        ),
        ({"workers": [{"nodes": 1, "setup": []}]}, r"^workers\[0\]\.setup: unknown key .* stands beside `workers`"),
        (
            {"workers": [{"nodes": 1, "name": "a"}, {"nodes": 1, "name": "a"}]},
            r"^workers\[1\]\.name: got a, as another",
        ),
        ({"workers": [{"nodes": 1, "name": "a b"}]}, r"^workers\[0\]\.name: got \"a b\"; allowed: text that matches"),
        ({"gpu_per_node": 1}, r"^gpu_per_node: unknown key"),
    ],
)
def test_faults_of_kinds_are_named(change: dict[str, object], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        read_kinds(KINDS | change)
