"""What every load tells: progress while it runs, and what it used itself."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

SATURATED = 0.9  # above this share of its core the generator measures itself


def say(kind: str, **fields: Any) -> None:
    """One line to the runner."""
    sys.stdout.write(json.dumps({"kind": kind, **fields}) + "\n")
    sys.stdout.flush()


def stage(name: str, total_s: float = 0.0) -> None:
    say("stage", name=name, seconds=round(total_s, 2))


class OwnCpu:
    """The generator's CPU share since it was made."""

    def __init__(self) -> None:
        self._cpu = time.process_time()
        self._wall = time.monotonic()

    def figures(self) -> dict[str, Any]:
        wall = max(time.monotonic() - self._wall, 1e-9)
        share = (time.process_time() - self._cpu) / wall
        return {"generator_cpu": round(share, 3), "generator_saturated": share > SATURATED}
