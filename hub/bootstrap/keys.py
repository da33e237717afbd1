"""The keys: configured, or made in the data folder."""

from __future__ import annotations

from pathlib import Path

from hub.audit.heads import AuditKey
from hub.auth.keyring import KeyRing, KeyUnusable
from hub.auth.keys import Keys, KeySet, configured_keys
from hub.auth.sealing import Sealer, sealing_key
from hub.auth.tokens import Tokens
from hub.clock import Clock
from hub.config import Settings
from hub.unusable import ConfigError
from storage.shared_secrets import SECRET_BYTES


def open_keys(settings: Settings, clock: Clock) -> KeySet | KeyRing:
    """The keys that are configured, or the ring of the data folder. Raises ConfigError."""
    auth = settings.auth
    try:
        if auth.signing_key_file is None and auth.verifying_key_file is None:
            return KeyRing(settings.data_dir, algorithm=auth.algorithm, clock=clock)
        return configured_keys(
            auth.algorithm,
            signing=Path(auth.signing_key_file).read_bytes() if auth.signing_key_file else None,
            verifying=Path(auth.verifying_key_file).read_bytes() if auth.verifying_key_file else None,
        )
    except OSError as failure:
        raise ConfigError(f"a key file cannot be read: {failure.strerror}") from None
    except KeyUnusable as failure:
        raise ConfigError(str(failure)) from None
    except ValueError as failure:
        raise ConfigError(f"[auth] {failure}") from None


def make_tokens(settings: Settings, clock: Clock, keys: Keys | None = None) -> Tokens:
    """The issuer and verifier of access tokens. Raises ConfigError for a key that cannot be used."""
    auth = settings.auth
    return Tokens(keys or open_keys(settings, clock), clock=clock, issuer=auth.issuer, audience=auth.audience)


def make_sealer(settings: Settings) -> Sealer:
    """For the secrets in the database that must be read again. Raises ConfigError."""
    given = settings.auth.encryption_key_file
    path = Path(given) if given else settings.data_dir / "keys" / "encryption.key"
    return Sealer(_usable_key(path, create=given is None))


def load_audit_key(settings: Settings) -> AuditKey:
    """The key that signs the audit log's tree heads. Raises ConfigError."""
    return AuditKey(_usable_key(settings.data_dir / "keys" / "audit.key", create=True))


def load_erased_key(settings: Settings) -> bytes:
    """The key that hides the names in the list of erased persons. Raises ConfigError."""
    return _usable_key(settings.data_dir / "keys" / "erased.key", create=True)


def configured_bell_secret(settings: Settings) -> bytes | None:
    """What seals the messages between nodes, from the configured file; None: none is. Raises ConfigError."""
    if settings.redis.bell_key_file is None:
        return None
    try:
        secret = Path(settings.redis.bell_key_file).read_bytes().strip()
    except OSError as failure:
        raise ConfigError(f"[redis] bell_key_file cannot be read: {failure.strerror}") from None
    if len(secret) < SECRET_BYTES:
        raise ConfigError(f"[redis] bell_key_file must hold at least {SECRET_BYTES} bytes")
    return secret


def _usable_key(path: Path, *, create: bool) -> bytes:
    try:
        return sealing_key(path, create=create)
    except ValueError as failure:
        raise ConfigError(str(failure)) from None
