"""Nonsense given to every command: one line on stderr that says what was got and what is allowed, and nothing written.

Invariant: each row of the tables is one call of the command line; a call that is not refused fails its test.
"""

import io
import os
import shlex
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pytest
import yaml

from jobs.cli.main import main
from jobs.measuring.answers import write_answers
from jobs.measuring.measure import MeasureContext, measure_sweep
from jobs.report.sweep_page import write_report
from storage.layout import SweepLayout
from storage.lock import sweep_lock
from tests.command_line import call
from tests.ganlab.networks import traced
from tests.jobs.review.sweeps import make_sweep

SMALL: dict[str, Any] = {
    "name": "small",
    "dataset": {"name": "digits"},
    "model": {"family": "known-support", "pool": 50},
    "train": {"steps": 1},
    "samples": {"final_images": 512},
    "collisions": {"sample_sizes": [10, 20], "threshold": 32, "quality_faults": []},
}
SITE: dict[str, Any] = {"nodes": 1, "time_min": 60}
LONG = "x" * 300  # longer than any name on disk
PLAN, RUN = "plan --no-timing", "run --out out"
SUBMIT = "submit --out out --cluster site.yaml"
NO_SWEEP = ["no sweep here", "allowed: a folder made by `ganlab run`"]


class Case(NamedTuple):
    """A command line, what its one line must say, its exit code, and the files it finds beside small.yaml."""

    command: str
    says: list[str]
    code: int = 2
    files: Mapping[str, bytes | str] = MappingProxyType({})

    def __str__(self) -> str:
        content = "".join(str(text)[:24] for text in self.files.values()).replace("\n", "\\n")
        return f"{self.command[:70]} {content}".strip()


def usage() -> Iterator[Case]:
    """Wrong words, options and numbers on the command line."""
    for command, *says in (
        ("pln", "No such command 'pln'", "plan", "`ganlab --help`"),
        ("--bogus", "No such option '--bogus'", "`ganlab --help`"),
        ("plan", "Missing argument 'SWEEP'", "`ganlab plan --help`"),
        ("run", "Missing argument 'SWEEP'", "`ganlab run --help`"),
        ("submit small.yaml", "Missing option '--cluster'"),
        ("submit small.yaml --cluster", "'--cluster' requires an argument"),
        ("status", "Missing argument 'FOLDER'"),
        ("cancel", "Missing argument 'FOLDER'"),
        ("measure", "Missing argument 'PATH'"),
        ("review", "Missing argument 'FOLDER'"),
        ("report", "Missing argument 'FOLDER'"),
        ("export", "Missing argument 'FOLDER'"),
        ("export sweep", "Missing option '--to'", "csv", "ro-crate"),
        ("export sweep --to excel", "'excel' is not one of 'csv'"),
        ("export nowhere --to csv", "no sweep here (no sweep.yaml)"),
        ("monitor", "Missing argument 'FOLDER'"),
        ("plan small.yaml other", "unexpected extra argument (other)"),
        ("status sweep sweep", "unexpected extra argument (sweep)"),
        ("plan small.yaml --no-timng", "No such option '--no-timng'", "--no-timing"),
        ("run small.yaml --jsn", "No such option '--jsn'", "--json"),
        ("report sweep --watch", "No such option '--watch'"),
        ("plan small.yaml --json=yes", "does not take a value"),
        ("plan small.yaml --set", "'--set' requires an argument"),
        ("status sweep --watch --json", "--watch is for people, --json for programs"),
        ("measure x.npy --embedding cnn", 'got "cnn"; allowed: pixels, normalised, classifier, efficientnet-lite0'),
        ("measure x.npy --embedding normalized", "did you mean normalised?"),
        ("measure x.npy --report .", "File '.' is a directory"),
        ("measure sweep --threshold 3", "--threshold", "a sweep has its own settings"),
        ("measure sweep --resize 8", "--resize", "a sweep has its own settings"),
        ("measure sweep --reference sweep", "--reference", "a sweep has its own settings"),
        ("measure sweep --test sweep", "--test", "a sweep has its own settings"),
        ("measure sweep --report x.html", "--report", "a sweep has its own settings"),
        ("measure sweep --rate 0.1", "--rate", "a sweep has its own settings"),
        ("measure x.npy --rate 0.1 --threshold 3", "got --threshold 3 and --rate 0.1; allowed: one of them"),
        ("measure nowhere", "nowhere: no such file or folder"),
        ("measure nowhere --threshold 3", "nowhere: no such file or folder"),
        ("measure small.yaml", "small.yaml: expected an array as .npy, .npz or a Zarr folder"),
        ("measure /dev/null", "/dev/null: expected an array"),
        ("monitor sweep --host ''", "--host", "got nothing; allowed: an address or name of this machine"),
        ("review sweep --host ''", "--host", "got nothing; allowed: an address or name of this machine"),
        ("monitor sweep --host nowhere.invalid", "--host nowhere.invalid", "allowed: an address of this machine"),
        (
            "review sweep --host nowhere.invalid",
            "--host nowhere.invalid",
            "allowed: an address or name of this machine",
        ),
        ("monitor sweep --host 192.0.2.1", "--host 192.0.2.1", "allowed: an address of this machine"),
        ("cancel sweep", "was not submitted to SLURM", "Ctrl-C ends `ganlab run`"),
        (f"{SUBMIT} small.yaml", "SLURM is not installed here", "`ganlab run`"),
    ):
        yield Case(command, says)
    for option, allowed, numbers in (
        ("monitor sweep --port", "a whole number from 0 to 65535", ("70000", "-1", "http", "1.5", "''", "nan")),
        ("review sweep --port", "a whole number from 1 to 65535", ("0", "65536", "x")),
        ("monitor sweep --every", "a finite number from 0.1 to 600", ("0", "601", "nan", "inf", "1e400", "5s")),
        ("review sweep --pairs", "a whole number from 0 to 100000", ("-1", "1e9", "many")),
        ("review sweep --samples", "a whole number from 0 to 10000", ("-1", "10001", "4.0")),
        (
            "measure x.npy --threshold",
            "a finite number from 0 to 1e+18",
            ("nan", "-nan", "-1", "inf", "-inf", "1e400", "1e300", "far", "''"),
        ),
        (
            "measure x.npy --rate",
            "a finite number above 0 and below 1",
            ("nan", "-1", "0", "1", "2", "1e-400", "often", "''"),
        ),
        ("measure x.npy --resize", "a whole number from 4 to 4096", ("0", "-8", "2.5", "8x8", "inf")),
    ):
        for number in numbers:
            yield Case(
                f"{option} {number}", [option.split()[-1], f"got {number.strip(chr(39))}", f"allowed: {allowed}"]
            )


def embeddings() -> Iterator[Case]:
    """Networks whose features are none, files that are no networks, and packages that are not there."""
    pictures = io.BytesIO()
    np.save(pictures, np.random.default_rng(0).integers(0, 256, (30, 3, 8, 8), np.uint8))
    rows: tuple[tuple[str, Mapping[str, bytes | str], list[str]], ...] = (
        ("c.pt", {"c.pt": traced(lambda x: x.flatten(1)[:, :3] * 0)}, ["c.pt", "constant features", "another layer"]),
        ("n.pt", {"n.pt": traced(lambda x: x.flatten(1)[:, :3] / 0)}, ["n.pt", "NaN or infinite", "finite numbers"]),
        ("v.pt", {"v.pt": traced(lambda x: x.flatten(1)[:, x.flatten(1).sum(0) > 2])}, ["v.pt", "varying length"]),
        ("m.pt", {"m.pt": traced(lambda x: x * 2)}, ["m.pt", "features of shape", "pool: mean"]),
        ("no.pt", {"no.pt": "no model"}, ["no.pt: got no TorchScript model", "allowed: what torch.jit.save wrote"]),
        ("nowhere.pt", {}, ["nowhere.pt: No such file", "allowed: a file that can be read"]),
        ("nowhere.yaml", {}, ["nowhere.yaml: No such file"]),
        ("k.yaml", {"k.yaml": "file: x.pt\nmeen: 3\n"}, ["k.yaml: meen", "allowed: resize, crop"]),
        ("w.safetensors", {"w.safetensors": ""}, ["architecture: got None", "allowed: timm/NAME or open_clip/NAME"]),
    )
    for name, files, says in rows:
        given = {**files, "pictures.npy": pictures.getvalue()}
        yield Case(f"measure pictures.npy --threshold 3 --embedding {name}", says, files=given)
        yield Case(
            f"{RUN} small.yaml --set collisions.embedding={name}", ["collisions.embedding: ", *says], files=files
        )


def places() -> Iterator[Case]:
    """Names of folders, sweep files and cluster files that are not there, or not of that kind."""
    for command in ("status", "cancel", "review", "report", "monitor"):
        for folder in ("nowhere", "small.yaml", ".", "full", "/proc", "sweep/trials"):
            yield Case(f"{command} {folder}", [f"{folder}: ", *NO_SWEEP])
        yield Case(f"{command} ''", ["FOLDER", "got nothing; allowed: a path"])
        yield Case(f"{command} loop", ["FOLDER", "got loop", "symbolic links", "allowed: a path"])
        yield Case(f"{command} {LONG}", ["FOLDER", f"got {LONG}", "too long", "allowed: a path"])
        yield Case(f"{command} 'a\0b'", ["FOLDER", "null byte", "allowed: a path"])
    for path, *says in (
        ("''", "got nothing; allowed: a path"),
        ("loop", "symbolic links"),
        (LONG, "too long"),
        ("'a\0b'", "null byte"),
    ):
        yield Case(f"measure {path}", ["PATH", *says])
        yield Case(f"measure x.npy --reference {path}", ["--reference", *says])
        yield Case(f"measure x.npy --reference y.npy --test {path}", ["--test", *says])
        yield Case(f"measure x.npy --threshold 3 --report {path}", ["--report", *says])
    for command in (PLAN, RUN, SUBMIT):
        for name, *says in (
            (
                "digits-dmo",
                "digits-dmo: does not exist",
                "allowed: a sweep file or one of",
                "did you mean digits-demo?",
            ),
            ("known_support", "known_support: does not exist", "did you mean known-support?"),
            ("nowhere.yaml", "nowhere.yaml: does not exist", "celeba-diversity"),
            ("sub/digits-demo", "sub/digits-demo: does not exist", "did you mean digits-demo?"),
            (".", ".: is a folder", "allowed: a sweep file"),
            ("/dev/null", "/dev/null: is no ordinary file", "allowed: a sweep file"),
            ("/proc/self/mem", "/proc/self/mem: cannot be read", "allowed: a YAML file"),
            ("loop", "loop: cannot be read", "symbolic links", "allowed: a sweep file"),
            ("''", "'': does not exist", "allowed: a sweep file"),
            (LONG, "too long", "allowed: a sweep file"),
            ("'a\0b'", "null byte", "allowed: a sweep file"),
        ):
            yield Case(f"{command} {name}", says)
    for command in (f"{PLAN} small.yaml --cluster", "submit small.yaml --cluster"):
        for name, *says in (
            ("whole-node", "whole-node: does not exist", "allowed: a cluster file", "did you mean whole-nodes?"),
            ("nowhere.yaml", "nowhere.yaml: does not exist", "apptainer"),
            ("full", "full: is a folder"),
            ("/dev/null", "/dev/null: is no ordinary file"),
            ("loop", "loop: cannot be read", "symbolic links"),
            (LONG, "too long"),
        ):
            yield Case(f"{command} {name}", says)


def checkpoints() -> Iterator[Case]:
    """Files of `ganlab sample`: settings that don't fit one another, and models that are not as they say."""
    sample = "sample g.yaml --images 600 --out out"
    good: dict[str, Any] = {"checkpoint": "small.yaml", "format": "torchscript", "shape": [1, 8, 8], "latent_dim": 4}

    def case(*says: str, command: str = sample, **changes: Any) -> Case:
        settings = {key: value for key, value in {**good, **changes}.items() if value is not None}
        return Case(command, list(says), files={"g.yaml": yaml.safe_dump(settings)})

    yield Case(sample, ["g.yaml: does not exist", "allowed: a checkpoint file"])
    yield Case("sample g.yaml --out out", ["Missing option '--images'"])
    yield case("got 1; allowed: a whole number", command="sample g.yaml --images 1 --out out")
    yield case("checkpoint: ", "No such file", checkpoint="nowhere.pt")
    yield case('format: got "torchscrip"', "did you mean torchscript?", format="torchscrip")
    yield case("shape: is missing", shape=None)
    yield case("latent_dm: unknown key", "did you mean latent_dim?", latent_dm=4)
    yield case("got latent_dim None for torchscript", "allowed: latent_dim", latent_dim=None)
    yield case("got format pickle", "run code", "trust: true", format="pickle")
    yield case("got format torch-export", "trust: true", format="torch-export")
    yield case("got range [1.0, -1.0]", "allowed: the least value", range=[1, -1])
    yield case("range[1]: is missing; allowed: a number", range=[1])
    yield case("range: got [0, 1, 2]; allowed: a list of 2, each entry a number or null", range=[0, 1, 2])
    yield case("shape[2]: is missing; allowed: a whole number from 1 to 65536", shape=[8, 8])
    yield case("got sampling_steps 50 for torchscript", "allowed: none", sampling_steps=50)
    yield case('checkpoint: got "a\\u0000b"', "null byte", "allowed: a file", checkpoint="a\0b")
    weights = {"format": "safetensors", "latent_dim": None}
    yield case("got weights alone and no architecture", "diffusers/UNet2DModel", **weights)
    yield case("architecture: got timm/vgg11, but timm has no generators", architecture="timm/vgg11", **weights)
    unet = {"architecture": "diffusers/UNet2DModel", **weights}
    yield case("got no config of diffusers/UNet2DModel", "allowed: config: ", **unet)
    yield case("got no scheduler for diffusers/UNet2DModel", "allowed: scheduler: ", config={}, **unet)
    yield case("scheduler: got _class_name None", "DDIMScheduler", config={}, scheduler={"beta_end": 0.02}, **unet)
    yield case("small.yaml can't be read", "allowed: a whole file written by torch.jit.save")
    yield case("is no diffusers folder", format="diffusers", latent_dim=None, checkpoint="full")


def outs() -> Iterator[Case]:
    """Folders in which no sweep can begin."""
    other = "give another folder with --out"
    for command in (f"{PLAN} small.yaml", "run small.yaml", "submit small.yaml --cluster site.yaml"):
        for out, *says in (
            ("/proc/x", "/proc/x can't be made or written in", other),
            ("/sys/x", "/sys/x can't be made or written in", other),
            ("/dev/null", "/dev/null", other),
            ("/dev/null/x", "/dev/null/x can't be made or written in", other),
            ("/", "/ is no sweep folder and not empty", other),
            ("small.yaml", "small.yaml is a file", other),
            ("small.yaml/x", "small.yaml/x can't be made", "ot a directory", other),
            ("full", "full is no sweep folder and not empty", other),
            (f"a/b/{LONG}", "can't be made", "too long", other),
            ("dangling", "dangling can't be made", other),
            ("sweep", "was made by another sweep file: samples.final_images is 400 there and 512 here", other),
            ("sweep/inner", "sweep/inner lies inside the sweep", other),
            ("sweep/trials", "sweep/trials lies inside the sweep", other),
            ("''", "--out", "got nothing; allowed: a path"),
            ("loop", "--out", "got loop", "symbolic links"),
            ("loop/x", "--out", "symbolic links"),
            (LONG, "--out", "too long"),
        ):
            yield Case(f"{command} --out {out}", says)


def settings() -> Iterator[Case]:
    """Values for ``--set``, shared out over the commands that take it."""
    huge = "1" + "0" * 60
    rows = (
        ("train", "allowed: key=value"),
        ("=3", "allowed: key=value"),
        ("train..steps=3", "allowed: key=value"),
        ("train.stps=3", "train.stps: unknown key", "did you mean steps?"),
        ("steps=3", "steps: unknown key", "did you mean train.steps?"),
        ("ressources.device=cpu", "ressources: unknown key", "did you mean resources?"),
        ("train.steps=", "train.steps: got null", "a whole number from 1"),
        ("train.steps=[1", "line 1, column 3"),
        ("train={steps: 3, steps: 4}", "the key steps stands twice"),
        ("train.steps=*a", "line 1, column 1", "undefined alias"),
        ("train.steps=!!python/name:os.system", "line 1, column 1"),
        ("train.steps=yes", 'train.steps: got "yes"', "a whole number from 1"),
        ("train.steps=true", "train.steps: got true", "a whole number from 1"),
        ("train.steps=1.0", "train.steps: got 1.0", "a whole number from 1"),
        ("train.steps=1e3", "train.steps: got 1000.0", "a whole number from 1"),
        ("train.steps=0", "train.steps: got 0", "a whole number from 1"),
        ("train.steps=-5", "train.steps: got -5", "a whole number from 1"),
        ("train.steps=017", 'train.steps: got "017"', "a whole number from 1"),
        ("train.steps=0o17", 'train.steps: got "0o17"', "a whole number from 1"),
        ("train.steps=0x1F", 'train.steps: got "0x1F"', "a whole number from 1"),
        ("train.steps=2026-01-01", 'train.steps: got "2026-01-01"', "a whole number from 1"),
        ("train.steps=0:30:00", 'train.steps: got "0:30:00"', "a whole number from 1"),
        (f"train.steps={huge}", "train.steps: got", "allowed:"),
        ("train.steps=" + "9" * 5000, "train.steps: got", "allowed:"),
        ("train.learning_rate=.nan", "train.learning_rate: got nan", "a finite number"),
        ("train.learning_rate=1e400", "train.learning_rate: got inf", "a finite number"),
        ("train.learning_rate=0.0.1", 'train.learning_rate: got "0.0.1"', "a number above 0"),
        ("train.learning_rate=fast", 'train.learning_rate: got "fast"', "a number above 0"),
        ("collisions.threshold=1e300", "collisions.threshold: got 1e+300", "numbers from -1e+18 to 1e+18"),
        ("collisions.threshold=-1", "collisions.threshold: got -1", "auto, a number of at least 0 or a mapping"),
        ("collisions.threshold={rate: 0}", "collisions.threshold.rate: got 0", "a number above 0 and below 1"),
        ("collisions.threshold={rate: 1}", "collisions.threshold.rate: got 1", "a number above 0 and below 1"),
        ("collisions.threshold={rte: 0.1}", "collisions.threshold.rte: unknown key", "did you mean rate?"),
        ("collisions.threshold={rate: 0.1, quantile: 0.1}", "got both rate and quantile, or neither", "one of them"),
        ("collisions.threshold=verdicts", "collisions.threshold: got verdicts", "allowed: auto, a", "ganlab review"),
        ("collisions.threshold={}", "got both rate and quantile, or neither; allowed: one of them"),
        ("collisions.confidence=95", "collisions.confidence: got 95", "below 1"),
        ("collisions.sample_sizes=[]", "collisions.sample_sizes: got []"),
        ("collisions.sample_sizes=50", "collisions.sample_sizes: got 50", "a list"),
        (f"collisions.sample_sizes=[{huge}]", "collisions.sample_sizes[0]: got", "allowed:"),
        ("resources.measure_memory_gb=8G", 'resources.measure_memory_gb: got "8G"', "above 0 (gigabytes)"),
        ("resources.measure_memory_gb=0", "resources.measure_memory_gb: got 0", "above 0 (gigabytes)"),
        ("resources.measure_memory_gb=01", 'resources.measure_memory_gb: got "01"', "above 0 (gigabytes)"),
        ("resources.measure_memory_gb=1e308", "resources.measure_memory_gb: got 1e+308", "numbers from -1e+18"),
        ("resources.measure_memory_gb=1e-308", "a worker that compares images has", "a larger measure_memory_gb"),
        ("resources.measure_workers=1000000000", "a worker that compares images has", "fewer measure_workers"),
        ("resources.checkpoint_every_s=0:30:00", 'checkpoint_every_s: got "0:30:00"', "above 0 (seconds)"),
        ("resources.checkpoint_every_s=1m", 'checkpoint_every_s: got "1m"', "above 0 (seconds)"),
        ("resources.checkpoint_every_s=0", "checkpoint_every_s: got 0", "above 0 (seconds)"),
        ('resources.gpus_per_trial="two"', 'gpus_per_trial: got "two"', "a number of at least 0"),
        ("resources.gpus_per_trial=yes", 'gpus_per_trial: got "yes"', "a number of at least 0"),
        ("resources.gpus_per_trial=1000", "gpus_per_trial: got 1000, but this machine has", "allowed: at most"),
        ("resources.cpus_per_trial=100000", "cpus_per_trial: got 100000, but this machine has", "allowed: at most"),
        ("resources.max_failures=-1", "max_failures: got -1", "at least 0"),
        ("resources=null", "resources: got null", "a mapping"),
        ("resources=[]", "resources: got []", "a mapping"),
        ("seeds=two", 'seeds: got "two"', "a whole number from 1"),
        ("seeds=9999999999", "seeds: got 9999999999", "a whole number from 1"),
        ("seeds=1000000", "got 1,000,000 trials", "allowed: at most 100,000"),
        ("seeds=[1, 1.5]", "seeds[1]: got 1.5", "a whole number"),
        (
            "model.pool={grid_search: [" + ", ".join(map(str, range(1, 400))) + "]} --set seeds=1000",
            "got 399,000 trials (399 × 1 × 1,000",
            "allowed: at most 100,000",
        ),
        ("samples.final_images=10000000000", "samples.final_images: got 10000000000", "from 2 to 1000000000"),
        ("samples.final_images=0", "samples.final_images: got 0", "from 2 to"),
        ("samples.final_images=999999937", "samples: images per snapshot 999999937", "would do"),
        ("samples.final_images=3", "collisions.sample_sizes[0]: got 10", "samples.final_images = 3"),
        ("name=" + LONG, "name: got", "at most 100 letters"),
        ("name=a/b", 'name: got "a/b"', "at most 100 letters"),
        ("name=..", 'name: got ".."', "the first a letter or digit"),
        ("name=.hidden", 'name: got ".hidden"', "the first a letter or digit"),
        ("name=ünïcode", 'name: got "ünïcode"', "letters"),
        ("name=1", "name: got 1", "text"),
        ('name="a\\0b"', "name: got", "at most 100 letters"),
        ("provenance=3", "provenance: got 3", "a mapping"),
        ("dataset=digits", 'dataset: got "digits"', "a mapping with name"),
        ("dataset.path=x", "dataset.path: unknown key", "name, resolution"),
        ("dataset={name: images, path: nowhere}", "dataset.path: got", "nowhere', which does not exist"),
        ("dataset={name: images, path: small.yaml}", "dataset.path: got", "which is not a folder"),
        ("dataset={name: images, path: empty}", "dataset.path: got", "which holds no pictures"),
        ("dataset={name: images, path: one}", "dataset: got 1 image; allowed: 2 or more"),
        ("dataset={name: images, path: three, limit: 1}", "dataset: got 1 image; allowed: 2 or more"),
        ("dataset={name: array, path: nowhere.npy}", "dataset.path: got", "nowhere.npy', which does not exist"),
        ("dataset={name: digits, held_out: 0.0001}", "dataset.held_out: got 0.0001, which holds out 0 of 1,797 images"),
        ("dataset={name: digits, held_out: 1796}", "dataset.held_out: got 1796", "2 or more left to train on, or 0"),
        ("dataset={name: digits, held_out: 1.5}", "dataset.held_out: got 1.5; allowed: auto, a number above 0"),
        ("dataset={name: digits, held_out: -3}", "dataset.held_out: got -3", "a whole number of at least 0"),
        ("dataset={name: digits, held_out: x.npy}", 'dataset.held_out: got "x.npy"; allowed: auto, a number above 0'),
        ("dataset={name: images, path: three, held_out: nowhere}", "dataset.held_out: got", "which does not exist"),
        ("dataset={name: images, path: three, held_out: one}", "dataset.held_out: got 1 image; allowed: 2 or more"),
        ("dataset={name: known-support, pool: 5, held_out: 2}", "dataset.held_out: unknown key"),
        ("dataset={name: known-support, pool: 5, base: {name: digits, held_out: 2}}", "dataset.base: got held_out: 2"),
        ("dataset={name: cifar10, path: nowhere}", "dataset.path: got", "which does not exist", "cifar-10-batches-py"),
        ("dataset={name: cifar10, path: empty}", "dataset.path: got", "which holds no batch files"),
        ("dataset={name: known-support, pool: 5, base: {name: images, path: nowhere}}", "dataset.base.path: got"),
        ("model.family=known-suport", 'model.family: got "known-suport"', "did you mean known-support?"),
        ("model.family=import:x", "model.family", "import:package.module:factory"),
        ("model={family: dcgan, latent_dim: 99999999}", "model.latent_dim: got 99999999", "allowed:"),
        (
            "dataset={name: images, path: three} --set collisions.embedding=classifier",
            "collisions.embedding: got classifier",
            "no labelled images",
        ),
        ("train.steps=1 --set train.steps=2", "--set train.steps=2: replaces --set train.steps=1", "each key once"),
        ("train.steps=1 --set train.steps=1", "replaces --set train.steps=1", "each key once"),
        ("train.steps=2 --set train={steps: 3}", "replaces --set train.steps=2", "each key once"),
    )
    for number, (value, *says) in enumerate(rows):
        first, _, second = value.partition(" --set ")
        more = f" --set {shlex.quote(second)}" if second else ""
        yield Case(f"{(PLAN, RUN)[number % 2]} small.yaml --set {shlex.quote(first)}{more}", says)


def refused_by_plan_and_run() -> Iterator[Case]:
    """Faults that reach beyond the sweep file: `plan` refuses them as `run` does."""
    for command in (PLAN, RUN):
        for number, case in enumerate(settings()):
            if "this machine has" in case.says[0] or "dataset" in case.says[0] or "compares images" in case.says[0]:
                other = case.command.replace((PLAN, RUN)[number % 2], command, 1)
                if other != case.command:
                    yield case._replace(command=other)


def bomb(place: str) -> str:
    """A file of a few hundred bytes whose aliases stand for 9⁸ values."""
    lists = [f"b{each}: &b{each} [{', '.join([f'*b{each - 1}'] * 9)}]" for each in range(1, 9)]
    return yaml.safe_dump(SMALL) + "\n".join(["b0: &b0 [1]", *lists]) + f"\n{place}\n"


def sweep_files() -> Iterator[Case]:
    """Whole files in place of a sweep file."""
    good = yaml.safe_dump(SMALL)
    mapping = "allowed: a mapping with the keys name, dataset, model"
    rows: tuple[tuple[bytes | str, list[str]], ...] = (
        ("", ["is empty", mapping]),
        ("# nothing\n", ["is empty", mapping]),
        ("[1, 2]\n", ["holds [1, 2]", mapping]),
        ("small\n", ['holds "small"', mapping]),
        ("3\n", ["holds 3", mapping]),
        ("a,b\n1,2\n", ['holds "a,b 1,2"', mapping]),
        ("<html><body>404</body></html>\n", ["holds", mapping]),
        (good.encode("utf-16"), ["is not text in UTF-8", "allowed: a YAML file"]),
        ("name: été\n".encode("latin-1"), ["is not text in UTF-8"]),
        (bytes(range(256)), ["is not text in UTF-8"]),
        (b"\0\0\0", ["is no YAML"]),
        (good + "\x01", ["is no YAML"]),
        ("name:\tsmall\n", ["line 1, column 6"]),
        ("name: small\n\tdataset: x\n", ["line 2, column 1"]),
        ('name: "small\n', ["line 2, column 1"]),
        ('{"name": "small", ', ["line 1, column"]),
        (good + "name: again\n", ["the key name stands twice; allowed: once"]),
        (good.replace("steps: 1", "steps: 1\n  steps: 2"), ["the key steps stands twice"]),
        (good + "---\n" + good, ["another document"]),
        ("? [1]\n: 2\n", ["a key is not text"]),
        ("a: &a [*a]\n", ["line 1"]),
        (bomb(""), ["each alias written out", "allowed: at most 1,000,000"]),
        ("[" * 3000, ["is no YAML"]),
        ("a: " + "{a: " * 900 + "1" + "}" * 900, ["is no YAML"]),
        ("name: " + "x" * 100_000 + "\n" + good.replace("name: small\n", ""), ["name: got", "at most 100 letters"]),
        ("x" * 5000 + ": 1\n" + good, ["line 1, column 5001"]),
        (good + "on: [push]\njobs: {build: {runs-on: x}}\n", ["on: unknown key", "allowed: name, dataset"]),
        ("version: '3'\nservices: {a: {image: b}}\n", ["unknown key", "allowed: name, dataset"]),
        (yaml.safe_dump(SITE), ["unknown key", "allowed: name, dataset"]),
        (good + "<<: {seeds: 2}\n", ["<<: unknown key"]),
        (good + "~: 1\n", ["~: unknown key"]),
        (good + "1: 1\n", ["1: unknown key"]),
        (good + "ünïcode: 1\n", ["ünïcode: unknown key"]),
        (good + "ressources: {}\n", ["ressources: unknown key", "did you mean resources?"]),
        (good.replace("name: small\n", ""), ["name: is missing; allowed: text"]),
        ("name: x\nmodel: {family: dcgan}\n", ["dataset: is missing; allowed: a mapping with name"]),
        ("name: x\ndataset: {name: digits}\n", ["model: is missing"]),
        ("name:\ndataset:\nmodel:\n", ["got null"]),
        ("name: x\ndataset: {name: digits}\nmodel: [a]\n", ['model: got ["a"]', "a mapping"]),
        ("name: x\ndataset: {name: digits}\nmodel: {}\n", ["model.family: is missing"]),
        (good + "search: grid\n", ['search: got "grid"', "a mapping with the keys algorithm"]),
        (good + "seeds: {a: 1}\n", ['seeds: got {"a": 1}', "a whole number"]),
        (good.replace("name: small", "name: 🦆"), ['name: got "🦆"', "letters"]),
    )
    for number, (content, says) in enumerate(rows):
        yield Case(f"{(PLAN, RUN, SUBMIT)[number % 3]} bad.yaml", ["bad.yaml: ", *says], files={"bad.yaml": content})


def cluster_files() -> Iterator[Case]:
    """Whole files in place of a cluster file, and single keys of one."""
    good = yaml.safe_dump(SITE)
    minutes = "allowed: a whole number of at least 1 (minutes)"
    rows: tuple[tuple[bytes | str, list[str]], ...] = (
        ("", ["is empty", "allowed: a mapping with the keys partition"]),
        ("[1]\n", ["holds [1]"]),
        (b"\xff\xfe", ["is not text in UTF-8"]),
        (yaml.safe_dump(SMALL), ["unknown key", "allowed: partition"]),
        ("nodes: 1\n", ["time_min: is missing", minutes]),
        ("time_min: 60\n", ["nodes: is missing; allowed: a whole number of at least 1"]),
        ("nodes: 1\nnodes: 2\ntime_min: 60\n", ["the key nodes stands twice"]),
        ("nodes: 1\ntime_min: 0:30:00\n", ['time_min: got "0:30:00"', minutes]),
        ("nodes: 1\ntime_min: 30m\n", ['time_min: got "30m"', minutes]),
        ("nodes: 1\ntime_min: 1.5\n", ["time_min: got 1.5", minutes]),
        ("nodes: 1\ntime_min: null\n", ["time_min: got null", minutes]),
        ("nodes: 1\ntime_min: 2026-01-01\n", ['time_min: got "2026-01-01"', minutes]),
        ("nodes: yes\ntime_min: 60\n", ['nodes: got "yes"', "a whole number"]),
        ("nodes: true\ntime_min: 60\n", ["nodes: got true", "a whole number"]),
        ("nodes: 0\ntime_min: 60\n", ["nodes: got 0", "a whole number of at least 1"]),
        ("nodes: 99999999999\ntime_min: 60\n", ["nodes: got 99999999999; allowed: at most 100,000"]),
        ("nodes: 1e3\ntime_min: 60\n", ["nodes: got 1000.0", "a whole number"]),
        (good + "mem_gb: 8G\n", ['mem_gb: got "8G"', "a number of at least 0 (gigabytes) or null"]),
        (good + "mem_gb: -1\n", ["mem_gb: got -1", "(gigabytes)"]),
        (good + "mem_gb: 1e400\n", ["mem_gb: got inf", "a finite number"]),
        (good + "gpus_per_node: two\n", ['gpus_per_node: got "two"', "a whole number"]),
        (good + "notice_s: 1m\n", ['notice_s: got "1m"', "(seconds)"]),
        (good + "start_s: .inf\n", ["start_s: got inf", "a finite number"]),
        (good + "partitoin: gpu\n", ["partitoin: unknown key", "did you mean partition?"]),
        (good + "partition: [gpu]\n", ['partition: got ["gpu"]', "text or null"]),
        (good + "exclusive: 1\n", ["exclusive: got 1", "true or false"]),
        (good + "setup: module load cuda\n", ['setup: got "module load cuda"', "a list, each entry text"]),
        (good + "sbatch: [--mem=3]\n", ["sbatch: got '--mem=3'", "use the key mem_gb"]),
        (good + "sbatch: [mem]\n", ["sbatch: got 'mem'", "allowed: options as in"]),
        (good + "environment: {1a: x}\n", ['environment.1a: got "1a"', "text that matches ^[A-Za-z_]"]),
        (good + "environment: {A: 1}\n", ["environment.A: got 1; allowed: text"]),
        (good + "controller: 3\n", ["controller: got 3", "a mapping with the keys"]),
        (good + "controller: {cpu: 1}\n", ["controller.cpu: unknown key", "did you mean cpus?"]),
        (good + "controller: {time_min: 1h}\n", ['controller.time_min: got "1h"', "(minutes)"]),
    )
    for number, (content, says) in enumerate(rows):
        command = (f"{PLAN} small.yaml", "submit small.yaml --out out")[number % 2]
        yield Case(f"{command} --cluster bad.yaml", ["bad.yaml: ", *says], files={"bad.yaml": content})
    yield Case(
        f"{PLAN} small.yaml --cluster site.yaml --set resources.gpus_per_trial=1",
        ["gpus_per_trial: got 1", "site.yaml has gpus_per_node = 0; allowed: at most 0"],
    )


REFUSED = [
    *usage(),
    *embeddings(),
    *places(),
    *outs(),
    *checkpoints(),
    *settings(),
    *refused_by_plan_and_run(),
    *sweep_files(),
    *cluster_files(),
]

Damage = Callable[[SweepLayout], object]


def written(name: str, content: bytes | str) -> Damage:
    """Replace a file of the sweep, or a folder, by a file of this content."""

    def damage(sweep: SweepLayout) -> None:
        path = sweep.root / name
        if path.is_dir():
            shutil.rmtree(path)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    return damage


def emptied(name: str) -> Damage:
    """Replace a file or folder of the sweep by an empty folder."""

    def damage(sweep: SweepLayout) -> None:
        gone(name)(sweep)
        (sweep.root / name).mkdir()

    return damage


def gone(name: str) -> Damage:
    """Remove a file or folder of the sweep."""

    def damage(sweep: SweepLayout) -> None:
        path = sweep.root / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return damage


def garbled(pattern: str, content: bytes = b"garbled") -> Damage:
    """Overwrite every file of the sweep that matches the pattern."""

    def damage(sweep: SweepLayout) -> None:
        found = [path for path in sweep.root.glob(pattern) if path.is_file()]
        assert found, pattern
        for path in found:
            path.write_bytes(content)

    return damage


def also(*damages: Damage) -> Damage:
    """Do several."""
    return lambda sweep: [damage(sweep) for damage in damages]


SPEC_READERS = ("status", "review", "report", "measure", "run small.yaml --out")
DAMAGED: list[tuple[str, Damage, int, list[str]]] = [
    *(
        (f"{command} sweep", written("sweep.yaml", content), 2, ["sweep/sweep.yaml: ", *says])
        for command in SPEC_READERS
        for content, says in (
            ("", ["is empty"]),
            ("name: small\ndatas", ["line 2"]),
            (b"\xff\x00", ["is not text in UTF-8"]),
            ("[]", ["holds []"]),
        )
    ),
    *((f"{command} sweep", emptied("sweep.yaml"), 2, NO_SWEEP) for command in ("status", "report", "monitor")),
    ("report sweep", gone("results.zarr"), 2, ["no results here yet", "`ganlab measure"]),
    ("report sweep", written("results.zarr", "x"), 2, ["no results here yet", "`ganlab measure"]),
    ("report sweep", emptied("results.zarr"), 1, ["results.zarr: damaged", "`ganlab measure"]),
    ("report sweep", written("results.zarr/.zmetadata", "{"), 1, ["results.zarr: damaged"]),
    ("report sweep", garbled("results.zarr/support_size/*.*"), 1, ["results.zarr: damaged"]),
    ("report sweep", garbled("results.zarr/trial/0"), 1, ["results.zarr: damaged"]),
    ("measure sweep", gone("reference.zarr"), 2, ["nothing to measure here yet", "run its sweep first"]),
    *(
        (f"{command} sweep", damage, 1, ["reference.zarr", "damaged, expected images and their fingerprint"])
        for command in ("measure", "review")
        for damage in (
            emptied("reference.zarr"),
            written("reference.zarr", "x"),
            emptied("reference.zarr/images"),
            written("reference.zarr/zarr.json", "[]"),
            written("reference.zarr/images/zarr.json", "{}"),
        )
    ),
    ("measure sweep", written("reference.zarr/zarr.json", "{"), 1, ["reference.zarr/zarr.json: damaged"]),
    ("review sweep", gone("reference.zarr"), 2, ["run `ganlab measure"]),
    ("measure sweep", also(gone("pairs"), garbled("trials/*/samples.zarr/images/c.*")), 1, ["damaged shard"]),
    ("measure sweep", garbled("trials/*/samples.zarr/zarr.json"), 1, ["samples.zarr/zarr.json: damaged"]),
    *(
        (f"{command} sweep", written("cluster", "x"), 1, ["sweep/cluster: File exists"])
        for command in ("measure", "run sweep/sweep.yaml --out")
    ),
    ("status sweep", emptied("cluster/lock"), 1, ["cluster/lock: Is a directory"]),
    ("cancel sweep", written("cluster/submission.json", "[]"), 2, ["was not submitted to SLURM"]),
    *(
        (f"{command} sweep", written("cluster/submission.json", "{}"), 1, ["submission.json: damaged", "`squeue --me`"])
        for command in ("cancel", "status", "measure")
    ),
]
TOLERATED: list[tuple[str, Damage]] = [
    *(
        ("status sweep", damage)
        for damage in (
            written("trials.json", "{"),
            written("trials.json", "[]"),
            gone("trials.json"),
            gone("trials"),
            written("trials", "x"),
            gone("results.zarr"),
            gone("reference.zarr"),
            written("verdicts.jsonl", "{\n[]"),
            garbled("trials/*/samples.zarr/zarr.json"),
            garbled("trials/*/commits/*"),
            written("cluster/controller.json", "{}"),
        )
    ),
    *(
        ("report sweep", damage)
        for damage in (
            gone("trials.json"),
            gone("trials"),
            gone("reference.zarr"),
            garbled("trials/*/samples.zarr/images/c.*"),
            written("reference.zarr/zarr.json", "{"),
            written("verdicts.jsonl", "{\n[]"),
        )
    ),
]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A measured sweep with its report."""
    layout, spec = make_sweep(tmp_path_factory.mktemp("original") / "sweep")
    with sweep_lock(layout, "ganlab run small"):
        measured = measure_sweep(MeasureContext(layout, spec.collisions, 2**30, map, lambda *done: None), spec.trials())
        write_answers(layout, spec, spec.trials(), measured.real)
        write_report(layout)
    return layout.root


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, original: Path) -> Path:
    """A sweep file, a cluster file, a sweep and awkward neighbours: no refused command changes any of them."""
    folder = tmp_path_factory.mktemp("a sweep's  ünïcode folder")
    (folder / "small.yaml").write_text(yaml.safe_dump(SMALL))
    (folder / "site.yaml").write_text(yaml.safe_dump(SITE))
    shutil.copytree(original, folder / "sweep")
    (folder / "loop").symlink_to("loop")
    (folder / "dangling").symlink_to("nothing")
    for name, pictures in (("full", 0), ("empty", 0), ("one", 1), ("three", 3)):
        (folder / name).mkdir()
        for picture in range(pictures):
            (folder / name / f"{picture}.pgm").write_bytes(b"P5 8 8 255 " + bytes(range(picture, picture + 64)))
    (folder / "full" / "notes.txt").write_text("mine")
    return folder


@pytest.fixture
def guarded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where a command would begin its work, and hide SLURM's commands."""

    def reached(*arguments: Any, **options: Any) -> None:
        pytest.fail("was not refused")

    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr("jobs.cli.pipeline.prepare_folder", reached)
    monkeypatch.setattr("jobs.watching.monitor.run_exporter", reached)
    monkeypatch.setattr("uvicorn.Server.run", reached)
    monkeypatch.setattr("jobs.cli.pipeline.local_dask", lambda workers: nullcontext(map))


@pytest.fixture
def place(shared: Path, guarded: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The shared folder, in which commands run."""
    monkeypatch.chdir(shared)
    return shared


@pytest.fixture
def damaged(folder: Path, shared: Path, guarded: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a copy of the sweep to damage, in which commands run."""
    shutil.copytree(shared / "sweep", folder / "sweep")
    shutil.copyfile(shared / "small.yaml", folder / "small.yaml")
    monkeypatch.chdir(folder)
    return folder


def tree(root: Path) -> dict[str, tuple[int, int, int]]:
    """Kind, size and time of change of everything in a folder; of folders the kind alone."""
    found: dict[str, tuple[int, int, int]] = {}
    folders = [str(root)]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                state = entry.stat(follow_symlinks=False)
                found[entry.path] = (state.st_mode, state.st_size, state.st_mtime_ns)
                if entry.is_dir(follow_symlinks=False):
                    found[entry.path] = (state.st_mode, 0, 0)
                    folders.append(entry.path)
    return found


def check_refused(command: str, code: int, says: list[str], place: Path) -> None:
    """One line on stderr with every fragment, the exit code, nothing on stdout, nothing written."""
    before = tree(place)
    result = call(*shlex.split(command))
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    *progress, line, end = result.stderr.split("\n")
    assert line.startswith("ganlab: "), result.stderr
    assert end == ""
    for fragment in says:
        assert fragment in line, (fragment, line)
    if code == 2:
        assert not progress, result.stderr
        assert tree(place) == before


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_nonsense_gets_one_line_and_writes_nothing(case: Case, place: Path) -> None:
    for name, content in case.files.items():
        Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    check_refused(case.command, case.code, case.says, place)


def test_there_are_enough_cases() -> None:
    assert len(REFUSED) >= 200
    assert {case.command.split()[0] for case in REFUSED} >= set(main.commands)


@pytest.mark.parametrize(("command", "damage"), TOLERATED)
def test_what_can_be_done_without_is_not_asked_for(command: str, damage: Damage, damaged: Path) -> None:
    damage(SweepLayout(Path("sweep")))
    result = call(*shlex.split(command))
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(("command", "damage", "code", "says"), DAMAGED)
def test_a_damaged_sweep_is_named(command: str, damage: Damage, code: int, says: list[str], damaged: Path) -> None:
    damage(SweepLayout(Path("sweep")))
    check_refused(command, code, says, damaged)


@pytest.mark.parametrize("command", ["run sweep/sweep.yaml --out sweep", "measure sweep"])
def test_a_busy_sweep_is_refused(command: str, place: Path) -> None:
    with sweep_lock(SweepLayout(place / "sweep"), "ganlab run other.yaml"):
        check_refused(command, 2, ["in use by `ganlab run other.yaml`", "wait for it or stop it first"], place)


@pytest.mark.parametrize("command", ["monitor", "review"])
def test_a_port_in_use_is_refused(command: str, place: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        check_refused(f"{command} sweep --port {port}", 2, [f"port {port}", "in use", "--port"], place)


@pytest.mark.parametrize("command", [RUN, "plan --no-timing --out out"])
def test_images_that_the_disk_cannot_hold(command: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 0))  # type: ignore[attr-defined]
    says = ["the trials' images take 32.8 kB", "0 bytes free; allowed: fewer images", "--out"]
    if command == RUN:
        check_refused(f"{RUN} small.yaml", 2, ["samples: ", *says], place)
        return
    result = call(*shlex.split(command), "small.yaml")
    assert result.exit_code == 0
    assert all(fragment in result.stderr for fragment in says)


@pytest.mark.parametrize("command", [PLAN, RUN])
def test_training_images_that_memory_cannot_hold(command: str, place: Path) -> None:
    dataset = "dataset={name: known-support, pool: 5, images: 100000000, base: {name: digits, resolution: 128}}"
    says = ["dataset: got 100,000,000 images, which take 1.64 TB", "of memory; allowed: fewer, or smaller ones"]
    check_refused(f"{command} small.yaml --set {shlex.quote(dataset)}", 2, says, place)


@pytest.mark.parametrize(
    ("content", "sets"),
    [
        ("\ufeff" + yaml.safe_dump(SMALL), ""),
        (yaml.safe_dump(SMALL).replace("\n", "\r\n"), ""),
        (yaml.safe_dump(SMALL).replace("pool: 50", "pool: &n 50") + "seeds: *n\n", ""),
        (yaml.safe_dump(SMALL), "--set 'train={steps: 3}' --set train.steps=2"),
        (yaml.safe_dump(SMALL), "--set ' train.steps = 2'"),
        (yaml.safe_dump(SMALL), "--set resources.measure_memory_gb=0.5"),
        (yaml.safe_dump(SMALL), "--set 'dataset={name: images, path: three, resolution: 8}'"),
        (yaml.safe_dump(SMALL), "--set samples.final_images=1000000000"),
    ],
)
def test_what_is_no_mistake_is_planned(content: str, sets: str, place: Path) -> None:
    Path("good.yaml").write_text(content)
    before = tree(place)
    result = call(*shlex.split(f"{PLAN} good.yaml {sets}"))
    assert result.exit_code == 0, result.output
    assert tree(place) == before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["pln"], "No such command 'pln'"),
        (["plan", "small.yaml", "--set", "train.stps=1"], "did you mean steps?"),
        (["run", "small.yaml", "--out", "/proc/x"], "can't be made or written in"),
        (["monitor", "small.yaml", "--port", "7e9"], "allowed: a whole number from 0 to 65535"),
    ],
)
def test_a_process_of_its_own_says_the_same(arguments: list[str], says: str, ganlab: Any, folder: Path) -> None:
    (folder / "small.yaml").write_text(yaml.safe_dump(SMALL))
    before = tree(folder)
    done = ganlab(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert says in done.stderr
    assert tree(folder) == before
