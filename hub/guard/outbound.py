"""Requests to addresses that users name: none may reach what only this machine or its network can (CWE-918).

Every address that the name has is looked at, and the request goes to one of those that were: a name that says something
else the next time leads nowhere else.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from ipaddress import IPv6Address, ip_address, ip_network
from types import TracebackType
from urllib.parse import SplitResult, urlsplit

import httpx
import msgspec

MAX_URL = 2_048
PORTS = {"http": 80, "https": 443}
# An IPv4 address within one of IPv6, by a translator of the network (RFC 6052).
TRANSLATED = ip_network("64:ff9b::/96")


class Forbidden(Exception):
    """The address may not be asked; the text says why, and is for whoever named it."""


class Answer(msgspec.Struct, frozen=True):
    """`status` None: there was none, and `error` says why. `retry_after_s`: as the receiver wishes."""

    status: int | None
    error: str | None = None
    retry_after_s: float | None = None

    @property
    def good(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


def parsed(url: str) -> SplitResult:
    """Raises Forbidden for what is no address of a web server."""
    if len(url) > MAX_URL or not url.isascii() or any(letter <= " " or letter in "\\\x7f" for letter in url):
        raise Forbidden(f"expected an http(s) URL of at most {MAX_URL} ASCII characters")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise Forbidden("this is no URL") from None
    if parts.scheme not in PORTS or not parts.hostname or port == 0:
        raise Forbidden("expected an http or https URL")
    if parts.username is not None or parts.password is not None:
        raise Forbidden("a URL must not hold a password: deliveries are signed")
    if parts.fragment:
        raise Forbidden("a fragment is never sent")
    return parts


def public(address: str) -> bool:
    """Whether everybody on the internet reaches the same machine at this address."""
    parsed = ip_address(address.partition("%")[0])
    if isinstance(parsed, IPv6Address):
        if parsed in TRANSLATED:
            return public(str(ip_address(int(parsed) & 0xFFFFFFFF)))
        for inner in (parsed.ipv4_mapped, parsed.sixtofour, parsed.teredo and parsed.teredo[1]):
            if inner is not None:
                return public(str(inner))
    return parsed.is_global and not parsed.is_multicast


Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""(name, port) -> the addresses it has. Raises OSError."""


async def resolved(name: str, port: int) -> Sequence[str]:
    found = await asyncio.get_running_loop().getaddrinfo(name, port, type=socket.SOCK_STREAM)
    return [str(each[4][0]) for each in found]


class Outbound:
    """Posts to such addresses."""

    def __init__(self, *, private: bool, timeout_s: float, agent: str, resolve: Resolve = resolved) -> None:
        """private: addresses of private networks may be asked, too."""
        self._private = private
        self._resolve = resolve
        self._timeout_s = timeout_s
        self._client = httpx.AsyncClient(
            timeout=timeout_s,
            follow_redirects=False,  # nobody has looked at where that leads
            trust_env=False,  # a proxy would look up the name by itself
            headers={"user-agent": agent},
        )

    async def __aenter__(self) -> Outbound:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def check(self, url: str) -> None:
        """Raises Forbidden. A name that nobody knows now may be known later."""
        parts = parsed(url)
        try:
            await self._address(parts)
        except OSError:
            pass

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Never raises for what can go wrong on the way."""
        try:
            async with asyncio.timeout(self._timeout_s):  # all of it: each byte alone would be in time
                return await self._post(parsed(url), body, headers)
        except Forbidden as failure:
            return Answer(None, str(failure))
        except TimeoutError:
            return Answer(None, f"no answer within {self._timeout_s:g} s")
        except OSError:
            return Answer(None, "the name is not known")
        except httpx.HTTPError as failure:
            return Answer(None, type(failure).__name__)

    async def _post(self, parts: SplitResult, body: bytes, headers: Mapping[str, str]) -> Answer:
        address = await self._address(parts)
        host = f"[{address}]" if ":" in address else address
        request = self._client.build_request(
            "POST",
            parts._replace(netloc=f"{host}:{parts.port or PORTS[parts.scheme]}").geturl(),
            content=body,
            headers={**headers, "host": parts.netloc, "content-type": "application/json"},
            extensions={"sni_hostname": parts.hostname},
        )
        response = await self._client.send(request, stream=True)  # what it says beside is of no interest
        try:
            asked = response.headers.get("retry-after", "")
            return Answer(
                response.status_code,
                None if response.is_success else f"HTTP {response.status_code}",
                float(asked) if asked.isascii() and asked.isdigit() and len(asked) < 10 else None,
            )
        finally:
            await response.aclose()

    async def _address(self, parts: SplitResult) -> str:
        """One of those that the name has. Raises Forbidden, OSError."""
        assert parts.hostname is not None
        addresses = await self._resolve(parts.hostname, parts.port or PORTS[parts.scheme])
        if not self._private and not all(public(address) for address in addresses):
            raise Forbidden("this address is on a private network")
        return addresses[0]
