"""The image without a container engine: its steps followed on plain Debian, its program on a read-only root."""

from __future__ import annotations

import os
import socket

import pytest
from image import ROOT, Step, rehearse, steps, unavailable


def test_an_instruction_over_several_lines_is_one_step() -> None:
    text = '# syntax\nFROM python:3.13-slim AS build\n\nHEALTHCHECK --timeout=3s \\\n    CMD ["true"]\n'
    assert [*steps(text)] == [
        Step("FROM", "python:3.13-slim AS build"),
        Step("HEALTHCHECK", '--timeout=3s CMD ["true"]'),
    ]


def test_the_image_runs_as_nobody_in_particular_and_copies_what_there_is() -> None:
    told = [*steps((ROOT / "Dockerfile").read_text())]
    users = [step.arguments for step in told if step.instruction == "USER"]
    assert users == ["krin"]
    for step in told:
        if step.instruction == "COPY" and not step.arguments.startswith("--from"):
            assert all((ROOT / name).exists() for name in step.arguments.split()[:-1])


@pytest.mark.skipif("KRIN_IMAGE" not in os.environ, reason="takes a minute or two: set KRIN_IMAGE=1, as .ci/run does")
def test_the_steps_of_the_image_make_a_hub_that_is_healthy_and_stops() -> None:
    if (reason := unavailable()) is not None:
        pytest.skip(reason)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    rehearse(ROOT / "Dockerfile", port=port)
