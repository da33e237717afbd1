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
_WORD = re.compile(r"[a-z]+")
_WORDS = {  # "one" is hardly ever a count
    "two": 2,
    "three": 3,
    "four": 4,
    "five": 5,
    "six": 6,
    "seven": 7,
    "eight": 8,
    "nine": 9,
    "ten": 10,
    "eleven": 11,
    "twelve": 12,
}


def numbers_of(text: str) -> set[Decimal]:
    """Every number in a text, without its sign: written in digits, or as a word from two to twelve."""
    found = {Decimal(_WORDS[word]) for word in _WORD.findall(text.lower()) if word in _WORDS}
    for token in _NUMBER.findall(text):
        if _THOUSANDS.match(token):
            found.add(Decimal(token.replace(",", "")))
        elif token.count(".") == 1 and "," not in token:
            found.add(Decimal(token))
        else:  # a version, a date with dots, a list
            found.update(map(Decimal, re.split("[.,]", token)))
    return found


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
