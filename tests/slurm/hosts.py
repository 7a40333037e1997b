"""A real SLURM of three hosts on one machine: own names, addresses, processes, /tmp and two fake GPUs each.

    python -m tests.slurm.hosts start DIR [--accounting] [--max-array-size N]     # prints the environment to export
    python -m tests.slurm.hosts on DIR n1 ps aux                                  # run a command on a host
    python -m tests.slurm.hosts stop DIR

Invariant: nothing outlives the process that started it, whatever kills that. Every host is a set of anonymous namespaces
whose first process the kernel kills together with the starter; processes, mounts and network devices go with the
namespaces. Nothing has a name outside DIR but one network device, and any number of these clusters live side by side.

`DIR/shared` is the shared file system: the hosts see DIR, the checkout and the Python environment where this machine has
them. Their /tmp and /dev/shm are their own, as on real hosts, so a sweep in /tmp is not on a shared file system.
"""

import argparse
import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

PACKAGES = ("slurm-wlm", "munge")
ACCOUNTING_PACKAGES = ("slurmdbd", "mariadb-server")
CONTROL = "ctl"  # runs munged and slurmctld, and holds the switch
HOSTS = ("n1", "n2", "n3")
GPUS_PER_HOST = 2
CPUS_PER_HOST = 4
DEADLINE_S = 90.0
SERVICES = frozenset({"sh", "sleep", "slurmd", "slurmctld", "slurmdbd", "munged", "mariadbd"})
CHECKOUT = Path(__file__).parents[2]

SLURM_CONF = """\
ClusterName={cluster}
SlurmctldHost={control}({subnet}.1)
AuthType=auth/munge
# A requeued job may start again when its credential has expired: by default after 2 min.
AuthInfo=cred_expire={cred_expire},socket={root}/run/munge.socket
SlurmUser=root
StateSaveLocation={root}/spool/state
SlurmdSpoolDir={root}/spool/%n
SlurmctldPidFile={root}/run/slurmctld.pid
SlurmdPidFile={root}/run/slurmd-%n.pid
SlurmctldLogFile={root}/log/slurmctld.log
SlurmdLogFile={root}/log/slurmd-%n.log
SlurmctldDebug=info
SlurmdDebug=info
MailProg=/bin/true
# No control groups: they belong to the machine around us.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
{memory}
# Jobs of the partition `once` are never requeued (conf/job_submit.lua).
JobSubmitPlugins=lua
AccountingStorageType={accounting}
JobCompType=jobcomp/filetxt
JobCompLoc={root}/log/completed-jobs.txt
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
GresTypes=gpu
SlurmdParameters=config_overrides
ReturnToService=2
MpiDefault=none
KillWait=10
MinJobAge=20
SlurmdTimeout=30
MaxArraySize={max_array_size}
# Jobs of the partition `urgent` take hosts from jobs of `gpu`, which are told so unless `silent`, have 15 s, and are
# requeued.
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
{preemption}
SchedulerParameters=sched_interval=5,batch_sched_delay=1
NodeName=n1 NodeAddr={subnet}.11 CPUs={cpus} RealMemory=8000 Gres=gpu:a100:{gpus} Feature=fast
NodeName=n2 NodeAddr={subnet}.12 CPUs={cpus} RealMemory=8000 Gres=gpu:a100:{gpus} Feature=fast
NodeName=n3 NodeAddr={subnet}.13 CPUs={cpus} RealMemory=8000 Gres=gpu:1g.10gb:{gpus} Feature=slow
PartitionName=gpu Nodes=ALL Default=YES MaxTime=INFINITE DefMemPerCPU=200 PriorityTier=1 GraceTime=15
PartitionName=brief Nodes=ALL MaxTime=10 DefMemPerCPU=200 PriorityTier=1 GraceTime=15
# Jobs of these two do not come back: preemption cancels them at once, or nothing may requeue them.
PartitionName=fickle Nodes=ALL MaxTime=INFINITE DefMemPerCPU=200 PriorityTier=1 GraceTime=0 PreemptMode=CANCEL
PartitionName=once Nodes=ALL MaxTime=INFINITE DefMemPerCPU=200 PriorityTier=1 GraceTime=15
PartitionName=urgent Nodes=ALL MaxTime=INFINITE DefMemPerCPU=200 PriorityTier=10 PreemptMode=off
"""

MEMORY_LIMITS = """\
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill"""

JOB_SUBMIT_LUA = """\
function slurm_job_submit(job, partitions, user)
    if job.partition == "once" then
        job.requeue = 0
    end
    return slurm.SUCCESS
end
function slurm_job_modify(job, record, partitions, user)
    return slurm.SUCCESS
end
"""

# Process 1 of a host: it waits for its network, then starts what it is told and reaps orphans, as init does.
FIRST_PROCESS = """\
set -e
hostname "$HOST_NAME"
mount -t tmpfs -o mode=1777 tmpfs "$HOST_TMP"
for shared in $HOST_SHARED; do
    if [ "${shared#/tmp/}" != "$shared" ]; then
        mkdir -p "$HOST_TMP/${shared#/tmp/}"
        mount --rbind "$shared" "$HOST_TMP/${shared#/tmp/}"
    fi
done
mount --rbind "$HOST_TMP" /tmp
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount --bind "$HOST_ROOT/conf/hosts" /etc/hosts
mount --bind "$HOST_ROOT/conf/resolv.conf" /etc/resolv.conf
read go
eval "$HOST_STARTS"
set +e
while :; do wait; sleep 1; done
"""


def missing_packages(accounting: bool = False) -> str:
    """What stands in the way of starting hosts here, in a sentence; empty when nothing does."""
    if os.geteuid() != 0:
        return "hosts with names and addresses of their own (network namespaces) need root"
    wanted = {"slurmctld": "slurm-wlm", "munged": "munge", "ip": "iproute2", "setpriv": "util-linux"}
    if accounting:
        wanted |= {"slurmdbd": "slurmdbd", "mariadbd": "mariadb-server"}
    missing = sorted({package for program, package in wanted.items() if not which(program)})
    return f"not installed: apt-get install {' '.join(missing)}" if missing else ""


def which(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


class Hosts:
    """The cluster under `root`; made by `start`, and found again by anyone else who names the folder."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    # What a test does with it ----------------------------------------------------------------------------------------

    @property
    def shared(self) -> Path:
        """The shared file system: the same folder on every host and here."""
        return self.root / "shared"

    @property
    def environment(self) -> dict[str, str]:
        """What a shell on the login host (this machine) needs to use this SLURM."""
        return {"SLURM_CONF": str(self.root / "conf" / "slurm.conf")}

    def slurm(self, *command: str, check: bool = True) -> str:
        """Run a SLURM command here, on the login host; its output."""
        done = subprocess.run(
            command, env={**os.environ, **self.environment}, capture_output=True, text=True, check=False
        )
        assert not check or done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout

    def jobs(self) -> list[dict[str, str]]:
        """Every array task or job in the queue: id, job (with restarts' same number), name, state, host, restarts."""
        fields = {"id": "%i", "job": "%A", "name": "%j", "state": "%T", "host": "%N"}
        lines = self.slurm("squeue", "-h", "-r", "-a", "-o", "|".join(fields.values())).splitlines()
        return [dict(zip(fields, line.split("|"), strict=True)) for line in lines]

    def processes(self, host: str) -> list[psutil.Process]:
        """Living processes of a host but its own services, to look at and to kill from outside."""
        space = os.readlink(f"/proc/{self._pid(host)}/ns/pid")
        found = []
        for process in psutil.process_iter():
            try:
                if os.readlink(f"/proc/{process.pid}/ns/pid") != space or process.status() == psutil.STATUS_ZOMBIE:
                    continue
                if process.name() not in SERVICES or process.name() == "sh":
                    found.append(process)
            except (psutil.Error, OSError):
                continue
        return [process for process in found if process.pid != self._pid(host)]

    def on(self, host: str, *command: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command on a host."""
        settings = {"capture_output": True, "text": True, "check": False} | options
        enter = ("nsenter", "--target", str(self._pid(host)), "--all", f"--wdns={CHECKOUT}")
        environment = {**os.environ, **self.environment}
        return subprocess.run([*enter, *command], env=environment, **settings)

    def settle(self, timeout_s: float = DEADLINE_S) -> None:
        """Cancel every job and wait until all hosts are idle again."""
        self.slurm("scancel", "-u", "root", check=False)
        for host in HOSTS:
            if self._pid(host) is None:
                self.power_on(host)
        self.slurm("scontrol", "update", f"NodeName={','.join(HOSTS)}", "State=resume", check=False)
        self._wait(lambda: not self.jobs() and self._ready(), "the hosts to be idle", timeout_s)

    def temporary(self, host: str) -> set[str]:
        """What lies in the host's folders for temporary files; its /tmp also leads to a checkout under /tmp.

        Left out is torch's cache of compiled code, which it keeps for all programs of a user.
        """
        found = self.on(host, "ls", "-A", "/tmp", "/dev/shm").stdout.split()
        return {name for name in found if not name.startswith("torchinductor_")}

    @contextlib.contextmanager
    def scheduler_away(self) -> Iterator[None]:
        """End slurmctld for the length of the context; jobs go on without it."""
        space = os.readlink(f"/proc/{self._pid(CONTROL)}/ns/pid")
        daemons = [process for process in psutil.process_iter(["name"]) if process.info["name"] == "slurmctld"]
        (daemon,) = [each for each in daemons if os.readlink(f"/proc/{each.pid}/ns/pid") == space]
        daemon.terminate()
        self._wait(lambda: not daemon.is_running() or daemon.status() == psutil.STATUS_ZOMBIE, "slurmctld to end")
        try:
            yield
        finally:
            self.on(CONTROL, "sh", "-c", f"setsid {_quote(which('slurmctld'))} -D </dev/null >/dev/null 2>&1 &")
            self._wait(lambda: "UP" in self.slurm("scontrol", "ping", check=False), "slurmctld to answer")

    def power_off(self, host: str) -> None:
        """A host dies without a word: every process at once, its /tmp and its network with it."""
        pid = self._pid(host)
        assert pid is not None, f"{host} is off already"
        os.kill(pid, signal.SIGKILL)
        self._wait(lambda: self._pid(host) is None, f"{host} to die")

    def power_on(self, host: str) -> None:
        """Start a host that was off."""
        self._boot(host, f"{_quote(which('slurmd'))} -D -N {host} &")

    # Start and stop --------------------------------------------------------------------------------------------------

    def start(
        self,
        accounting: bool = False,
        max_array_size: int = 4,
        cred_expire: int = 5,
        memory_limits: bool = False,
        silent: bool = False,
    ) -> None:
        """Bring everything up; the caller's death ends it.

        Parameters
        ----------
        accounting
            With slurmdbd and MariaDB.
        max_array_size
            Most tasks of an array.
        cred_expire
            Seconds until a requeued job may start again; SLURM's default is 120.
        memory_limits
            Whether jobs that use more memory than they asked for are killed.
        silent
            Whether preempted jobs hear nothing before SIGTERM.

        Raises
        ------
        RuntimeError
            When a package is missing or a step does not end in time; the message names its log.
        """
        if obstacle := missing_packages(accounting):
            raise RuntimeError(obstacle)
        for name in ("conf", "log", "run", "spool/state", "shared", *(f"run/{host}-tmp" for host in (CONTROL, *HOSTS))):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        self.root.chmod(0o755)
        self.subnet = _free_subnet()
        self._write_configuration(accounting, max_array_size, cred_expire, memory_limits, silent)
        services = [_munged(self.root), f"{_quote(which('slurmctld'))} -D &"]
        if accounting:
            services[1:1] = [
                _mariadb(self.root),
                f"{_quote(which('slurmdbd'))} -D &",
                _until("sacctmgr -i list cluster"),
            ]
        self._boot(CONTROL, "\n".join(services))
        self._wait(lambda: "UP" in self.slurm("scontrol", "ping", check=False), "slurmctld to answer")
        for host in HOSTS:
            self.power_on(host)
        self._wait(self._ready, "three idle hosts")

    def stop(self) -> None:
        """End every process of every host. Logs and the shared folder stay."""
        for host in (*HOSTS, CONTROL):
            if (pid := self._pid(host)) is not None:
                os.kill(pid, signal.SIGKILL)
        self._wait(lambda: all(self._pid(host) is None for host in (*HOSTS, CONTROL)), "the hosts to end")
        for name in ("run", "spool", "conf", "database"):
            shutil.rmtree(self.root / name, ignore_errors=True)

    def _write_configuration(
        self, accounting: bool, max_array_size: int, cred_expire: int, memory_limits: bool, silent: bool
    ) -> None:
        conf = self.root / "conf"
        (conf / "munge.key").write_bytes(os.urandom(128))
        (conf / "munge.key").chmod(0o400)
        addresses = {CONTROL: 1} | {host: 11 + number for number, host in enumerate(HOSTS)}
        names = "".join(f"{self.subnet}.{last} {host}\n" for host, last in addresses.items())
        login = f"{self.subnet}.254 {socket.gethostname()}\n"
        (conf / "hosts").write_text(f"127.0.0.1 localhost\n::1 localhost\n{names}{login}")
        text = SLURM_CONF.format(
            cluster=f"c{secrets.token_hex(3)}",
            control=CONTROL,
            subnet=self.subnet,
            root=self.root,
            cpus=CPUS_PER_HOST,
            gpus=GPUS_PER_HOST,
            max_array_size=max_array_size,
            accounting="accounting_storage/slurmdbd" if accounting else "accounting_storage/none",
            cred_expire=cred_expire,
            memory=MEMORY_LIMITS if memory_limits else "JobAcctGatherType=jobacct_gather/none",
            preemption="" if silent else "SlurmctldParameters=preempt_send_user_signal",
        )
        (conf / "job_submit.lua").write_text(JOB_SUBMIT_LUA)
        if accounting:
            text += f"AccountingStorageHost={self.subnet}.1\nAccountingStoragePass={self.root}/run/munge.socket\n"
            database = conf / "slurmdbd.conf"
            database.write_text(
                f"AuthType=auth/munge\nAuthInfo=socket={self.root}/run/munge.socket\nDbdHost={CONTROL}\nDbdAddr=127.0.0.1\n"
                f"SlurmUser=root\nStorageType=accounting_storage/mysql\nStorageHost=127.0.0.1\nStorageUser=slurm\n"
                f"StoragePass=slurm\nLogFile={self.root}/log/slurmdbd.log\nPidFile={self.root}/run/slurmdbd.pid\n"
            )
            database.chmod(0o600)
        (conf / "slurm.conf").write_text(text)
        kinds = {"n1,n2": "a100", "n3": "1g.10gb"}  # n3 has parts of GPUs
        lines = (f"NodeName={hosts} Name=gpu Type={kind} File=/dev/null,/dev/zero\n" for hosts, kind in kinds.items())
        (conf / "gres.conf").write_text("".join(lines))
        (conf / "cgroup.conf").write_text("")
        (conf / "resolv.conf").write_text("")  # names come from the file of hosts; asking the world would take seconds

    def _boot(self, host: str, starts: str) -> None:
        """Make the namespaces of a host, plug its network in, and let its first process go on to `starts`."""
        shared = sorted({self.root, CHECKOUT, Path(sys.prefix), Path(sys.base_prefix)})
        log = (self.root / "log" / f"{host}.log").open("ab")
        # setpriv: unshare dies with this process; --kill-child: the host's first process dies with unshare, and so all.
        outer = subprocess.Popen(
            [
                "setpriv",
                "--pdeathsig",
                "KILL",
                "unshare",
                "--mount",
                "--uts",
                "--ipc",
                "--net",
                "--pid",
                "--fork",
                "--kill-child",
                "--mount-proc",
                "sh",
                "-c",
                FIRST_PROCESS,
            ],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={
                **self.environment,
                "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin",
                "HOME": str(Path.home()),
                "HOST_NAME": host,
                "HOST_TMP": str(self.root / "run" / f"{host}-tmp"),
                "HOST_ROOT": str(self.root),
                "HOST_SHARED": " ".join(map(str, shared)),
                "HOST_STARTS": starts,
            },
        )
        log.close()
        self._wait(
            lambda: outer.poll() is not None or psutil.Process(outer.pid).children(), f"the first process of {host}"
        )
        if outer.poll() is not None:
            raise RuntimeError(f"{host} did not start; see {self.root}/log/{host}.log")
        (inner,) = psutil.Process(outer.pid).children()
        self._wait(lambda: _hostname_of(inner.pid) == host, f"the namespaces of {host}")
        self._plug_in(host, inner.pid)
        started = {"pid": inner.pid, "created": inner.create_time()}
        (self.root / "run" / f"{host}.json").write_text(json.dumps(started))
        assert outer.stdin is not None
        outer.stdin.write(b"go\n")
        outer.stdin.close()
        _CHILDREN.append(outer)

    def _plug_in(self, host: str, pid: int) -> None:
        if host == CONTROL:
            device = f"ganlab-{self.subnet.split('.', 1)[1]}"  # 15 characters at most
            _ip(f"link add {device} type veth peer name login netns {pid}")
            _ip(f"addr add {self.subnet}.254/24 dev {device}")
            _ip(f"link set {device} up")
            for step in (
                "link set lo up",
                "link add switch type bridge",
                f"addr add {self.subnet}.1/24 dev switch",
                "link set switch up",
                "link set login master switch up",
                f"route add default via {self.subnet}.254",
            ):
                _ip(step, pid)
            return
        subnet = self.subnet = self._conf_subnet()
        switch = self._pid(CONTROL)
        assert switch is not None, f"{CONTROL} is not running"
        _ip(f"link add eth0 type veth peer name {host} netns {switch}", pid)
        _ip(f"link set {host} master switch up", switch)
        last = 11 + HOSTS.index(host)
        for step in (
            "link set lo up",
            f"addr add {subnet}.{last}/24 dev eth0",
            "link set eth0 up",
            f"route add default via {subnet}.254",
        ):
            _ip(step, pid)

    def _conf_subnet(self) -> str:
        for line in (self.root / "conf" / "hosts").read_text().splitlines():
            if line.endswith(f" {CONTROL}"):
                return line.split()[0].rpartition(".")[0]
        raise AssertionError(f"no {CONTROL} in {self.root}/conf/hosts")

    def _pid(self, host: str) -> int | None:
        """First process of a host, as this machine numbers it; None when the host is off."""
        with contextlib.suppress(OSError, psutil.Error):
            started = json.loads((self.root / "run" / f"{host}.json").read_text())
            process = psutil.Process(started["pid"])
            if process.create_time() == started["created"] and process.status() != psutil.STATUS_ZOMBIE:
                return process.pid
        return None

    def _ready(self) -> bool:
        states = self.slurm("sinfo", "-h", "-N", "-p", "gpu", "-o", "%T", check=False).split()
        return states == ["idle"] * len(HOSTS)

    def _wait(self, condition: Any, what: str, timeout_s: float = DEADLINE_S) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            for child in _CHILDREN:
                child.poll()  # reaped, so that a dead host is seen as dead
            if time.monotonic() > deadline:
                raise RuntimeError(f"waited {timeout_s:.0f} s for {what}; see {self.root}/log")
            time.sleep(0.1)


_CHILDREN: list[subprocess.Popen[bytes]] = []


def _ip(arguments: str, pid: int | None = None) -> None:
    enter = [] if pid is None else ["nsenter", "--target", str(pid), "--net"]
    program = which("ip")
    assert program is not None
    subprocess.run([*enter, program, *arguments.split()], check=True)


def _free_subnet() -> str:
    """Three numbers of a network nobody here has a route to; 198.18.0.0/15 is set aside for tests (RFC 2544)."""
    program = which("ip")
    assert program is not None
    routes = json.loads(subprocess.run([program, "-json", "-4", "route"], capture_output=True, check=True).stdout)
    while any(
        route["dst"].startswith(f"{(subnet := f'198.{18 + secrets.randbelow(2)}.{secrets.randbelow(256)}')}.")
        for route in routes
    ):
        pass
    return subnet


def _hostname_of(pid: int) -> str:
    done = subprocess.run(
        ["nsenter", "--target", str(pid), "--uts", "hostname"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


def _quote(path: str | None) -> str:
    assert path is not None
    return path


def _until(command: str) -> str:
    return f"tries=0; until {command} >/dev/null 2>&1; do tries=$((tries + 1)); [ $tries -lt 300 ]; sleep 0.2; done"


def _munged(root: Path) -> str:
    return (
        f"{_quote(which('munged'))} --force --foreground --key-file={root}/conf/munge.key "
        f"--socket={root}/run/munge.socket --pid-file={root}/run/munged.pid "
        f"--log-file={root}/log/munged.log --seed-file={root}/run/munge.seed &\n"
        f"{_until(f'[ -S {root}/run/munge.socket ]')}"
    )


def _mariadb(root: Path) -> str:
    (root / "conf" / "accounts.sql").write_text(
        "CREATE DATABASE slurm_acct_db;\nCREATE USER slurm@'127.0.0.1' IDENTIFIED BY 'slurm';\n"
        "GRANT ALL ON slurm_acct_db.* TO slurm@'127.0.0.1';\n"
    )
    return (
        f"mariadb-install-db --no-defaults --user=root --datadir={root}/database --skip-test-db "
        f">{root}/log/mariadb-install.log 2>&1\n"
        f"mariadbd --no-defaults --user=root --datadir={root}/database --socket={root}/run/mariadb.socket "
        f"--bind-address=127.0.0.1 --innodb-lock-wait-timeout=900 --init-file={root}/conf/accounts.sql "
        f">{root}/log/mariadb.log 2>&1 &\n"
        f"{_until(f'mariadb-admin --no-defaults --socket={root}/run/mariadb.socket ping')}"
    )


@contextlib.contextmanager
def running(root: Path, **settings: Any) -> Iterator[Hosts]:
    """Hosts for the length of the context."""
    hosts = Hosts(root)
    try:
        hosts.start(**settings)
        yield hosts
    finally:
        hosts.stop()


def keep(root: Path, ready: Path, settings: Mapping[str, Any]) -> None:
    """Start hosts and stay, as the process whose death ends them."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with running(root, **settings):
        ready.write_text(str(os.getpid()))
        while True:
            for child in _CHILDREN:
                child.poll()
            time.sleep(1)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.slurm.hosts", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("start", "keep"):
        start = commands.add_parser(name)
        start.add_argument("root", type=Path)
        start.add_argument("--accounting", action="store_true", help="with slurmdbd and MariaDB")
        start.add_argument("--max-array-size", type=int, default=4)
    on = commands.add_parser("on")
    on.add_argument("root", type=Path)
    on.add_argument("host", choices=(CONTROL, *HOSTS))
    on.add_argument("words", nargs=argparse.REMAINDER)
    stop = commands.add_parser("stop")
    stop.add_argument("root", type=Path)
    given = parser.parse_args(arguments)
    hosts, keeper = Hosts(given.root), given.root / "run" / "keeper"
    if given.command == "keep":
        keep(hosts.root, keeper, {"accounting": given.accounting, "max_array_size": given.max_array_size})
    elif given.command == "start":
        if obstacle := missing_packages(given.accounting):
            print(obstacle, file=sys.stderr)
            return 2
        if keeper.exists():
            print(f"{given.root} is started already, or was killed: stop it first", file=sys.stderr)
            return 2
        (given.root / "log").mkdir(parents=True, exist_ok=True)
        words = [
            "keep",
            str(hosts.root),
            *(["--accounting"] if given.accounting else []),
            "--max-array-size",
            str(given.max_array_size),
        ]
        with (hosts.root / "log" / "keeper.log").open("wb") as log:
            child = subprocess.Popen(
                [sys.executable, "-m", "tests.slurm.hosts", *words],
                cwd=CHECKOUT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        while not keeper.exists():
            if child.poll() is not None:
                print((hosts.root / "log" / "keeper.log").read_text(), file=sys.stderr)
                return 1
            time.sleep(0.2)
        print("\n".join(f"export {name}={value}" for name, value in hosts.environment.items()))
    elif given.command == "on":
        return hosts.on(given.host, *given.words, capture_output=False).returncode
    elif given.command == "stop":
        with contextlib.suppress(OSError, ValueError, psutil.Error):
            process = psutil.Process(int(keeper.read_text()))
            if str(hosts.root) in process.cmdline():
                process.terminate()
                hosts._wait(
                    lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE, "the keeper to end"
                )
        hosts.stop()  # after a keeper that was killed: the hosts are gone, their files are not
    return 0


if __name__ == "__main__":
    sys.exit(main())
