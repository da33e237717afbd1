"""Every peer we know how to start, in the order in which they are shown."""

from __future__ import annotations

import importlib.metadata
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import krin
from benchmarks.peers.base import HERE, PAYLOAD, Peer, Running, cache, echo_server, npm_installed, pip_installed, script
from benchmarks.plans import Stream, Target
from benchmarks.processes import ServerProcess, Unavailable, find, free_port

# One thread of events, as every other server here has one.
ONE_CORE = {"GOMAXPROCS": "1", "UV_THREADPOOL_SIZE": "1"}


@contextmanager
def start_krin(folder: Path, on: set[int] | None) -> Iterator[Running]:
    with krin.hub(folder, on=on) as node:
        feed = node.token("feed", "feed")
        yield Running(
            pids=[node.pid],
            reader=node.target(node.token("reader", "dashboard"), ["prices:BTC-USD"]),
            stream=lambda rate: node.stream(feed, [krin.tick("BTC-USD")], rate),
        )


@contextmanager
def start_floor_c(folder: Path, on: set[int] | None) -> Iterator[Running]:
    compiler = find("gcc")
    binary = cache() / "floor"
    done = subprocess.run(
        [compiler, "-O2", "-o", str(binary), str(HERE / "floor.c")], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise Unavailable(f"gcc: {done.stderr.strip()[-160:]}")
    with echo_server(folder, on, lambda port: [str(binary), str(port)]) as running:
        yield running


@contextmanager
def start_floor_python(folder: Path, on: set[int] | None) -> Iterator[Running]:
    with echo_server(folder, on, lambda port: script("floor.py", port)) as running:
        yield running


@contextmanager
def start_starlette(folder: Path, on: set[int] | None) -> Iterator[Running]:
    version = importlib.metadata.version("starlette")
    with echo_server(folder, on, lambda port: script("plain_starlette.py", port), version=version) as running:
        yield running


@contextmanager
def start_websockets(folder: Path, on: set[int] | None) -> Iterator[Running]:
    version = importlib.metadata.version("websockets")
    with echo_server(folder, on, lambda port: script("plain_websockets.py", port), version=version) as running:
        yield running


@contextmanager
def start_socketify(folder: Path, on: set[int] | None) -> Iterator[Running]:
    packages = pip_installed("socketify")
    environment = {"PYTHONPATH": str(packages)}
    with echo_server(folder, on, lambda port: script("plain_socketify.py", port), env=environment) as running:
        yield running


@contextmanager
def start_node_ws(folder: Path, on: set[int] | None) -> Iterator[Running]:
    packages, node = npm_installed("ws"), find("node")
    with echo_server(folder, on, lambda port: [node, str(HERE / "ws.js"), str(port), str(packages)]) as running:
        yield running


def _socketio(port: int, pid: int) -> Running:
    """Engine.IO 4 over WebSocket: `40` joins, `42[...]` is an event."""
    target = Target(port=port, path="/socket.io/?EIO=4&transport=websocket", hello=[b"40"], ready=b'40{"sid"')
    return Running(
        pids=[pid],
        reader=target,
        stream=lambda rate: Stream(target=target, messages=[b'42["pub",' + PAYLOAD + b"]"], rate_per_s=rate),
    )


@contextmanager
def start_socketio_python(folder: Path, on: set[int] | None) -> Iterator[Running]:
    packages = pip_installed("python-socketio")
    port = free_port()
    environment = {"PYTHONPATH": str(packages)}
    command = script("socketio_python.py", port)
    with ServerProcess(command, port=port, log=folder / "peer.log", on=on, env=environment) as process:
        yield _socketio(port, process.pid)


@contextmanager
def start_socketio_node(folder: Path, on: set[int] | None) -> Iterator[Running]:
    packages, node = npm_installed("socket.io"), find("node")
    port = free_port()
    command = [node, str(HERE / "socketio.js"), str(port), str(packages)]
    with ServerProcess(command, port=port, log=folder / "peer.log", on=on) as process:
        yield _socketio(port, process.pid)


NGINX = """
{module}
daemon off; master_process off; worker_processes 1; error_log {folder}/error.log; pid {folder}/nginx.pid;
worker_rlimit_nofile 65536;
events {{ worker_connections 40000; }}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  nchan_shared_memory_size 256M;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location /sub {{ nchan_subscriber websocket; nchan_channel_id all; nchan_subscriber_first_message newest; }}
    location /pub {{ nchan_publisher websocket http; nchan_channel_id all; nchan_message_buffer_length 100; }}
  }}
}}
"""


@contextmanager
def start_nchan(folder: Path, on: set[int] | None) -> Iterator[Running]:
    nginx = find("nginx")
    module = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")
    if not module.exists():
        raise Unavailable("nginx has no nchan module (Debian: libnginx-mod-nchan)")
    port = free_port()
    configuration = folder / "nginx.conf"
    configuration.write_text(NGINX.format(module=f"load_module {module};", folder=folder, port=port))
    command = [nginx, "-c", str(configuration), "-p", str(folder)]
    with ServerProcess(command, port=port, log=folder / "peer.log", on=on) as process:
        yield Running(
            pids=[process.pid],
            reader=Target(port=port, path="/sub"),
            stream=lambda rate: Stream(target=Target(port=port, path="/pub"), messages=[PAYLOAD], rate_per_s=rate),
        )


NATS = """
port: -1
host: 127.0.0.1
max_connections: 64K
websocket {{ host: 127.0.0.1, port: {websocket}, no_tls: true, compression: false }}
"""


@contextmanager
def start_nats(folder: Path, on: set[int] | None) -> Iterator[Running]:
    binary = find("nats-server")
    websocket = free_port()
    configuration = folder / "nats.conf"
    configuration.write_text(NATS.format(websocket=websocket))
    hello = b'CONNECT {"verbose":false,"pedantic":false,"lang":"bench","version":"1","protocol":1}\r\n'
    command = [binary, "-c", str(configuration)]
    with ServerProcess(command, port=websocket, log=folder / "peer.log", on=on, env=ONE_CORE) as process:
        reader = Target(port=websocket, binary=True, hello=[hello + b"SUB all 1\r\nPING\r\n"], ready=b"PONG")
        publisher = Target(port=websocket, binary=True, hello=[hello + b"PING\r\n"], ready=b"PONG")
        message = b"PUB all %d\r\n%b\r\n" % (len(PAYLOAD), PAYLOAD)
        yield Running(
            pids=[process.pid],
            reader=reader,
            stream=lambda rate: Stream(target=publisher, messages=[message], rate_per_s=rate),
        )


CENTRIFUGO = """{{
  "http_server": {{"address": "127.0.0.1", "port": {port}}},
  "client": {{"insecure": true, "ping_pong": {{"ping_interval": "300s"}}}},
  "log": {{"level": "error"}},
  "channel": {{"without_namespace": {{"allow_subscribe_for_client": true, "allow_publish_for_client": true}}}}
}}
"""


@contextmanager
def start_centrifugo(folder: Path, on: set[int] | None) -> Iterator[Running]:
    """Version 6 (configuration by sections), its JSON protocol, joined by newlines within a frame."""
    binary = find("centrifugo")
    port = free_port()
    configuration = folder / "centrifugo.json"
    configuration.write_text(CENTRIFUGO.format(port=port))
    command = [binary, "-c", str(configuration)]
    path = "/connection/websocket"
    with ServerProcess(command, port=port, log=folder / "peer.log", on=on, env=ONE_CORE) as process:
        connect = b'{"id":1,"connect":{}}'
        subscribe = b'{"id":2,"subscribe":{"channel":"all"}}'
        message = b'{"id":@NUMBER@@@,"publish":{"channel":"all","data":' + PAYLOAD + b"}}"
        yield Running(
            pids=[process.pid],
            reader=Target(port=port, path=path, hello=[connect, subscribe], ready=b'"subscribe"', keepalive=b"{}"),
            stream=lambda rate: Stream(
                target=Target(port=port, path=path, hello=[connect], ready=b'"connect"', keepalive=b"{}"),
                messages=[message],
                rate_per_s=rate,
            ),
        )


KRIN = Peer(name="krin", title="**Krin**", start=start_krin)
FLOOR = Peer(name="floor-c", title="bare C epoll loop, one send() per delivery", start=start_floor_c)
PEERS = [
    KRIN,
    FLOOR,
    Peer(name="floor-python", title="bare Python epoll loop", start=start_floor_python),
    Peer(name="nchan", title="nchan (nginx, C)", start=start_nchan),
    Peer(name="nats", title="NATS server over WebSocket (Go)", start=start_nats),
    Peer(name="centrifugo", title="Centrifugo (Go)", start=start_centrifugo),
    Peer(name="socketify", title="socketify (uWebSockets, C++)", start=start_socketify),
    Peer(name="node-ws", title="Node ws", start=start_node_ws),
    Peer(name="socketio-node", title="Socket.IO (Node)", start=start_socketio_node),
    Peer(name="websockets", title="`websockets` broadcast()", start=start_websockets),
    Peer(name="starlette", title="Starlette, send in a loop", start=start_starlette),
    Peer(name="socketio-python", title="python-socketio", start=start_socketio_python),
]
