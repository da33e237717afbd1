// The official Socket.IO client, driven by lines of JSON: what to do comes in, what happens to it goes out.
import { createInterface } from "node:readline";
import { io } from "socket.io-client";

const tell = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);
let socket;

const actions = {
  open({ url, auth, options }) {
    socket = io(url, { auth, reconnectionDelay: 50, reconnectionDelayMax: 100, ...options });
    socket.onAny((event, ...args) => tell({ event, args }));
    socket.on("connect", () => tell({ event: "connect", args: [socket.id] }));
    socket.on("connect_error", (error) => tell({ event: "connect_error", args: [error.message, error.data ?? null] }));
    socket.on("disconnect", (reason) => tell({ event: "disconnect", args: [reason, socket.active] }));
  },
  emit({ event, args, ack }) {
    if (ack === undefined) socket.emit(event, ...args);
    else socket.emit(event, ...args, (value) => tell({ ack, value }));
  },
  send: ({ text }) => socket.io.engine.transport.ws.send(text),
  transport: ({ ack }) => tell({ ack, value: socket.io.engine.transport.name }),
  upgraded: ({ ack }) =>
    socket.io.engine.transport.name === "websocket"
      ? tell({ ack, value: true })
      : socket.io.engine.once("upgrade", () => tell({ ack, value: true })),
  cut: () => socket.io.engine.transport.ws.terminate(),
  silence: () => socket.io.engine.transport.ws.pause(),
  close: () => socket.disconnect(),
};

for await (const line of createInterface({ input: process.stdin })) {
  const what = JSON.parse(line);
  actions[what.do](what);
}
process.exit(0);
