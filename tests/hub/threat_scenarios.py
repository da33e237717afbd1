"""Labelled sessions for the threat detectors: what honest clients do, slips included, and what hostile ones do.

Everything is drawn from one seed. A session is a list of (seconds after its start, event); sessions overlap in time.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple

from hub.guard.events import SecurityEvent, denied

Timed = tuple[float, SecurityEvent]


class Session(NamedTuple):
    label: str  # the pattern that should be found; "" for an honest one
    start_s: float
    events: list[Timed]
    address: str
    user: str


def _times(chance: random.Random, count: int, within_s: float) -> list[float]:
    return sorted(chance.uniform(0, within_s) for _ in range(count))


def honest(chance: random.Random, number: int) -> Session:
    """One person or agent at work for up to ten minutes, from a home, an office that many share, or a phone."""
    user = f"user{number}"
    where = chance.random()
    if where < 0.3:  # one of 200 offices, each with one address for everybody
        address = f"203.0.{chance.randrange(200)}.1"
    elif where < 0.7:
        address = f"100.{chance.randrange(64, 128)}.{chance.randrange(256)}.{chance.randrange(1, 255)}"
    else:
        address = f"2001:db8:{chance.randrange(65536):x}:{chance.randrange(65536):x}::1"
    events: list[Timed] = [(0.0, SecurityEvent(name="session_seen", user=user, address=address))]
    if chance.random() < 0.3:  # signs in, with a slip now and then
        slips = chance.choices([0, 1, 2, 4], [80, 14, 5, 1])[0]
        events += [(1.0 + 4 * n, denied("authn_login_fail", address, "login", user=user)) for n in range(slips)]
        events.append((20.0, SecurityEvent(name="authn_login_success", user=user, address=address)))
    if chance.random() < 0.05:  # a dashboard whose role misses some channels
        count = chance.randint(1, 5)
        events += [
            (t, denied("authz_fail", address, f"custom:{n}", user=user))
            for n, t in enumerate(_times(chance, count, 30))
        ]
    if chance.random() < 0.04:  # a program with a mistake
        events += [
            (t, denied("input_validation_fail", address, "schema_invalid", user=user))
            for t in _times(chance, chance.randint(1, 4), 60)
        ]
    if chance.random() < 0.03:  # catches up on what it missed, in large pages
        events += [
            (t, SecurityEvent(name="bulk_read", user=user, address=address, target="team:a"))
            for t in _times(chance, chance.randint(1, 40), 30)
        ]
    if chance.random() < 0.01:  # a message that is too long, once or twice, or a proxy that cuts one in two
        name = chance.choice(["input_validation_fail", "malicious_extraneous"])
        events += [(t, denied(name, address, "websocket", user=user)) for t in _times(chance, 2, 60)]
    if chance.random() < 0.05:  # a burst too much
        events += [
            (t, denied("excess_rate_limit_exceeded", address, "connection", user=user))
            for t in _times(chance, chance.randint(1, 2), 60)
        ]
    if chance.random() < 0.1:  # a favicon, a robots.txt, an old bookmark
        events += [
            (t, denied("resource_not_found", address, f"/{n}"))
            for n, t in enumerate(_times(chance, chance.randint(1, 4), 60))
        ]
    if chance.random() < 0.03:  # an old token in a page that was left open
        events += [
            (t, denied("authn_token_invalid", address, "websocket")) for t in _times(chance, chance.randint(1, 2), 60)
        ]
    if chance.random() < 0.1:  # from wireless to mobile and back
        other = f"100.{chance.randrange(64, 128)}.{chance.randrange(256)}.9"
        events += [
            (t, SecurityEvent(name="session_seen", user=user, address=a))
            for t, a in zip(_times(chance, 2, 500), (other, address), strict=True)
        ]
    return Session("", chance.uniform(0, 6 * 3600), events, address, user)  # fmt: skip


def mishap(chance: random.Random, number: int) -> list[Session]:
    """Thirty people of one office whom the same thing happens to in the same minute: a change of keys, a new version
    with a mistake in it, a reconnect of everybody at once. They are honest all the same."""
    address, start = f"203.0.{200 + number % 50}.{number}", chance.uniform(0, 6 * 3600)
    kind = chance.choice(["authn_token_invalid", "input_validation_fail", "excess_rate_limit_exceeded", "authz_fail"])
    most = {"authn_token_invalid": 1, "input_validation_fail": 3, "excess_rate_limit_exceeded": 2, "authz_fail": 6}[
        kind
    ]
    return [
        Session(
            "",
            start,
            [(t, denied(kind, address, f"{kind}:{n}", user=f"worker{number}-{each}")) for n, t in enumerate(_times(chance, most, 50))],
            address,
            f"worker{number}-{each}",
        )
        for each in range(30)
    ]  # fmt: skip


def stale_page(chance: random.Random, number: int) -> Session:
    """A dashboard whose layout names channels that its role has lost; it asks for all of them whenever it reconnects."""
    address, user = f"100.65.{number // 250}.{1 + number % 250}", f"viewer{number}"
    channels = [f"team:{each}" for each in range(chance.randint(6, 50))]
    events: list[Timed] = []
    at = 0.0
    for _ in range(chance.randint(1, 12)):
        events.append((at, SecurityEvent(name="session_seen", user=user, address=address)))
        events += [(at + 0.01, denied("authz_fail", address, channel, user=user)) for channel in channels]
        at += chance.uniform(5, 60)
    return Session("", chance.uniform(0, 6 * 3600), events, address, user)


def _address(chance: random.Random) -> str:
    return f"198.{chance.choice([18, 19])}.{chance.randrange(256)}.{chance.randrange(1, 255)}"


def _stuffing(chance: random.Random, address: str, user: str) -> list[Timed]:
    """A list of leaked accounts, one try each, from several addresses of one network."""
    prefix = address.rpartition(".")[0]
    return [
        (t, denied("authn_login_fail", f"{prefix}.{chance.randrange(1, 255)}", "login", user=f"leaked{n}"))
        for n, t in enumerate(_times(chance, chance.randint(15, 60), 50))
    ]


def _guessing(chance: random.Random, address: str, user: str) -> list[Timed]:
    return [(t, denied("authn_login_fail", address, "login", user="admin")) for t in _times(chance, chance.randint(60, 150), 500)]  # fmt: skip


def _reuse(chance: random.Random, address: str, user: str) -> list[Timed]:
    return [(chance.uniform(0, 60), denied("authn_token_reuse", address, "family", user=user))]


def _forging(chance: random.Random, address: str, user: str) -> list[Timed]:
    return [(t, denied("authn_token_invalid", address, "websocket")) for t in _times(chance, chance.randint(8, 60), 50)]


def _probing(chance: random.Random, address: str, user: str) -> list[Timed]:
    return [(t, denied("authz_fail", address, f"orders:{n}", user=user)) for n, t in enumerate(_times(chance, chance.randint(12, 80), 55))]  # fmt: skip


def _garbage(chance: random.Random, address: str, user: str) -> list[Timed]:
    kinds = ("bad_request", "payload_too_large", "schema_invalid")
    return [(t, denied("input_validation_fail", address, chance.choice(kinds))) for t in _times(chance, chance.randint(20, 100), 55)]  # fmt: skip


def _tool(chance: random.Random, address: str, user: str) -> list[Timed]:
    return [(t, denied("malicious_attack_tool", address, "/")) for t in _times(chance, chance.randint(1, 9), 30)]


def _scanning(chance: random.Random, address: str, user: str) -> list[Timed]:
    return [(t, denied("resource_not_found", address, f"/{n}.php")) for n, t in enumerate(_times(chance, chance.randint(25, 200), 50))]  # fmt: skip


def _flooding(chance: random.Random, address: str, user: str) -> list[Timed]:
    return [(t, denied("excess_rate_limit_exceeded", address, "publish", user=user)) for t in _times(chance, chance.randint(4, 55), 55)]  # fmt: skip


def _breaking(chance: random.Random, address: str, user: str) -> list[Timed]:
    return [(t, denied("malicious_extraneous", address, "websocket 1002")) for t in _times(chance, chance.randint(4, 60), 55)]  # fmt: skip


def _draining(chance: random.Random, address: str, user: str) -> list[Timed]:
    """Everything there is, page after page, as fast as the limit on reading lets it."""
    return [(t, SecurityEvent(name="bulk_read", user=user, address=address, target=f"team:{n % 9}")) for n, t in enumerate(_times(chance, chance.randint(150, 600), 55))]  # fmt: skip


def _replaying(chance: random.Random, address: str, user: str) -> list[Timed]:
    return [(t, denied("sequence_fail", address, user, user=user)) for t in _times(chance, chance.randint(3, 5), 55)]  # fmt: skip


def _moving(chance: random.Random, address: str, user: str) -> list[Timed]:
    return [(t, SecurityEvent(name="session_seen", user=user, address=_address(chance))) for t in _times(chance, chance.randint(5, 12), 250)]  # fmt: skip


HOSTILE: dict[str, Callable[[random.Random, str, str], list[Timed]]] = {
    "credential_stuffing": _stuffing,
    "password_guessing": _guessing,
    "token_reuse": _reuse,
    "forged_tokens": _forging,
    "enumeration": _probing,
    "malformed_input": _garbage,
    "attack_tool": _tool,
    "not_found_storm": _scanning,
    "flood": _flooding,
    "session_moved": _moving,
    "protocol_abuse": _breaking,
    "mass_read": _draining,
    "replay": _replaying,
}


def hostile(chance: random.Random, label: str, number: int) -> Session:
    """Behind some honest behaviour, as a thief of a session has."""
    address, user = _address(chance), f"mallory-{label}-{number}"
    events = [(0.0, SecurityEvent(name="session_seen", user=user, address=address))] if chance.random() < 0.5 else []
    attack = HOSTILE[label](chance, address, user)
    return Session(label, chance.uniform(0, 6 * 3600), [*events, *attack], address, user)
