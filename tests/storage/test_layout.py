from pathlib import Path

import pytest

from storage.layout import SweepLayout


def test_names_are_those_of_the_contract() -> None:
    sweep = SweepLayout(Path("s"))
    trial = sweep.trial("t1")
    names = [sweep.spec, sweep.reference, sweep.verdicts, sweep.results, sweep.lock, sweep.report, trial.settings]
    names += [trial.samples, trial.commit(7), trial.checkpoint, trial.history, trial.outcome]
    names += [
        sweep.real_neighbours,
        sweep.partial_real_neighbours,
        sweep.pair_record("t1", 500),
        trial.shard(3),
        sweep.logs,
        sweep.metrics,
    ]
    assert [str(name.relative_to("s")) for name in names] == [
        "sweep.yaml",
        "reference.zarr",
        "verdicts.jsonl",
        "results.zarr",
        "cluster/lock",
        "report.html",
        "trials/t1/trial.json",
        "trials/t1/samples.zarr",
        "trials/t1/commits/000007.json",
        "trials/t1/checkpoint/latest.pt",
        "trials/t1/history.jsonl",
        "trials/t1/outcome.json",
        "pairs/real_neighbours.npz",
        "pairs/real_neighbours.unfinished.npz",
        "pairs/t1/00000500.npz",
        "trials/t1/samples.zarr/images/c.3.0.0.0",
        "logs",
        "metrics",
    ]


def test_trial_ids_are_sorted_folders_without_unfinished_ones(sweep: SweepLayout) -> None:
    assert sweep.trial_ids() == []
    for name in ("b", "a é", ".c.partial"):
        (sweep.trials / name).mkdir(parents=True)
    (sweep.trials / "notes.txt").touch()
    assert sweep.trial_ids() == ["a é", "b"]


@pytest.mark.parametrize("trial_id", ["", "..", ".hidden", "a/b", "../outside", "a\0b"])
def test_a_trial_id_cannot_leave_its_folder(trial_id: str) -> None:
    with pytest.raises(ValueError, match="one folder name"):
        SweepLayout(Path("s")).trial(trial_id)
    with pytest.raises(ValueError, match="one folder name"):
        SweepLayout(Path("s")).pair_record(trial_id, 1)
