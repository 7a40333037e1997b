"""CLUSTER.yaml: where and how jobs run on one SLURM site.

Invariant: nothing here changes what is computed; a sweep may be moved to another site at any time. Of several kinds of
worker, each is a `Site`, and they differ in the fields of `Workers` alone.
"""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

Count = Annotated[int, Field(ge=1)]
Minutes = Annotated[int, Field(ge=1, json_schema_extra={"unit": "minutes"})]
WholeSeconds = Annotated[int, Field(ge=1, json_schema_extra={"unit": "seconds"})]
Seconds = Annotated[float, Field(gt=0, json_schema_extra={"unit": "seconds"})]
Gigabytes = Annotated[float, Field(gt=0, json_schema_extra={"unit": "gigabytes"})]
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]

# Options of sbatch that the system itself sets, or that a key of CLUSTER.yaml sets.
OWN_OPTIONS = {
    "account": "account",
    "array": "array_parallelism",
    "constraint": "constraint",
    "cpus-per-task": "cpus_per_node",
    "dependency": None,
    "error": None,
    "exclusive": "exclusive",
    "gpus-per-node": "gpus_per_node",
    "job-name": None,
    "mem": "mem_gb",
    "nodes": "nodes",
    "ntasks-per-node": None,
    "open-mode": None,
    "output": None,
    "partition": "partition",
    "qos": "qos",
    "signal": "notice_s",
    "time": "time_min",
    "chdir": None,
    "requeue": None,
}
MOST_NODES = 100_000  # more than any cluster has
SHARE_FOR_MEASURING = 0.25  # of a node's memory, for all its measuring processes; training has the rest
MEASURING_BYTES = 2 * 10**9  # for each of them where the file does not say how much memory a node gives


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Job(_Settings):
    """Resources that a job requests from SLURM."""

    partition: str | None = None
    """SLURM's partition, or several with commas between them; null: the site's default."""
    account: str | None = None
    """SLURM account to charge."""
    qos: str | None = None
    """Quality of service."""
    constraint: str | None = None
    """Features that a node must have, in SLURM's words: ``a100&nvlink``."""
    sbatch: tuple[str, ...] = ()
    """Further options of sbatch, as after ``#SBATCH``: ``--reservation=course``."""

    @field_validator("sbatch")
    @classmethod
    def _options(cls, lines: tuple[str, ...]) -> tuple[str, ...]:
        for line in lines:
            name, _, _ = line.removeprefix("--").partition("=")
            if not line.startswith("--") or " " in name or not name:
                raise ValueError(f"got {line!r}; allowed: options as in --reservation=course or --no-kill")
            if name in OWN_OPTIONS:
                key = OWN_OPTIONS[name]
                use = f"use the key {key}" if key else "ganlab sets it itself"
                raise ValueError(f"got {line!r}; allowed: options without a key of their own ({use})")
        return lines


class Controller(_Job):
    """The one small job that hands out the work; what is null is as for the workers, of several kinds the first."""

    cpus: Count = 2
    """CPUs of the controller."""
    mem_gb: Gigabytes | None = 4.0
    """Its memory; null: the site's default."""
    time_min: Minutes | None = None
    """Minutes; it requeues itself at their end while work remains. Null: as for the workers."""


class Workers(_Job):
    """Worker jobs of one kind, with one node each; they join when they start."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]*$")] = ""
    """Name of this kind among several; empty: its type of GPU, or else its partition."""
    nodes: Count
    """Number of worker jobs."""
    array_parallelism: Count | None = None
    """Largest number of tasks of a job array that run at once; null: all. Jobs in place of lost ones are other arrays."""
    gpus_per_node: Annotated[int, Field(ge=0)] = 0
    """GPUs of each worker job."""
    gpu_type: str | None = None
    """Type of GPU by SLURM's name, where a site requires one: ``a100``, or a part of one (MIG): ``1g.10gb``."""
    cpus_per_node: Count = 1
    """CPUs of each worker job."""
    mem_gb: Annotated[float, Field(ge=0, json_schema_extra={"unit": "gigabytes"})] | None = None
    """Memory of each worker job; 0: all of the node's; null: the site's default."""
    exclusive: bool = False
    """Request whole nodes, shared with no other job."""
    time_min: Minutes
    """Minutes of each worker job; it requeues itself at their end while work remains."""
    measure_workers: Annotated[int, Field(ge=0)] = 1
    """Processes on each node that compare images while others train."""

    @field_validator("nodes")
    @classmethod
    def _exist(cls, nodes: int) -> int:
        if nodes > MOST_NODES:
            raise ValueError(f"got {nodes}; allowed: at most {MOST_NODES:,}")
        return nodes


class Site(Workers):
    """A site, as CLUSTER.yaml describes it, with one kind of worker."""

    notice_s: WholeSeconds = 60
    """Time between SLURM's signal and the end of a job's time, in which trials write a checkpoint."""
    setup: tuple[str, ...] = ()
    """Shell commands before anything of ours: ``module load cuda``."""
    environment: dict[Variable, str] = {}
    """Environment variables of all processes."""
    prefix: str | None = None
    """Command put before Python: ``apptainer exec --nv image.sif``, ``conda run --no-capture-output -n ganlab``."""
    python: str | None = None
    """Python on the nodes, with ganlab's dependencies; null: the one that submits (with a prefix: ``python3``)."""
    srun_args: tuple[str, ...] = ()
    """Further options of srun: ``--container-image=…`` with pyxis."""
    temporary: str = "/tmp"
    """Folder on a node's own disk for temporary files; variables of the job such as ``$SLURM_JOB_ID`` are filled in."""
    interface: str | None = None
    """Network interface between the nodes: ``ib0``; null: the one that the controller's name stands for."""
    start_s: Seconds = 300.0
    """Longest time that the processes of a node may take to start."""
    patience_s: Seconds = 900.0
    """Longest time that a worker waits for an absent controller before it ends itself."""
    idle_s: Seconds = 120.0
    """Time after which a worker without work ends itself, while there are more of them than the trials left can use."""
    controller: Controller = Controller()
    """Resources of the controller's job; the keys are below."""

    @property
    def measure_memory_bytes(self) -> int:
        """Memory of one measuring process."""
        if not self.mem_gb or not self.measure_workers:
            return MEASURING_BYTES
        return int(self.mem_gb * 1e9 * SHARE_FOR_MEASURING / self.measure_workers)


def shipped_sites() -> dict[str, Path]:
    """Examples of CLUSTER.yaml that come with the package, by name."""
    return {path.stem: path for path in sorted((Path(__file__).parent / "sites").glob("*.yaml"))}
