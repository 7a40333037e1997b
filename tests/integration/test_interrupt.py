"""Ctrl-C at whatever a run is doing: one line, exit code 130, and nothing left alive."""

import os
import signal
import subprocess
import sys
import time
import uuid
from contextlib import suppress
from pathlib import Path

from jobs.console.interrupt import INTERRUPTED
from storage.attempts import read_attempts
from storage.layout import SweepLayout
from storage.samples import all_committed
from tests.integration.test_kill import assert_gone, marked
from tests.waiting import HANG_S

SPEC = {
    "model": {"family": "dcgan", "latent_dim": 4, "generator_width": 4, "discriminator_width": 4},
    "train": {"steps": 10_000_000, "batch_size": 16},
    "samples": {"final_images": 512},
    "collisions": {"sample_sizes": [10]},
    "seeds": 2,
    "resources": {"checkpoint_every_s": 0.5},
}


def test_ctrl_c_while_ray_starts_and_while_trials_train(sweep_file, folder) -> None:
    """As a terminal sends it: to every process of the group, Ray's own ones too."""
    spec, layout = sweep_file("endless", **SPEC), SweepLayout(folder / "out")

    def trained() -> bool:
        return len(list(layout.trials.glob("*/checkpoint/latest.pt"))) == 2

    def begun_again() -> bool:
        return all(len(read_attempts(layout.trial(trial))) >= 2 for trial in layout.trial_ids())

    def by_ctrl_c(run: subprocess.Popen[str]) -> None:
        os.killpg(run.pid, signal.SIGINT)

    # As soon as Ray's processes are there, in the midst of training, and by `kill` of the command alone.
    for moment, interrupt in (
        (lambda mark: any("gcs_server" in " ".join(p.cmdline()) for p in marked(mark)), by_ctrl_c),
        (lambda mark: trained(), by_ctrl_c),
        (lambda mark: begun_again(), subprocess.Popen.terminate),
    ):
        mark = uuid.uuid4().hex
        run = subprocess.Popen(
            [Path(sys.executable).with_name("ganlab"), "run", spec, "--out", layout.root],
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "GANLAB_MARK": mark},
        )
        try:
            deadline = time.monotonic() + HANG_S
            while not moment(mark):
                assert run.poll() is None, run.stderr.read()
                assert time.monotonic() < deadline, [process.cmdline() for process in marked(mark)]
                time.sleep(0.1)
            interrupt(run)
            out, said = run.communicate(timeout=20)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(run.pid, signal.SIGKILL)
        assert run.returncode != 0, said
        if interrupt is by_ctrl_c:  # on SIGTERM Ray's C++ may abort the process before Python hears of it
            assert run.returncode == 130, said
            assert said.splitlines()[-1] == INTERRUPTED
            assert said.count(INTERRUPTED) == 1
            assert "Traceback" not in said
        assert out == ""
        assert_gone(mark, within_s=10)
    assert not any(all_committed(layout.trial(trial)) for trial in layout.trial_ids())
    assert not layout.results.exists()  # it must not go on and measure
