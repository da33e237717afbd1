"""Which strategies there are, by name, and how one is made of its parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from hub.trading.strategies.base import Setting, Strategy
from hub.trading.strategies.market_making import MarketMaking, MarketMakingParameters
from hub.trading.strategies.momentum import Momentum, MomentumParameters
from protocol.nulls import without_nulls


class Kind(NamedTuple):
    """`parameters` is a struct, in whose terms mistakes are told."""

    parameters: type[Any]
    make: Callable[[Setting, Any], Strategy]


STRATEGIES: Mapping[str, Kind] = {
    "momentum": Kind(MomentumParameters, Momentum),
    "market_making": Kind(MarketMakingParameters, MarketMaking),
}


def make_strategy(kind: Kind, parameters: Mapping[str, Any], setting: Setting) -> Strategy:
    """Raises msgspec.ValidationError for parameters that the strategy does not take. Strings may stand for numbers."""
    given = without_nulls(dict(parameters), kind.parameters)
    return kind.make(setting, msgspec.convert(given, kind.parameters, strict=False))
