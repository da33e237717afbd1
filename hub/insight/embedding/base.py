"""What turns texts into vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from storage.vectors import DIMENSIONS

Vectors = NDArray[np.float32]
Kind = Literal["semantic", "lexical"]
"""lexical: texts are near each other when they share words and parts of words; synonyms are strangers."""


class EmbedderUnavailable(Exception):
    """No vectors now; one sentence why, without secrets."""


class Embedder(Protocol):
    """Vectors of one embedder are compared with each other only: each is stored with the embedder's `name`.

    With `needs_consent`, a text is shown to it only if its author has agreed to AI processing.
    Up to the cosine `unrelated` two texts have nothing in common, from `related` on they are about the same.
    """

    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> Kind: ...

    @property
    def needs_consent(self) -> bool: ...

    @property
    def unrelated(self) -> float: ...

    @property
    def related(self) -> float: ...

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """One row of `DIMENSIONS` per text, of length 1, or 0 for a text that says nothing.

        Raises EmbedderUnavailable.
        """
        ...


def normalised(rows: NDArray[np.floating]) -> Vectors:
    """Rows of length 1 and `DIMENSIONS` wide: zeros at the end of a shorter vector change no cosine.

    Raises ValueError for rows that are longer, or not of numbers.
    """
    if not np.isfinite(rows).all():
        raise ValueError("a vector has numbers alone")
    if rows.shape[1] > DIMENSIONS:
        raise ValueError(f"a vector has at most {DIMENSIONS} dimensions, not {rows.shape[1]}")
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    whole = np.zeros((len(rows), DIMENSIONS), np.float32)
    np.divide(rows, lengths, out=whole[:, : rows.shape[1]], where=lengths > 0)
    return whole
