// Drives the SDK for the tests: commands as JSON lines on stdin, what happens as JSON lines on stdout.
import { createInterface } from "node:readline";

const [sdk, url, options] = process.argv.slice(2);
const { Krin } = await import(sdk);

const emit = (event, detail) => process.stdout.write(`${JSON.stringify({ event, ...detail })}\n`);
const settings = JSON.parse(options);
if (Array.isArray(settings.token)) {
  const tokens = settings.token;
  settings.token = async (why) => {
    emit("token", why);
    if (tokens.length === 0) throw Object.assign(new Error("signed out"), { final: true });
    return tokens.shift();
  };
}

const krin = new Krin(url, { backoff: { min_ms: 1, max_ms: 10 }, latency_interval_ms: 0, ...settings });
const subscriptions = new Map();
for (const event of ["state", "notice", "latency"]) krin.on(event, (detail) => emit(event, detail));
krin.on("error", (failure) => emit("error", { message: failure.message }));

const operations = {
  connect: () => krin.connect(),
  close: () => krin.close(),
  ping: () => krin.ping(),
  call: ({ method, params, options: how }) => krin.call(method, params, how),
  history: ({ channel, options: how }) => krin.history(channel, how),
  publish: ({ channel, message, options: how }) => krin.publish(channel, message, how),
  position: ({ channel }) => subscriptions.get(channel).position,
  unsubscribe: ({ channel }) => subscriptions.get(channel).unsubscribe(),
  subscribe({ channel, options: how = {}, fail = false }) {
    const callbacks = {
      onLost: (reason) => emit("lost", { channel, reason }),
      onSubscribed: ({ promise, recovered, offset }) => emit("subscribed", { channel, promise, recovered, offset }),
      onError: (error) => emit("ended", { channel, name: error.name }),
      onPresence: (members) => emit("members", { channel, names: members.map((member) => member.user) }),
    };
    const subscription = krin.subscribe(channel, { ...how, ...callbacks }, (message) => {
      emit("message", { channel, offset: message.offset, data: message.data });
      if (fail) throw new Error("a handler's own mistake");
    });
    subscriptions.set(channel, subscription);
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { op, ...details } = JSON.parse(line);
  const answer = (value) => emit("result", { op, value: value ?? null });
  const refusal = ({ name, message, code }) => emit("refused", { op, name, message, code });
  Promise.resolve()
    .then(() => operations[op](details))
    .then(answer, refusal);
}
krin.close();
