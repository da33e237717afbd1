from __future__ import annotations

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.channels import MAX_CHANNEL_BYTES, matches, split_channel
from protocol.errors import ErrorCode, HubError

FIRST = string.ascii_letters + string.digits + "_$#@^"
REST = FIRST + ".:/+=~!|&()'-"
HOSTILE = {
    "Cyrillic a": "prices:\u0430apl",
    "Cyrillic a in the namespace": "pric\u0435s:AAPL",
    "zero width space": "prices:AA\u200bPL",
    "zero width joiner": "prices:AAPL\u200d",
    "byte order mark": "\ufeffprices:AAPL",
    "right-to-left override": "prices:\u202eLPAA",
    "ligature": "prices:\ufb01t",
    "combining accent": "prices:e\u0301",
    "full-width letter": "prices:\uff21APL",
    "lone surrogate": "prices:\ud800",
    "NUL": "prices:AA\0PL",
    "parent folder": "prices:..\\secrets",
    "leading point": "prices:../secrets",
    "star": "prices:*",
    "star at the end": "prices:AAPL*",
    "bracket": "prices:[a-z]",
    "question mark": "prices:AAPL?",
    "CRLF": "prices:AAPL\r\nSET x 1",
    "trailing newline": "prices:AAPL\n",
    "trailing NUL": "prices:AAPL\0",
    "space": "prices:AA PL",
    "tab": "prices:AA\tPL",
    "delete": "prices:AA\x7fPL",
    "256 characters": "prices:" + "a" * 249,
    "no namespace": ":AAPL",
    "no name": "prices:",
    "no colon": "prices",
    "nothing": "",
    "upper-case namespace": "Prices:AAPL",
    "digit first": "1prices:AAPL",
    "namespace of 33": "a" * 33 + ":AAPL",
    "quote": 'prices:AA"PL',
    "backslash": "prices:AA\\PL",
    "brace": "prices:{AAPL}",
    "percent": "prices:%00",
    "comma": "prices:A,B",
    "semicolon": "prices:A;B",
    "less than": "prices:<b>",
    "colon first in the name": "prices::AAPL",
    "hyphen first in the name": "prices:-AAPL",
    "Arabic digits": "prices:\u0661\u0662",
}


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_name_is_refused_without_being_quoted(name: str) -> None:
    with pytest.raises(HubError) as caught:
        split_channel(name)
    assert caught.value.code is ErrorCode.BAD_REQUEST
    assert caught.value.path == "$.channel"
    assert len(name) < 3 or name not in caught.value.message


@pytest.mark.parametrize(
    ("channel", "parts"),
    [
        ("prices:BTC-USD", ("prices", "BTC-USD")),
        ("book:10:BTC/USDT:USDT", ("book", "10:BTC/USDT:USDT")),
        ("prices:BRK.B", ("prices", "BRK.B")),
        ("prices:^GSPC", ("prices", "^GSPC")),
        ("prices:EURUSD=X", ("prices", "EURUSD=X")),
        ("bars:1m:ETH/USD", ("bars", "1m:ETH/USD")),
        ("custom:lobby", ("custom", "lobby")),
        ("a:b", ("a", "b")),
        ("prices:" + "a" * (MAX_CHANNEL_BYTES - 7), ("prices", "a" * (MAX_CHANNEL_BYTES - 7))),
    ],
)
def test_a_channel_splits_at_the_first_colon(channel: str, parts: tuple[str, str]) -> None:
    assert split_channel(channel) == parts


names = st.builds(lambda head, tail: head + tail, st.sampled_from(FIRST), st.text(st.sampled_from(REST), max_size=120))
namespaces = st.from_regex(r"[a-z][a-z0-9_]{0,31}", fullmatch=True)


@given(namespaces, names)
def test_what_the_grammar_allows_splits_into_what_it_was_made_of(namespace: str, name: str) -> None:
    assert split_channel(f"{namespace}:{name}") == (namespace, name)


@given(st.text(max_size=300))
def test_any_text_is_either_split_or_refused_and_what_passes_is_plain_ascii(text: str) -> None:
    try:
        namespace, name = split_channel(text)
    except HubError as error:
        assert error.code is ErrorCode.BAD_REQUEST
        return
    assert f"{namespace}:{name}" == text
    assert len(text.encode()) <= MAX_CHANNEL_BYTES
    assert text.isascii()
    # codec.head writes names into JSON without escaping.
    assert not re.search(r'["\\\x00-\x20\x7f]', text)


@given(namespaces, names, st.characters(exclude_characters=REST), st.integers(min_value=0))
def test_one_foreign_character_anywhere_spoils_a_name(namespace: str, name: str, foreign: str, place: int) -> None:
    at = place % (len(name) + 1)
    with pytest.raises(HubError):
        split_channel(f"{namespace}:{name[:at]}{foreign}{name[at:]}")


@given(st.text(), st.text())
def test_a_pattern_is_a_literal_or_a_literal_prefix(prefix: str, rest: str) -> None:
    assert matches(prefix + "*", prefix + rest)
    if not prefix.endswith("*"):
        assert matches(prefix, prefix + rest) == (rest == "")


@pytest.mark.parametrize("pattern", ["(a+)+$", "prices:.", "prices:[A]", "prices:?", "pri*s:A"])
def test_nothing_else_in_a_pattern_is_a_wildcard(pattern: str) -> None:
    assert not matches(pattern, "prices:A")
    assert not matches(pattern, "a" * 64)
    assert matches(pattern, pattern)
