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
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_KIB = os.sysconf("SC_PAGESIZE") // 1024
PACKAGES = ("starlette", "uvicorn", "websockets", "uvloop", "msgspec", "orjson", "msgpack", "redis", "asyncpg")


def cpu_s(pids: Iterable[int]) -> float:
    """CPU seconds that these processes have used, user and system."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
    return total / TICKS_PER_S


def busy_s() -> tuple[float, float]:
    """(busy, stolen by the hypervisor) CPU seconds of the whole machine since it started."""
    fields = [int(each) for each in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    user, nice, system, _idle, _iowait, irq, softirq, steal = fields
    return (user + nice + system + irq + softirq) / TICKS_PER_S, steal / TICKS_PER_S


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
