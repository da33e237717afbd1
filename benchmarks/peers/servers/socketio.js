// Socket.IO for Node: what comes in as `pub` goes to everybody else as `m`.
const { createRequire } = require("module");
const { Server } = createRequire(process.argv[3] + "/")("socket.io");

const io = new Server({ transports: ["websocket"], perMessageDeflate: false, pingInterval: 300000 });
io.on("connection", (socket) => socket.on("pub", (data) => socket.broadcast.emit("m", data)));
io.listen(Number(process.argv[2]));
