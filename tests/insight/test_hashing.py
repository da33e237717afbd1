"""The embedder without a model: deterministic, of one length, and near where words are shared."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.insight.embedding.base import normalised
from hub.insight.embedding.hashing import HashingEmbedder

EMBEDDER = HashingEmbedder()
BREAKER = "the circuit breaker opened on the Binance feed"


def cosine(one: str, other: str) -> float:
    rows = EMBEDDER.embed_now([one, other])
    return float(rows[0] @ rows[1])


@given(st.lists(st.text(max_size=60), max_size=35))
def test_a_text_has_the_same_vector_whatever_it_is_embedded_with(texts: list[str]) -> None:
    together = EMBEDDER.embed_now(texts)
    alone = [EMBEDDER.embed_now([text])[0] for text in texts]

    assert together.shape == (len(texts), 1536)
    assert together.dtype == np.float32
    assert all(np.allclose(one, other, atol=1e-6) for one, other in zip(together, alone, strict=True))
    assert all(length == 0 or abs(length - 1) < 1e-5 for length in np.linalg.norm(together, axis=1))


def test_the_space_is_the_one_of_its_name() -> None:
    """Stored vectors are compared with new ones for years: who changes the space changes NAME, and this digest."""
    rows = EMBEDDER.embed_now([BREAKER, "BTC/USDT fill 0.5 @ 43,000", "Größe und Maß"])
    signs = np.sign(rows).astype(np.int8)
    assert (EMBEDDER.name, hashlib.sha256(signs.tobytes()).hexdigest()[:16]) == ("hash-1536-v1", "1663ac2913b1cd2f")


@pytest.mark.parametrize(
    ("other", "low", "high"),
    [
        ("The circuit breaker OPENED on the binance feed!", 0.99, 1.01),
        ("breakers opening on Binance", 0.3, 0.9),
        ("please review the database migration", -0.1, 0.1),
        ("the and of", 0.0, 0.0),
        ("", 0.0, 0.0),
    ],
)
def test_texts_are_as_near_as_their_words(other: str, low: float, high: float) -> None:
    assert low <= cosine(BREAKER, other) <= high


def test_strangers_with_one_meaning_stay_strangers() -> None:
    """Why its kind is `lexical`: what it cannot do is a fact that callers are told."""
    assert EMBEDDER.kind == "lexical"
    assert cosine("the car broke down", "an automobile failed") < EMBEDDER.related


def test_a_shorter_vector_is_filled_up_and_a_longer_one_refused() -> None:
    row = normalised(np.array([[3.0, 4.0]]))
    assert (row.shape, row[0, :2].tolist()) == ((1, 1536), pytest.approx([0.6, 0.8]))
    with pytest.raises(ValueError, match="1536"):
        normalised(np.ones((1, 1537)))
