"""What is asked next, learned from what was asked before: a Markov chain of the first order. Pure, time included."""

from __future__ import annotations

from collections import Counter, OrderedDict

LIKELY = 0.5  # from here on a guess is worth its work
SEEN = 3  # times that something must have been asked before its successors are believed
PAUSE_S = 60.0  # what comes later than this is no successor
MAX_STATES = 1_000
MAX_SUCCESSORS = 16  # of each
MAX_ASKERS = 1_000
HALVED_AT = 64  # successors of one state: then older ones count half, so that habits may change


class Markov:
    """`asked` learns and answers the likely next; each guess ends as a hit or as waste.

    An asker is remembered with what he asked last and what was guessed for him; a guess is wasted when he asks for
    something else, is forgotten, or comes back after PAUSE_S.
    """

    def __init__(self) -> None:
        self._successors: OrderedDict[str, Counter[str]] = OrderedDict()
        self._askers: OrderedDict[str, tuple[str, float, str | None]] = OrderedDict()
        self.guesses = 0
        self.hits = 0
        self.wasted = 0

    def asked(self, asker: str, what: str, now: float) -> str | None:
        """What the asker will probably ask next; None: nobody can say."""
        if (before := self._askers.pop(asker, None)) is not None:
            last, at, guess = before
            recent = now - at <= PAUSE_S
            if recent:
                self._learn(last, what)
            self._judge(guess, hit=recent and guess == what)
        guess = self.likely(what)
        if guess is not None:
            self.guesses += 1
        self._askers[asker] = (what, now, guess)
        if len(self._askers) > MAX_ASKERS:
            _, (_, _, forgotten) = self._askers.popitem(last=False)
            self._judge(forgotten, hit=False)
        return guess

    def likely(self, what: str) -> str | None:
        successors = self._successors.get(what)
        if successors is None or (total := successors.total()) < SEEN:
            return None
        best, count = successors.most_common(1)[0]
        return best if count >= LIKELY * total and best != what else None

    @property
    def hit_ratio(self) -> float:
        """Of the guesses whose end is known; 0 without any."""
        return self.hits / max(1, self.hits + self.wasted)

    def _learn(self, last: str, what: str) -> None:
        successors = self._successors.setdefault(last, Counter())
        self._successors.move_to_end(last)
        successors[what] += 1
        if successors.total() >= HALVED_AT or len(successors) > MAX_SUCCESSORS:
            halved = {name: count // 2 for name, count in successors.items() if count >= 2}
            self._successors[last] = Counter(halved or {what: 1})
        if len(self._successors) > MAX_STATES:
            self._successors.popitem(last=False)

    def _judge(self, guess: str | None, *, hit: bool) -> None:
        if guess is None:
            return
        if hit:
            self.hits += 1
        else:
            self.wasted += 1
