"""Builds the container image and runs a sweep and the exporter in it: `make image-test`, by root on Debian.

No container engine runs: buildah builds in a chroot, on a base that debootstrap makes. Everything lies in build/image.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from pathlib import Path
from typing import TextIO

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "build" / "image"
PROGRAMS = ("buildah", "debootstrap")
BASE, IMAGE = "debian:bookworm-slim", "localhost/ganlab:test"
PIP_OPTIONS = ("index-url", "extra-index-url", "find-links", "cert")
SWEEP, PORT = "digits-demo", 9718


def main() -> None:
    """Build, then ask the image everything that it is for."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if os.geteuid() != 0 or missing:
        install = f" (on Debian: apt-get install {' '.join(missing)})" if missing else ""
        sys.exit(f"make: the image is built by root, with {' and '.join(PROGRAMS)}{install}")
    FOLDER.mkdir(parents=True, exist_ok=True)
    arguments, volumes = pip_settings()
    started = time.monotonic()
    make_base()
    build(os.environ.get("DEVICE", "cpu"), arguments, volumes)
    tell(f"built in {time.monotonic() - started:.0f} s")
    check_configuration()
    container = buildah("from", "--pull=never", IMAGE)
    try:
        check_users_and_programs(container)
        check_sweep(container)
        check_exporter(container)
    finally:
        buildah("rm", container)


BUILDAH = ["buildah", "--root", str(FOLDER / "storage"), "--runroot", str(FOLDER / "run")]
RUN = ["run", "--isolation=chroot", "--network=host"]


def buildah(*arguments: str, output: int | TextIO = subprocess.PIPE) -> str:
    """What buildah prints."""
    done = subprocess.run([*BUILDAH, *arguments], stdout=output, text=True, check=False)
    if done.returncode:
        sys.exit(f"make: buildah {' '.join(arguments)[:200]} failed ({done.returncode})\n{(done.stdout or '')[-2000:]}")
    return (done.stdout or "").strip()


def inside(container: str, *command: str) -> str:
    """What a command in the container prints, by the image's own user."""
    return buildah(*RUN, container, "--", *command)


def make_base() -> None:
    """The base image, without a registry."""
    known = buildah("images", "--format", "{{.Name}}:{{.Tag}}").split()
    if any(name.endswith(f"/{BASE}") for name in known):
        return
    tree = FOLDER / "base"
    shutil.rmtree(tree, ignore_errors=True)
    subprocess.run(["debootstrap", "--variant=minbase", "bookworm", tree], stdout=subprocess.DEVNULL, check=True)
    container = buildah("from", "scratch")
    buildah("add", "--quiet", container, f"{tree}/", "/")
    buildah("config", "--cmd", "bash", container)
    buildah("commit", "--quiet", "--rm", container, BASE)
    shutil.rmtree(tree)


def pip_settings() -> tuple[dict[str, str], list[str]]:
    """Build arguments that let pip in the build find what it finds here, and the local folders that they name."""
    arguments, volumes = {}, []
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found = dict(re.findall(r"^global\.([\w-]+)='(.*)'$", listed.stdout, re.MULTILINE))
    for option in PIP_OPTIONS:
        name = f"PIP_{option.upper().replace('-', '_')}"
        value = os.environ.get(name) or found.get(option)
        if not value:
            continue
        if option == "cert":
            volumes.append(f"{value}:/run/pip-ca.crt:ro")
            value = "/run/pip-ca.crt"
        for word in value.replace("\\n", " ").split():
            place = Path(word.removeprefix("file://"))
            if option != "cert" and place.is_dir():
                top = Path(*place.parts[:3])
                volumes.append(f"{top}:{top}:ro")
        arguments[name] = value.replace("\\n", " ")
    return arguments, sorted(set(volumes))


def build(device: str, arguments: dict[str, str], volumes: list[str]) -> None:
    """Build the Dockerfile as it stands."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    revision = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    own = {"DEVICE": device, "VERSION": version, "REVISION": revision.stdout.strip() or "unknown", **arguments}
    buildah(
        *("bud", "--layers", "--format=docker", "--isolation=chroot", "--network=host", "--pull-never", "--tag", IMAGE),
        *(word for name, value in own.items() for word in ("--build-arg", f"{name}={value}")),
        *(word for volume in volumes for word in ("--volume", volume)),
        str(ROOT),
        output=sys.stderr,
    )


def check_configuration() -> None:
    """What an engine would read."""
    image = json.loads(buildah("inspect", "--type=image", IMAGE))["Docker"]
    config = image["config"]
    assert config["User"] == "ganlab", config["User"]
    assert config["Entrypoint"] == ["tini", "--", "ganlab"], config["Entrypoint"]
    assert config["Healthcheck"]["Test"] == ["CMD", "ganlab", "--version"], config["Healthcheck"]
    labels = config["Labels"]
    assert {f"org.opencontainers.image.{name}" for name in ("title", "licenses", "version", "revision")} <= set(labels)
    assert "unknown" not in labels.values(), labels
    tell(buildah("images", "--format", "{{.Name}} {{.Size}}", IMAGE))
    tell(f"{len(image['rootfs']['diff_ids'])} layers, version {labels['org.opencontainers.image.version']}")


def check_users_and_programs(container: str) -> None:
    """It is no root, and has what every part of ganlab starts from."""
    assert inside(container, "id", "-u") == "1000"
    inside(container, "tini", "--version")
    inside(
        container, "python3", "-c", "import cluster.controller, cluster.worker, jobs.cli.driver, submitit.core._submit"
    )
    tell(f"as user 1000: {inside(container, 'ganlab', '--version')}")


def check_sweep(container: str) -> None:
    """A whole sweep: Ray, Dask, the report."""
    started = time.monotonic()
    printed = inside(container, "tini", "-s", "--", "ganlab", "run", SWEEP, "--out", "/sweeps/tested")
    assert "real images, measured the same way: support size" in printed, printed
    print(printed)
    status = json.loads(inside(container, "ganlab", "status", "/sweeps/tested", "--json"))
    assert set(status["states"]) == {"completed"}, status["states"]
    tell(f"ganlab run {SWEEP} inside the image: {time.monotonic() - started:.0f} s")


def check_exporter(container: str) -> None:
    """The exporter of the sweep that was run, asked from outside."""
    command = ("tini", "-s", "--", "ganlab", "monitor", "/sweeps/tested", "--port", str(PORT))
    with subprocess.Popen([*BUILDAH, *RUN, container, "--", *command], stderr=subprocess.PIPE) as exporter:
        try:
            assert "ganlab_sweep_finished 1.0" in metrics()
        finally:
            exporter.terminate()
    tell("the exporter answers")


def metrics() -> str:
    """The exporter's page, as soon as it is there."""
    for _ in range(60):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/metrics", timeout=5) as page:
                return str(page.read().decode())
        except (urllib.error.URLError, ConnectionError):
            time.sleep(1)
    sys.exit("make: the exporter in the image did not answer within a minute")


def tell(line: str) -> None:
    """A line of the report."""
    print(f"image-test: {line}", file=sys.stderr)


if __name__ == "__main__":
    main()
