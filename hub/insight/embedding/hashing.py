"""An embedder without a model: signed feature hashing of words, pairs of words and parts of words.

Lexical, and says so: it finds the same and similarly spelled words, no synonym, no paraphrase, no other language, and
two strangers may share a dimension. Deterministic, needs no network, no training and no key.

Rule: whatever is changed here makes another space, so `NAME` changes with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from hub.insight.embedding.base import Kind, Vectors, normalised
from storage.vectors import DIMENSIONS

NAME = "hash-1536-v1"
GRAMS = (3, 4, 5)  # letters of a part of a word, its borders among them
WORD_WEIGHT = 2.0
PAIR_WEIGHT = 1.0
GRAM_WEIGHT = 0.5

_WORD = re.compile(r"\w+")
_BORDER = b" "
# What stands in every text says nothing about it.
_COMMON = frozenset(
    {
        *("a", "an", "and", "are", "as", "at", "be", "been", "but", "by", "can", "could", "did", "do", "does"),
        *("for", "from", "had", "has", "have", "how", "if", "in", "into", "is", "it", "its", "may", "of", "on"),
        *("or", "our", "she", "he", "so", "such", "than", "that", "the", "their", "them", "then", "there"),
        *("these", "they", "this", "to", "was", "we", "were", "what", "when", "where", "which", "who", "why"),
        *("will", "with", "would", "you", "your"),
    }
)
_PRIME = np.uint64(1_099_511_628_211)
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))  # of splitmix64
_KINDS = np.uint64(0x9E3779B97F4A7C15)  # the same letters as a word and as a part of one are two features

Hashes = NDArray[np.uint64]


class HashingEmbedder:
    name = NAME
    kind: Kind = "lexical"
    needs_consent = False  # nothing leaves the hub
    unrelated = 0.1  # four times the deviation of what chance makes of 1536 dimensions
    related = 0.3

    async def embed(self, texts: Sequence[str]) -> Vectors:
        return self.embed_now(texts)

    def embed_now(self, texts: Sequence[str]) -> Vectors:
        """About 50 microseconds for a text of 200 letters, if there are several."""
        rows = np.zeros((len(texts), DIMENSIONS), np.float32)
        _add(rows, [_words(text) for text in texts])
        return normalised(rows)


def _words(text: str) -> list[bytes]:
    return [word.encode() for word in _WORD.findall(text.casefold()) if word not in _COMMON]


def _add(rows: Vectors, texts: Sequence[list[bytes]]) -> None:
    """Count the features of each text into its row, all texts at once."""
    lengths = np.fromiter((len(word) for words in texts for word in words), np.int64)
    if not len(lengths):
        return
    # " breaker opened ": every word between borders, one text after the other.
    letters = np.frombuffer(_BORDER + _BORDER.join(word for words in texts for word in words) + _BORDER, np.uint8)
    text_of_word = np.repeat(np.arange(len(texts)), [len(words) for words in texts])
    starts = 1 + np.cumsum(lengths + 1) - (lengths + 1)
    words = _hash_words(letters, starts, lengths)
    together = text_of_word[1:] == text_of_word[:-1]
    _count(rows, text_of_word, words, WORD_WEIGHT)
    _count(rows, text_of_word[1:][together], (words[:-1] * _PRIME + words[1:])[together], PAIR_WEIGHT)
    text_of_letter = np.repeat(text_of_word, lengths + 1)  # a word's letters and the border before it
    _count(rows, *_joined(_hash_grams(letters, text_of_letter, size) for size in GRAMS), GRAM_WEIGHT)


def _hash_words(letters: NDArray[np.uint8], starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> Hashes:
    """A polynomial of the letters of each word, modulo 2**64."""
    hashes = np.zeros(len(starts), np.uint64)
    going = np.arange(len(starts))
    for place in range(int(lengths.max())):
        going = going[lengths[going] > place]
        hashes[going] = hashes[going] * _PRIME + letters[starts[going] + place]
    return hashes + _KINDS


def _hash_grams(
    letters: NDArray[np.uint8], text_of_letter: NDArray[np.int64], size: int
) -> tuple[NDArray[np.int64], Hashes]:
    """(text, hash) of each run of `size` letters that crosses no border between words."""
    count = len(letters) - size + 1
    if count <= 0:
        return text_of_letter[:0], np.zeros(0, np.uint64)
    hashes = np.zeros(count, np.uint64)
    crosses = np.zeros(count, bool)
    for place in range(size):
        run = letters[place : place + count]
        hashes = hashes * _PRIME + run
        if 0 < place < size - 1:
            crosses |= run == _BORDER[0]
    inside = np.flatnonzero(~crosses)
    return text_of_letter[inside], hashes[inside]


def _joined(parts: Iterable[tuple[NDArray[np.int64], Hashes]]) -> tuple[NDArray[np.int64], Hashes]:
    texts, hashes = zip(*parts, strict=True)
    return np.concatenate(texts), np.concatenate(hashes)


def _count(rows: Vectors, texts: NDArray[np.int64], hashes: Hashes, weight: float) -> None:
    """Each hash says a dimension and a sign; what comes often counts less each time."""
    mixed = (hashes ^ (hashes >> np.uint64(30))) * _MIX[0]
    mixed = (mixed ^ (mixed >> np.uint64(27))) * _MIX[1]
    mixed ^= mixed >> np.uint64(31)
    places = texts * DIMENSIONS + (mixed % np.uint64(DIMENSIONS)).astype(np.int64)
    signs = 1.0 - 2.0 * (mixed >> np.uint64(63)).astype(np.float64)
    counts = np.bincount(places, signs, rows.size)
    touched = np.flatnonzero(counts)  # a few hundred of 1536 in each row: logarithms of the others are most of the work
    found = counts[touched]
    rows.reshape(-1)[touched] += weight * np.sign(found) * np.log1p(np.abs(found))
