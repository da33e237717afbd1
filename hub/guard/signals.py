"""What hostile behaviour looks like: rules over sliding windows of security events. Pure: time is an argument.

The signals and their first numbers are those of AppSensor and the OWASP logging vocabulary. Two rules protect those who
did nothing: somebody can be blocked by what they did themselves, never by what others did in their name (a failed
sign-in counts against the address, not against the account); and many people behind one address, who all slip in the
same minute (after a change of keys, say), are slowed down at worst.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Literal, NamedTuple

import msgspec

from hub.guard.addresses import neighbourhood, party
from hub.guard.events import SecurityEvent
from hub.guard.security_audit import Action

Subject = Literal["address", "network", "user", "hub"]
Measure = Literal["events", "users", "targets", "networks", "share_denied"]

MAX_WINDOWS = 10_000  # per rule; beyond it the one unused for longest is forgotten
SLOW_SCORE = 30
CHALLENGE_SCORE = 60
BLOCK_SCORE = 85


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """At least `threshold` of what is measured, within `window_s`, around one subject.

    share_denied measures events, and fires when four in five of at least `threshold` were denied. With `opens` only
    what follows an event of that name counts. `tells` is the event that a finding becomes.
    """

    pattern: str
    events: frozenset[str]
    by: Subject
    measure: Measure = "events"
    opens: str = ""
    threshold: int
    window_s: float = 60.0
    score: int
    lasts_s: float = 600.0
    tells: str


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """A pattern around somebody, with the numbers that made it one."""

    pattern: str
    by: Subject
    subject: str
    score: int
    measured: int
    threshold: int
    window_s: float
    lasts_s: float
    tells: str


def _rules(
    pattern: str,
    events: str,
    by: Subject,
    tells: str,
    levels: Iterable[tuple[int, int, float]],
    measure: Measure = "events",
    window_s: float = 60.0,
    opens: str = "",
) -> list[Rule]:
    """One rule for each level of (threshold, score, seconds it lasts)."""
    return [
        Rule(
            pattern=pattern,
            events=frozenset(events.split()),
            by=by,
            measure=measure,
            opens=opens,
            threshold=threshold,
            window_s=window_s,
            score=score,
            lasts_s=lasts_s,
            tells=tells,
        )
        for threshold, score, lasts_s in levels
    ]


# ALERT is told, and changes nothing for anybody.
ALERT, SLOW, CHALLENGE, BLOCK = 20, 40, 65, 90

RULES: tuple[Rule, ...] = (
    *_rules("credential_stuffing", "authn_login_fail", "network", "authn_login_fail_max",
            [(10, CHALLENGE, 900), (25, BLOCK, 900)], "users"),
    *_rules("password_guessing", "authn_login_fail authn_login_success", "address", "authn_login_fail_max",
            [(50, BLOCK, 900)], "share_denied", 600),
    *_rules("token_reuse", "authn_token_reuse", "user", "authn_token_reuse", [(1, CHALLENGE, 900)]),
    *_rules("forged_tokens", "authn_token_invalid", "address", "authn_token_invalid",
            [(5, SLOW, 300), (60, BLOCK, 600)]),
    # A page with an old layout asks for the same channels again and again, a prober for ever new ones.
    *_rules("enumeration", "authz_fail", "user", "malicious_direct_reference", [(10, SLOW, 600)], "targets"),
    *_rules("enumeration", "authz_fail", "user", "malicious_direct_reference",
            [(60, CHALLENGE, 600), (100, BLOCK, 600)], "targets", 600),
    *_rules("malformed_input", "input_validation_fail", "address", "input_validation_fail",
            [(15, SLOW, 300), (150, BLOCK, 600)]),
    *_rules("protocol_abuse", "malicious_extraneous", "address", "malicious_extraneous",
            [(3, SLOW, 600), (10, BLOCK, 600)]),
    *_rules("attack_tool", "malicious_attack_tool", "address", "malicious_attack_tool", [(1, BLOCK, 3600)]),
    *_rules("not_found_storm", "resource_not_found", "address", "malicious_excess_404", [(20, BLOCK, 600)], "targets"),
    *_rules("flood", "excess_rate_limit_exceeded", "address", "excess_rate_limit_exceeded",
            [(3, SLOW, 300), (120, BLOCK, 300)]),
    *_rules("flood", "excess_rate_limit_exceeded", "user", "excess_rate_limit_exceeded", [(3, SLOW, 300)]),
    *_rules("session_moved", "session_seen", "user", "authn_impossible_travel", [(4, CHALLENGE, 900)], "networks", 300),
    *_rules("replay", "sequence_fail", "user", "sequence_fail", [(3, SLOW, 600)]),
    *_rules("mass_read", "bulk_read", "user", "sensitive_read", [(100, SLOW, 300), (400, CHALLENGE, 600)]),
    *_rules("mass_read", "data_export", "user", "sensitive_read", [(5, ALERT, 600)], "targets", 600),
    *_rules("privilege_used", "privilege_permissions_changed authz_admin", "user", "privilege_permissions_changed",
            [(1, ALERT, 600)], opens="privilege_permissions_changed"),
    *_rules("audit_broken", "sys_audit_broken", "hub", "sys_audit_broken", [(1, BLOCK, 3600)]),
)  # fmt: skip


class _Window:
    """What happened around one subject lately: at most as much as the rule can need.

    By what is counted, and else by a running number: who repeats one thing cannot push others out.
    """

    __slots__ = ("count", "entries", "fired_at")

    def __init__(self) -> None:
        self.count = 0
        self.entries: dict[str | int, _Entry] = {}  # the latest stands last
        self.fired_at: float | None = None

    def forget(self, before: float) -> None:
        while self.entries and self.entries[key := next(iter(self.entries))].at <= before:
            del self.entries[key]

    def add(self, value: str | None, entry: _Entry, *, size: int) -> None:
        self.count += 1
        key = self.count if value is None else value
        self.entries.pop(key, None)
        if len(self.entries) >= size:
            del self.entries[next(iter(self.entries))]
        self.entries[key] = entry


class _Entry(NamedTuple):
    at: float
    name: str
    allowed: bool


class Detector:
    """One rule at work. Fires once, and again when the window has calmed down below its threshold in between, or when
    it still has not by the time the finding ends."""

    def __init__(self, rule: Rule, *, size: int = MAX_WINDOWS) -> None:
        self.rule = rule
        self._size = size
        self._windows: dict[str, _Window] = {}  # the one used last stands last

    def observe(self, event: SecurityEvent, *, now: float) -> Finding | None:
        rule = self.rule
        subject = _SUBJECTS[rule.by](event)
        if not subject:
            return None
        window = self._windows.pop(subject, None)
        if window is None:
            if len(self._windows) >= self._size:
                del self._windows[next(iter(self._windows))]
            window = _Window()
        self._windows[subject] = window
        window.forget(now - rule.window_s)
        if not window.entries or (window.fired_at is not None and now - window.fired_at >= rule.lasts_s):
            window.fired_at = None
        window.add(_value(event, rule.measure), _Entry(now, event.name, event.allowed), size=4 * rule.threshold)
        measured = _measured(rule, window.entries.values())
        if measured < rule.threshold:
            window.fired_at = None
            return None
        if window.fired_at is not None:
            return None
        window.fired_at = now
        return Finding(
            pattern=rule.pattern,
            by=rule.by,
            subject=subject,
            score=rule.score,
            measured=measured,
            threshold=rule.threshold,
            window_s=rule.window_s,
            lasts_s=rule.lasts_s,
            tells=rule.tells,
        )

    def __len__(self) -> int:
        return len(self._windows)


def combined(scores: Iterable[int]) -> int:
    """One score of several findings, as if they were independent: 1 - (1 - a)(1 - b)..."""
    doubt = 1.0
    for score in scores:
        doubt *= 1 - score / 100
    return round(100 * (1 - doubt))


def action_of(score: int) -> Action:
    if score >= BLOCK_SCORE:
        return "BLOCK"
    if score >= CHALLENGE_SCORE:
        return "CHALLENGE"
    return "SLOW" if score >= SLOW_SCORE else "ALLOW"


_SUBJECTS: dict[Subject, Callable[[SecurityEvent], str]] = {
    "address": lambda event: party(event.address),
    "network": lambda event: neighbourhood(event.address),
    "user": lambda event: event.user,
    "hub": lambda event: "hub",
}


def _value(event: SecurityEvent, measure: Measure) -> str | None:
    """What different ones are counted of; None: every event counts."""
    match measure:
        case "users":
            return event.user
        case "targets":
            return event.target
        case "networks":
            return neighbourhood(event.address)
        case _:
            return None


def _measured(rule: Rule, entries: Collection[_Entry]) -> int:
    if rule.opens:
        names = [entry.name for entry in entries]
        return len(names) - 1 - names.index(rule.opens) if rule.opens in names else 0
    if rule.measure == "share_denied":
        denied = sum(not entry.allowed for entry in entries)
        return len(entries) if 5 * denied > 4 * len(entries) else 0
    return len(entries)
