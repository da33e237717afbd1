"""Secrets that all nodes of one hub share: made once, by whichever node asks first."""

from __future__ import annotations

import secrets

from storage.database import Database

SECRET_BYTES = 32


async def shared_secret(db: Database, name: str) -> bytes:
    """The secret of this name; the same for every node on this database."""
    await db.execute(
        "INSERT INTO shared_secrets (name, secret) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        name,
        secrets.token_bytes(SECRET_BYTES),
    )
    secret: bytes = await db.fetch_value("SELECT secret FROM shared_secrets WHERE name = $1", name)
    return secret
