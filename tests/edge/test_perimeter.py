"""Transport and handshake: TLS, origins, proxies, headers (controls C1 to C4 and C9 to C15)."""

from __future__ import annotations

import datetime
import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from processes import HubProcess, krin, running
from sockets import RawSocket, peer
from websockets.asyncio.client import connect

ELSEWHERE = "https://app.example"
CONFIG = f"""
[security]
allowed_origins = ["{ELSEWHERE}"]
trusted_proxies = ["127.0.0.0/8"]
"""


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for localhost that nobody signed, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = folder / "cert.pem", folder / "key.pem"
    cert_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return cert_file, key_file


@pytest.fixture(scope="module")
def cert(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def tls_hub(tmp_path_factory: pytest.TempPathFactory, cert: tuple[Path, Path]) -> Iterator[HubProcess]:
    data = tmp_path_factory.mktemp("tls-hub")
    with running(data, "--tls-cert", str(cert[0]), "--tls-key", str(cert[1]), "--drain-timeout", "0") as hub:
        yield hub


@pytest.fixture(scope="module")
def proxied_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    """A hub that believes what loopback says of others, and lets one other origin in."""
    data = tmp_path_factory.mktemp("proxied-hub")
    config = data.with_suffix(".toml")
    config.write_text(CONFIG)
    with running(data, "--config", str(config), "--drain-timeout", "0") as hub:
        yield hub


def trusting(cert: tuple[Path, Path], version: ssl.TLSVersion) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(cert[0]))
    context.minimum_version = context.maximum_version = version
    return context


# --- C1: TLS


def test_c01_an_address_and_a_certificate_that_is_trusted_are_all_that_a_client_needs(
    tls_hub: HubProcess, cert: tuple[Path, Path]
) -> None:
    url = f"https://localhost:{tls_hub.address[1]}"
    command = ("publish", "custom:trusted", "NOTE", "{}", "--url", url, "--token", tls_hub.token("ann"))
    trusting = krin(*command, environment={"SSL_CERT_FILE": str(cert[0])})
    doubting = krin(*command)
    assert (trusting.returncode, doubting.returncode) == (0, 6), trusting.stderr
    assert f"there is no hub at {url} (its certificate is not trusted, self-signed certificate; " in doubting.stderr


async def test_c01_tls_1_3_is_spoken_from_the_handshake_to_the_last_message(
    tls_hub: HubProcess, cert: tuple[Path, Path]
) -> None:
    assert tls_hub.url.startswith("https://")
    context = trusting(cert, ssl.TLSVersion.TLSv1_3)
    url = tls_hub.ws_url
    assert url.startswith("wss://")
    async with connect(url, ssl=context, server_hostname="localhost", compression=None) as socket:
        await socket.send(json.dumps({"type": "connect", "id": 1, "token": tls_hub.token("ann")}))
        assert '"result"' in str(await socket.recv())
        await socket.send('{"type":"publish","id":2,"channel":"custom:tls","message":{"type":"NOTE","data":{}}}')
        assert '"offset":1' in str(await socket.recv())


async def test_c01_tls_1_2_is_refused_in_the_handshake(tls_hub: HubProcess, cert: tuple[Path, Path]) -> None:
    with pytest.raises((ssl.SSLError, ConnectionResetError)):  # the alert, or the end that overtook it
        await connect(tls_hub.ws_url, ssl=trusting(cert, ssl.TLSVersion.TLSv1_2), server_hostname="localhost")


async def test_c01_plain_http_on_the_tls_port_is_answered_with_nothing(tls_hub: HubProcess) -> None:
    async with RawSocket.open(tls_hub) as raw:
        raw.writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await raw.ended()


async def test_c15_transport_security_is_asked_for_where_there_is_some(
    tls_hub: HubProcess, cert: tuple[Path, Path], hub: Any
) -> None:
    host, port = tls_hub.address
    async with httpx.AsyncClient(verify=trusting(cert, ssl.TLSVersion.TLSv1_3)) as client:
        secure = await client.get(
            f"https://{host}:{port}/health", headers={"host": "localhost"}, extensions={"sni_hostname": "localhost"}
        )
        plain = await client.get(f"{hub.url}/health")
    assert secure.headers["strict-transport-security"] == "max-age=31536000"
    assert "strict-transport-security" not in plain.headers


def test_c01_a_hub_that_must_have_tls_does_not_start_without_a_certificate(tmp_path: Path) -> None:
    config = tmp_path / "krin.toml"
    config.write_text("[security]\ntls_required = true\n")
    done = krin("serve", "--port", "0", "--data-dir", str(tmp_path / "data"), "--config", str(config))

    assert done.returncode == 3
    assert len(done.stderr.strip().splitlines()) == 1
    assert "certificate" in done.stderr


@pytest.mark.parametrize("which", ["missing", "no pem", "two of different pairs"])
def test_c01_a_certificate_that_is_no_use_is_one_line(tmp_path: Path, cert: tuple[Path, Path], which: str) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (tmp_path / "no.pem").write_text("no pem")
    files = {
        "missing": (tmp_path / "nowhere.pem", tmp_path / "nowhere.pem"),
        "no pem": (tmp_path / "no.pem", tmp_path / "no.pem"),
        "two of different pairs": (cert[0], certificate(other)[1]),
    }[which]
    done = krin(
        *("serve", "--port", "0", "--data-dir", str(tmp_path / "data")),
        *("--tls-cert", str(files[0]), "--tls-key", str(files[1])),
    )

    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" not in done.stderr


# --- C2: origins


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "http://localhost.evil", "null", "HTTP://localhost", "http://LOCALHOST", "https://localhost",
     "http://localhost:81", "http://localhost/", "file://"],
)  # fmt: skip
async def test_c02_a_page_of_another_origin_is_refused_before_the_upgrade(hub: Any, origin: str) -> None:
    async with RawSocket.open(hub) as raw:
        status, head = await raw.upgrade(headers={"Origin": origin})
    assert status == 403
    assert b"evil" not in head


async def test_c02_two_origins_are_refused_even_when_both_are_right(hub: Any) -> None:
    async with RawSocket.open(hub) as raw:
        status, _ = await raw.upgrade(headers={"Origin": "http://localhost", "origin": "http://localhost"})
    assert status == 400  # not even a request: the WebSocket library refuses the repeated header before it is ours


@pytest.mark.parametrize("headers", [{}, {"Origin": "http://localhost"}])
async def test_c02_programs_without_an_origin_and_the_hubs_own_pages_are_let_in(
    hub: Any, headers: dict[str, str | None]
) -> None:
    async with RawSocket.open(hub) as raw:
        status, _ = await raw.upgrade(headers=headers)
    assert status == 101


async def test_c02_a_listed_origin_may_connect_and_call_the_api_and_no_other_may(proxied_hub: HubProcess) -> None:
    async with RawSocket.open(proxied_hub) as raw:
        assert (await raw.upgrade(headers={"Origin": ELSEWHERE}))[0] == 101
    async with RawSocket.open(proxied_hub) as raw:
        assert (await raw.upgrade(headers={"Origin": "http://localhost"}))[0] == 403
    async with httpx.AsyncClient(base_url=proxied_hub.url) as http:
        bearer = {"authorization": f"Bearer {proxied_hub.token('ann')}"}
        good = await http.get("/v1/channels", headers=bearer | {"origin": ELSEWHERE})
        bad = await http.get("/v1/channels", headers=bearer | {"origin": f"{ELSEWHERE}.evil"})
        asked = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
        preflight = await http.options("/v1/publish", headers=asked | {"origin": ELSEWHERE})
        refused = await http.options("/v1/publish", headers=asked | {"origin": "https://evil.example"})

    assert (good.status_code, good.headers["access-control-allow-origin"]) == (200, ELSEWHERE)
    assert bad.status_code == 403
    assert "access-control-allow-origin" not in bad.headers
    assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (204, ELSEWHERE)
    assert "authorization" in preflight.headers["access-control-allow-headers"]
    assert refused.status_code == 403
    assert "access-control-allow-origin" not in refused.headers
    for answer in (good, preflight):
        assert "access-control-allow-credentials" not in answer.headers
        assert answer.headers["vary"] == "origin"


SHARED = ("/v1/publish", "/sse", "/mcp", "/a2a", "/ag-ui/alpha", "/oauth/token", "/socket.io/")
CORS = "access-control-"


def sharing(answer: httpx.Response) -> dict[str, str]:
    """What an answer says to a browser about pages of elsewhere."""
    return {name.removeprefix(CORS): value for name, value in answer.headers.items() if name.startswith(CORS)}


@pytest.mark.parametrize("path", SHARED)
@pytest.mark.parametrize("method", ["GET", "POST", "PATCH"])
async def test_c02_a_preflight_of_a_listed_origin_learns_what_it_may_send_and_of_another_nothing(
    proxied_hub: HubProcess, path: str, method: str
) -> None:
    asked = {"access-control-request-method": method, "access-control-request-headers": "authorization,dpop"}
    async with httpx.AsyncClient(base_url=proxied_hub.url) as http:
        good = await http.options(path, headers=asked | {"origin": ELSEWHERE})
        for origin in (f"{ELSEWHERE}.evil", ELSEWHERE.upper(), "null", "http://app.example", f"{ELSEWHERE}:444"):
            refused = await http.options(path, headers=asked | {"origin": origin})
            assert (refused.status_code, sharing(refused), refused.headers["vary"]) == (403, {}, "origin")
    said = sharing(good)
    assert (good.status_code, good.headers["vary"], good.content) == (204, "origin", b"")
    assert set(said) == {"allow-origin", "allow-methods", "allow-headers", "max-age", "expose-headers"}
    assert said["allow-origin"] == ELSEWHERE
    assert set(said["allow-methods"].split(", ")) == {"GET", "POST", "PUT", "PATCH", "DELETE"}
    needed = {
        "authorization",
        "content-type",
        "dpop",
        "idempotency-key",
        "last-event-id",
        "traceparent",
        "x-request-id",
    }
    assert needed <= set(said["allow-headers"].split(", "))


@pytest.mark.parametrize("path", ["/v1/channels", "/sse?channels=custom:a", "/v1/nowhere", "/socket.io/?EIO=4&sid=x"])
async def test_c02_also_refusals_may_be_read_by_a_listed_origin_and_answers_by_no_other(
    proxied_hub: HubProcess, path: str
) -> None:
    async with httpx.AsyncClient(base_url=proxied_hub.url) as http:
        good = await http.get(path, headers={"origin": ELSEWHERE})
        bad = await http.get(path, headers={"origin": "https://evil.example"})
    assert good.status_code in (400, 401, 404)
    assert sharing(good) == {"allow-origin": ELSEWHERE, "expose-headers": "retry-after, www-authenticate, x-request-id"}
    assert (bad.status_code, sharing(bad)) == (403, {})
    assert [answer.headers["vary"] for answer in (good, bad)] == ["origin"] * 2


@pytest.mark.parametrize("path", ["/", "/health", "/metrics", "/ws", "/openapi.json"])
async def test_c02_what_pages_of_elsewhere_have_no_use_for_is_not_shared(proxied_hub: HubProcess, path: str) -> None:
    async with httpx.AsyncClient(base_url=proxied_hub.url) as http:
        for method in ("GET", "OPTIONS"):
            assert sharing(await http.request(method, path, headers={"origin": ELSEWHERE})) == {}


# --- C3 and C4: credentials


async def test_c03_a_cookie_signs_nobody_in(hub: Any) -> None:
    token = hub.token("ann")
    async with peer(hub, headers={"Cookie": f"token={token}; session={token}; authorization={token}"}) as client:
        reply = await client.ask("connect")
        assert reply["error"]["name"] == "unauthorized"
    async with httpx.AsyncClient(base_url=hub.url, cookies={"token": token, "access_token": token}) as http:
        assert (await http.get("/v1/channels")).status_code == 401


# --- C9 to C14


async def test_c12_behind_a_trusted_proxy_the_scheme_and_the_client_are_what_the_proxy_saw(
    proxied_hub: HubProcess,
) -> None:
    async with httpx.AsyncClient(base_url=proxied_hub.url) as http:
        secure = await http.get("/health", headers={"x-forwarded-for": "6.6.6.6", "x-forwarded-proto": "https"})
        plain = await http.get("/health", headers={"x-forwarded-proto": "nonsense"})
    assert "strict-transport-security" in secure.headers
    assert "strict-transport-security" not in plain.headers


async def test_c12_a_stranger_cannot_pretend_to_have_come_by_tls(hub: Any, http: httpx.AsyncClient) -> None:
    response = await http.get("/health", headers={"x-forwarded-proto": "https", "x-forwarded-for": "6.6.6.6"})
    assert "strict-transport-security" not in response.headers


@pytest.mark.parametrize("host", ["a/../admin?", "evil.example/v1", "a b", "[::1"])
async def test_c13_a_strange_host_changes_neither_the_route_nor_the_decision(hub: Any, host: str) -> None:
    for path, expected in (("/v1/channels", {401, 400}), ("/health", {200, 400}), ("/@evil.example", {404, 400})):
        async with RawSocket.open(hub) as raw:
            raw.writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            status, head = await raw.response()
        assert status in expected
        assert b"\r\nlocation:" not in head.lower()


@pytest.mark.parametrize("path", ["/ws2", "/v1/ws", "/wsx", "/ws/", "/admin"])
async def test_c11_an_unknown_path_for_a_socket_is_404_like_any_other(hub: Any, path: str) -> None:
    async with RawSocket.open(hub) as raw:
        status, _ = await raw.upgrade(path=path)
    assert status == 404


async def test_c14_the_outermost_layer_sees_sockets_as_well_as_requests(hub: Any, http: httpx.AsyncClient) -> None:
    evil = {"Origin": "https://evil.example"}
    async with RawSocket.open(hub) as raw:
        assert (await raw.upgrade(path="/nowhere", headers={**evil}))[0] == 403
    assert (await http.get("/v1/channels", headers=evil)).status_code == 403


# --- C15: headers


@pytest.mark.parametrize(
    ("path", "cached"),
    [("/", "no-store"), ("/health", "no-store"), ("/metrics", "no-store"), ("/openapi.json", "no-store"),
     ("/v1/channels", "no-store"), ("/oauth/token", "no-store"), ("/nope", "no-store"), ("/static/app.js", "no-cache")],
)  # fmt: skip
async def test_c15_every_answer_carries_the_same_protections(
    hub: Any, http: httpx.AsyncClient, path: str, cached: str
) -> None:
    response = await http.get(path)
    headers = response.headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "camera=()" in headers["permissions-policy"]
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["cache-control"] == cached
    assert "server" not in headers
    assert "x-powered-by" not in headers
    if not path.startswith("/static/"):
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert len(headers.get_list("content-security-policy")) <= 1


async def test_c15_the_page_runs_no_script_but_its_own_files(hub: Any, http: httpx.AsyncClient) -> None:
    page = await http.get("/")
    policy = dict(part.strip().split(" ", 1) for part in page.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert "unsafe" not in page.headers["content-security-policy"]
    assert all("src=" in tag for tag in page.text.split("<script")[1:])
    assert " onclick=" not in page.text and " style=" not in page.text
