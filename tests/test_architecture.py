"""The laws of the house, read from the imports themselves: an arrow points down only."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("protocol", "storage", "hub")
DOMAINS = ("trading", "coordination", "insight")
STANDARD = sys.stdlib_module_names
TEXT_FILES = {
    ".py",
    ".md",
    ".toml",
    ".sql",
    ".lua",
    ".js",
    ".ts",
    ".html",
    ".css",
    ".yaml",
    ".yml",
    ".json",
    ".c",
    ".sh",
    "",
}
UNTRACKED = {
    ".git",
    ".hypothesis",
    ".mypy_cache",
    ".ruff_cache",
    ".pytest_cache",
    "__pycache__",
    ".venv",
    "node_modules",
}


class Import(NamedTuple):
    module: str  # the module that imports, e.g. hub.edge.rest
    line: int
    target: str  # what it imports; for `from a import b` both `a` and `a.b` are listed
    at_load: bool  # false inside a function or under TYPE_CHECKING

    def __str__(self) -> str:
        return f"{self.module}:{self.line} imports {self.target}"


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))}
TREES = {module: ast.parse(path.read_text(), str(path)) for module, path in MODULES.items()}


def imports_of(module: str) -> Iterator[Import]:
    package = module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]
    yield from _walk(module, package, TREES[module], at_load=True)


def _walk(module: str, package: str, node: ast.AST, *, at_load: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        later = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        unread = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        inner = at_load and not later and not unread
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(module, child.lineno, alias.name, at_load)
        elif isinstance(child, ast.ImportFrom):
            base = child.module or ""
            if child.level:
                above = package.split(".")[: len(package.split(".")) - child.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            if base not in MODULES or any(f"{base}.{alias.name}" not in MODULES for alias in child.names):
                yield Import(module, child.lineno, base, at_load)
            for alias in child.names:
                yield Import(module, child.lineno, f"{base}.{alias.name}", at_load)
        else:
            yield from _walk(module, package, child, at_load=inner)


IMPORTS = [each for module in MODULES for each in imports_of(module)]


def within(module: str, *packages: str) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def top(name: str) -> str:
    return name.partition(".")[0]


def violations(importer: str, allowed: set[str], *, forbidden: tuple[str, ...] = ()) -> list[str]:
    """What modules within `importer` import beyond the standard library and `allowed`, or of what is `forbidden`."""
    return [
        str(each)
        for each in IMPORTS
        if within(each.module, importer)
        and (
            within(each.target, *forbidden)
            or not (top(each.target) in STANDARD or any(within(each.target, name) for name in allowed))
        )
    ]


def test_protocol_stands_on_nothing_and_does_no_io() -> None:
    allowed = {"protocol", "msgspec", "orjson", "msgpack"}
    assert violations("protocol", allowed, forbidden=("asyncio", "socket", "time", "logging")) == []


def test_storage_never_imports_the_hub() -> None:
    assert [str(each) for each in IMPORTS if within(each.module, "storage") and within(each.target, "hub")] == []


def test_the_client_needs_the_protocol_only() -> None:
    beyond = violations("hub.client", {"hub.client", "protocol", "msgspec", "websockets"})
    beyond = [
        each for each in beyond if not re.match(r"hub\.client\.dataframes:\d+ imports pandas\b", each)
    ]  # an extra
    # `import hub.client` runs hub/__init__.py whatever one does; that file holds a version and nothing else.
    assert [each for each in beyond if not each.endswith((" imports hub", " imports hub.__version__"))] == []


def test_importing_the_client_loads_neither_a_server_nor_a_driver() -> None:
    if "hub.client" not in MODULES:
        pytest.skip("there is no client yet")
    heavy = ["starlette", "uvicorn", "asyncpg", "redis", "prometheus_client", "jwt", "argon2", "openai", "storage"]
    check = f"import sys, hub.client; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("domain", DOMAINS)
def test_domains_know_neither_each_other_nor_the_edge(domain: str) -> None:
    others = tuple(f"hub.{other}" for other in DOMAINS if other != domain)
    found = [each for each in IMPORTS if within(each.module, f"hub.{domain}")]
    assert [str(each) for each in found if within(each.target, *others, "hub.edge")] == []


def test_the_edge_knows_no_domain() -> None:
    domains = tuple(f"hub.{domain}" for domain in DOMAINS)
    assert [str(each) for each in IMPORTS if within(each.module, "hub.edge") and within(each.target, *domains)] == []


def test_only_bootstrap_names_a_concrete_broker() -> None:
    concrete = ("hub.brokers.local", "hub.brokers.redis")
    allowed = ("hub.bootstrap", *concrete)
    found = [each for each in IMPORTS if within(each.target, *concrete) and not within(each.module, *allowed)]
    assert [str(each) for each in found] == []


def test_only_what_starts_the_hub_names_bootstrap() -> None:
    """Parts take what they need by constructor: one that could reach for the whole would hide what it stands on."""
    allowed = ("hub.bootstrap", "hub.app", "hub.serve", "hub.cli")
    found = [each for each in IMPORTS if within(each.target, "hub.bootstrap") and not within(each.module, *allowed)]
    assert [str(each) for each in found] == []


def _named(tree: ast.AST) -> Callable[[ast.AST], str]:
    """What a name or attribute of this module stands for, such as `time.monotonic`, whatever it was imported as."""
    aliases: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            aliases |= {alias.asname or top(alias.name): alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            aliases |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}

    def named(node: ast.AST) -> str:
        if isinstance(node, ast.Name):
            return aliases.get(node.id, "")
        return f"{named(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) else "?"

    return named


def _uses(tree: ast.AST, names: set[str]) -> list[int]:
    """Lines where one of the names is used; `time.*` is everything of the module `time`."""
    named = _named(tree)
    used = [(named(node), node.lineno) for node in ast.walk(tree) if isinstance(node, ast.Name | ast.Attribute)]
    return sorted({line for name, line in used if name in names or (f"{top(name)}.*" in names and "." in name)})


def _users(names: set[str], *, allowed: set[str]) -> list[str]:
    return [
        f"{module}:{line}" for module, tree in TREES.items() if module not in allowed for line in _uses(tree, names)
    ]


# It starts and watches a process of the operating system: it hands its environment on (without reading a setting from
# it) and waits for it in monotonic time. Law 2 keeps hub.clock out of its reach.
KEEPER_OF_A_PROCESS = "storage.embedded"


def test_only_config_reads_the_environment() -> None:
    names = {"os.environ", "os.getenv", "os.environb", "os.getenvb"}
    assert _users(names, allowed={"hub.config", KEEPER_OF_A_PROCESS}) == []


# `loop.time()` is not among them: it is the event loop's own, and what timers are compared with.
CLOCKS = {
    "time.*",
    "datetime.datetime.now",
    "datetime.datetime.utcnow",
    "datetime.datetime.today",
    "datetime.date.today",
}


def test_only_the_clock_reads_time() -> None:
    assert _users(CLOCKS, allowed={"hub.clock", KEEPER_OF_A_PROCESS}) == []


def test_every_advisory_lock_has_a_number_of_its_own() -> None:
    """Two parts with one number wait for each other for ever, and nothing says why."""
    locks = [
        node.value.value
        for tree in TREES.values()
        for node in tree.body
        if isinstance(node, ast.Assign)
        and ast.unparse(node.targets[0]) == "LOCK"
        and isinstance(node.value, ast.Constant)
    ]
    assert len(locks) == len(set(locks)) >= 5


def test_no_module_imports_itself_in_a_circle() -> None:
    arrows: dict[str, set[str]] = {module: set() for module in MODULES}
    for each in IMPORTS:
        if each.at_load and each.target in MODULES and each.target != each.module:
            arrows[each.module].add(each.target)
    assert _circle(arrows) == []


def _circle(arrows: dict[str, set[str]]) -> list[str]:
    """The modules of one circle in order, or nothing."""
    done: set[str] = set()

    def follow(module: str, path: list[str]) -> list[str]:
        if module in path:
            return [*path[path.index(module) :], module]
        if module in done:
            return []
        for target in sorted(arrows[module]):
            if found := follow(target, [*path, module]):
                return found
        done.add(module)
        return []

    for module in sorted(arrows):
        if found := follow(module, []):
            return found
    return []


def test_a_circle_would_be_found() -> None:
    assert _circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert _circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_relative_and_nested_imports_would_be_found() -> None:
    tree = ast.parse("def f():\n    from ..edge import rest\nif TYPE_CHECKING:\n    import hub.edge\n")
    found = list(_walk("hub.trading.orders", "hub.trading", tree, at_load=True))
    assert {(each.target, each.at_load) for each in found} == {
        ("hub.edge", False),
        ("hub.edge.rest", False),
    }


# --- what must not be in the tree ---


def texts() -> Iterator[tuple[Path, str]]:
    for path in sorted(ROOT.rglob("*")):
        if not path.is_file() or path.suffix not in TEXT_FILES or UNTRACKED & set(path.relative_to(ROOT).parts):
            continue
        try:
            yield path.relative_to(ROOT), path.read_text()
        except UnicodeDecodeError:
            continue


TEXTS = list(texts())

# Put together here so that this file does not contain what it forbids.
FORBIDDEN = {
    "a package registry's host": re.compile(
        "|".join([r"py" + r"pi\.org", r"files\." + r"pythonhosted", r"index-" + r"url", r"registry\." + r"npmjs"])
        + r"|https?://[\w.-]*(?:artifactory|nexus|devpi|pkgs)[\w.-]*"
    ),
    "a path of a developer's machine": re.compile(
        r"(?<![\w.~:-])/(?:"
        + "|".join(["wo" + "rk", "tmp/" + "k", "ho" + r"me/\w+", "Use" + r"rs/\w+", "ro" + "ot"])
        + r")/"
    ),
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_the_tree_holds_nothing_of_where_it_was_made(what: str) -> None:
    found = [
        f"{path}:{number}: {line.strip()[:120]}"
        for path, text in TEXTS
        for number, line in enumerate(text.splitlines(), start=1)
        if FORBIDDEN[what].search(line)
    ]
    assert found == []


LONGEST_POLL_S = 0.05


def test_tests_wait_for_facts_and_never_sleep() -> None:
    """A browser, another process and a database that is away tell nobody when they are ready. These may be polled.

    A poll is a loop over the fact with a short pause, inside `asyncio.timeout`. A load has a pace, and says so in a
    comment. Any other sleep is a guess.
    """
    found = []
    for path in sorted((ROOT / "tests").rglob("*.py")):
        name = str(path.relative_to(ROOT))
        lines = path.read_text().splitlines()
        slept = _sleeps(ast.parse("\n".join(lines), name))
        found += [f"{name}:{line}" for line in slept if "# the pace" not in lines[line - 1]]
    assert found == []


def _sleeps(tree: ast.AST) -> list[int]:
    """Lines of sleeps that are not polls. Zero seconds, to let others run once, is no sleep."""
    named = _named(tree)
    found: list[int] = []

    def visit(node: ast.AST, *, bounded: bool, looping: bool) -> None:
        if isinstance(node, ast.Call) and named(node.func) in ("asyncio.sleep", "time.sleep"):
            pause = node.args[0].value if len(node.args) == 1 and isinstance(node.args[0], ast.Constant) else None
            short = isinstance(pause, int | float) and pause <= (LONGEST_POLL_S if bounded and looping else 0)
            if not short:
                found.append(node.lineno)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            bounded = looping = False
        elif isinstance(node, ast.AsyncWith) and "asyncio.timeout(" in "".join(map(ast.unparse, node.items)):
            bounded = True
        elif isinstance(node, ast.While):
            looping = True
        for child in ast.iter_child_nodes(node):
            visit(child, bounded=bounded, looping=looping)

    visit(tree, bounded=False, looping=False)
    return found


def test_every_test_file_has_a_name_of_its_own() -> None:
    """The folders are no packages: pytest knows a file by its name alone."""
    names = sorted(
        path.name for path in (ROOT / "tests").rglob("*.py") if path.name not in {"conftest.py", "__init__.py"}
    )
    assert [name for name, following in pairwise(names) if name == following] == []


def test_a_sleep_would_be_found() -> None:
    source = [
        "import asyncio",
        "from time import sleep as rest",
        "asyncio.sleep(0)",
        "asyncio.sleep(1)",
        "rest(2)",
        "clock.sleep(3)",
    ]
    assert list(_sleeps(ast.parse("\n".join(source)))) == [4, 5]


def test_reading_the_clock_or_the_environment_would_be_found() -> None:
    source = [
        "from os import environ",
        "import datetime, time as t",
        "environ['A']",
        "t.monotonic()",
        "datetime.datetime.now()",
    ]
    tree = ast.parse("\n".join(source))
    assert _uses(tree, {"os.environ"}) == [3]
    assert _uses(tree, CLOCKS) == [4, 5]
