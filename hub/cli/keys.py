"""The keys that sign tokens: list, rotate, remove."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

from hub import bootstrap
from hub.auth.keyring import OVERLAP_S, SETTLE_S, UNNAMED, KeyRing, KeyUnusable
from hub.cli.nodes import node_options, settings_of
from hub.cli.parameters import Duration
from hub.cli.shared import json_option, say, show
from hub.clock import SystemClock
from hub.unusable import ConfigError


@click.group()
def keys() -> None:
    """The keys that sign access tokens, in the data folder."""


@keys.command("list")
@json_option
@node_options
def keys_list(as_json: bool, **options: Any) -> None:
    """Each key, from when it signs and until when it verifies."""
    ring = _ring(options)
    now_s = SystemClock().now_ms() // 1000
    signing = ring.current.signing(now_s)
    rows = [
        {
            "key": key.kid or UNNAMED,
            "algorithm": key.algorithm,
            "signs_from": _time(key.not_before),
            "verifies_until": _time(key.expires_at),
            "now": "signs" if key is signing else "verifies" if key.live(now_s) else "expired",
        }
        for key in ring.current.keys
    ]
    show(rows, as_json=as_json)


@keys.command("rotate")
@click.option("--overlap", type=Duration(), default=OVERLAP_S, help="of the old keys; default: 24h")
@node_options
def keys_rotate(overlap: int, **options: Any) -> None:
    """Make a new key. Running nodes take it up by themselves; no valid token is refused."""
    ring = _ring(options)
    try:
        ring.rotate(overlap_s=overlap)
    except KeyUnusable as failure:
        raise click.ClickException(str(failure)) from None
    say(f"the new key signs in {SETTLE_S} s; the old ones verify until the overlap has passed")


@keys.command("remove")
@click.argument("kid")
@node_options
def keys_remove(kid: str, **options: Any) -> None:
    """Take the key KID out, because somebody else may have it: its tokens are refused at once."""
    ring = _ring(options)
    try:
        found = ring.remove(kid)
    except KeyUnusable as failure:
        raise click.ClickException(str(failure)) from None
    if not found:
        raise click.ClickException("there is no such key; krin keys list shows them")
    say(f"removed {kid}")


def _ring(options: dict[str, Any]) -> KeyRing:
    try:
        ring = bootstrap.open_keys(settings_of(options), SystemClock())
    except ConfigError as failure:
        raise click.ClickException(str(failure)) from None
    if not isinstance(ring, KeyRing):
        raise click.ClickException("the keys are given by [auth] in the configuration: change the files there")
    return ring


def _time(seconds: int | None) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds else None
