"""Which passwords are accepted, and that checking one never holds up the loop (C25, C46)."""

from __future__ import annotations

import asyncio
import threading

import pytest
from argon2 import PasswordHasher

from hub.auth import passwords
from hub.auth.passwords import MAX_LENGTH, MAX_WAITING, Passwords, weakness
from protocol.errors import ErrorCode, HubError


@pytest.mark.parametrize(
    "password",
    [
        "a quiet horse in the rain and the long road home, 64 characters!",
        "nocapitalsnodigitsnothing",
        "        x",
        "ünïcödé-pässwörd",
        "x" * (MAX_LENGTH - 1) + "y",
        "krin is where i drink my tea",
        "dana plays the piano at night",
    ],
)
def test_c46_a_long_password_needs_no_digits_and_no_capitals(password: str) -> None:
    assert weakness(password, words=["dana"]) is None


@pytest.mark.parametrize(
    "password",
    [
        *("", "short", "7 chars", "x" * (MAX_LENGTH + 1)),
        *("password1", "PassWord1", "12345678", "qwertyuiop", "trustno1"),
        *("krin2026", "Krin-Krin-Krin", "dana1234", "DANA.dana.dana", "danakrindana1", "krinpassword"),
    ],
)
def test_c46_short_common_and_context_passwords_are_refused_with_a_reason(password: str) -> None:
    why = weakness(password, words=["dana"])

    assert why is not None
    assert not password or password not in why


def test_c46_a_name_of_two_letters_forbids_nothing() -> None:
    assert weakness("all alpine animals", words=["al"]) is None


def test_c46_the_list_holds_three_thousand_that_are_long_enough_to_matter() -> None:
    assert len(passwords._common()) == 3000
    assert min(map(len, passwords._common())) >= passwords.MIN_LENGTH


async def test_c46_a_password_is_not_cut_short_on_its_way_into_the_hash() -> None:
    made = Passwords()
    stored = await made.hash("x" * 200 + "a")

    assert await made.verify(stored, "x" * 200 + "a")
    assert not await made.verify(stored, "x" * 200 + "b")
    assert stored.startswith("$argon2id$v=19$m=19456,t=2,p=1$")


async def test_c47_an_unknown_user_costs_a_hash_like_any_other() -> None:
    class Recording(PasswordHasher):
        def verify(self, hash: str | bytes, password: str | bytes) -> bool:
            checked.append(str(hash))
            return super().verify(hash, password)

    checked: list[str] = []
    made = Passwords(Recording(time_cost=2, memory_cost=19 * 1024, parallelism=1))
    stored = await made.hash("a quiet horse")

    assert not await made.verify(None, "nobody has this password")
    assert not await made.verify(stored, "a loud horse")
    assert len({each.rsplit("$", 2)[0] for each in checked}) == 1  # the same work
    assert len(checked) == 2


async def test_c25_hashing_happens_off_the_loop_two_at_a_time_and_the_queue_has_an_end() -> None:
    class Slow:
        """As slow as the test likes."""

        def hash(self, password: str) -> str:
            return ""

        def verify(self, hash: str, password: str) -> bool:
            running.append(threading.get_ident())
            return release.wait(5)

    release = threading.Event()
    running: list[int] = []
    made = Passwords(Slow())
    waiting = [asyncio.ensure_future(made.verify("x", "y")) for _ in range(MAX_WAITING)]
    async with asyncio.timeout(5):
        while len(running) < passwords.CONCURRENT:
            await asyncio.sleep(0.001)  # the loop runs on while they hash
    with pytest.raises(HubError) as caught:
        await made.verify("x", "y")
    under_way = len(running)
    release.set()

    assert all(await asyncio.gather(*waiting))
    assert caught.value.code is ErrorCode.OVERLOADED
    assert caught.value.retry_after_ms
    assert under_way == passwords.CONCURRENT
    assert threading.get_ident() not in running
