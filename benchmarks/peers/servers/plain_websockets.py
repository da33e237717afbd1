"""The `websockets` library with its own broadcast()."""

import asyncio
import sys

from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosed

listeners: set[ServerConnection] = set()


async def handle(connection: ServerConnection) -> None:
    assert connection.request is not None
    try:
        if connection.request.path == "/pub":
            async for message in connection:
                broadcast(listeners, message)
        else:
            listeners.add(connection)
            await connection.wait_closed()
    except ConnectionClosed:
        pass
    finally:
        listeners.discard(connection)


async def main(port: int) -> None:
    async with serve(handle, "127.0.0.1", port, ping_interval=None, compression=None, backlog=4096) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
