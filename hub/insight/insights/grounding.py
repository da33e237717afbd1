"""Whether what a model says is in what it was shown. Pure.

Rule: a number that was not shown was made up; so was evidence that is not where it is said to be.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Literal

Flaw = Literal["form", "number", "evidence"]

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_THOUSANDS = re.compile(r"\d{1,3}(,\d{3})+(\.\d+)?\Z")
_SMALL = (
    *("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_WORDS = {word: value for value, word in enumerate(_SMALL, start=1)}
_WORDS |= {word: value for value, word in zip(range(20, 100, 10), _TENS, strict=True)}
_SCALES = {"hundred": 100, "thousand": 1_000, "million": 10**6, "billion": 10**9}
_WORD = "|".join(sorted([*_WORDS, *_SCALES, "dozen"], key=len, reverse=True))
_SPELLED = re.compile(rf"\b(?:{_WORD})(?:(?:[\s-]+|\s+and\s+)(?:{_WORD}))*\b")
_SCALED = re.compile(r"(?<![\d.,])(\d+(?:\.\d+)?)\s*(thousand|million|billion)\b")


def numbers_of(text: str) -> set[Decimal]:
    """Every number in a text, without its sign, in digits or in words. The word "one" is hardly ever a count."""
    text = text.lower()
    found = {Decimal(number) * _SCALES[scale] for number, scale in _SCALED.findall(text)}
    left = _SCALED.sub(" ", text)
    for words in _SPELLED.findall(left):
        found |= _spelled(re.split(r"[\s-]+", words))
    for token in _NUMBER.findall(left):
        if _THOUSANDS.match(token):
            found.add(Decimal(token.replace(",", "")))
        elif token.count(".") == 1 and "," not in token:
            found.add(Decimal(token))
        else:  # a version, a date with dots, a list
            found.update(map(Decimal, re.split("[.,]", token)))
    return found


def _spelled(words: list[str]) -> set[Decimal]:
    """What words that follow each other come to: `two thousand and five` is one number, `two three` are two."""
    found: set[Decimal] = set()
    whole = part = 0  # `part`: below the next thousand
    for word in words:
        if word == "and":
            continue
        if word == "dozen":
            found.add(Decimal(whole + max(part, 1) * 12))
            whole = part = 0
        elif word == "hundred":
            part = max(part, 1) * 100
        elif word in _SCALES:
            whole, part = whole + max(part, 1) * _SCALES[word], 0
        else:
            value = _WORDS[word]
            room = part % 100
            if room and (room < 20 or room % 10 or value > 9):  # another number begins
                found.add(Decimal(whole + part))
                whole = part = 0
            part += value
    found.add(Decimal(whole + part))
    return found - {0, 1}


def flaw_of(statements: Iterable[str], evidence: Iterable[tuple[str, str]], shown: Mapping[str, str]) -> Flaw | None:
    """evidence: (ref, value) as the model names them. shown: by ref, what the model was shown there."""
    known = {number for ref, text in shown.items() for number in numbers_of(f"{ref} {text}")}
    for statement in statements:
        if not numbers_of(statement) <= known:
            return "number"
    named = list(evidence)
    if not named or not all(value.strip() and value.strip() in shown.get(ref, "") for ref, value in named):
        return "evidence"
    return None
