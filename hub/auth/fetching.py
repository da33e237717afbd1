"""The one way out over HTTP: a single GET of an address that stands in the configuration."""

from __future__ import annotations

import asyncio

import httpx

from hub.auth.providers import FetchFailed

MAX_BYTES = 262_144
TIMEOUT_S = 5.0


async def fetch(url: str) -> bytes:
    """Implements hub.auth.providers.Fetch: no redirects, no proxy of the environment, no compression to unpack."""
    headers = {"accept": "application/json", "accept-encoding": "identity"}
    body = bytearray()
    trusted = await asyncio.to_thread(httpx.create_ssl_context, trust_env=False)  # reads a file of 300 KB
    try:
        async with (
            asyncio.timeout(TIMEOUT_S),
            httpx.AsyncClient(verify=trusted, timeout=TIMEOUT_S, follow_redirects=False, trust_env=False) as client,
            client.stream("GET", url, headers=headers) as answer,
        ):
            if answer.status_code != 200 or "content-encoding" in answer.headers:
                raise FetchFailed(f"it answered {answer.status_code}")
            async for chunk in answer.aiter_raw():
                body += chunk
                if len(body) > MAX_BYTES:
                    raise FetchFailed(f"the answer has more than {MAX_BYTES} bytes")
    except TimeoutError:
        raise FetchFailed("it did not answer in time") from None
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as failure:
        raise FetchFailed(type(failure).__name__) from None
    return bytes(body)
