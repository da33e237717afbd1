"""OAuth clients: programs with credentials of their own, and applications that act for people."""

from __future__ import annotations

import re
import secrets
from urllib.parse import urlsplit

from hub.auth.passwords import MAX_LENGTH, Passwords
from hub.auth.tokens import check_local
from protocol.errors import ErrorCode, HubError
from storage.errors import Conflict, Rejected, StorageError
from storage.users import OAuthClient, OAuthClients

LOOPBACK = ("127.0.0.1", "localhost", "::1")
_PRIVATE_SCHEME = re.compile(r"[a-z][a-z0-9+-]*(\.[a-z0-9+-]+)+\Z")  # a reversed domain name, RFC 8252 section 7.1


class ClientRegistry:
    """Programs that are known here, and how they show that it is they."""

    def __init__(self, clients: OAuthClients, passwords: Passwords) -> None:
        self._clients = clients
        self._passwords = passwords

    async def register(
        self,
        client_id: str,
        *,
        roles: list[str],
        teams: list[str],
        redirect_uris: list[str],
        public: bool,
    ) -> str | None:
        """A new client; answers its secret, which is stored only as a hash. A public client has none.

        Raises HubError(bad_request, version_conflict).
        """
        check_local(client_id)
        for uri in redirect_uris:
            check_redirect_uri(uri)
        if public and not redirect_uris:
            raise HubError(ErrorCode.BAD_REQUEST, "a public client needs a redirect URI: it has no other grant")
        secret = None if public else secrets.token_urlsafe(24)
        try:
            await self._clients.create(
                client_id,
                secret_hash=None if secret is None else await self._passwords.hash(secret),
                roles=roles,
                teams=teams,
                redirect_uris=redirect_uris,
            )
        except Conflict:
            raise HubError(ErrorCode.VERSION_CONFLICT, "this client id is taken") from None
        return secret

    async def identify(self, client_id: str, secret: str) -> OAuthClient:
        """The client these credentials are of. A public client has no secret, and none may be given for it.

        Raises HubError(unauthorized): the same, after the same time, for an unknown client and a wrong secret.
        """
        client = await self.find(client_id)
        if client is not None and client.secret_hash is None and not secret:
            return client
        stored = client.secret_hash if client is not None else None
        if len(secret) > MAX_LENGTH or not await self._passwords.verify(stored, secret) or client is None:
            raise HubError(ErrorCode.UNAUTHORIZED, "unknown client or wrong secret")
        return client

    async def find(self, client_id: str) -> OAuthClient | None:
        """None also for one that is disabled. Raises HubError(not_available)."""
        try:
            client = await self._clients.get(client_id)
        except Rejected:  # no name that could be stored
            return None
        except StorageError as failure:
            raise HubError(ErrorCode.NOT_AVAILABLE, "not possible right now", retry_after_ms=1000) from failure
        return None if client is None or client.disabled else client


def check_redirect_uri(uri: str) -> None:
    """https, http on this very machine, or an installed application's own scheme. Raises HubError(bad_request)."""
    try:
        parts = urlsplit(uri)
        host = parts.hostname
    except ValueError:
        parts, host = urlsplit(""), None
    web = parts.scheme == "https" and bool(host)
    local = parts.scheme == "http" and host in LOOPBACK
    private = bool(_PRIVATE_SCHEME.match(parts.scheme))
    clean = uri.isascii() and uri.isprintable() and " " not in uri and "#" not in uri and "@" not in parts.netloc
    if not (clean and (web or local or private)):
        raise HubError(ErrorCode.BAD_REQUEST, "a redirect URI is https, http on localhost, or com.example.app:/path")
