"""What a database server says about itself, for whoever checks a deployment. Nothing is written or migrated."""

from __future__ import annotations

import msgspec

from storage.database import SETTINGS, Database

_NOW = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::float8"
_ENCRYPTED = "SELECT coalesce((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false)"
_INSTALLED = "SELECT extversion FROM pg_extension WHERE extname = 'vector'"
_AVAILABLE = "SELECT default_version FROM pg_available_extensions WHERE name = 'vector'"


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """`settings`: by name, as SHOW has them; `in_recovery` and `encrypted` beside them, "on" or "off"."""

    now_ms: float
    settings: dict[str, str]
    pgvector: str | None
    pgvector_available: str | None


async def diagnose(database: Database) -> Diagnosis:
    """Raises StorageError."""
    async with database.connection() as connection:
        now_ms: float = await connection.fetchval(_NOW)
        names = (*SETTINGS, "max_connections")
        settings = {name: str(await connection.fetchval("SELECT current_setting($1)", name)) for name in names}
        for name, query in (("in_recovery", "SELECT pg_is_in_recovery()"), ("encrypted", _ENCRYPTED)):
            settings[name] = "on" if await connection.fetchval(query) else "off"
        return Diagnosis(
            now_ms=now_ms,
            settings=settings,
            pgvector=await connection.fetchval(_INSTALLED),
            pgvector_available=await connection.fetchval(_AVAILABLE),
        )
