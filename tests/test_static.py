"""What can be told without running anything: no dangerous call, no SQL made of data, no old dependency, no warning."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = {
    path.relative_to(ROOT).as_posix(): ast.parse(path.read_text())
    for package in ("protocol", "storage", "hub")
    for path in sorted((ROOT / package).rglob("*.py"))
}

# The first version of each without a known hole that would matter here, and why.
MINIMUM = {
    "uvicorn": (0, 52, 1),  # write flow control, and a send that never returned
    "websockets": (17,),  # 431 and 414
    "starlette": (1, 3, 1),  # CVE-2026-48710, CVE-2026-54282
    "redis": (8, 1),  # CVE-2023-28858, and a subscriber that timed out
    "asyncpg": (0, 32),  # a cancel without a timeout
    "pyjwt": (2, 12),  # CVE-2022-29217, CVE-2026-32597
    "orjson": (3, 9, 15),  # CVE-2024-27454
}


def lower_bounds() -> dict[str, tuple[int, ...]]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = {}
    for each in project["dependencies"]:
        match = re.match(r"([a-z0-9-]+)(?:\[[a-z,]+\])?>=([\d.]+)\Z", each)
        assert match, f"{each} has no lower bound, or more than one"
        found[match[1]] = tuple(map(int, match[2].split(".")))
    return found


def test_no_dependency_may_be_older_than_its_last_known_hole() -> None:
    bounds = lower_bounds()
    assert {name: bounds.get(name) for name, least in MINIMUM.items() if bounds.get(name, ()) < least} == {}


def test_every_module_imports_without_a_warning() -> None:
    modules = [path.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for path in SOURCES]
    modules.remove("hub.__main__")  # importing it runs it
    code = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *modules], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stderr == ""
    assert done.returncode == 0


# --- what must not be in the code ---

DANGEROUS_MODULES = {"pickle", "cPickle", "dill", "shelve", "marshal", "yaml", "jsonpickle", "telnetlib", "xml"}
DANGEROUS_CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "tempfile.mktemp"}
SECRET = re.compile(r"(secret|token|password|mac|secret_hash|otp|(?<!op)code)\Z")
SQL = re.compile(r"\b(SELECT|INSERT INTO|UPDATE|DELETE FROM|TRUNCATE|CREATE|ALTER|DROP|WHERE|RETURNING)\b")
# Texts of ours, in these places chosen by a caller in the same module and by nobody else.
SQL_OF_OUR_OWN = {
    ("storage/users.py", "column"),
    ("storage/revocations.py", "family"),
    ("storage/privacy.py", "query"),
}


def dangerous(tree: ast.AST) -> list[str]:
    """C26: nothing is unpickled, evaluated or loaded as YAML; no shell."""
    found = []
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                found += [
                    f"{node.lineno}: {each.name}" for each in names if each.name.split(".")[0] in DANGEROUS_MODULES
                ]
            case ast.ImportFrom(module=str(module)) if module.split(".")[0] in DANGEROUS_MODULES:
                found.append(f"{node.lineno}: {module}")
            case ast.Call(func=called):
                shell = any(each.arg == "shell" for each in node.keywords)
                if ast.unparse(called) in DANGEROUS_CALLS or shell:
                    found.append(f"{node.lineno}: {ast.unparse(called)}")
    return found


def composed_sql(tree: ast.AST) -> list[tuple[int, str]]:
    """C74: whatever an SQL text is put together from, other than constants."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr) and _is_sql(node):
            values = [each.value for each in node.values if isinstance(each, ast.FormattedValue)]
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mod) and _is_sql(node.left):
            values = [node.right]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "format":
            values = [*node.args, *(each.value for each in node.keywords)] if _is_sql(node.func.value) else []
        else:
            continue
        found += [(node.lineno, ast.unparse(each)) for each in values if not _is_constant(each)]
    return found


def _is_sql(node: ast.AST) -> bool:
    texts = [each.value for each in ast.walk(node) if isinstance(each, ast.Constant) and isinstance(each.value, str)]
    return any(SQL.search(text) for text in texts)


def _is_constant(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant | ast.JoinedStr) or (isinstance(node, ast.Name) and node.id.isupper())


def compared_secrets(tree: ast.AST) -> list[str]:
    """C57: secrets that are compared with == or !=, which takes longer the more of them is right."""
    return [
        f"{node.lineno}: {ast.unparse(node)}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare)
        and any(isinstance(operator, ast.Eq | ast.NotEq) for operator in node.ops)
        and not any(isinstance(side, ast.Constant) or _is_public(side) for side in (node.left, *node.comparators))
        and any(SECRET.search(_last_name(side)) for side in (node.left, *node.comparators))
    ]


def _last_name(node: ast.AST) -> str:
    return ast.unparse(node).removesuffix("()").rpartition(".")[2].lower()


def _is_public(node: ast.AST) -> bool:
    """Constants of ours, error and close codes among them, are no secrets."""
    name = ast.unparse(node)
    return name.isupper() or name.startswith(("ErrorCode.", "CloseCode."))


@pytest.mark.parametrize("path", SOURCES)
def test_c26_c57_c74_the_code_is_free_of_what_has_opened_others(path: str) -> None:
    tree = SOURCES[path]
    assert dangerous(tree) == []
    assert compared_secrets(tree) == []
    assert [each for each in composed_sql(tree) if (path, each[1]) not in SQL_OF_OUR_OWN] == []


def test_what_must_not_be_in_the_code_would_be_found() -> None:
    bad = [
        "import pickle",
        "from yaml import load",
        "eval(text)",
        "subprocess.run(text, shell=True)",
        "given == self.token",
        "record.secret_hash != made",
        'fetch(f"SELECT {name} FROM users")',
        'fetch("SELECT * FROM users WHERE name = " + name)',
        'fetch("DELETE FROM users WHERE name = %s" % name)',
        'fetch("DELETE FROM users WHERE name = {}".format(name))',
    ]
    for line in bad:
        tree = ast.parse(line)
        assert dangerous(tree) or compared_secrets(tree) or composed_sql(tree), line
    good = ['f"SELECT {COLUMNS} FROM users"', "error.code == ErrorCode.INTERNAL", 'token == ""', '"a" + name']
    for line in good:
        tree = ast.parse(line)
        assert not (dangerous(tree) or compared_secrets(tree) or composed_sql(tree)), line


def test_bandit_finds_nothing_of_high_severity() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bandit", "-q", "-r", "--severity-level", "high", "protocol", "storage", "hub"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


# Who opens a connection to somewhere else, and where the address comes from.
REACH_OUT = {
    "hub/auth/fetching.py": "the key sets of identity providers: an address of the configuration",
    "hub/client/link.py": "the SDK: the hub that the application names",
    "hub/conformance/wire.py": "`krin conformance`: the hub that its caller names",
    "hub/brokers/redis/server.py": "Redis, as configured",
    "hub/guard/sharing.py": "Redis, as configured",
    "hub/insight/caching/store.py": "Redis, as configured",
    "hub/trading/market/exchanges.py": "the exchanges that are configured, at the addresses ccxt knows",
    "hub/cli/webhooks.py": "the hub that the command line names",
    "hub/doctor/door.py": "the address that the command line names",
    "hub/doctor/examination.py": "Redis, as configured",
    "hub/insight/calls/openai.py": "OpenAI, or the server that is configured",
    "hub/insight/embedding/openai.py": "OpenAI, or the server that is configured",
    "hub/guard/outbound.py": "webhooks: addresses that users name, each judged once it is resolved",
    "storage/database.py": "Postgres, as configured",
}
CLIENTS = ("httpx", "urllib.request", "http.client", "aiohttp", "requests", "openai", "ccxt", "smtplib", "ftplib")
DIALLING = ("open_connection", "create_connection", "create_pool")
DIALS = ("websockets.asyncio.client", "redis.asyncio.Redis", "redis.asyncio.RedisCluster", "asyncpg.connect")


def test_c75_nothing_reaches_out_but_to_addresses_of_the_configuration() -> None:
    """The one exception judges every address: tests/hub/test_webhook_rules.py and tests/edge/test_webhooks.py."""
    found = set()
    for path, tree in SOURCES.items():
        for node in ast.walk(tree):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Attribute) and node.attr in DIALLING:
                found.add(path)
            if any(name == each or name.startswith(f"{each}.") for name in names for each in (*CLIENTS, *DIALS)):
                found.add(path)

    assert found <= REACH_OUT.keys()


def test_no_two_advisory_locks_have_the_same_number() -> None:
    """Who holds one for long would keep everybody else from the other: a node that leads, and every command line."""
    found = [
        ast.literal_eval(node.value)
        for path, tree in SOURCES.items()
        for node in tree.body
        if path.startswith("storage/") and isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "LOCK"
    ]

    assert len(found) >= 4
    assert len(set(found)) == len(found)
