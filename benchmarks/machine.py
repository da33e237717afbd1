"""What the figures were measured on, and what a process of this machine used. Reads /proc; Linux only."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_KIB = os.sysconf("SC_PAGESIZE") // 1024
SLOWED = 1.3  # times as long as the fastest: more than what varies by itself, less than a neighbour costs
PACKAGES = ("starlette", "uvicorn", "websockets", "uvloop", "msgspec", "orjson", "msgpack", "redis", "asyncpg")


def cpu_s(pids: Iterable[int]) -> float:
    """CPU seconds that these processes have used, user and system."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
    return total / TICKS_PER_S


def cpu_ns(pid: int) -> int:
    """What the living threads of a process have used, to the nanosecond: `cpu_s` counts in hundredths of a second."""
    return sum(int(each.read_text().split()[0]) for each in Path(f"/proc/{pid}/task").glob("*/schedstat"))


def busy_s() -> tuple[float, float]:
    """(busy, stolen by the hypervisor) CPU seconds of the whole machine since it started."""
    fields = [int(each) for each in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    user, nice, system, _idle, _iowait, irq, softirq, steal = fields
    return (user + nice + system + irq + softirq) / TICKS_PER_S, steal / TICKS_PER_S


class Pace:
    """How fast these cores are meanwhile: on a shared host the neighbour of a hyperthread nearly halves it for seconds,
    and neither `busy_s` nor the time that is stolen shows it.

    A thread of this process does the same small piece of work there four times a second: a thousandth of a core.
    """

    def __init__(self, cores: Iterable[int]) -> None:
        self._cores = frozenset(cores)
        self._took_us: list[float] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Pace:
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        os.sched_setaffinity(0, self._cores)  # this thread alone
        while True:
            self._took_us.append(min(_work_us(), _work_us()))
            if self._over.wait(0.25):
                return

    def figures(self) -> dict[str, float]:
        """`core_us`: the fastest piece of work, which is to be compared with other runs'; `core_slowed`: the share of
        the time in which it took `SLOWED` times as long."""
        fastest = min(self._took_us)
        slowed = sum(each > SLOWED * fastest for each in self._took_us)
        return {"core_us": round(fastest, 1), "core_slowed": round(slowed / len(self._took_us), 3)}


def _work_us() -> float:
    """The thread's own time: who takes the core meanwhile does not count."""
    began = time.thread_time_ns()
    total = 0
    for each in range(5000):
        total += each
    return (time.thread_time_ns() - began) / 1000


def rss_kib(pids: Iterable[int]) -> int:
    """Resident memory of these processes, in KiB."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_KIB
    return total


def kernel_kib() -> dict[str, int]:
    """What sockets cost the kernel, machine-wide: TCP buffers (sockstat) and slab (socket, file, epoll objects)."""
    found = {"tcp_buffers": 0, "slab": 0}
    for line in Path("/proc/net/sockstat").read_text().splitlines():
        if line.startswith("TCP:"):
            found["tcp_buffers"] = int(line.split()[-1]) * PAGE_KIB
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("Slab:"):
            found["slab"] = int(line.split()[1])
    return found


def descendants(pid: int) -> list[int]:
    """This process and all that it started."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children") if Path(f"/proc/{pid}").exists() else ():
        with contextlib.suppress(OSError):
            for child in task.read_text().split():
                found += descendants(int(child))
    return found


def cores() -> list[int]:
    return sorted(os.sched_getaffinity(0))


def raise_file_limit() -> int:
    """As many open files as this user may have; returns that number."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def hardware() -> dict[str, Any]:
    model = "unknown"
    flags = ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            model = value.strip()
        elif name.strip() == "flags":
            flags = value
    memory_kib = int(Path("/proc/meminfo").read_text().split()[1])
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "usable_cores": cores(),
        "memory_gib": round(memory_kib / 1024**2, 1),
        "virtual": "hypervisor" in flags.split(),
        "kernel": platform.release(),
    }


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def commit() -> str:
    """The commit the tree stands on, with `+` when the code that is measured differs from it; empty without git."""
    if shutil.which("git") is None:
        return ""
    head = _git("rev-parse", "--short=12", "HEAD")
    dirty = _git("status", "--porcelain", "--", "hub", "protocol", "storage")
    return head + ("+" if head and dirty else "")


def command() -> str:
    """How to repeat this, whether it was started as `python -m benchmarks` or as `krin bench`."""
    words = sys.argv[1:]
    return " ".join(["python -m benchmarks", *(words[1:] if words[:1] == ["bench"] else words)])


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, timeout=10, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""
