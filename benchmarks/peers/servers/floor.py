"""The floor in Python: raw sockets, one epoll, one send() for each delivery. /pub publishes, the rest listens."""

import base64
import hashlib
import re
import resource
import select
import socket
import struct
import sys

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def serve(port: int) -> None:
    server = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(("127.0.0.1", port))
    server.listen(4096)
    server.setblocking(False)
    epoll = select.epoll()
    epoll.register(server.fileno(), select.EPOLLIN)
    waiting: dict[int, tuple[socket.socket, bytearray]] = {}
    listeners: dict[int, socket.socket] = {}
    publishers: dict[int, tuple[socket.socket, bytearray]] = {}

    def drop(fd: int) -> None:
        for table in (waiting, publishers):
            if fd in table:
                table.pop(fd)[0].close()
        if fd in listeners:
            listeners.pop(fd).close()

    def broadcast(payload: bytes) -> None:
        size = len(payload)
        head = bytes((0x81, size)) if size < 126 else struct.pack("!BBH", 0x81, 126, size)
        frame = head + payload
        for fd, sock in list(listeners.items()):
            try:
                sock.send(frame)
            except BlockingIOError:
                pass
            except OSError:
                drop(fd)

    while True:
        for fd, _ in epoll.poll():
            if fd == server.fileno():
                try:
                    sock, _ = server.accept()
                except BlockingIOError:
                    continue
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                waiting[sock.fileno()] = (sock, bytearray())
                epoll.register(sock.fileno(), select.EPOLLIN)
            elif fd in waiting:
                sock, held = waiting[fd]
                data = sock.recv(8192)
                held += data
                if not data:
                    drop(fd)
                elif b"\r\n\r\n" in held and (key := re.search(rb"(?i)sec-websocket-key: *(\S+)", held)):
                    accept = base64.b64encode(hashlib.sha1(key[1] + GUID).digest())
                    sock.send(
                        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
                    )
                    del waiting[fd]
                    if held.startswith(b"GET /pub"):
                        publishers[fd] = (sock, bytearray())
                    else:
                        listeners[fd] = sock
            elif fd in publishers:
                sock, held = publishers[fd]
                data = sock.recv(262_144)
                held += data
                if not data:
                    drop(fd)
                while len(held) >= 8:
                    size, head = held[1] & 127, 2
                    if size == 126:
                        size, head = held[2] << 8 | held[3], 4
                    if len(held) < head + 4 + size:
                        break
                    mask = bytes(held[head : head + 4])
                    payload = bytes(held[head + 4 : head + 4 + size])
                    if mask != b"\0\0\0\0":
                        payload = bytes(byte ^ mask[at & 3] for at, byte in enumerate(payload))
                    del held[: head + 4 + size]
                    broadcast(payload)
            elif fd in listeners:
                try:
                    if not listeners[fd].recv(4096):
                        drop(fd)
                except OSError:
                    drop(fd)


if __name__ == "__main__":
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    serve(int(sys.argv[1]))
