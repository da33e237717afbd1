"""The browser SDK as others get it: packed, installed, compiled against, and talking to a real hub from Node."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Protocol

import pytest

import hub as krin
from protocol import typescript
from protocol.operations import OPERATIONS
from protocol.vocabulary import DATA_TYPES

from .peers import SDK, node_command
from .tools import absent

ROOT = Path(__file__).parents[2]
PACKAGE = SDK.parent
README = (PACKAGE / "README.md").read_text()
INTERNAL = {"track", "present", "repairs", "join", "failures", "fields"}  # of a Subscription, marked so in krin.js

CONFIGURATION = {
    "compilerOptions": {
        "strict": True,
        "target": "es2022",
        "module": "nodenext",
        "lib": ["es2022", "dom"],
        "types": [],
        "noEmit": True,
    },
    "include": ["*.mts"],
}

USED = """
import { Krin, KrinError, Track, shouldReconnect } from "@krin/client";
import type { AccountPosition, ExecutionReport, Message, OrdStatus, Position, Publication } from "@krin/client";

const krin = new Krin<{ GREETING: { text: string } }>(new URL("ws://127.0.0.1:8000/ws"), {
  token: async ({ expired }) => (expired ? "new" : "old"),
  kind: "trader",
});
const stop = krin.on("state", ({ state, retry_in_ms }) => console.log(state, retry_in_ms ?? 0));
krin.on("notice", ({ code, detail }) => console.log(code === "conflating", detail));
const prices = krin.subscribe("prices:BTC-USD", { max_rate: 10, onLost: (reason) => console.log(reason) }, (message) => {
  switch (message.type) {
    case "PRICE_TICK": {
      const bid: string | undefined = message.data.bid;
      const sources: number | undefined = message.data.quality?.sources_ok;
      return console.log(bid, sources);
    }
    case "SPECIALIST_UPDATE":
      return console.log(message.data.map((each) => each.activity === "WORKING"));
    case "POSITION": {
      const position: AccountPosition = message.data;
      return console.log(position.qty);
    }
    case "GREETING":
      return console.log(message.data.text);
  }
});
function trade(message: Message<"TRADE" | "TRADE_BUST">): string {
  return message.type === "TRADE" ? message.data.price : message.data.original_price;
}
const kept: Position | null = prices.position;
const report: ExecutionReport = await krin.call("orders.submit", {
  account: "ada", client_order_id: "o-1", symbol: "BTC-USD", side: "BUY", order_type: "MARKET", qty: "1",
});
const closed: OrdStatus[] = ["FILLED", "CANCELED"];
const { time } = await krin.call("hub.time");
const other: any = await krin.call("my.method", { anything: 1 }, { retry: true });
await krin.publish("custom:room", { type: "GREETING", data: { text: "hi" } });
await krin.publish("custom:room", { type: "OTHER", data: { anything: [1] } }, { key: "k", timeout_ms: 100 });
const { messages } = await krin.history("custom:room", { since: kept ?? undefined });
for (const each of messages) if (each.type === "TRADE") console.log(trade(each));
const raw = new Track().next({} as Publication) === "gap" && shouldReconnect(4200);
try {
  await krin.ping();
} catch (failure) {
  if (failure instanceof KrinError && failure.name === "timeout") console.log(failure.code, failure.path);
}
"""

MISUSED = {
    "field_no_tick_has": (
        'krin.subscribe("a:b", (m) => { if (m.type === "PRICE_TICK") m.data.bidd; });',
        "'bidd' does not exist",
    ),
    "data_before_its_type_is_known": ('krin.subscribe("a:b", (m) => m.data.bid);', "'bid' does not exist"),
    "type_nobody_declared": ('krin.subscribe("a:b", (m) => m.type === "PRICE_TIK");', "no overlap"),
    "price_as_a_number": (
        'krin.publish("a:b", { type: "PRICE_TICK", data: { symbol: "A", bid: 1.5 } });',
        "'number' is not assignable to type 'string'",
    ),
    "order_without_its_name": ('krin.call("orders.cancel", { account: "a" });', "'client_order_id' is missing"),
    "method_without_parameters": ('krin.call("orders.submit");', "Expected 2-3 arguments"),
    "option_that_does_not_exist": ('krin.subscribe("a:b", { maxRate: 1 }, () => {});', "'maxRate' does not exist"),
    "event_that_does_not_exist": ('krin.on("open", () => {});', "'\"open\"' is not assignable"),
    "subscription_made_by_hand": ("new Subscription();", "is private"),
    "token_that_is_a_number": ('new Krin("ws://a", { token: 1 });', "'number' is not assignable"),
}
"""Sources that must not compile, and what the compiler says of them."""


class ServeHub(Protocol):
    """The session's hub, as tests/conftest.py offers it."""

    url: str
    ws_url: str

    def token(self, name: str, *roles: str) -> str: ...


def npm(*arguments: str, cwd: Path) -> str:
    """Its output. Skips where it is not installed."""
    program = shutil.which("npm")
    if program is None:
        absent("npm is not installed")
    quiet = ("--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error")
    done = subprocess.run(
        [program, *arguments, *quiet], cwd=cwd, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Somebody's project, into which the packed SDK was installed without a network."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "package.json").write_text('{"name": "project", "private": true, "type": "module"}')
    (tarball,) = json.loads(npm("pack", "--json", "--pack-destination", str(folder), cwd=PACKAGE))
    npm("install", "--offline", str(folder / tarball["filename"]), cwd=folder)
    return folder


@pytest.fixture(scope="module")
def compiler(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command of TypeScript's compiler."""
    folder = tmp_path_factory.mktemp("typescript")
    try:
        npm("install", "typescript", cwd=folder)
    except (AssertionError, subprocess.TimeoutExpired) as failure:
        absent(f"TypeScript cannot be installed: {failure}")
    return [str(folder / "node_modules" / ".bin" / "tsc")]


def complaints(compiler: list[str], folder: Path, *options: str) -> dict[str, str]:
    """What the compiler says, by file."""
    done = subprocess.run([*compiler, *options], cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    found: dict[str, str] = {}
    for line in done.stdout.splitlines():
        if match := re.match(r"(\S+?)\(\d+,\d+\): ", line):
            found.setdefault(match[1], line)
    assert bool(found) == bool(done.returncode), done.stdout
    return found


def source_folder(project: Path, name: str, **sources: str) -> Path:
    folder = project / name
    folder.mkdir()
    (folder / "tsconfig.json").write_text(json.dumps(CONFIGURATION))
    for each, text in sources.items():
        (folder / f"{each}.mts").write_text(text)
    return folder


def test_the_types_are_those_of_the_structs() -> None:
    made = typescript.declarations()
    assert (PACKAGE / "protocol.d.ts").read_text() == made, (
        "python -m protocol.typescript > hub/dashboard/protocol.d.ts"
    )
    for name in (*DATA_TYPES, *OPERATIONS):
        assert re.search(rf'^  "?{re.escape(name)}"?: ', made, re.MULTILINE), name


def test_the_package_is_of_the_hubs_version_and_needs_nothing() -> None:
    said = json.loads((PACKAGE / "package.json").read_text())
    assert said["version"] == krin.__version__
    assert not [field for field in said if field.endswith(("ependencies", "scripts"))]
    assert (PACKAGE / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()


def test_what_is_packed_is_the_module_its_types_and_what_explains_them(project: Path) -> None:
    installed = project / "node_modules" / "@krin" / "client"
    packed = {each.name for each in installed.iterdir()}
    assert packed == {"LICENSE", "README.md", "krin.d.ts", "krin.js", "package.json", "protocol.d.ts"}
    assert (installed / "krin.js").read_bytes() == SDK.read_bytes()


def test_types_narrow_and_everything_that_is_meant_to_work_compiles(compiler: list[str], project: Path) -> None:
    (shown,) = re.findall(r"```ts\n(.*?)```", README, re.DOTALL)
    assert complaints(compiler, source_folder(project, "used", used=USED, shown=shown)) == {}


def test_mistakes_do_not_compile(compiler: list[str], project: Path) -> None:
    opening = 'import { Krin, Subscription } from "@krin/client";\nconst krin = new Krin("ws://a");\n'
    sources = {name: opening + text for name, (text, _) in MISUSED.items()}
    found = complaints(compiler, source_folder(project, "misused", **sources))
    for name, (_, expected) in MISUSED.items():
        assert expected in found.get(f"{name}.mts", "compiled"), (name, found.get(f"{name}.mts"))


def test_what_the_module_offers_is_what_its_types_say(compiler: list[str], project: Path) -> None:
    """The compiler reads the members of each class from krin.js itself, and compares them with the declared ones."""
    folder = project / "compared"
    (folder / "module").mkdir(parents=True)
    for types in ("krin.d.ts", "protocol.d.ts"):
        shutil.copy(PACKAGE / types, folder)
    module = folder / "module" / "krin.js"
    module.write_text(SDK.read_text().replace('import("./krin.d.ts")', 'import("../krin.js")'))
    emit = ["--allowJs", "--declaration", "--emitDeclarationOnly", "--target", "es2022", "--module", "nodenext"]
    subprocess.run([*compiler, *emit, str(module)], cwd=folder, timeout=60, check=True)
    internal = " | ".join(f'"{name}"' for name in sorted(INTERNAL))
    (folder / "compared.mts").write_text(
        f"""
import type * as Made from "./module/krin.js";
import type * as Told from "./krin.js";
type Same<A, B> = [A] extends [B] ? ([B] extends [A] ? true : Exclude<B, A>) : Exclude<A, B>;
export const module: Same<keyof typeof Made, keyof typeof Told> = true;
export const krin: Same<keyof Made.Krin, keyof Told.Krin> = true;
export const subscription: Same<Exclude<keyof Made.Subscription, {internal}>, keyof Told.Subscription> = true;
export const track: Same<keyof Made.Track, keyof Told.Track> = true;
export const error: Same<keyof Made.KrinError, keyof Told.KrinError> = true;
"""
    )
    (folder / "tsconfig.json").write_text(json.dumps(CONFIGURATION))
    assert complaints(compiler, folder) == {}
    (folder / "krin.d.ts").write_text((folder / "krin.d.ts").read_text().replace("  close(): void;\n", ""))
    assert '"close"' in complaints(compiler, folder)["compared.mts"]


def test_the_installed_package_speaks_with_a_hub(project: Path, hub: ServeHub) -> None:
    """The script of its README."""
    node = node_command()
    if isinstance(node, str):
        absent(node)
    (script,) = re.findall(r"```js\n(.*?)```", README, re.DOTALL)
    (project / "hello.js").write_text(script.replace("ws://127.0.0.1:8000/ws", hub.ws_url))
    done = subprocess.run(
        [*node, "--no-warnings", "hello.js"],
        cwd=project,
        env=os.environ | {"KRIN_TOKEN": hub.token("ada", "agent")},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "GREETING hi\n"), done.stderr


WITHOUT_ITS_OWN = """
delete globalThis.WebSocket; // as in Node 20
const { Krin } = await import("@krin/client");
const options = { token: process.env.KRIN_TOKEN };
if (process.argv[2]) options.WebSocket = (await import("ws")).default;
const krin = new Krin(process.env.KRIN_URL, options);
try {
  await krin.connect();
  const { time } = await krin.call("hub.time");
  console.log(typeof time);
} catch (failure) {
  console.log(failure.message);
}
krin.close();
"""


@pytest.mark.parametrize(("given", "told"), [("ws", "number"), ("", "there is no WebSocket here")])
def test_node_without_a_websocket_takes_one_from_the_package_ws(
    project: Path, hub: ServeHub, given: str, told: str
) -> None:
    node = node_command()
    if isinstance(node, str):
        absent(node)
    if given:
        try:
            npm("install", "--no-save", "ws@8", cwd=project)
        except (AssertionError, subprocess.TimeoutExpired) as failure:
            absent(f"ws cannot be installed: {failure}")
    (project / "bare.mjs").write_text(WITHOUT_ITS_OWN)
    done = subprocess.run(
        [node[0], "bare.mjs", given],
        cwd=project,
        env=os.environ | {"KRIN_TOKEN": hub.token("ada", "agent"), "KRIN_URL": hub.ws_url},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert told in done.stdout, done.stderr
