"""Risk limits and kill switches. Each change is audited in its transaction, and made by the one engine there is."""

from __future__ import annotations

from typing import Any

import msgspec

from protocol.risk import LimitLayer, RiskLimits
from protocol.trading import TradingState
from storage import audit
from storage.audit import HUB, AuditEntry
from storage.database import Database
from storage.errors import Conflict
from storage.leadership import Fenced

# Shared: it waits for the engine's commits and lets no other engine take over before this is done.
FENCE = "SELECT 1 FROM order_engine WHERE epoch = $1 FOR SHARE"
RAISE = "UPDATE risk_head SET version = version + 1 WHERE $1::bigint IS NULL OR version = $1 RETURNING version"
SET_LIMITS = """
INSERT INTO risk_limits (scope, name, limits) VALUES ($1, $2, $3::text::jsonb)
ON CONFLICT (scope, name) DO UPDATE SET limits = excluded.limits
"""
SET_STATE = """
INSERT INTO trading_states (scope, name, mode, reason, actor, ts_event) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (scope, name) DO UPDATE
SET mode = excluded.mode, reason = excluded.reason, actor = excluded.actor, ts_event = excluded.ts_event
"""


class RiskRecord(msgspec.Struct, frozen=True, kw_only=True):
    """`states` are those of the scopes that are not ACTIVE."""

    version: int = 0
    layers: list[LimitLayer] = []
    states: list[TradingState] = []


class RiskTable:
    """`epoch` is that of the engine that asks. Changes of one that was replaced are refused with `Fenced`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def load(self) -> RiskRecord:
        """Everything, as of one moment."""
        async with self._db.connection() as connection, connection.transaction(isolation="repeatable_read"):
            version = await connection.fetchval("SELECT version FROM risk_head")
            limits = await connection.fetch("SELECT scope, name, limits::text FROM risk_limits ORDER BY scope, name")
            states = await connection.fetch(
                "SELECT scope, name, mode, reason, actor, ts_event FROM trading_states ORDER BY scope, name"
            )
        layers = [
            LimitLayer(scope=scope, name=name, limits=msgspec.json.decode(text, type=RiskLimits))
            for scope, name, text in limits
        ]
        return RiskRecord(version=version, layers=layers, states=[TradingState(**row) for row in states])

    async def set_limits(
        self, layer: LimitLayer, *, epoch: int, expected_version: int | None = None, by: str = HUB
    ) -> int:
        """What a scope says from now on, instead of everything it said before; answers the new version.

        Raises `Conflict` if the limits have another version than expected.
        """
        said = msgspec.json.encode(layer.limits).decode()
        async with self._db.connection() as connection, connection.transaction():
            await _fence(connection, epoch)
            version: int | None = await connection.fetchval(RAISE, expected_version)
            if version is None:
                raise Conflict(f"The limits have changed since version {expected_version}.")
            if said == "{}":
                await connection.execute(
                    "DELETE FROM risk_limits WHERE scope = $1 AND name = $2", layer.scope, layer.name
                )
            else:
                await connection.execute(SET_LIMITS, layer.scope, layer.name, said)
            detail = {"version": version, "limits": said}
            entry = AuditEntry(event="risk_limits_changed", actor=by, target=_target(layer), detail=detail)
            await audit.append(connection, entry)
            return version

    async def set_state(self, state: TradingState, *, epoch: int, by: str = HUB) -> None:
        async with self._db.connection() as connection, connection.transaction():
            await _fence(connection, epoch)
            if state.mode == "ACTIVE":
                await connection.execute(
                    "DELETE FROM trading_states WHERE scope = $1 AND name = $2", state.scope, state.name
                )
            else:
                await connection.execute(
                    SET_STATE,
                    *(state.scope, state.name, state.mode, state.reason or "", state.actor or by, state.ts_event),
                )
            entry = AuditEntry(
                event="trading_resumed" if state.mode == "ACTIVE" else "trading_halted",
                actor=by,
                target=_target(state),
                detail={"mode": state.mode, "reason": state.reason or ""},
                severity="INFO" if state.mode == "ACTIVE" else "WARN",
            )
            await audit.append(connection, entry)

    async def note(self, entry: AuditEntry) -> None:
        """Write down what somebody answered."""
        async with self._db.connection() as connection, connection.transaction():
            await audit.append(connection, entry)


async def _fence(connection: Any, epoch: int) -> None:
    if await connection.fetchval(FENCE, epoch) is None:
        raise Fenced("Another engine has taken over.")


def _target(scoped: LimitLayer | TradingState) -> str:
    """A scope as the audit log shows it: an account is a person's name, and shown by pseudonym."""
    return f"{scoped.scope.lower()}:{scoped.name}"
