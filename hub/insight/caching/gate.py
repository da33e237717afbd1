"""Whether the answer to one question may be given to another that means about the same.

A cosine alone lets opposites through ("turn on", "turn off"): numbers, names and negations must be identical as well.
Pure, and wrong on the side of no.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

NEAR = 0.95  # cosine

NEGATIONS = frozenset({"no", "not", "non", "never", "none", "nothing", "nobody", "neither", "nor", "without", "cannot"})
# One of a pair turns a question into its opposite, and vectors hardly see it.
OPPOSITES = frozenset(
    word
    for pair in (
        *("on off", "up down", "in out", "buy sell", "long short", "bid ask", "open close", "opened closed"),
        *("start stop", "enable disable", "enabled disabled", "allow deny", "allowed denied", "before after"),
        *("above below", "over under", "more less", "most least", "first last", "max min", "highest lowest"),
        *("rise fall", "rises falls", "gain loss", "increase decrease", "add remove", "true false", "yes no"),
        *("all any some only except", "success failure", "pass fail", "accept reject", "accepted rejected"),
        "yesterday today tomorrow",
    )
    for word in pair.split()
)
WORD = re.compile(r"[^\W\d_]+(?:['\u2019]t)?")
NUMBER = re.compile(r"\d+(?:[.,:/-]\d+)*%?")
SIGNED = re.compile(r"(?<![\w)])[-+\u2212](?=[\d.])")
NAMES = re.compile(r"\b(?=\w*[A-Z0-9])\w+(?:[:/.@-]\w+)*|\b\w+(?:[:/.@-]\w+)+|[@#$]\w+")


def may_share(question: str, other: str, *, cosine: float) -> bool:
    """Whether both may have one answer. Symmetric, and always true of a question and itself at a cosine of 1."""
    return cosine >= NEAR and _content(question) == _content(other)


def _content(text: str) -> tuple[Counter[str], ...]:
    text = unicodedata.normalize("NFKC", text)
    words = [word.replace("\u2019", "'") for word in WORD.findall(text.casefold())]
    negations = Counter("not" if word.endswith("n't") else word for word in words if _negates(word))
    opposites = Counter(word for word in words if word in OPPOSITES)
    numbers = Counter([*NUMBER.findall(text), *SIGNED.findall(text)])
    return numbers, _names(text), negations, opposites


def _negates(word: str) -> bool:
    return word in NEGATIONS or word.endswith("n't")


def _names(text: str) -> Counter[str]:
    """What looks like a name: with a capital, a digit, or parts. The first word of a sentence may be one too."""
    return Counter(NAMES.findall(text))
