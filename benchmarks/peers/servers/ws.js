// Node's `ws`: what comes in on /pub is sent to every client of /sub.
const { createRequire } = require("module");
const { WebSocketServer } = createRequire(process.argv[3] + "/")("ws");

const listeners = new Set();
const server = new WebSocketServer({
  port: Number(process.argv[2]), host: "127.0.0.1", perMessageDeflate: false, backlog: 4096, clientTracking: false,
});
server.on("connection", (socket, request) => {
  socket.on("error", () => {});
  if (request.url === "/pub") {
    socket.on("message", (data) => {
      for (const each of listeners) each.send(data, { binary: false });
    });
    return;
  }
  listeners.add(socket);
  socket.on("close", () => listeners.delete(socket));
});
