"""Every path of a sweep on disk, spelled once.

Invariant: no other module joins a file name of the sweep; names that begin with a dot are unfinished and mean nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class TrialLayout:
    """Paths of one trial.

    Attributes
    ----------
    root : Path
        The trial's folder, ``<sweep>/trials/<trial>``.
    """

    root: Path

    @property
    def settings(self) -> Path:
        """Resolved parameters of the trial."""
        return self.root / "trial.json"

    @property
    def samples(self) -> Path:
        """The Zarr group of generated images."""
        return self.root / "samples.zarr"

    @property
    def commits(self) -> Path:
        """The folder of commit records, one per shard that is on disk."""
        return self.root / "commits"

    @property
    def checkpoint(self) -> Path:
        """Checkpoint from which training continues bit for bit."""
        return self.root / "checkpoint" / "latest.pt"

    @property
    def history(self) -> Path:
        """Losses and rates, one line per logged step."""
        return self.root / "history.jsonl"

    @property
    def outcome(self) -> Path:
        """File of the trial's outcome."""
        return self.root / "outcome.json"

    @property
    def attempts(self) -> Path:
        """Every start of the trial, and how it ended: one line each."""
        return self.root / "attempts.jsonl"

    @property
    def leases(self) -> Path:
        """The folder of claims: the one with the highest number says which process works on the trial."""
        return self.root / "lease"

    @property
    def usage(self) -> Path:
        """The folder of what processes that worked on the trial have used of GPUs."""
        return self.root / "usage"

    def shard(self, index: int, axes: int = 4) -> Path:
        """Return the file of shard number `index`: the name that Zarr gives it in the array of images, or of points."""
        return shard_file(self.samples, index, axes)

    def label_shard(self, index: int) -> Path:
        """Return the file of the labels of shard number `index`."""
        return self.samples / "label" / f"c.{index}"

    def commit(self, shard: int) -> Path:
        """Return the commit record of shard number `shard`."""
        return self.commits / f"{shard:06d}.json"


@dataclass(frozen=True)
class SweepLayout:
    """Paths of one sweep.

    Attributes
    ----------
    root : Path
        The sweep's folder.
    space : str
        Name of the embedding whose pairs `pairs` and the files in it are of; pixels have none.
    """

    root: Path
    space: str = ""

    @property
    def spec(self) -> Path:
        """The resolved spec, written once."""
        return self.root / "sweep.yaml"

    @property
    def known(self) -> Path:
        """Summary of every trial, for commands that only read."""
        return self.root / "trials.json"

    @property
    def own_code(self) -> Path:
        """A copy of the code of models that are not ganlab's."""
        return self.root / "code"

    @property
    def trials(self) -> Path:
        """The folder of trials."""
        return self.root / "trials"

    @property
    def reference(self) -> Path:
        """The Zarr group of real images the trials were trained on."""
        return self.root / "reference.zarr"

    @property
    def held_out(self) -> Path:
        """The Zarr group of real images that no trial was trained on."""
        return self.root / "held_out.zarr"

    @property
    def pairs(self) -> Path:
        """The folder of duplicates and closest pairs."""
        return self.root / "pairs" / self.space

    def in_space(self, embedding: str) -> SweepLayout:
        """Return the same sweep with its pairs in another embedding: each has its own folder, so none is lost."""
        return SweepLayout(self.root, "" if embedding == "pixels" else f"in-{plain_name(embedding)}")

    @property
    def real_neighbours(self) -> Path:
        """Distances of the real images to one another's nearest."""
        return self.pairs / "real_neighbours.npz"

    @property
    def held_out_neighbours(self) -> Path:
        """Distances of the held-out images to their nearest training images."""
        return self.pairs / "held_out_neighbours.npz"

    @property
    def real_distances(self) -> Path:
        """Distances within which given shares of the pairs of different real images lie."""
        return self.pairs / "real_distances.npz"

    @property
    def partial_real_neighbours(self) -> Path:
        """Partial result of an unfinished search for the real neighbours."""
        return self.pairs / "real_neighbours.unfinished.npz"

    @property
    def partial_held_out_neighbours(self) -> Path:
        """Partial result of the comparison of the held-out with the training images."""
        return self.pairs / "held_out_neighbours.unfinished.npz"

    @property
    def verdicts(self) -> Path:
        """People's verdicts on pairs; append-only."""
        return self.root / "verdicts.jsonl"

    @property
    def results(self) -> Path:
        """The Zarr group of answers."""
        return self.root / "results.zarr"

    @property
    def cluster(self) -> Path:
        """The folder where processes of this sweep find one another."""
        return self.root / "cluster"

    @property
    def lock(self) -> Path:
        """Held by the one process that runs this sweep."""
        return self.cluster / "lock"

    @property
    def publishing(self) -> Path:
        """Held while results and report are written."""
        return self.cluster / "publishing"

    @property
    def site(self) -> Path:
        """The resolved cluster file that the sweep was submitted with."""
        return self.cluster / "cluster.yaml"

    @property
    def code(self) -> Path:
        """The packages as they were when the sweep was submitted: what its jobs run."""
        return self.cluster / "code"

    @property
    def trained(self) -> Path:
        """Exists when the jobs of a submitted sweep have nothing left to train."""
        return self.cluster / "trained"

    @property
    def logs(self) -> Path:
        """The folder of log files."""
        return self.root / "logs"

    @property
    def metrics(self) -> Path:
        """The folder of scrape targets."""
        return self.root / "metrics"

    @property
    def targets(self) -> Path:
        """Prometheus's scrape targets, a file of its `file_sd`."""
        return self.metrics / "targets.json"

    @property
    def measuring(self) -> Path:
        """Progress of the comparison of pairs."""
        return self.metrics / "measuring.json"

    @property
    def report(self) -> Path:
        """The self-contained HTML report."""
        return self.root / "report.html"

    def trial(self, trial_id: str) -> TrialLayout:
        """Return the paths of one trial, which need not exist yet.

        Raises
        ------
        ValueError
            If `trial_id` is not one plain folder name.
        """
        return TrialLayout(self.trials / plain_name(trial_id))

    def trial_ids(self) -> list[str]:
        """Return the ids of the trials that have a folder, sorted."""
        if not self.trials.is_dir():
            return []
        return sorted(path.name for path in self.trials.iterdir() if path.is_dir() and not path.name.startswith("."))

    def pair_record(self, trial_id: str, step: int) -> Path:
        """Return the file of duplicates and closest pairs of one trial's snapshot at generator step `step`."""
        return self.pairs / plain_name(trial_id) / f"{step:08d}.npz"

    def partial_pairs(self, trial_id: str, step: int) -> Path:
        """Return the file of what an unfinished comparison of one snapshot has found so far."""
        return self.pairs / plain_name(trial_id) / f"{step:08d}.unfinished.npz"

    def near_pairs(self, trial_id: str, step: int) -> Path:
        """Return the file of the pairs of one trial's snapshot from which those that people judge are drawn."""
        return self.pairs / plain_name(trial_id) / f"{step:08d}.near.npz"

    def moved_neighbours(self, trial_id: str, step: int) -> Path:
        """Return the file of the distances over moves of one snapshot, or of real images, to their training images."""
        return self.pairs / plain_name(trial_id) / f"{step:08d}.moved.npz"

    def partial_moved_neighbours(self, trial_id: str, step: int) -> Path:
        """Return the file of an unfinished search over moves."""
        return self.pairs / plain_name(trial_id) / f"{step:08d}.moved.unfinished.npz"

    def moved_features(self, trial_id: str, step: int) -> Path:
        """Return the Zarr array of the features of one snapshot's moved images."""
        return self.pairs / plain_name(trial_id) / f"{step:08d}.moved.features.zarr"

    def review_token(self, port: int) -> Path:
        """Return the file, readable by its owner alone, of the token of the review page at a port."""
        return self.cluster / f"review-{port}.token"

    def features(self, trial_id: str, step: int) -> Path:
        """Return the Zarr array of the features of one trial's snapshot in the embedding it was measured in."""
        return self.pairs / plain_name(trial_id) / f"{step:08d}.features.zarr"

    def scores(self, trial_id: str, step: int) -> Path:
        """Return the file of what was computed of one trial's snapshot beside its pairs."""
        return self.pairs / plain_name(trial_id) / f"{step:08d}.scores.npz"

    def classifier(self, key: str) -> Path:
        """Return the file of the trained classifier that `key` names."""
        return self.pairs / f"classifier-{plain_name(key)}.npz"


def shard_file(group: Path, index: int, axes: int) -> Path:
    """Return the file of shard `index` of the images (4 axes) or points (2 axes) of the Zarr group in folder `group`."""
    return group / ("images" if axes == 4 else "points") / ".".join(["c", str(index), *["0"] * (axes - 1)])


def plain_name(trial_id: str) -> str:
    """Return `trial_id`, or raise ValueError when it would leave the folder of trials or look unfinished."""
    if not trial_id or trial_id.startswith(".") or "/" in trial_id or "\0" in trial_id:
        raise ValueError(f"trial id {trial_id!r}: expected one folder name without '/' that does not begin with a dot")
    return trial_id
