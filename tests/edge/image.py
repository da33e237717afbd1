"""What the Dockerfile says, done without a container engine: its steps one by one in roots of plain Debian.

As root on Linux, with debootstrap: `python tests/edge/image.py`. A stage is a folder, COPY copies, RUN and CMD run in it
by chroot, as the image's user and with nothing but the image's environment. The program runs on a root that is mounted
read-only, with volumes and /tmp of its own, until its health check is content and SIGTERM has ended it. The base image
is replaced by Debian with its own Python; that the base image exists is the one thing that only an engine can tell.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
SUITE = "bookworm"
PACKAGES = "python3,python3-venv,ca-certificates"
NETWORK = ("/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs/ca-certificates.crt")  # of this machine
PLAIN_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
STEP_S = 300
READY_S = 60
STOP_S = 30


class Step(NamedTuple):
    """One instruction of a Dockerfile: its name in capitals, and the rest of its line."""

    instruction: str
    arguments: str


def steps(dockerfile: str) -> Iterator[Step]:
    """The instructions in order; continued lines are one."""
    for line in dockerfile.replace("\\\n", " ").splitlines():
        if line.strip() and not line.startswith("#"):
            instruction, _, arguments = line.strip().partition(" ")
            yield Step(instruction.upper(), " ".join(arguments.split()))


def unavailable() -> str | None:
    """Why the steps cannot be followed here; None: they can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "needs root on Linux"
    missing = [tool for tool in ("debootstrap", "unshare", "chroot") if shutil.which(tool, path=PLAIN_PATH) is None]
    if missing:
        return f"needs {', '.join(missing)}"
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        return "this machine allows no mount namespace"
    return None


class Image:
    """The stages so far, each a root, and what the last one says of how to run it."""

    def __init__(self, folder: Path, context: Path) -> None:
        self._folder = folder
        self._context = context
        self._base = folder / "base"
        self._stages: dict[str, Path] = {}
        self.environment = {"PATH": PLAIN_PATH}
        self.root = self._base
        self.user = "root"
        self.workdir = "/"
        self.command: list[str] = []
        self.health: list[str] = []
        self.volumes: list[str] = []

    def follow(self, step: Step) -> None:
        """Raises ValueError for an instruction that nobody has thought of, CalledProcessError for one that failed."""
        match step.instruction:
            case "FROM":
                self._from(step.arguments)
            case "WORKDIR":
                self.workdir = step.arguments
                self._inside(step.arguments).mkdir(parents=True, exist_ok=True)
            case "COPY":
                self._copy(step.arguments.split())
            case "RUN":
                run(self.argv(["sh", "-c", step.arguments]))
            case "USER":
                self.user = step.arguments
            case "ENV":
                given = dict(each.partition("=")[::2] for each in shlex.split(step.arguments))
                self.environment |= {key: value.replace("$PATH", PLAIN_PATH) for key, value in given.items()}
            case "VOLUME":
                self.volumes.append(step.arguments)
            case "HEALTHCHECK":
                self.health = json.loads(step.arguments.partition("CMD ")[2])
            case "CMD":
                self.command = json.loads(step.arguments)
            case "STOPSIGNAL":
                assert step.arguments == "SIGTERM"
            case "EXPOSE":
                pass  # a note for people
            case _:
                raise ValueError(f"{step.instruction} is not known here")

    def _from(self, arguments: str) -> None:
        image, _, name = arguments.partition(" AS ")
        if not image.startswith("python:3."):
            raise ValueError(f"Debian does not stand for {image}")
        if not self._base.exists():
            run(["debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(self._base)])
            (self._base / "usr/bin/python").symlink_to("python3")
            for path in NETWORK:
                shutil.copy(path, self._base / path[1:])
        self.root = self._folder / (name or "final")
        run(["cp", "--archive", str(self._base), str(self.root)])
        self._stages[name] = self.root
        self.environment = {"PATH": PLAIN_PATH}
        self.user, self.workdir = "root", "/"

    def _copy(self, arguments: list[str]) -> None:
        source = self._context
        if arguments[0].startswith("--from="):
            source = self._stages[arguments.pop(0).removeprefix("--from=")]
        *names, target = arguments
        for name in names:
            found, into = source / name.lstrip("/"), self._inside(target)
            if found.is_dir():
                shutil.copytree(found, into, symlinks=True, dirs_exist_ok=True)
            else:
                shutil.copy(found, into)

    def _inside(self, path: str) -> Path:
        return self.root / str(Path(self.workdir) / path).lstrip("/")

    def argv(self, command: list[str]) -> list[str]:
        """A command inside, as the image's user and in its environment."""
        said = [f"{name}={value}" for name, value in self.environment.items()]
        script = f"cd {shlex.quote(self.workdir)} && exec {shlex.join(command)}"
        return ["chroot", f"--userspec={self.user}", str(self.root), "/usr/bin/env", "-i", *said, "sh", "-c", script]

    def argv_read_only(self, command: list[str]) -> list[str]:
        """The same on a root that cannot be written to, but for volumes and /tmp; unmounted when the command ends."""
        root = shlex.quote(str(self.root))
        mounts = [f"mount --bind {root} {root}", f"mount -t proc proc {root}/proc", f"mount -t tmpfs tmpfs {root}/tmp"]
        mounts += [f"mount --bind /dev {root}/dev"]
        mounts += [f"mount --bind {root}{volume} {root}{volume}" for volume in self.volumes]
        mounts += [f"mount -o remount,bind,ro {root}", f"exec {shlex.join(self.argv(command))}"]
        return ["unshare", "--mount", "sh", "-ec", "\n".join(mounts)]


def run(command: list[str]) -> None:
    subprocess.run(command, check=True, timeout=STEP_S, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)


def rehearse(dockerfile: Path, *, port: int) -> None:
    """Build, start, ask the health check, stop. Raises AssertionError, CalledProcessError."""
    with tempfile.TemporaryDirectory(prefix="krin-image-") as folder:
        image = Image(Path(folder), dockerfile.parent)
        for step in steps(dockerfile.read_text()):
            print(f"{step.instruction} {step.arguments}", flush=True)
            image.follow(step)
        image.environment["KRIN_PORT"] = str(port)  # the one this machine has free
        health = [part.replace(":8000/", f":{port}/") for part in image.health]
        log = Path(folder) / "log"  # which shows a token, so only on failure
        with (
            log.open("w") as errors,
            subprocess.Popen(image.argv_read_only(image.command), stdout=subprocess.DEVNULL, stderr=errors) as hub,
        ):
            try:
                deadline = time.monotonic() + READY_S
                while subprocess.run(image.argv(health), capture_output=True, check=False).returncode:
                    assert hub.poll() is None, log.read_text()
                    assert time.monotonic() < deadline, log.read_text()
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        hub.wait(0.2)
                print("healthy on a root that is read-only", flush=True)
                hub.send_signal(signal.SIGTERM)
                assert hub.wait(STOP_S) == 0
            finally:
                hub.kill()
        print("stopped by SIGTERM", flush=True)


if __name__ == "__main__":
    if (reason := unavailable()) is not None:
        print(f"skipped: {reason}")
    else:
        rehearse(ROOT / "Dockerfile", port=int(sys.argv[1]) if sys.argv[1:] else 8000)
