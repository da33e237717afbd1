"""socketify: uWebSockets (C++) from Python, with its own publish()."""

import sys

from socketify import App, CompressOptions  # type: ignore[import-not-found]  # installed at run time

app = App()


def message(ws, text, opcode):  # type: ignore[no-untyped-def]  # socketify has no types
    ws.publish("all", text, opcode)


app.ws("/sub", {"compression": CompressOptions.DISABLED, "idle_timeout": 0, "open": lambda ws: ws.subscribe("all")})
app.ws("/pub", {"compression": CompressOptions.DISABLED, "idle_timeout": 0, "message": message})
app.listen({"port": int(sys.argv[1]), "host": "127.0.0.1"})
app.run()
