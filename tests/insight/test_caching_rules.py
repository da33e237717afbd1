"""Lifetimes, guesses and the gate of near questions: pure, and held to their promises for whatever comes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.insight.caching.gate import NEAR, may_share
from hub.insight.caching.lifetime import FIRST_S, LONGEST_S, SHORTEST_S, Lifetime
from hub.insight.caching.near import KEPT_S, MAX_ASKERS, MAX_QUESTIONS, NearQuestions
from hub.insight.caching.prefetching import PAUSE_S, SEEN, Markov
from hub.insight.embedding.hashing import HashingEmbedder

observations = st.lists(st.tuples(st.booleans(), st.floats(0, 1e6)), max_size=50)


@given(observations)
def test_a_lifetime_stays_within_its_bounds(seen: list[tuple[bool, float]]) -> None:
    lifetime = Lifetime()
    for changed, after_s in seen:
        lifetime.observe(changed=changed, after_s=after_s)
        assert SHORTEST_S <= lifetime.ttl_s <= LONGEST_S


@given(observations, st.floats(1, 1e5))
def test_a_change_never_lengthens_a_lifetime_beyond_what_constancy_would(
    seen: list[tuple[bool, float]], after_s: float
) -> None:
    changed, constant = Lifetime(), Lifetime()
    for each in (changed, constant):
        for was_changed, seen_after_s in seen:
            each.observe(changed=was_changed, after_s=seen_after_s)
    changed.observe(changed=True, after_s=after_s)
    constant.observe(changed=False, after_s=after_s)
    assert changed.ttl_s <= constant.ttl_s


def test_a_lifetime_follows_the_rate_of_change() -> None:
    lifetime = Lifetime()
    assert lifetime.ttl_s == FIRST_S
    lifetime.observe(changed=False, after_s=30)
    assert lifetime.ttl_s == LONGEST_S
    for _ in range(50):
        lifetime.observe(changed=True, after_s=100)
    assert lifetime.ttl_s == pytest.approx(10.5, abs=0.2)  # -100 ln 0.9


def test_what_always_follows_is_guessed_and_counted_as_a_hit() -> None:
    markov = Markov()
    guesses = [markov.asked("ann", what, now) for now, what in enumerate("abababab")]
    assert guesses[:6] == [None] * 6  # SEEN successors must have been seen
    assert guesses[6:] == ["b", "a"]
    assert (markov.guesses, markov.hits, markov.wasted, SEEN) == (2, 1, 0, 3)
    assert markov.hit_ratio == 1.0


def test_a_guess_that_does_not_come_true_in_time_is_waste() -> None:
    markov = Markov()
    for now, what in enumerate("abababa"):
        markov.asked("ann", what, now)
    markov.asked("ann", "b", 6 + PAUSE_S + 1)
    assert (markov.hits, markov.wasted, markov.hit_ratio) == (0, 1, 0.0)


@given(st.lists(st.tuples(st.sampled_from("xyz"), st.sampled_from("abcd"), st.floats(0, 100)), max_size=200))
def test_every_guess_ends_at_most_once(asked: list[tuple[str, str, float]]) -> None:
    markov, now = Markov(), 0.0
    for asker, what, pause in asked:
        now += pause
        assert markov.asked(asker, what, now) != what
    assert 0 <= markov.guesses - markov.hits - markov.wasted <= 3  # one of each asker may be open
    assert 0.0 <= markov.hit_ratio <= 1.0


@pytest.mark.parametrize(
    ("question", "other"),
    [
        ("turn on the feed", "turn off the feed"),
        ("which orders were filled", "which orders were not filled"),
        ("is it allowed", "isn't it allowed"),
        ("trades above 100", "trades above 1000"),
        ("trades above 1.5", "trades above 15"),
        ("moves of 3", "moves of -3"),
        ("the price of BTC-USD", "the price of ETH-USD"),
        ("who is Ann", "who is Bob"),
        ("errors in team:alpha", "errors in team:beta"),
        ("buy signals", "sell signals"),
        ("what happened before the failover", "what happened after the failover"),
        ("agents with a plan", "agents without a plan"),
    ],
)
def test_opposites_share_no_answer_however_near_they_are(question: str, other: str) -> None:
    assert not may_share(question, other, cosine=1.0)
    assert not may_share(other, question, cosine=1.0)


def test_another_wording_of_the_same_may_share() -> None:
    assert may_share(
        "how fast is the price of BTC-USD moving", "how quickly is the price of BTC-USD moving", cosine=0.97
    )
    assert not may_share("how fast is it", "how quickly is it", cosine=NEAR - 0.01)


@given(st.text(), st.text(), st.floats(-1, 1))
def test_the_gate_is_symmetric_and_lets_each_question_through_to_itself(one: str, two: str, cosine: float) -> None:
    assert may_share(one, two, cosine=cosine) == may_share(two, one, cosine=cosine)
    assert may_share(one, one, cosine=1.0)


@given(st.text(), st.integers(0, 10**9), st.integers(0, 10**9))
def test_other_numbers_are_another_question(text: str, one: int, two: int) -> None:
    assert may_share(f"{text} {one}", f"{text} {two}", cosine=1.0) == (one == two)


@pytest.fixture
def near() -> NearQuestions:
    return NearQuestions(HashingEmbedder().embed_now)


def test_about_the_same_words_are_taken_for_the_earlier_question(near: NearQuestions) -> None:
    assert near.taken_for("ann", "margin calls of BTC-USD", 0) == "margin calls of BTC-USD"
    for again in ("what are the margin calls of BTC-USD", "margin calls of BTC-USD?", "margin calls of BTC-USD"):
        assert near.taken_for("ann", again, 1) == "margin calls of BTC-USD"
    for other in ("margin calls of ETH-USD", "no margin calls of BTC-USD", "margin debts of BTC-USD"):
        assert near.taken_for("ann", other, 2) == other


def test_questions_of_others_and_of_long_ago_are_no_business_of_anybody(near: NearQuestions) -> None:
    assert near.taken_for("ann", "margin calls", 0) == "margin calls"
    assert near.taken_for("bob", "the margin calls", 1) == "the margin calls"
    assert near.taken_for("ann", "the margin calls", KEPT_S) == "margin calls"
    assert near.taken_for("ann", "the margin calls", KEPT_S + 1) == "the margin calls"


def test_what_is_remembered_is_bounded(near: NearQuestions) -> None:
    for number in range(MAX_QUESTIONS + 1):
        near.taken_for("ann", f"calls {number}", 0)
    assert near.taken_for("ann", "the calls 0", 1) == "the calls 0"
    assert near.taken_for("ann", "the calls 8", 1) == "calls 8"
    for number in range(MAX_ASKERS):
        near.taken_for(f"u{number}", "calls", 2)
    assert near.taken_for("ann", "the calls 7", 3) == "the calls 7"
