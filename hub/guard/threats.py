"""Who is a threat at the moment: findings of the detectors, added up to a score and an action, on every node.

Everything is bounded and in memory, and forgets by itself: a verdict lasts as long as its findings do.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import msgspec

from hub.clock import Clock
from hub.guard.addresses import Network, neighbourhood, party, within
from hub.guard.events import Report, SecurityEvent
from hub.guard.security_audit import Action, Threat
from hub.guard.signals import BLOCK_SCORE, RULES, Detector, Finding, Rule, Subject, action_of, combined
from protocol.errors import HubError

logger = logging.getLogger("krin.threats")

TOPIC = "threats"
CHANNEL = "security:threats"
OURS = "threat:"  # the target of events that are findings: we hear them again, with everybody else
MAX_SUBJECTS = 10_000
MAX_UNTOLD = 1_000
BLOCKED_MS = 60_000  # when to ask again; how long it really lasts is nobody's business
SLOWNESS = 2.0  # times what everything costs those who are slowed down: half of every rate
CALM = Threat()
_ORDER: tuple[Action, ...] = ("ALLOW", "SLOW", "CHALLENGE", "BLOCK")

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Finding).decode


class Threats:
    """Listens to security events, judges, and tells. Implements `events.Report` with `hear`."""

    def __init__(
        self,
        *,
        unblockable: Sequence[Network],
        announce: Callable[[str, bytes], None],
        report: Report,
        clock: Clock,
        rules: Iterable[Rule] = RULES,
    ) -> None:
        """unblockable: addresses that are judged and watched, and at worst slowed down."""
        self._unblockable = unblockable
        self._announce = announce
        self._report = report
        self._clock = clock
        self._detectors: dict[str, list[Detector]] = {}
        for detector in map(Detector, rules):
            for name in detector.rule.events:
                self._detectors.setdefault(name, []).append(detector)
        # By subject, then by pattern: when it ends, and its score. The subject found last stands last.
        self._findings: dict[tuple[Subject, str], dict[str, tuple[float, int]]] = {}
        self._untold: deque[dict[str, Any]] = deque(maxlen=MAX_UNTOLD)
        self._news = asyncio.Event()
        self.detected: dict[str, int] = {}  # pattern -> count, for the metrics

    def hear(self, event: SecurityEvent) -> None:
        """One more fact. Cheap for what no rule is about."""
        detectors = self._detectors.get(event.name)
        if detectors is None or event.target.startswith(OURS):
            return
        now = self._clock.monotonic()
        for detector in detectors:
            finding = detector.observe(event, now=now)
            if finding is not None:
                self._found(finding, event)

    def hear_node(self, payload: bytes) -> None:
        """What a node found, this one among them."""
        try:
            finding = _decode(payload)
        except msgspec.MsgspecError:
            return  # of another version, or of nobody we know
        self._remember(finding)
        self._news.set()

    def assess(self, address: str, user: str = "") -> Threat:
        """What is known of somebody at this address and, once it is proven, of this user."""
        if not self._findings:
            return CALM
        now = self._clock.monotonic()
        scores: dict[str, int] = {}
        for subject in (("address", party(address)), ("network", neighbourhood(address)), ("user", user)):
            for pattern, (until, score) in self._findings.get(subject, {}).items():
                if until > now:
                    scores[pattern] = max(score, scores.get(pattern, 0))
        if not scores:
            return CALM
        score = combined(scores.values())
        action = action_of(score)
        if within(address, self._unblockable) and _ORDER.index(action) > _ORDER.index("SLOW"):
            action = "SLOW"
        return Threat(score=score, patterns=tuple(sorted(scores)), action=action)

    def slowness(self, address: str, user: str) -> float:
        return 1.0 if self.assess(address, user).action == "ALLOW" else SLOWNESS

    async def run(self, *, tell: Callable[[dict[str, Any]], Awaitable[Any]], send_away: Callable[[], None]) -> None:
        """Act on findings as soon as they are there: end what is blocked, then tell whoever watches."""
        while True:
            await self._news.wait()
            self._news.clear()
            send_away()
            while self._untold:
                try:
                    await tell(self._untold.popleft())
                except HubError as failure:
                    logger.warning("a threat could not be told: %s", failure)

    def _found(self, finding: Finding, event: SecurityEvent) -> None:
        self._remember(finding)
        if finding.by == "hub":  # nobody to act against, and the worst of news
            threat = Threat(score=finding.score, patterns=(finding.pattern,))
        else:
            threat = self.assess(event.address, event.user if finding.by == "user" else "")
        self.detected[finding.pattern] = self.detected.get(finding.pattern, 0) + 1
        evidence = {
            "measured": finding.measured,
            "threshold": finding.threshold,
            "window_s": finding.window_s,
            "event": event.name,
        }
        self._untold.append(
            {
                "pattern": finding.pattern,
                "by": finding.by,
                "subject": finding.subject,
                "address": event.address,
                "user": event.user,
                "score": threat.score,
                "action": threat.action,
                "expires_at": self._clock.now_ms() + round(finding.lasts_s * 1000),
                "evidence": evidence,
            }
        )
        self._news.set()
        self._announce(TOPIC, _encode(finding))
        self._report(
            SecurityEvent(
                name=finding.tells,
                user=event.user,
                address=event.address,
                target=OURS + finding.pattern,
                allowed=threat.action != "BLOCK",
                severity="CRITICAL" if threat.score >= BLOCK_SCORE else "WARN",
                detail={"score": threat.score, "action": threat.action, **evidence},
            )
        )

    def _remember(self, finding: Finding) -> None:
        subject = (finding.by, finding.subject)
        known = self._findings.pop(subject, {})
        if len(self._findings) >= MAX_SUBJECTS:
            del self._findings[next(iter(self._findings))]
        until, score = known.get(finding.pattern, (0.0, 0))
        now = self._clock.monotonic()
        worse = max(score, finding.score) if until > now else finding.score
        known[finding.pattern] = (max(until, now + finding.lasts_s), worse)
        self._findings[subject] = known
