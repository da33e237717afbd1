"""The page on which a person allows an application, in Chromium, against a real hub."""

from __future__ import annotations

import asyncio
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest

from .browser import browser_page, chromium_binary
from .tools import absent

ROOT = Path(__file__).parents[2]
PASSWORD = "a quiet horse in the rain"
VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"  # RFC 7636 appendix B
CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


def krin(hub: Any, *arguments: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "hub", *arguments, "--data-dir", str(hub.data_dir)],
        cwd=ROOT,
        input=f"{PASSWORD}\n{PASSWORD}\n",
        text=True,
        check=True,
        capture_output=True,
    )


@pytest.mark.parametrize("decision", ["allow", "deny"])
async def test_a_person_signs_in_decides_and_is_sent_back_to_the_application(
    hub: Any, tmp_path: Path, decision: str
) -> None:
    binary = chromium_binary()
    if binary is None:
        absent("Chromium is not installed")
    came_back: asyncio.Queue[str] = asyncio.Queue()

    async def application(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = (await reader.readuntil(b"\r\n\r\n")).decode()
        came_back.put_nowait(request.split()[1])
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nback")
        writer.close()

    server = await asyncio.start_server(application, "127.0.0.1", 0)
    home = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/back"
    name, app = f"dana-{secrets.token_hex(3)}", f"app-{secrets.token_hex(3)}"
    await asyncio.to_thread(krin, hub, "user", "add", name, "--role", "dashboard")
    register = ["client", "add", app, "--public", "--role", "dashboard", "--redirect-uri", home]
    await asyncio.to_thread(krin, hub, *register)
    query = urlencode(
        {
            "response_type": "code",
            "client_id": app,
            "redirect_uri": home,
            "code_challenge": CHALLENGE,
            "code_challenge_method": "S256",
            "state": "a&b",
        }
    )
    async with server, browser_page(binary, tmp_path) as page:
        await page.open(f"{hub.url}/oauth/authorize?{query}")
        await page.until("!document.getElementById('sign-in').hidden")
        assert app in await page.evaluate("document.body.innerText")
        await page.evaluate(
            "(() => { const form = document.getElementById('sign-in');"
            f" form.elements.namedItem('name').value = '{name}';"
            f" form.elements.namedItem('password').value = '{PASSWORD}'; form.requestSubmit(); }})()"
        )
        await page.until("!document.getElementById('consent').hidden")
        assert "dashboard" in await page.evaluate("document.getElementById('consent').innerText")
        await page.evaluate(f"document.querySelector('#consent button[value={decision}]').click()")
        async with asyncio.timeout(10):
            answer = parse_qs(urlsplit(await came_back.get()).query)
        assert page.complaints == []

    assert (answer["state"], answer["iss"]) == (["a&b"], [hub.url])
    if decision == "deny":
        assert answer["error"] == ["access_denied"]
        return
    form = {
        "grant_type": "authorization_code",
        "code": answer["code"][0],
        "redirect_uri": home,
        "code_verifier": VERIFIER,
        "client_id": app,
    }
    async with httpx.AsyncClient(base_url=hub.url) as http:
        assert (await http.post("/oauth/token", data=form)).json()["scope"] == "dashboard"
