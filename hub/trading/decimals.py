"""Exact arithmetic on decimal strings."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal

EXACT = Context(prec=80, rounding=ROUND_HALF_EVEN)  # wide enough for two factors of 30 digits and their sums


def text(number: Decimal) -> str:
    """Without an exponent, trailing zeros kept. Zero has no sign."""
    return format(number.copy_abs() if number.is_zero() else number, "f")


def midpoint(bid: Decimal, ask: Decimal) -> Decimal:
    """Exact: half a tick needs one more decimal."""
    return EXACT.multiply(EXACT.add(bid, ask), Decimal("0.5"))


def ratio(numerator: Decimal, denominator: Decimal, places: int) -> Decimal:
    """A quotient rounded half to even to that many decimals."""
    return EXACT.quantize(EXACT.divide(numerator, denominator), Decimal(1).scaleb(-places))


def basis_points(difference: Decimal, base: Decimal) -> str:
    return text(ratio(EXACT.multiply(difference, Decimal(10_000)), base, 2))
