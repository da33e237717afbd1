"""What is kept of one recoverable or latest channel in memory: position, history, newest value per key.

The in-process broker's truth, and a node's mirror of what Redis holds: one set of rules for recovery and history.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable

from hub.brokers.base import Recovered
from hub.namespaces import Namespace
from hub.publication import Publication

OVERHEAD_BYTES = 512  # of a kept publication: the object, its strings, its place in a container


def cost(publication: Publication) -> int:
    """About how many bytes it takes to keep a publication: its body, and the encoding made of it for its readers."""
    return 2 * len(publication.body) + OVERHEAD_BYTES


class Kept:
    """`history` is a run of consecutive offsets that ends at `offset`. `bytes` is what all that is kept costs."""

    __slots__ = ("bytes", "epoch", "history", "latest", "offset", "policy")

    def __init__(self, policy: Namespace, *, epoch: str, offset: int = 0) -> None:
        self.policy = policy
        self.epoch = epoch
        self.offset = offset
        self.history: deque[Publication] = deque(maxlen=policy.history_size)
        self.latest: OrderedDict[str, Publication] = OrderedDict()
        self.bytes = 0

    def append(self, publication: Publication) -> None:
        """Take in the next publication; it has been placed at `offset + 1`, or further where offsets were missed."""
        if publication.offset != self.offset + 1:
            self._drop_oldest(len(self.history))
        self.offset = publication.offset
        if self.policy.latest:
            key = publication.key or ""
            self._drop_value(key)  # to the end: a snapshot is in offset order, and the longest unchanged goes first
            self.latest[key] = publication
            if len(self.latest) > self.policy.max_keys:
                self._drop_value(next(iter(self.latest)))
        elif self.policy.history_size:
            if len(self.history) == self.policy.history_size:
                self._drop_oldest(1)
            self.history.append(publication)
        else:
            return
        self.bytes += cost(publication)

    def skip_to(self, offset: int) -> None:
        """Offsets up to this one were given out; what is not here of them will not come."""
        if offset > self.offset:
            self._drop_oldest(len(self.history))
            self.offset = offset

    def _drop_oldest(self, count: int) -> None:
        for _ in range(count):
            self.bytes -= cost(self.history.popleft())

    def _drop_value(self, key: str) -> None:
        if (known := self.latest.pop(key, None)) is not None:
            self.bytes -= cost(known)

    def drop_older_half(self) -> None:
        """Make room: a reader who resumes in it is told `offset_too_old`. Latest values are the truth and stay."""
        self._drop_oldest((len(self.history) + 1) // 2)

    def restore(self, publications: list[Publication]) -> None:
        """Fill an empty one with what was read elsewhere: oldest first, up to `offset`."""
        if not self.policy.latest:
            self.extend_back(publications)
            return
        for publication in publications:
            self.latest[publication.key or ""] = publication
            self.bytes += cost(publication)

    def extend_back(self, older: Iterable[Publication]) -> None:
        """Take in what was read of the time before the history held here: `older` ends at its beginning or later."""
        if self.policy.latest:
            return
        first = self.history[0].offset if self.history else self.offset + 1
        missing = [each for each in older if each.offset < first]
        room = self.policy.history_size - len(self.history)
        taken = missing[-room:] if room else []
        self.history.extendleft(reversed(taken))
        self.bytes += sum(map(cost, taken))

    def expire(self, now_ms: int) -> None:
        """Forget history older than the policy's age. A latest value is the truth however old it is."""
        oldest = now_ms - self.policy.history_ttl_s * 1000
        while self.history and self.history[0].timestamp < oldest:
            self._drop_oldest(1)

    def forget(self, theirs: Callable[[str], bool]) -> None:
        """See `base.Broker.forget`."""
        found = [place for place, each in enumerate(self.history, start=1) if theirs(each.publisher or "")]
        self._drop_oldest(max(found, default=0))
        for key in [key for key, each in self.latest.items() if theirs(each.publisher or "")]:
            self._drop_value(key)

    @property
    def empty(self) -> bool:
        return not self.history and not self.latest

    def recover(self, *, epoch: str | None, offset: int, limit: int) -> Recovered:
        """See `base.Broker.recover`."""
        snapshot = list(self.latest.values())
        if epoch is None:
            return Recovered(self.epoch, self.offset, snapshot, False, "not_requested")
        if epoch != self.epoch or offset > self.offset:
            return Recovered(self.epoch, self.offset, snapshot, False, "epoch_changed")
        if self.policy.latest:
            # An offset says nothing about each key: a reader that was sent key B at 3 may still lack key A at 2.
            return Recovered(self.epoch, self.offset, snapshot, False, "history_disabled")
        missed = self.offset - offset
        if missed == 0:
            return Recovered(self.epoch, self.offset, [], True)
        if not self.policy.history_size:
            return Recovered(self.epoch, self.offset, [], False, "history_disabled")
        if missed > len(self.history):
            return Recovered(self.epoch, self.offset, [], False, "offset_too_old")
        if missed > limit:
            return Recovered(self.epoch, self.offset, [], False, "limit_exceeded")
        return Recovered(self.epoch, self.offset, list(self.history)[-missed:], True)

    def read(self, *, after: int, limit: int, reverse: bool) -> Recovered:
        """See `base.Broker.history`."""
        messages = (
            sorted(self.latest.values(), key=lambda each: each.offset) if self.policy.latest else list(self.history)
        )
        if reverse:
            chosen = [each for each in reversed(messages) if not after or each.offset < after]
        else:
            chosen = [each for each in messages if each.offset > after]
        return Recovered(self.epoch, self.offset, chosen[:limit], len(chosen) <= limit)
