"""Who makes the price: the PRIMARY sources, or while none of them can, the SECONDARY ones. Pure.

Rules: SECONDARY sources stand by. They stand in as soon as no PRIMARY source is usable, and the PRIMARY ones take over
again after `dwell_us` without an interruption; or at once when no SECONDARY source is usable either, or when none of
them has failed yet: at the start whoever is first must not keep the others waiting.
"""

from __future__ import annotations

from typing import NamedTuple


class Failover(NamedTuple):
    """One symbol's state. `clean_since_us`: from when on a PRIMARY source has been usable without a break.

    `failed`: there was such a break.
    """

    standing_in: bool = False
    clean_since_us: int | None = None
    failed: bool = False


def decide(state: Failover, *, primary: bool, secondary: bool, now_us: int, dwell_us: int) -> Failover:
    """`primary`, `secondary`: whether a source of that role is usable now."""
    clean_since_us = None
    failed = state.failed
    if primary:
        clean_since_us = now_us if state.clean_since_us is None else state.clean_since_us
    elif state.clean_since_us is not None:
        failed = True
    settled = clean_since_us is not None and (not failed or now_us - clean_since_us >= dwell_us)
    standing_in = secondary and not (settled if state.standing_in else primary)
    return Failover(standing_in, clean_since_us, failed)
