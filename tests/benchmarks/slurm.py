"""What SLURM costs: start-up, preemption, calls of the scheduler, short trials, a long tail.

`python -m tests.benchmarks.slurm` prints the tables, on a SLURM of three hosts with two fake GPUs each that share this
machine's processors (tests/slurm/hosts.py; needs root). `--quick` takes each figure once, to see that it works.
`--tail S` prints instead the idle share of the GPU time of 30 trials, 29 of S seconds and a last one of ten times that.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cluster.runs import read_runs
from storage.attempts import read_attempts
from storage.history import read_history
from storage.layout import SweepLayout
from storage.usage import read_usage
from tests.slurm.hosts import Hosts, missing_packages, running
from tests.slurm.sweeps import STEADY, Login, Submitted, client_calls

Row = tuple[str, float, str, str]
POLL_S = 0.02
# One trial that never ends on one GPU of one host, and says how far it is at every step.
ONE: Mapping[str, Any] = {
    **STEADY,
    "name": "one",
    "model": {**STEADY["model"], "discriminator_width": 4},
    "train": {**STEADY["train"], "steps": 10_000_000, "log_every": 1},
    "seeds": 1,
    "resources": {**STEADY["resources"], "checkpoint_every_s": 30},
}
ONE_WORKER = {"nodes": 1, "gpus_per_node": 1, "cpus_per_node": 1}
SHORT_TRIALS = 200


def reached(sweep: Submitted) -> int:
    """Last step of the sweep's one trial."""
    for path in sweep.out.glob("trials/*/history.jsonl"):
        for line in reversed(path.read_bytes()[-2000:].splitlines()):
            if line.startswith(b'{"step": ') and line.endswith(b"}"):
                return int(line[9:].split(b",")[0])
    return 0


def await_step(sweep: Submitted, step: int) -> float:
    """When the trial first showed this step."""
    deadline = time.monotonic() + 300
    while reached(sweep) < step:
        assert time.monotonic() < deadline, sweep.story(f"waited for step {step}")
        time.sleep(POLL_S)
    return time.monotonic()


def start_up(login: Login, repeats: int) -> Iterator[Row]:
    """From the command to the first step of the first trial, all hosts idle."""
    taken, returned = [], []
    for repeat in range(repeats):
        began = time.monotonic()
        sweep = login.submit(f"start {repeat}", ONE, **ONE_WORKER)
        returned.append(time.monotonic() - began)
        taken.append(await_step(sweep, 1) - began)
        end(login, sweep)
    yield spread("submit until the command returns", returned, "s")
    yield spread("submit to the first step", taken, "s")


def preemption(login: Login, repeats: int) -> Iterator[Row]:
    """From the last new step before to the first new step after; checkpoints are written every 30 s only."""
    ways = {"requeued, 5 s until SIGKILL": requeue, "preempted with notice, by a job of 1 s": preempt_for_a_second}
    sweep = login.submit("preempted", ONE, **ONE_WORKER, notice_s=15)
    await_step(sweep, 200)
    for name, happen in ways.items():
        gaps, repeated = [], []
        for _ in range(repeats):
            await_step(sweep, reached(sweep) + 200)
            happen(sweep)
            gap, steps = longest_gap(sweep)
            gaps.append(gap)
            repeated.append(steps)
        yield spread(f"without a new step: {name}", gaps, "s")
        yield spread(f"steps done again: {name}", repeated, "steps")
    end(login, sweep)


def requeue(sweep: Submitted) -> None:
    sweep.hosts.slurm("scontrol", "requeue", sweep.workers()[0]["job"])


def preempt_for_a_second(sweep: Submitted) -> None:
    urgent = ("-p", "urgent", "-w", sweep.workers()[0]["host"], "--exclusive", "--mem=100", "-o", "/dev/null")
    sweep.hosts.slurm("sbatch", *urgent, "--wrap", "sleep 1")


def longest_gap(sweep: Submitted) -> tuple[float, float]:
    """Watch the trial stop and go on: seconds without a step that is new, and how many steps it made twice."""
    attempts = lambda: read_attempts(SweepLayout(sweep.out).trial(trial))  # noqa: E731
    (trial,) = SweepLayout(sweep.out).trial_ids()
    before = len(attempts())
    furthest, at, deadline = reached(sweep), time.monotonic(), time.monotonic() + 300
    while True:
        assert time.monotonic() < deadline, sweep.story("it did not go on")
        now, step = time.monotonic(), reached(sweep)
        if step > furthest:
            if len(attempts()) > before and attempts()[-1].step is not None:
                return now - at, max(0, furthest - int(attempts()[-1].step or 0))
            furthest, at = step, now
        time.sleep(POLL_S)


def scheduler_calls(login: Login, minutes: float) -> Iterator[Row]:
    """Calls of SLURM's clients while a sweep runs on six GPUs and nothing happens, by sdiag."""
    steady = {**STEADY, "name": "calls", "train": {**STEADY["train"], "steps": 10_000_000}}
    login.hosts.slurm("sdiag", "-r")
    sweep = login.submit("calls", steady)
    sweep.wait_until_training()
    time.sleep(10)
    yield "calls to submit and start three workers", float(client_calls(login.hosts).total()), "calls", ""
    login.hosts.slurm("sdiag", "-r")
    before = client_calls(login.hosts).total()
    time.sleep(60 * minutes)
    calls = client_calls(login.hosts).total() - before
    yield f"calls per hour, from {minutes:g} min with nobody asking", calls * 60 / minutes, "calls", ""
    end(login, sweep)


def short_trials(login: Login, trials: int) -> Iterator[Row]:
    """Trials that train for one second each, when a processor has nothing else to do."""
    alone = login.write("alone", {**ONE, "train": {**ONE["train"], "steps": 1000, "log_every": 50}})
    done = login.ganlab("run", alone, "--set", "resources.gpus_per_trial=0", "--out", login.folder / "alone")
    assert done.returncode == 0, done.stderr
    (path,) = (login.folder / "alone").glob("trials/*/history.jsonl")
    steps = round(float(statistics.median(read_history(path)["steps_per_second"])))
    snapshots = {"samples": {"final_images": 512}, "collisions": {"sample_sizes": [10, 100]}}
    sweep_file = {
        **ONE,
        **snapshots,
        "train": {**ONE["train"], "steps": steps, "log_every": 50},
        "seeds": trials,
        "name": "short",
    }
    sweep = login.submit("short", sweep_file)
    sweep.wait(sweep.states, "the first trial", 300)
    sweep.wait(lambda: (sweep.out / "cluster" / "trained").exists(), "all to be trained", 3600)
    ends = sorted(path.stat().st_mtime for path in sweep.out.glob("trials/*/outcome.json"))
    yield (
        f"{trials} trials of one second ({steps} steps)",
        60 * (len(ends) - 1) / (ends[-1] - ends[0]),
        "trials/min",
        "",
    )
    yield "bound: all processors of this machine train all the time", 60.0 * (os.cpu_count() or 1), "trials/min", ""
    sweep.wait_until_done(3600)
    yield (
        f"{trials} trials of one second: from submit until measured, reported and all jobs gone",
        time.time() - sweep.submitted,
        "s",
        "",
    )


SLEEPER = """\
import time
import numpy as np

def model(seconds, part, seed):
    def sample(count, random):
        time.sleep(seconds * count / 512)
        return random.integers(0, 256, (count, 1, 8, 8), dtype=np.uint8)
    return sample
"""  # takes so long for its 512 images, and no processor
TAIL_TRIALS = 30
NEVER_S = 1e6


def tail(login: Login, seconds: float, idle: Sequence[float]) -> Iterator[Row]:
    """Idle share of the GPU time that workers of one GPU each hold, if they stay until the end and if they leave."""
    (login.folder / "sleeper.py").write_text(SLEEPER)
    lengths = [seconds] * (TAIL_TRIALS - 1) + [10 * seconds]
    models = [{"family": "import:sleeper:model", "seconds": s, "part": n} for n, s in enumerate(lengths)]
    sleepy = {
        **STEADY,
        "name": "tail",
        "model": {"grid_search": models},
        "train": {"steps": 1},
        "samples": {"final_images": 512},
        "seeds": 1,
    }
    for idle_s in idle:
        name = "never" if idle_s == NEVER_S else f"{idle_s:g} s"
        sweep = login.submit(f"tail {name}", sleepy, **{**ONE_WORKER, "nodes": 6, "mem_gb": 2}, idle_s=idle_s)
        sweep.wait(lambda sweep=sweep: sweep.state == "done", "the sweep to be done", 3600)
        sweep.wait_until_gone(60)
        layout, controllers = SweepLayout(sweep.out), sweep.read("submission.json")["controllers"]
        runs = [run for run in read_runs(layout.cluster, layout.logs, ()) if run.job_id not in controllers]
        attempts = [attempt for trial in layout.trial_ids() for attempt in read_attempts(layout.trial(trial))]
        first, last = min(each.started for each in attempts), max(each.ended or 0 for each in attempts)
        held = sum(run.ended - run.began for run in runs if run.ended is not None)
        used = sum(usage.gpu_s for trial in layout.trial_ids() if (usage := read_usage(layout.trial(trial))))
        before = sum(max(0.0, first - run.began) for run in runs)
        after = sum(max(0.0, run.ended - max(last, run.began)) for run in runs if run.ended is not None)
        yield f"idle_s {name}: GPU time held by {len(runs)} workers", held, "s", ""
        yield f"idle_s {name}: idle share of it", 100 * (1 - used / held), "%", "≤ 10"
        yield f"idle_s {name}: of it before the first trial began", 100 * before / held, "%", ""
        yield f"idle_s {name}: of it after the last trial ended", 100 * after / held, "%", ""
        login.hosts.settle()


def spread(name: str, values: Sequence[float], unit: str) -> Row:
    """A row of the median; least and most stand in its name."""
    return f"{name} (n = {len(values)}, {min(values):.3g} to {max(values):.3g})", statistics.median(values), unit, ""


def end(login: Login, sweep: Submitted) -> None:
    assert login.ganlab("cancel", sweep.out).returncode == 0
    sweep.wait_until_gone(30)
    login.hosts.settle()


def tables(hosts: Hosts, quick: bool, tail_s: float | None, idle: Sequence[float]) -> Iterator[Iterator[Row]]:
    """Rows of one table after the other: name, value, unit, target."""
    folder = hosts.shared / "figures"
    folder.mkdir()
    login = Login(hosts, folder)
    if tail_s is not None:
        yield tail(login, tail_s, idle)
        return
    yield start_up(login, 1 if quick else 5)
    yield preemption(login, 1 if quick else 5)
    yield scheduler_calls(login, 1 if quick else 10)
    yield short_trials(login, 12 if quick else SHORT_TRIALS)


def main() -> int:
    from tests.benchmarks.table import print_table

    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.slurm", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="each figure once")
    parser.add_argument("--tail", type=float, metavar="S", help="only the long tail, of trials of so many seconds")
    parser.add_argument("--idle-s", type=float, nargs="+", default=[NEVER_S, 5.0], help="its idle_s, by default both")
    given = parser.parse_args()
    if obstacle := missing_packages():
        print(obstacle, file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder, running(Path(folder, "slurm")) as hosts:
        for rows in tables(hosts, given.quick, given.tail, given.idle_s):
            print_table(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
