"""Two rankings become one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hub.insight.search.fusion import fuse

RANKING = st.lists(st.integers(0, 20), unique=True)


def test_what_both_have_comes_before_what_one_has() -> None:
    assert [*fuse([(1.0, [1, 2, 3]), (1.0, [4, 2, 5])])][0] == 2


@given(RANKING)
def test_one_ranking_keeps_its_order(ranking: list[int]) -> None:
    assert [*fuse([(0.5, ranking)])] == ranking
    assert [*fuse([(1.0, ranking), (1.0, ranking)])] == ranking


@given(RANKING, RANKING, st.floats(0.1, 10))
def test_everything_that_was_ranked_is_there_once_and_in_order(one: list[int], other: list[int], weight: float) -> None:
    scores = fuse([(1.0, one), (weight, other)])
    assert set(scores) == {*one, *other}
    assert [*scores.values()] == sorted(scores.values(), reverse=True)
