"""Which earlier question of the same person a new one may be taken for: about the same words, and the gate agrees.

Words are compared with a lexical embedder, in a millisecond: a model that says whether asking a model can be spared
would spare nothing. Bounded, in this process only. Time is an argument.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hub.insight.caching.gate import may_share

KEPT_S = 600.0
MAX_ASKERS = 200
MAX_QUESTIONS = 8  # of each, 6 KB apiece

Row = NDArray[np.float32]


class _Asked(NamedTuple):
    row: Row
    at: float


class NearQuestions:
    def __init__(self, embed: Callable[[Sequence[str]], Row]) -> None:
        """`embed`: one row of length 1 for each text."""
        self._embed = embed
        self._asked: OrderedDict[str, OrderedDict[str, _Asked]] = OrderedDict()

    def taken_for(self, asker: str, question: str, now: float) -> str:
        """The earlier question, or this one, which is remembered. An answer is shared for KEPT_S after it was made."""
        asked = self._asked.setdefault(asker, OrderedDict())
        self._asked.move_to_end(asker)
        if len(self._asked) > MAX_ASKERS:
            self._asked.popitem(last=False)
        for old in [each for each, (_, at) in asked.items() if now - at > KEPT_S]:
            del asked[old]
        if question in asked:
            return question
        row = self._embed([question])[0]
        for other, (its, _) in asked.items():
            if may_share(question, other, cosine=float(row @ its)):
                return other
        asked[question] = _Asked(row, now)
        if len(asked) > MAX_QUESTIONS:
            asked.popitem(last=False)
        return question
