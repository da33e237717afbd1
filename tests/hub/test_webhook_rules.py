"""What webhooks rest on: signatures, waits, and which addresses may be asked."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.guard.outbound import Forbidden, Outbound, parsed, public
from hub.webhooks.backoff import MAX_WAIT_S, wait_s
from hub.webhooks.signing import headers, message_id, new_secret, written


def test_a_signature_is_that_of_the_standards_own_example() -> None:
    """From the specification of Standard Webhooks."""
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    made = headers("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}', keys=[key])
    assert made["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@given(st.binary(max_size=200), st.lists(st.binary(min_size=24, max_size=64), min_size=1, max_size=2, unique=True))
def test_each_key_signs_and_no_other_does(body: bytes, keys: list[bytes]) -> None:
    made = headers("msg_1", 7, body, keys=keys)["webhook-signature"].split(" ")
    for key in (*keys, new_secret()):
        digest = hmac.new(key, b"msg_1.7." + body, hashlib.sha256).digest()
        assert (f"v1,{base64.b64encode(digest).decode()}" in made) == (key in keys)


def test_a_secret_is_written_as_the_standard_has_it() -> None:
    secret = new_secret()
    assert written(secret) == "whsec_" + base64.b64encode(secret).decode()


NAME = st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=5)  # as the protocol has them
PLACE = st.tuples(NAME, NAME, NAME, st.integers(0, 2**53))


@given(PLACE, PLACE)
def test_an_id_is_the_same_for_a_message_and_another_for_another(
    one: tuple[str, str, str, int], other: tuple[str, str, str, int]
) -> None:
    assert (message_id(*one) == message_id(*other)) == (one == other)


@given(
    st.integers(1, 10_000),
    st.floats(0.01, 300),
    st.none() | st.floats(0, 1e9),
    st.floats(0, 1, exclude_max=True),
)
def test_waits_grow_and_are_bounded(failures: int, first_s: float, asked_s: float | None, dice: float) -> None:
    wait = wait_s(failures, first_s=first_s, asked_s=asked_s, dice=dice)
    assert 0 < wait <= MAX_WAIT_S
    assert wait >= min(first_s, MAX_WAIT_S) / 2
    assert wait >= min(asked_s or 0, MAX_WAIT_S)
    assert wait_s(failures + 1, first_s=first_s, asked_s=asked_s, dice=dice) >= wait


@pytest.mark.parametrize(
    ("address", "reachable"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        *((address, False) for address in ("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254")),
        *((address, False) for address in ("0.0.0.0", "100.64.0.1", "224.0.0.1", "255.255.255.255", "192.0.2.1")),
        *((address, False) for address in ("::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "ff02::1")),
        *((address, False) for address in ("::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::")),
        ("64:ff9b::808:808", True),
    ],
)
def test_c75_only_addresses_of_the_internet_are_public(address: str, reachable: bool) -> None:
    assert public(address) is reachable


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com",
        "ftp://example.com",
        "file:///etc/passwd",
        "http://",
        "http://a:b@example.com",
        "http://example.com:0",
        "http://example.com:99999",
        "http://exam ple.com",
        "http://example.com\\@evil",
        "http://ex\u0430mple.com",
        "http://[::1",
        "https://example.com/" + "a" * 2048,
    ],
)
def test_what_is_no_address_of_a_web_server_is_refused(url: str) -> None:
    with pytest.raises(Forbidden):
        parsed(url)


async def test_c75_a_name_that_leads_inside_the_second_time_leads_nowhere() -> None:
    """DNS rebinding: what was looked at when the webhook was made is looked at again, and only that is asked."""
    asked: list[str] = []
    answers = [["8.8.8.8"], ["8.8.8.8", "127.0.0.1"]]

    async def resolve(name: str, port: int) -> list[str]:
        asked.append(f"{name}:{port}")
        return answers.pop(0)

    async with Outbound(private=False, timeout_s=5, agent="test", resolve=resolve) as outbound:
        await outbound.check("https://rebinding.example/hook")
        answer = await outbound.post("https://rebinding.example/hook", b"{}", {})
    assert (answer.status, answer.error) == (None, "this address is on a private network")
    assert asked == ["rebinding.example:443"] * 2
