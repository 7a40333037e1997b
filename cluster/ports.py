"""Blocks of TCP ports for the jobs that share a node.

Invariant: two leases never overlap, whoever holds them. A lease is a listening socket on the block's first port, so the
kernel guards it between users and containers alike, and it ends with its process.
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BLOCK = 16  # ports; the first guards the others
ENOUGH = 12  # of them must be free: a head takes 10
LOWEST = 11_000  # Ray believes that 10001 is its own
EPHEMERAL = 32_768  # where Linux begins to choose ports by itself, unless told otherwise


class NoPortsError(RuntimeError):
    """Every block of ports of this node is taken."""


@contextmanager
def leased_ports() -> Iterator[list[int]]:
    """Lease a block for the length of the context; yields its ports that are free now.

    They lie below the range from which the kernel serves others. Raises NoPortsError.
    """
    highest = _ephemeral_from()
    for first in range(LOWEST, highest - BLOCK + 1, BLOCK):
        guard = socket.socket()
        try:
            guard.bind(("", first))
            guard.listen(1)  # two sockets may bind one port with SO_REUSEADDR, but only one may listen
        except OSError:
            guard.close()
            continue
        with guard:
            free = [port for port in range(first + 1, first + BLOCK) if _is_free(port)]
            if len(free) >= ENOUGH:
                yield free
                return
    raise NoPortsError(f"no block of {BLOCK} ports is free between {LOWEST} and {highest} on {socket.gethostname()}")


def listening(address: str, timeout_s: float = 5.0) -> bool:
    """True if something accepts connections at ``host:port``; a scheme before it is ignored."""
    host, port = address.rsplit("/", 1)[-1].rsplit(":", 1)
    try:
        with socket.create_connection((host, int(port)), timeout_s):
            return True
    except OSError:
        return False


def own_address(towards: str | None = None, interface: str | None = None) -> str:
    """Return this node's IPv4 address.

    Parameters
    ----------
    towards
        ``host:port`` that must be reachable from it.
    interface
        Name of the network interface to take, as in ``ib0``; else the one that leads `towards`, else the one that the
        node's own name stands for, else the one of the default route.

    Raises
    ------
    ValueError
        If there is no such interface.
    """
    if interface is not None:
        return _address_of(interface)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        if towards is not None:
            host, port = towards.rsplit("/", 1)[-1].rsplit(":", 1)
            probe.connect((host, int(port)))  # sends nothing
            return str(probe.getsockname()[0])
        try:
            found = socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)
        except OSError:
            found = []
        for *_, place in found:
            if not str(place[0]).startswith("127."):  # Debian gives a host's name such an address
                return str(place[0])
        try:
            probe.connect(("192.0.2.1", 9))  # an address that no one has
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"


def _address_of(interface: str) -> str:
    import fcntl
    import struct

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            reply = fcntl.ioctl(probe, 0x8915, struct.pack("256s", interface.encode()[:15]))  # SIOCGIFADDR
        except OSError as error:
            names = ", ".join(sorted(name for _, name in socket.if_nameindex()))
            raise ValueError(
                f"this node has no address on the network interface {interface}; it has {names}"
            ) from error
    return socket.inet_ntoa(reply[20:24])


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def _ephemeral_from() -> int:
    try:
        lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError):
        return EPHEMERAL
    return lowest if lowest > LOWEST + BLOCK else EPHEMERAL  # a site that gives the kernel everything
