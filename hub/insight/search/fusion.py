"""Two rankings become one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

RANK_CONSTANT = 60  # of reciprocal rank fusion: what being first is worth over being second


def fuse(rankings: Sequence[tuple[float, Sequence[int]]]) -> Mapping[int, float]:
    """Score of each id, the best first: the sum of weight / (60 + rank) over the rankings that have it.

    Ranks and not scores, since a cosine and a text rank have no common scale.
    """
    scores: dict[int, float] = {}
    for weight, ranking in rankings:
        for rank, each in enumerate(ranking, start=1):
            scores[each] = scores.get(each, 0.0) + weight / (RANK_CONSTANT + rank)
    return dict(sorted(scores.items(), key=lambda item: -item[1]))
