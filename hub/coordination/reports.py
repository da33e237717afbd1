"""The daily security report on every team's channel."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from hub.coordination.coordinator import Term
from hub.coordination.journal import Change
from hub.coordination.service import team_channel
from protocol.planning import SecurityReport

KIND = "report"
PERIOD_US = 86_400_000_000

Counts = tuple[Mapping[str, int], Mapping[str, int], Mapping[str, int]]
"""Security events allowed and denied, and threats found, by name, since the node started."""


class Reported(msgspec.Struct, frozen=True):
    """When the last report was."""

    at_us: int


_decode = msgspec.json.Decoder(Reported).decode


class SecurityReports:
    """A desk. Counts are those of this node since its report before, or since it began to coordinate."""

    def __init__(self, term: Term, *, node: str, counts: Callable[[], Counts]) -> None:
        self._term = term
        self._node = node
        self._counts = counts
        self._before = _copied(counts())
        self._reported: Reported | None = None
        self.kinds: Mapping[str, Callable[[bytes], None]] = {KIND: self._restore}

    def _restore(self, body: bytes) -> None:
        self._reported = _decode(body)

    def restored(self, now_us: int) -> None:
        """Nothing more to do."""

    def tick(self, change: Change) -> None:
        since = self._reported
        if since is not None and change.now_us - since.at_us < PERIOD_US:
            return
        self._reported = Reported(change.now_us)
        change.keep(KIND, "security", self._reported)
        if since is None:  # the first day begins
            return
        counted = _copied(self._counts())
        allowed, denied, threats = (
            {name: count - before.get(name, 0) for name, count in now.items() if count > before.get(name, 0)}
            for now, before in zip(counted, self._before, strict=True)
        )
        self._before = counted
        report = SecurityReport(
            node=self._node,
            since=since.at_us,
            allowed=allowed,
            denied=denied,
            threats=threats,
            ts_event=change.now_us,
        )
        for project_id in self._term.tasks.projects:
            change.tell(team_channel(project_id), "SECURITY_REPORT", report)


def _copied(counts: Counts) -> tuple[dict[str, int], ...]:
    return tuple(dict(each) for each in counts)
