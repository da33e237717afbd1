"""The runner's side of the generator: a process of its own on a core of its own, bounded in time, with progress."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import IO, Any

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from benchmarks.machine import ROOT, Pace, cores
from benchmarks.plans import Plan
from benchmarks.processes import as_child

console = Console(stderr=True, highlight=False)


class LoadFailed(Exception):
    """The generator could not do its work; the text says why."""


def server_cores() -> set[int]:
    """Where one server runs: the first core, when there are two."""
    return {cores()[0]}


def generator_cores() -> set[int]:
    """The second core when there are two; with one core everything shares it, and the result says so."""
    usable = cores()
    return {usable[1]} if len(usable) > 1 else {usable[0]}


def run_load(
    plan: Plan,
    *,
    title: str,
    limit_s: float,
    on_event: Callable[[str, IO[bytes]], None] | None = None,
    on_measure: Callable[[], object] | None = None,
) -> dict[str, Any]:
    """Carry out a plan; returns its figures. Raises LoadFailed, also when it takes longer than `limit_s`.

    on_measure: called when the measured part begins.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.generator"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=as_child(generator_cores()),
    )
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    overdue = threading.Event()

    def end() -> None:
        overdue.set()
        process.kill()

    errors: list[bytes] = []
    reader = threading.Thread(target=lambda: errors.extend(process.stderr or ()), daemon=True)
    reader.start()
    timer = threading.Timer(limit_s, end)
    timer.start()
    try:
        process.stdin.write(msgspec.json.encode(plan) + b"\n")
        process.stdin.flush()
        with _progress() as progress, Pace(server_cores()) as pace:
            task = progress.add_task(title, total=None)
            for line in process.stdout:
                told = json.loads(line)
                match told["kind"]:
                    case "stage":
                        progress.update(task, description=f"{title}: {told['name']}")
                        if told["name"] == "measure" and on_measure is not None:
                            on_measure()
                    case "event" if on_event is not None:
                        on_event(told["name"], process.stdin)
                    case "figures":
                        return told["figures"] | pace.figures()
                    case "failed":
                        raise LoadFailed(told["text"])
        reader.join(1)
        text = b"".join(errors)[-600:].decode(errors="replace")
        raise LoadFailed(f"longer than {limit_s:.0f} s" if overdue.is_set() else f"the generator ended: {text}")
    except BrokenPipeError:
        reader.join(1)
        raise LoadFailed(b"".join(errors)[-600:].decode(errors="replace")) from None
    finally:
        timer.cancel()
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            try:
                pipe.close()
            except BrokenPipeError:
                pass


def _progress() -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
