"""Watching a submitted sweep: what the controller's exporter tells a real Prometheus outside the cluster."""

from pathlib import Path

import pytest

from tests.monitoring.prometheus import running_prometheus
from tests.slurm.hosts import HOSTS
from tests.slurm.sweeps import STEADY, Login
from tests.waiting import until

pytestmark = pytest.mark.slurm_full

ENDLESS = {**STEADY, "name": "watched", "train": {**STEADY["train"], "steps": 10_000_000}, "seeds": 2}


def test_every_endpoint_of_the_cluster_is_scraped(login: Login, tmp_path: Path) -> None:
    """The exporter, Ray on the head and every worker's node, Dask's scheduler; they go when the sweep is cancelled."""
    sweep = login.submit("watched", ENDLESS)
    targets = sweep.out / "metrics" / "targets.json"
    sweep.wait(targets.exists, "the controller's exporter names its targets")
    with running_prometheus(tmp_path / "prometheus", [targets]) as prometheus:
        until(lambda: prometheus.value('count(up{job="ray"})') == 1 + len(HOSTS), "Ray's nodes are targets")
        until(lambda: prometheus.down() == [], "every target is up")
        assert prometheus.jobs() == {"ganlab", "ray", "dask"}
        until(lambda: (prometheus.value("sum(ganlab_train_steps_total)") or 0) > 0, "steps are counted")
        assert prometheus.value('ganlab_workers{state="joined"}') == len(HOSTS)
        until(lambda: prometheus.value('ganlab_slurm_jobs{state="running"}') == 1 + len(HOSTS), "squeue was asked", 150)
        assert prometheus.value("sum(ganlab_trials)") == 6
        assert prometheus.value("count(ray_node_mem_used)") == 1 + len(HOSTS)
        assert prometheus.value("sum(dask_scheduler_workers)") == len(HOSTS)
        assert prometheus.bad_rules() == []
        cancelled = login.ganlab("cancel", sweep.out)
        assert cancelled.returncode == 0, cancelled.stderr
        until(lambda: not prometheus.get("targets")["activeTargets"], "what was ended on purpose is no target", 60)
    sweep.wait_until_gone(60)
