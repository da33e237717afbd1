"""Where the recordings are. They are not part of the project: without them the tests that need them are skipped."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

VARIABLE = "KRIN_CAPTURES"
BESIDE = Path(__file__).parents[2] / ".." / "shared" / "captures"


@pytest.fixture(scope="session")
def captures() -> Path:
    folder = Path(os.environ.get(VARIABLE) or BESIDE)
    if not (folder / "coinbase.txt").is_file():
        pytest.skip(f"no recordings of exchanges: set {VARIABLE} to the folder that holds them")
    return folder


@pytest.fixture(scope="session")
def coinbase(captures: Path) -> Path:
    return captures / "coinbase.txt"


@pytest.fixture(scope="session")
def kraken(captures: Path) -> Path:
    return captures / "kraken.txt"


@pytest.fixture(scope="session")
def binance(captures: Path) -> Path:
    return captures / "binance_us.txt"
