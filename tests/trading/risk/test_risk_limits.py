"""Limits in layers."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.trading.risk.limits import Limits, in_words, layered
from protocol.risk import RiskLimits


def test_the_wire_and_the_hub_know_the_same_limits() -> None:
    assert RiskLimits.__struct_fields__ == Limits.__struct_fields__


def test_a_scope_that_says_nothing_leaves_the_word_to_the_wider_one() -> None:
    everyone, ann = RiskLimits(max_qty="5", collar_bps=100), RiskLimits(max_qty="2")
    assert layered([]) == Limits()
    assert layered([everyone, ann]) == Limits(max_qty=Decimal(2), collar_bps=100)
    assert layered([everyone, RiskLimits()]) == layered([everyone])


def test_null_lifts_a_limit_and_absence_does_not() -> None:
    assert layered([RiskLimits(max_notional=None)]).max_notional is None
    assert layered([RiskLimits()]).max_notional == Decimal(10_000)
    assert layered([RiskLimits(max_notional=None), RiskLimits(max_notional="7")]).max_notional == Decimal(7)


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_qty": 5},
        {"max_qty": "-5"},
        {"max_qty": "1e3"},
        {"max_notional": "NaN"},
        {"collar_bps": 0},
        {"submit_rate": 10_001},
        {"duplicate_count": 1},
        {"min_quality": "GOOD"},
        {"min_quality": None},
        {"rate_window_ms": None},
        {"approvals_required": 0},
        {"max_lots": "5"},
    ],
)
def test_what_is_no_limit_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(msgspec.json.encode(wrong), type=RiskLimits)


LAYERS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "max_qty": st.none() | st.integers(0, 99).map(str),
            "max_notional": st.none() | st.integers(0, 99).map(str),
            "collar_bps": st.none() | st.integers(1, 99),
            "allow_short": st.booleans(),
        },
    ),
    max_size=4,
)


@given(LAYERS)
def test_for_every_limit_the_narrowest_scope_that_names_it_decides(layers: list[dict[str, object]]) -> None:
    in_force = msgspec.to_builtins(layered(msgspec.convert(layer, RiskLimits) for layer in layers))
    for name, default in msgspec.to_builtins(Limits()).items():
        said = [layer[name] for layer in layers if name in layer]
        assert in_force[name] == (said[-1] if said else default)


@given(LAYERS)
def test_limits_in_force_put_into_words_mean_the_same(layers: list[dict[str, object]]) -> None:
    in_force = layered(msgspec.convert(layer, RiskLimits) for layer in layers)
    assert layered([in_words(in_force)]) == in_force
