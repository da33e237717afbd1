"""What of a message can be searched for."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from hub.insight.search.extraction import MAX_CHARACTERS, words_of

JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def body(data: object, **parts: object) -> bytes:
    return msgspec.json.encode({"data": data, **parts})[1:-1]


def test_strings_are_found_and_names_of_fields_numbers_and_times_are_not() -> None:
    data = {"title": "Fix it", "price": "43000.50", "at": "2026-01-01T00:00:00Z", "n": 7, "list": [{"deep": "down"}]}
    assert words_of(body(data, publisher="ann", key="secret")) == "Fix it down"


def test_next_steps_of_a_coordination_are_words_too() -> None:
    assert words_of(body({"task": "build"}, coordination={"next_steps": ["run tests"]})) == "build run tests"


def test_an_erased_message_has_no_words() -> None:
    assert words_of(b'"data":{}') == ""


@given(JSON)
def test_any_body_gives_text_that_postgres_can_keep(data: object) -> None:
    words = words_of(body(data))
    assert "\0" not in words
    assert len(words) <= MAX_CHARACTERS
