"""Leases of ports exclude one another between processes, and end with their process."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.ports import BLOCK, ENOUGH, LOWEST, leased_ports, listening, own_address

HOLD = "from cluster.ports import leased_ports\nwith leased_ports() as ports:\n print(*ports, flush=True)\n input()"


def hold() -> tuple[subprocess.Popen[str], list[int]]:
    process = subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, [int(port) for port in process.stdout.readline().split()]


@pytest.mark.process
def test_leases_of_several_processes_never_meet_and_end_with_them() -> None:
    holders = [hold() for _ in range(4)]
    try:
        with leased_ports() as mine, leased_ports() as second:
            taken = [set(ports) for _, ports in holders] + [set(mine), set(second)]
            assert len(set.union(*taken)) == sum(map(len, taken))
            ephemeral = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
            for ports in taken:
                assert len(ports) >= ENOUGH
                assert min(ports) >= LOWEST
                assert max(ports) - min(ports) < BLOCK
                assert max(ports) < max(ephemeral, 32_768)
            first = min(holders[0][1])
            os.kill(holders[0][0].pid, signal.SIGKILL)
            holders[0][0].wait()
            with leased_ports() as again:  # the killed process's block is the lowest that is free
                assert min(again) == first
    finally:
        for process, _ in holders:
            process.kill()
            process.communicate()


def test_a_port_in_use_is_left_out_of_the_lease() -> None:
    with leased_ports() as ports:
        block = ports
    with socket.socket() as stranger:
        stranger.bind(("", block[3]))
        stranger.listen()
        with leased_ports() as ports:
            assert block[3] not in ports


def test_listening() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{server.getsockname()[1]}"
        assert not listening(address)
        server.listen()
        assert listening(address)
        assert listening(f"tls://{address}")


def test_own_address_is_the_one_that_others_reach() -> None:
    assert own_address(towards="127.0.0.1:80") == "127.0.0.1"
    assert own_address(interface="lo") == "127.0.0.1"
    with pytest.raises(ValueError, match=r"no address on the network interface ib7; it has .*lo"):
        own_address(interface="ib7")
