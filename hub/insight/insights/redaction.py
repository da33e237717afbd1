"""What a model is not shown: secrets, and who somebody is. Pure.

Names are replaced by stand-ins that mean somebody all the same, and put back into what the model says.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

HIDDEN = "[redacted]"
MAX_DEPTH = 16

_KEYS = re.compile(
    r"passw|secret|authorization|cookie|credential|api_?key|private_?key|signature|(^|_)(token|otp|pin|account|iban|ssn|"
    r"e?mail|phone|address)$",
    re.IGNORECASE,
)
_TEXTS = [
    re.compile(pattern, flags)
    for pattern, flags in (
        (r"-----BEGIN [A-Z ]+-----.*?(-----END [A-Z ]+-----|\Z)", re.DOTALL),
        (r"\beyJ[\w-]+\.[\w-]+(\.[\w-]*)?", 0),  # a JWT
        (r"\b(sk|pk|rk)[-_][\w-]{6,}|\bkrin_ak_\w+|\bgh[pousr]_\w{16,}|\bxox[a-z]-[\w-]+|\bAKIA[A-Z0-9]{12,}", 0),
        (r"\b(bearer|basic|dpop)\s+[\w.~+/=-]{8,}", re.IGNORECASE),
        (r"\b(password|passwd|pwd|secret|token|api[_-]?key)\s*[:=]\s*\S+", re.IGNORECASE),
        (r"(?<=://)[^\s/@:]+:[^\s/@]+(?=@)", 0),  # who opens a URL
        (r"[\w.+-]+@[\w-]+(\.[\w-]+)+", 0),
        (r"\+\d[\d ()/-]{6,}\d", 0),  # a telephone
        (r"\b(\d{4}[ -]){3}\d{4}\b|\b[A-Z]{2}\d{2}[A-Z0-9]{11,30}\b", 0),  # a card, an IBAN
        (r"\b(\d{1,3}\.){3}\d{1,3}\b|\b([0-9a-fA-F]{1,4}:){4,7}[0-9a-fA-F]{1,4}\b", 0),  # an address
        (r"\b(?=[\w-]*\d)(?=[\w-]*[A-Za-z])[\w-]{40,}\b", 0),  # no word is that long
    )
]


class Veil:
    """Hides from a model, and shows again what stood for names."""

    def __init__(self, names: Iterable[str]) -> None:
        """names: of the people who are spoken of."""
        stand_ins = {name: f"person-{_letters(place)}" for place, name in enumerate(sorted({*names} - {""}))}
        self._names = {stand_in: name for name, stand_in in stand_ins.items()}
        self._stand_ins = stand_ins
        longest_first = sorted(stand_ins, key=len, reverse=True)
        self._find = re.compile(r"(?<!\w)(" + "|".join(map(re.escape, longest_first)) + r")(?!\w)")
        self._find_again = re.compile(r"(?<!\w)person-[a-z]+(?!\w)")

    def hide(self, value: Any, depth: int = MAX_DEPTH) -> Any:
        """A JSON-like value without what must not be seen; what is nested too deep is left out."""
        match value:
            case str():
                return self._hide_text(value)
            case dict():
                return {
                    self._hide_text(key): HIDDEN if _KEYS.search(key) else self.hide(each, depth - 1)
                    for key, each in value.items()
                    if depth
                }
            case list():
                return [self.hide(each, depth - 1) for each in value if depth]
            case _:
                return value

    def show(self, text: str) -> str:
        return self._find_again.sub(lambda match: self._names.get(match[0], match[0]), text)

    def _hide_text(self, text: str) -> str:
        if self._stand_ins:
            text = self._find.sub(lambda match: self._stand_ins[match[1]], text)
        for each in _TEXTS:
            text = each.sub(HIDDEN, text)
        return text


def _letters(place: int) -> str:
    """a to z, then ba: a number could be taken for one of the input's."""
    letters = ""
    while True:
        place, last = divmod(place, 26)
        letters = chr(97 + last) + letters
        if not place:
            return letters
