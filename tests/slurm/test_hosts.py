"""The three hosts themselves: real ones, private, and gone without a trace however their starter ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.slurm.hosts import CHECKOUT, HOSTS, Hosts


def devices() -> set[str]:
    return {name for name in os.listdir("/sys/class/net") if name.startswith("ganlab-")}


def test_each_host_has_its_own_name_address_gpus_and_temporary_folder(hosts: Hosts) -> None:
    script = (
        'hostname; hostname -i; echo "$CUDA_VISIBLE_DEVICES $SLURM_GPUS_ON_NODE"; ls /tmp; touch /tmp/mine; sleep 1'
    )
    for host in HOSTS:
        hosts.slurm("sbatch", "-w", host, "--gres=gpu:2", "-o", str(hosts.shared / f"{host}.txt"), "--wrap", script)
    hosts._wait(lambda: len(list(hosts.shared.glob("n?.txt"))) == len(HOSTS), "three jobs to run at once", 30)
    hosts._wait(lambda: not hosts.jobs(), "three jobs to end", 30)
    answers = {host: (hosts.shared / f"{host}.txt").read_text().split() for host in HOSTS}
    assert {host: answer[0] for host, answer in answers.items()} == {host: host for host in HOSTS}
    assert len({answer[1] for answer in answers.values()}) == len(HOSTS)
    assert all(answer[2:4] == ["0,1", "2"] for answer in answers.values())
    for host in HOSTS:
        hosts.on(host, "rm", "/tmp/mine").check_returncode()


def test_a_host_that_lost_power_comes_back(hosts: Hosts) -> None:
    hosts.power_off("n2")
    hosts.power_on("n2")
    done = subprocess.run(
        ["srun", "-w", "n2", "hostname"],
        env={**os.environ, **hosts.environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "n2\n", done.stderr
    hosts.settle()


def test_nothing_is_left_of_hosts_whose_starter_is_killed(hosts: Hosts, tmp_path: Path) -> None:
    """Beside the hosts of the other tests, which don't notice."""
    before = devices()
    command = [sys.executable, "-m", "tests.slurm.hosts"]
    started = subprocess.run([*command, "start", tmp_path], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert started.stdout == f"export SLURM_CONF={tmp_path}/conf/slurm.conf\n"
    assert len(devices() - before) == 1
    other = Hosts(tmp_path)
    other.slurm("sbatch", "--gres=gpu:1", "-o", "/dev/null", "--wrap", "sleep 1000")
    other._wait(lambda: any(other.processes(host) for host in HOSTS), "a job to run", 30)
    assert not hosts.jobs()
    inside = {os.readlink(f"/proc/{other._pid(host)}/ns/pid") for host in HOSTS}
    os.kill(int((tmp_path / "run" / "keeper").read_text()), signal.SIGKILL)
    deadline = time.monotonic() + 10
    while living(inside) or devices() != before:
        assert time.monotonic() < deadline, (living(inside), devices())
        time.sleep(0.1)
    subprocess.run([*command, "stop", tmp_path], cwd=CHECKOUT, check=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "shared"]
    assert "UP" in hosts.slurm("scontrol", "ping")


def living(spaces: set[str]) -> list[psutil.Process]:
    """Processes in these process-number spaces."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.readlink(f"/proc/{process.pid}/ns/pid") in spaces and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become someone else")
def test_an_ordinary_user_is_told_what_needs_root(tmp_path: Path) -> None:
    """The Python of this environment may be root's alone: it becomes someone else when it runs."""
    code = "import os, sys; from tests.slurm.hosts import main; os.seteuid(65534); sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", code, "start", tmp_path / "mine"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "need root" in done.stderr
    assert "Traceback" not in done.stderr
