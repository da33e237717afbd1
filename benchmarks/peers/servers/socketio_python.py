"""python-socketio under uvicorn: what comes in as `pub` goes to everybody as `m`."""

import sys
from typing import Any

import socketio  # type: ignore[import-not-found]  # installed at run time
import uvicorn

sio = socketio.AsyncServer(async_mode="asgi", cors_allowed_origins="*", ping_interval=300, logger=False)


@sio.on("pub")  # type: ignore[untyped-decorator]  # see above
async def pub(sid: str, data: Any) -> None:
    await sio.emit("m", data, skip_sid=sid)


if __name__ == "__main__":
    uvicorn.run(
        socketio.ASGIApp(sio),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        log_level="warning",
        ws_ping_interval=None,
        ws_per_message_deflate=False,
        backlog=4096,
    )
