"""What every load tells: progress while it runs, and what it used itself."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.machine import busy_s, cpu_s

SATURATED = 0.9  # above this share of its core the generator measures itself


def say(kind: str, **fields: Any) -> None:
    """One line to the runner."""
    sys.stdout.write(json.dumps({"kind": kind, **fields}) + "\n")
    sys.stdout.flush()


def stage(name: str, total_s: float = 0.0) -> None:
    say("stage", name=name, seconds=round(total_s, 2))


class Watch:
    """CPU since it was made: of the generator, of the servers, and of everything else on this machine."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._pids = pids
        self._own = time.process_time()
        self._wall = time.monotonic()
        self._busy, self._stolen = busy_s()
        self._servers = cpu_s(pids)

    def server_cpu_s(self) -> float:
        return cpu_s(self._pids) - self._servers

    def figures(self) -> dict[str, Any]:
        """Shares of one core. `others_cpu` counts what the servers started too, a Postgres for one."""
        wall = max(time.monotonic() - self._wall, 1e-9)
        own = time.process_time() - self._own
        servers = self.server_cpu_s()
        busy, stolen = (now - before for now, before in zip(busy_s(), (self._busy, self._stolen), strict=True))
        return {
            "generator_cpu": round(own / wall, 3),
            "generator_saturated": own / wall > SATURATED,
            "server_cpu": round(servers / wall, 3),
            "others_cpu": round(max(0.0, busy - own - servers) / wall, 3),
            "stolen_cpu": round(stolen / wall, 3),
        }
