"""Threat detection (section 3.12): what is found, what it leads to, and how often honest people are hit."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from clock import ManualClock
from hypothesis import given
from hypothesis import strategies as st
from scene import Scene
from threat_scenarios import HOSTILE, Session, honest, hostile, mishap, stale_page

from hub.channels.history import BULK_ROWS
from hub.guard.addresses import networks
from hub.guard.events import SecurityEvent, SecurityEvents, denied
from hub.guard.signals import RULES, Detector, Rule, action_of, combined
from hub.guard.threats import Threats
from protocol.errors import ErrorCode, HubError
from storage.database import Database

HONEST_SESSIONS = 20_000
MISHAPS = 60  # of 30 sessions each
STALE_PAGES = 500
HOSTILE_SESSIONS = 200  # of each of the thirteen classes
MALLORY = "198.51.100.66"


class Watch:
    """A node's threats, with everything they told."""

    def __init__(self, *, unblockable: tuple[str, ...] = ()) -> None:
        self.clock = ManualClock()
        self.reported: list[SecurityEvent] = []
        self.announced: list[bytes] = []
        self.threats = Threats(
            unblockable=networks(unblockable),
            announce=lambda topic, payload: self.announced.append(payload),
            report=self.reported.append,
            clock=self.clock,
        )

    def see(self, name: str, count: int = 1, *, address: str = MALLORY, user: str = "mallory") -> None:
        for number in range(count):
            self.threats.hear(denied(name, address, f"{name}:{number}", user=user))

    def action(self, address: str = MALLORY, user: str = "mallory") -> str:
        return self.threats.assess(address, user).action


def replay(sessions: list[Session]) -> tuple[Counter[str], Counter[str], int]:
    """All events of all sessions in order of time. Returns: found by class, sessions by class, honest ones blocked.

    An honest session counts as blocked when at any of its events its address or user is BLOCKed; a hostile one as found
    when anything but ALLOW was answered to it with its own pattern among the evidence.
    """
    watch = Watch()
    start = watch.clock.monotonic()
    timeline = sorted(
        ((session.start_s + after_s, index, event) for index, session in enumerate(sessions) for after_s, event in session.events),
        key=lambda each: each[:2],
    )  # fmt: skip
    found: set[int] = set()
    blocked: set[int] = set()
    for at_s, index, event in timeline:
        watch.clock.advance(start + at_s - watch.clock.monotonic())
        watch.threats.hear(event)
        session = sessions[index]
        threat = watch.threats.assess(event.address, session.user)
        if session.label:
            if threat.action != "ALLOW" and session.label in threat.patterns:
                found.add(index)
        elif threat.action == "BLOCK":
            blocked.add(index)
    totals = Counter(session.label for session in sessions if session.label)
    return Counter(sessions[index].label for index in found), totals, len(blocked)


def test_hostile_sessions_are_found_and_honest_ones_are_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    chance = random.Random(312)
    sessions = [honest(chance, number) for number in range(HONEST_SESSIONS)]
    sessions += [session for number in range(MISHAPS) for session in mishap(chance, number)]
    sessions += [stale_page(chance, number) for number in range(STALE_PAGES)]
    sessions += [hostile(chance, label, number) for label in HOSTILE for number in range(HOSTILE_SESSIONS)]
    found, totals, blocked = replay(sessions)

    with capsys.disabled():
        print(f"\n{HONEST_SESSIONS + 30 * MISHAPS + STALE_PAGES} honest sessions: {blocked} blocked. Recall per class:")
        print(", ".join(f"{label} {found[label] / total:.1%}" for label, total in totals.items()))
    assert {label for label, total in totals.items() if found[label] < 0.95 * total} == set()
    assert blocked <= HONEST_SESSIONS / 10_000


@pytest.mark.parametrize(
    ("name", "count", "pattern", "action"),
    [
        ("authn_token_reuse", 1, "token_reuse", "CHALLENGE"),
        ("authn_token_invalid", 5, "forged_tokens", "SLOW"),
        ("authn_token_invalid", 60, "forged_tokens", "BLOCK"),
        ("authz_fail", 10, "enumeration", "SLOW"),
        ("authz_fail", 60, "enumeration", "CHALLENGE"),
        ("authz_fail", 100, "enumeration", "BLOCK"),
        ("malicious_extraneous", 3, "protocol_abuse", "SLOW"),
        ("malicious_extraneous", 10, "protocol_abuse", "BLOCK"),
        ("bulk_read", 100, "mass_read", "SLOW"),
        ("bulk_read", 400, "mass_read", "CHALLENGE"),
        ("sequence_fail", 3, "replay", "SLOW"),
        ("input_validation_fail", 15, "malformed_input", "SLOW"),
        ("input_validation_fail", 150, "malformed_input", "BLOCK"),
        ("malicious_attack_tool", 1, "attack_tool", "BLOCK"),
        ("resource_not_found", 20, "not_found_storm", "BLOCK"),
        ("excess_rate_limit_exceeded", 3, "flood", "SLOW"),
        ("excess_rate_limit_exceeded", 120, "flood", "BLOCK"),
    ],
)
def test_each_signal_leads_to_its_action_at_its_number_and_not_before(
    name: str, count: int, pattern: str, action: str
) -> None:
    before, at = Watch(), Watch()
    before.see(name, count - 1)
    at.see(name, count)

    assert before.action() != action
    assert at.action() == action
    assert pattern in at.threats.assess(MALLORY, "mallory").patterns


def test_a_page_with_an_old_layout_is_slowed_down_at_worst_and_a_slow_prober_is_not_spared() -> None:
    page, prober = Watch(), Watch()
    for _ in range(30):  # ten minutes of reconnecting
        page.see("authz_fail", 40)
        page.clock.advance(20)
        assert page.action() in ("ALLOW", "SLOW")
    for number in range(100):
        for target in (f"orders:{number}", *["orders:mine"] * 5):  # repeats between do not hide it
            prober.threats.hear(denied("authz_fail", MALLORY, target, user="mallory"))
        prober.clock.advance(5)
    assert prober.action() == "BLOCK"


def test_reading_out_many_people_is_told_and_stops_nobody() -> None:
    watch = Watch()
    watch.see("data_export", 5)
    assert watch.action() == "ALLOW"
    [told] = watch.reported
    assert (told.name, told.target, told.detail["measured"]) == ("sensitive_read", "threat:mass_read", 5)
    again = Watch()
    for _ in range(50):
        again.threats.hear(SecurityEvent(name="data_export", user="root", target="ann"))
    assert again.reported == []


@pytest.mark.parametrize(
    ("happened", "told"),
    [
        ("changed 59 used", True),
        ("changed 60 used", False),
        ("used 1 changed", False),
        ("used 1 used 1 used 1 used 1 changed 1 used", True),
    ],
)
def test_rights_that_are_used_within_a_minute_of_their_change_are_told(happened: str, told: bool) -> None:
    watch = Watch()
    names = {"changed": "privilege_permissions_changed", "used": "authz_admin"}
    for word in happened.split():
        if word.isdigit():
            watch.clock.advance(int(word))
        else:
            watch.threats.hear(SecurityEvent(name=names[word], user="ann", target="ann"))
    assert [event.target for event in watch.reported] == (["threat:privilege_used"] if told else [])
    assert watch.action(user="ann") == "ALLOW"


def test_a_broken_audit_log_is_the_worst_of_news_and_nobodys_fault() -> None:
    watch = Watch()
    watch.threats.hear(SecurityEvent(name="sys_audit_broken", severity="CRITICAL"))
    [told] = watch.reported
    assert (told.name, told.target, told.severity, told.detail["score"]) == (
        "sys_audit_broken", "threat:audit_broken", "CRITICAL", 90,
    )  # fmt: skip
    assert watch.action() == "ALLOW"


def test_whoever_begins_anew_is_found_anew_and_whoever_goes_on_stays_found() -> None:
    watch = Watch()
    for _ in range(2):
        watch.see("malicious_attack_tool")
        assert watch.action() == "BLOCK"
        watch.clock.advance(3600)
        assert watch.action() == "ALLOW"
    for _ in range(300):
        watch.see("malicious_attack_tool")
        assert watch.action() == "BLOCK"
        watch.clock.advance(30)
    assert len(watch.reported) == 2 + 3


def test_what_is_spread_over_a_longer_time_than_the_window_is_no_signal() -> None:
    watch = Watch()
    for _ in range(100):
        watch.see("authn_token_invalid")
        watch.clock.advance(20)
    assert watch.action() == "ALLOW"
    assert watch.reported == []


def test_a_verdict_ends_by_itself() -> None:
    watch = Watch()
    watch.see("malicious_attack_tool")
    watch.clock.advance(3599)
    assert watch.action() == "BLOCK"
    watch.clock.advance(2)
    assert watch.action() == "ALLOW"


def test_failed_sign_ins_in_somebodys_name_never_count_against_that_account() -> None:
    watch = Watch()
    watch.see("authn_login_fail", 500, user="victim")
    assert watch.action("203.0.113.9", "victim") == "ALLOW"
    assert watch.action(MALLORY, "victim") == "BLOCK"


def test_a_network_that_tries_many_accounts_is_challenged_and_then_blocked_as_a_whole() -> None:
    watch = Watch()
    for number in range(25):
        watch.see("authn_login_fail", address=f"198.51.100.{number}", user=f"user{number}")
        if number == 9:
            assert watch.action("198.51.100.200", "") == "CHALLENGE"
    assert watch.action("198.51.100.200", "") == "BLOCK"
    assert watch.action("198.51.101.1", "") == "ALLOW"


def test_several_weaker_signals_add_up() -> None:
    watch = Watch()
    watch.see("authn_token_invalid", 5)
    watch.see("input_validation_fail", 15)
    watch.see("excess_rate_limit_exceeded", 3)
    threat = watch.threats.assess(MALLORY, "mallory")
    assert threat.patterns == ("flood", "forged_tokens", "malformed_input")
    assert (threat.score, threat.action) == (78, "CHALLENGE")


def test_an_operators_own_machine_is_watched_and_slowed_and_never_blocked_unless_that_is_configured() -> None:
    spared, strict = Watch(unblockable=("127.0.0.0/8",)), Watch()
    for watch in (spared, strict):
        watch.see("malicious_attack_tool", address="127.0.0.1")
    assert spared.action("127.0.0.1") == "SLOW"
    assert spared.threats.assess("127.0.0.1").score == 90
    assert strict.action("127.0.0.1") == "BLOCK"


def test_a_finding_is_told_once_with_its_evidence_and_without_feeding_itself() -> None:
    watch = Watch()
    events = SecurityEvents()
    events.listen(watch.threats.hear)
    events.listen(watch.reported.append)
    watch.threats._report = events.report
    for number in range(200):
        events.report(denied("authn_token_invalid", MALLORY, f"{number}"))
    told = [event for event in watch.reported if event.target.startswith("threat:")]
    assert [(event.detail["measured"], event.detail["action"]) for event in told] == [(5, "SLOW"), (60, "BLOCK")]
    assert told[-1].severity == "CRITICAL"


def test_another_node_hears_of_it_and_acts_the_same() -> None:
    here, there = Watch(), Watch()
    here.see("malicious_attack_tool")
    for payload in here.announced:
        there.threats.hear_node(payload)
    there.threats.hear_node(b"\xc1 nonsense")
    assert there.action() == "BLOCK"
    assert there.announced == []


@given(st.lists(st.integers(0, 100), max_size=6), st.integers(0, 100))
def test_another_finding_never_lowers_the_score_and_it_stays_within_100(scores: list[int], more: int) -> None:
    assert 0 <= combined(scores) <= combined([*scores, more]) <= 100
    assert combined([more]) == more


def test_every_action_has_its_range_of_scores() -> None:
    assert [action_of(score) for score in (0, 29, 30, 59, 60, 84, 85, 100)] == [
        "ALLOW", "ALLOW", "SLOW", "SLOW", "CHALLENGE", "CHALLENGE", "BLOCK", "BLOCK",
    ]  # fmt: skip


def test_however_many_addresses_there_are_a_detector_remembers_so_many_of_them() -> None:
    rule = next(rule for rule in RULES if rule.pattern == "forged_tokens" and rule.threshold == 5)
    detector = Detector(rule, size=100)
    for number in range(1_000):
        detector.observe(denied("authn_token_invalid", f"10.{number // 250}.{number % 250}.1", ""), now=0.0)
    assert len(detector) == 100


def test_the_rules_never_block_an_account_for_what_can_be_done_in_its_name() -> None:
    """Only events that need the account's own credentials may be counted by user."""
    proven = {"authz_fail", "authn_token_reuse", "excess_rate_limit_exceeded", "session_seen", "sequence_fail"}
    proven |= {"bulk_read", "data_export", "authz_admin", "privilege_permissions_changed"}

    def names(rule: Rule) -> frozenset[str]:
        return rule.events

    assert all(names(rule) <= proven for rule in RULES if rule.by == "user")


# --- what it leads to


@pytest_asyncio.fixture
async def scene(database: Database) -> AsyncIterator[Scene]:
    async with Scene(database, unblockable=()).running() as running:
        yield running


async def test_a_blocked_user_cannot_connect_and_is_told_when_to_ask_again(scene: Scene) -> None:
    for number in range(100):
        scene.threats.hear(denied("authz_fail", "203.0.113.1", f"orders:{number}", user="mallory"))
    client = scene.socket()
    reply = await client.ask("connect", token=scene.token("mallory"))
    assert (reply["error"]["name"], reply["error"]["retry_after_ms"]) == ("rate_limited", 60_000)
    [goodbye] = [each for each in client.messages if each["type"] == "disconnect"]
    assert goodbye["code"] == 4103
    await scene.client("ann")


async def test_a_challenged_user_needs_a_second_factor_and_gets_in_with_one(scene: Scene) -> None:
    scene.threats.hear(denied("authn_token_reuse", "203.0.113.1", "family", user="ann"))
    client = scene.socket()
    password_only = scene.tokens.issue("ann", roles=["trader"], ttl_s=600, amr=["pwd"])
    reply = await client.ask("connect", token=password_only)
    assert reply["error"]["code"] == ErrorCode.MFA_REQUIRED
    both = scene.tokens.issue("ann", roles=["trader"], ttl_s=600, amr=["pwd", "otp", "mfa"])
    assert "result" in await client.ask("connect", token=both)


async def test_malformed_messages_forged_tokens_and_strikes_are_reported_from_where_they_happen(scene: Scene) -> None:
    heard: list[str] = []
    scene.threats.hear = lambda event: heard.append(event.name)  # type: ignore[method-assign]  # to listen in
    client = scene.socket()
    await client.ask("connect", token="not.a.token")
    good = scene.socket()
    await good.ask("connect", token=scene.token("ann"))
    await good.ask("no_such_command")
    await good.publish("custom:a")
    assert heard.count("authn_token_invalid") == 1
    assert heard.count("input_validation_fail") == 1
    assert set(heard) <= {"authn_token_invalid", "input_validation_fail", "session_seen"}


async def test_a_large_page_of_history_is_noticed_and_a_small_one_is_not(scene: Scene) -> None:
    client = await scene.client("ann", "agent")
    for _ in range(BULK_ROWS):
        await client.publish("custom:large")
    await client.ask("history", channel="custom:large", limit=BULK_ROWS - 1)
    assert scene.signals == []
    await client.ask("history", channel="custom:large", limit=BULK_ROWS)

    assert [(each.name, each.user, each.target) for each in scene.signals] == [("bulk_read", "ann", "custom:large")]


@pytest.mark.parametrize(
    ("code", "name", "target"),
    [
        (1002, "malicious_extraneous", "websocket 1002"),
        (1007, "malicious_extraneous", "websocket 1007"),
        (1008, "malicious_extraneous", "websocket 1008"),
        (1009, "input_validation_fail", "payload_too_large"),
    ],
)
async def test_a_broken_frame_is_reported_with_who_sent_it(scene: Scene, code: int, name: str, target: str) -> None:
    heard: list[SecurityEvent] = []
    scene.threats.hear = heard.append  # type: ignore[method-assign]  # to listen in
    client = await scene.client("ann")
    client.connection.violated(code)
    [told] = [each for each in heard if each.name != "session_seen"]
    assert (told.name, told.user, told.target, told.allowed) == (name, "ann", target, False)


async def test_findings_are_told_to_whoever_watches_and_the_blocked_are_sent_away() -> None:
    watch = Watch()
    told: list[dict[str, Any]] = []
    sent_away = asyncio.Event()
    refuse_first = iter([True])

    async def tell(threat: dict[str, Any]) -> None:
        if next(refuse_first, False):
            raise HubError(ErrorCode.NOT_AVAILABLE, "no broker")
        told.append(threat)

    running = asyncio.create_task(watch.threats.run(tell=tell, send_away=sent_away.set))
    watch.see("authn_token_invalid", 5)
    watch.see("resource_not_found", 20)
    async with asyncio.timeout(5):
        await sent_away.wait()
        while not told:
            await asyncio.sleep(0)
    running.cancel()
    [threat] = told  # the first could not be told, and that is no reason to stop
    assert (threat["pattern"], threat["by"], threat["subject"], threat["action"]) == (
        "not_found_storm", "address", MALLORY, "BLOCK",
    )  # fmt: skip
    assert threat["evidence"] == {"measured": 20, "threshold": 20, "window_s": 60.0, "event": "resource_not_found"}
