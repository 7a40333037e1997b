"""CLUSTER.yaml: examples are valid, and every fault is one line that says what to write instead."""

import pytest

from cluster.site import Site, shipped_sites
from jobs.spec.validation import SpecError, read_mapping, validate

SMALL = {"nodes": 2, "time_min": 60}


@pytest.mark.parametrize("name", shipped_sites())
def test_shipped_examples_are_valid_and_explain_themselves(name: str) -> None:
    path = shipped_sites()[name]
    site = validate(Site, read_mapping(path, list(Site.model_fields)))
    assert site.nodes > 1
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
