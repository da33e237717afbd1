"""A few thousand hostile inputs of each kind on every run; `python -m tests.fuzz` sends a million and more."""

from __future__ import annotations

import pytest
from fuzzing import others_left_alone, pure_targets, run, session
from scene import Scene

from protocol.codec import CODECS
from storage.database import Database

SEED = 20
TARGETS = pure_targets(SEED)


@pytest.mark.parametrize("name", TARGETS)
def test_hostile_input_is_answered_or_refused_with_a_documented_error(name: str) -> None:
    target, make = TARGETS[name]

    assert run(target, (make() for _ in range(3_000))).inputs == 3_000


@pytest.mark.parametrize("subprotocol", CODECS)
async def test_a_session_survives_hostile_frames_and_still_answers(database: Database, subprotocol: str) -> None:
    async with Scene(database).running() as scene:
        with others_left_alone():
            assert (await session(scene, CODECS[subprotocol], SEED, 1_500)).inputs >= 1_500
