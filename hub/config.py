"""The settings of a node, read and checked once. The only module that reads the environment.

Precedence: command line, then `KRIN_...` variables (both arrive as arguments of `load`), then the TOML file, then these
defaults. Every number has its unit in its name.
"""

from __future__ import annotations

import os
import secrets
import socket
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from hub import redis_url
from hub.auth.providers import PROVIDER_NAME, ProviderPolicy
from hub.guard.addresses import networks
from hub.guard.origins import ORIGIN
from hub.namespaces import DEFAULTS, QUALIFIERS, Namespace
from hub.unusable import ConfigError, UnsafeConfig
from protocol.channels import NAMESPACE_NAME
from protocol.fields import DecimalString, Name, Quantity

LogLevel = Literal["debug", "info", "warning", "error", "critical"]
Positive = Annotated[int, Meta(ge=1)]


LOOPBACK = ("127.0.0.0/8", "::1/128")


class LimitSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The first group holds for every connection; the second for what comes from elsewhere than exempt_networks."""

    message_bytes: Annotated[int, Meta(ge=1024, le=16_777_216)] = 65_536
    outbox_bytes: Annotated[int, Meta(ge=65_536)] = 1_048_576
    connections: Positive = 19_000
    subscriptions: Positive = 1_024
    publishes_per_s: Positive = 100_000
    kept_bytes: Annotated[int, Meta(ge=1_048_576)] = 268_435_456
    bytes_per_s: Annotated[int, Meta(ge=65_536)] = 67_108_864
    deliveries_per_s: Positive | None = None

    address_connections: Positive = 100
    user_connections: Positive = 20
    connects_per_s: Positive = 20
    logins_per_min: Positive = 60
    requests_per_s: Positive = 100
    subscribes_per_s: Positive = 100
    reads_per_s: Positive = 100
    exports_per_min: Positive = 5
    user_publishes_per_s: Positive = 100_000
    exempt_networks: tuple[str, ...] = LOOPBACK


class AuthSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Keys are generated into the data folder, unless a file is named: a PEM file, or for HS256 the secret itself.

    A verifying file may hold several public keys; with it alone the hub only verifies what others issue. The encryption
    key, 64 hexadecimal digits, is for the secrets of second factors in the database.
    """

    algorithm: Literal["HS256", "RS256", "ES256", "EdDSA"] = "EdDSA"
    signing_key_file: str | None = None
    verifying_key_file: str | None = None
    encryption_key_file: str | None = None
    issuer: str = "krin"
    audience: str = "krin"
    providers: dict[str, ProviderPolicy] = {}

    def __post_init__(self) -> None:
        if not all(PROVIDER_NAME.match(name) for name in self.providers):
            raise ValueError("a provider's name is of lower-case letters, digits, - and _")
        issuers = [self.issuer, *(policy.issuer for policy in self.providers.values())]
        if len(set(issuers)) < len(issuers):
            raise ValueError("each provider has an issuer of its own")


class TlsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """PEM files. With a certificate the hub speaks TLS 1.3 and nothing else."""

    cert: str | None = None
    key: str | None = None


class SecuritySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """tls_required: do not start without a certificate. allowed_origins: whose pages may connect (empty: only the
    hub's own). trusted_proxies: networks whose X-Forwarded-For and -Proto are believed (empty: nobody's).
    unblockable_networks: what is done from there is watched and told, and never blocks: an operator must be able to
    get in. allowed_hosts: what the `Host` of an MCP request may say beside loopback and the hub's own public address,
    with its port or `:*`."""

    tls_required: bool = False
    allowed_origins: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ()
    unblockable_networks: tuple[str, ...] = LOOPBACK


class DoorSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """socketio: speak Socket.IO at /socket.io; None: where the extra `socketio` is installed."""

    socketio: bool | None = None


class WebhookSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """allow_private: receivers may be on this machine and on private networks. timeout_s: for one attempt. The next
    comes after first_wait_s, then after twice as long each time, up to five minutes; after max_failures in a row the
    webhook is disabled."""

    allow_private: bool = False
    timeout_s: Annotated[float, Meta(gt=0, le=60)] = 10.0
    first_wait_s: Annotated[float, Meta(gt=0, le=300)] = 1.0
    max_failures: Annotated[int, Meta(ge=1, le=10_000)] = 30


class AuditSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`checkpoint_file` None: `audit/checkpoints.jsonl` in the data folder. Best on another disk or host."""

    checkpoint_file: str | None = None


class RetentionSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Days. None: for ever. Counted from when a sign-in, key, session or job has ended, a row was written, or a request
    was answered. stranger_days: how long the names and addresses of strangers in the audit log can be told apart.
    message_days: by namespace. legal_hold_days: by namespace, how long its records must outlive an erasure."""

    sign_in_days: Positive | None = 30
    api_key_days: Positive | None = 365
    session_days: Positive | None = 30
    coordination_days: Positive | None = None
    stranger_days: Positive | None = 30
    request_days: Positive | None = 731
    job_days: Positive | None = 30
    insight_days: Positive | None = 30
    message_days: dict[str, Positive] = {}
    legal_hold_days: dict[str, Positive] = msgspec.field(default_factory=lambda: {"orders": 1827, "fills": 1827})

    def by_table(self) -> dict[str, int]:
        days = {
            "refresh_tokens": self.sign_in_days,
            "authorization_codes": self.sign_in_days,
            "api_keys": self.api_key_days,
            "ai_enhanced_sessions": self.session_days,
            "specialist_coordination": self.coordination_days,
            "day_keys": self.stranger_days,
            "privacy_requests": self.request_days,
            "jobs": self.job_days,
            "insights": self.insight_days,
            "error_groups": self.insight_days,
            "legal_holds": 0,
        }
        return {table: each for table, each in days.items() if each is not None}


class RedisSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """allow_insecure: use a Redis of another machine without a password. bell_key_file: at least 32 bytes that seal
    what nodes tell each other; by default a secret that they share in Postgres."""

    allow_insecure: bool = False
    bell_key_file: str | None = None


class TracingSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """endpoint: where spans go, OTLP over HTTP (`http://127.0.0.1:4318`); none: nothing is traced. Needs the extra
    `otel`. sample_ratio: how many of the messages that bring no trace get one. max_per_s: spans, at most."""

    endpoint: str | None = None
    sample_ratio: Annotated[float, Meta(ge=0, le=1)] = 0.0
    max_per_s: Annotated[int, Meta(ge=1, le=10_000)] = 100


class TradingSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The paper venue. A command travels for latency_ms and up to jitter_ms more, by dice of the seed. maker_bps and
    taker_bps: what a trade costs, of its amount (below zero: a rebate). balance: what a new account starts with."""

    paper_latency_ms: Annotated[float, Meta(ge=0, le=60_000)] = 5.0
    paper_jitter_ms: Annotated[float, Meta(ge=0, le=60_000)] = 0.0
    paper_seed: int = 1
    paper_maker_bps: DecimalString = "0"
    paper_taker_bps: DecimalString = "0"
    paper_balance: dict[Name, Quantity] = msgspec.field(default_factory=lambda: {"USD": "1000000"})


class MarketSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How one price is made of several. stale_after_ms (by symbol: stale_after_ms_of): until when a quote counts.
    outlier_bps: how far from the median of three or more it may be. dwell_s: how long a PRIMARY source must have been
    well before SECONDARY ones step back for it."""

    stale_after_ms: Positive = 2_000
    stale_after_ms_of: dict[Name, Positive] = {}
    outlier_bps: Positive = 50
    dwell_s: Annotated[float, Meta(ge=0, le=3600)] = 5.0
    book_depth: Annotated[int, Meta(ge=1, le=1000)] = 10


class OpenAISettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """OpenAI, or whatever speaks its API at base_url. A key alone sends nothing anywhere: see who uses it."""

    base_url: str | None = None
    api_key: str | None = None


class SearchSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """namespaces: durable ones whose messages can be found (None: all of them). embedder: `hashing` compares words and
    needs nobody; `openai` asks `model` over [openai]. consent: show the model only what people say who have agreed to
    ai_processing; false for a model of your own. index: of the vectors, once there are five thousand. The budget is a
    day's, in US dollars and tokens; usd_per_mtok: US dollars a million tokens, 0 for a model of your own."""

    namespaces: tuple[str, ...] | None = None
    embedder: Literal["hashing", "openai"] = "hashing"
    model: Name = "text-embedding-3-small"
    consent: bool = True
    index: Literal["hnsw", "ivfflat"] = "hnsw"
    usd_per_day: Annotated[float, Meta(gt=0, le=1_000_000)] = 5.0
    tokens_per_day: Annotated[int, Meta(ge=1, le=10**12)] = 250_000_000
    usd_per_mtok: Annotated[float, Meta(ge=0, le=10_000)] = 0.02


class CacheSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Of vectors of queries. memory_bytes: at most, of a hub without Redis. longest_s: that one is taken for true.
    similar: also for what the same person asks in about the same words."""

    memory_bytes: Annotated[int, Meta(ge=65_536, le=2**40)] = 32 * 1024 * 1024
    longest_s: Annotated[float, Meta(ge=1, le=86_400)] = 3600.0
    similar: bool = False


class InsightSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """model: asked over [openai] for insights; None: rules and statistics alone. namespaces: of the channels that it
    may be shown. consent: as in [search]. The budget is each tenant's a day, in US dollars and tokens; prices are US
    dollars a million tokens, 0 for a model of your own."""

    model: Name | None = None
    namespaces: tuple[str, ...] = ("team", "tasks", "alerts")
    consent: bool = True
    usd_per_day: Annotated[float, Meta(gt=0, le=1_000_000)] = 5.0
    tokens_per_day: Annotated[int, Meta(ge=1, le=10**12)] = 2_000_000
    usd_per_mtok_in: Annotated[float, Meta(ge=0, le=10_000)] = 0.0
    usd_per_mtok_out: Annotated[float, Meta(ge=0, le=10_000)] = 0.0


Role = Literal["PRIMARY", "SECONDARY"]

NodeRole = Literal["all", "gateway", "worker"]
"""A gateway has the clients, and leaves to workers what can be done without any; or a node does all."""


class _Feed(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind"):
    """A `[feeds.NAME]` table; `kind` says which."""


class SimulatedFeed(_Feed, frozen=True, tag="simulated"):
    """Invented prices of invented sources. rate: how often a second each symbol moves."""

    seed: int = 1
    rate: Annotated[float, Meta(gt=0, le=1000)] = 10.0
    symbols: Annotated[int, Meta(ge=1, le=1000)] = 5


class ReplayFeed(_Feed, frozen=True, tag="replay"):
    """A recording of an exchange, its times moved to now. After its end it begins again."""

    file: str
    speed: Annotated[float, Meta(gt=0, le=1000)] = 1.0
    role: Role = "PRIMARY"


class ExchangeFeed(_Feed, frozen=True, tag="ccxt"):
    """A live exchange, by its id in ccxt; symbols as the hub names them, such as BTC-USD. options: what ccxt's
    constructor takes beside. Needs the extra `feeds`."""

    exchange: Name
    symbols: Annotated[tuple[Name, ...], Meta(min_length=1, max_length=200)]
    role: Role = "PRIMARY"
    options: dict[str, Any] = {}


Feed = SimulatedFeed | ReplayFeed | ExchangeFeed


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 8000
    data_dir: Path
    database_url: str | None = None
    redis_url: str | None = None
    log_level: LogLevel = "info"
    node: Name
    role: NodeRole = "all"
    ping_interval_s: Annotated[float, Meta(gt=0, le=3600)] = 25.0
    drain_timeout_s: Annotated[float, Meta(ge=0, le=3600)] = 10.0
    io_uring: bool = True
    limits: LimitSettings = LimitSettings()
    auth: AuthSettings = AuthSettings()
    tls: TlsSettings = TlsSettings()
    security: SecuritySettings = SecuritySettings()
    doors: DoorSettings = DoorSettings()
    webhooks: WebhookSettings = WebhookSettings()
    audit: AuditSettings = AuditSettings()
    retention: RetentionSettings = RetentionSettings()
    redis: RedisSettings = RedisSettings()
    tracing: TracingSettings = TracingSettings()
    trading: TradingSettings = TradingSettings()
    market: MarketSettings = MarketSettings()
    openai: OpenAISettings = OpenAISettings()
    search: SearchSettings = SearchSettings()
    cache: CacheSettings = CacheSettings()
    insights: InsightSettings = InsightSettings()
    feeds: dict[Name, Feed] = {}
    namespaces: dict[str, Namespace] = msgspec.field(default_factory=lambda: dict(DEFAULTS))

    def __repr__(self) -> str:
        """Short, for logs: the addresses of Postgres and Redis hold passwords."""
        return f"<settings of {self.node}: {self.host}:{self.port}, {self.data_dir}>"

    @property
    def checkpoint_file(self) -> Path:
        given = self.audit.checkpoint_file
        return Path(given).expanduser() if given else self.data_dir / "audit" / "checkpoints.jsonl"


def default_data_dir() -> Path:
    """A per-user folder, as the XDG base directory specification has it."""
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "krin"


def environment_with(**given: str | None) -> dict[str, str]:
    """The environment of this process and settings that were `given`, for a process of our own: what a command line
    says is everybody's to read, and the addresses of Postgres and Redis hold passwords."""
    return os.environ | {f"KRIN_{name.upper()}": value for name, value in given.items() if value is not None}


def load(config_file: Path | None = None, **given: Any) -> Settings:
    """Settings from a file and from what was `given` (None: not given). Raises ConfigError."""
    table: dict[str, Any] = {}
    if config_file is not None:
        try:
            table = tomllib.loads(config_file.read_text())
        except OSError as failure:
            raise ConfigError(f"cannot read {config_file}: {failure.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as failure:
            raise ConfigError(f"{config_file} is not valid TOML: {failure}") from None
    tls = {name: given.pop(f"tls_{name}", None) for name in ("cert", "key")}
    if any(tls.values()):
        table["tls"] = tls  # together: a key of one place must not meet a certificate of another
    for name in ("base_url", "api_key"):
        if (value := given.pop(f"openai_{name}", None)) is not None:
            table["openai"] = {**table.get("openai", {}), name: value}
    if (origins := given.pop("allow_origin", None)) is not None:
        table["security"] = {**table.get("security", {}), "allowed_origins": origins.split(",")}
    namespaces = table.pop("namespaces", {})
    if not isinstance(namespaces, dict):
        raise ConfigError("[namespaces] must hold one table per namespace")
    table |= {name: value for name, value in given.items() if value is not None}
    table.setdefault("data_dir", str(default_data_dir()))
    table.setdefault("node", f"{socket.gethostname()}-{secrets.token_hex(2)}")
    try:
        merged = {**DEFAULTS, **{name: _namespace(name, policy) for name, policy in namespaces.items()}}
        settings = msgspec.structs.replace(
            msgspec.convert({**table, "data_dir": str(table["data_dir"])}, Settings, dec_hook=_path), namespaces=merged
        )
    except msgspec.ValidationError as failure:
        raise ConfigError(f"the configuration is wrong: {failure}") from None
    _check_security(settings)
    _check_redis(settings)
    _check_models(settings)
    return settings


def _check_models(settings: Settings) -> None:
    search, openai = settings.search, settings.openai
    if search.embedder == "openai" and openai.api_key is None and openai.base_url is None:
        raise ConfigError('[search] embedder = "openai" needs OPENAI_API_KEY, or [openai] base_url for another server')
    if settings.insights.model is not None and openai.api_key is None and openai.base_url is None:
        raise ConfigError("[insights] model needs OPENAI_API_KEY, or [openai] base_url for another server")
    for name in search.namespaces or ():
        if name not in settings.namespaces or not settings.namespaces[name].durable:
            raise ConfigError(f"[search] namespaces: {name!r} is no durable namespace")


def _check_redis(settings: Settings) -> None:
    if settings.redis_url is None:
        return
    try:
        servers = redis_url.servers(settings.redis_url)
    except ValueError as failure:
        raise ConfigError(str(failure)) from None
    for server in servers:
        if not (redis_url.is_local(server) or redis_url.has_password(server) or settings.redis.allow_insecure):
            raise UnsafeConfig(
                "Redis is on another machine and the URL has no password: give it one, or [redis] allow_insecure = true"
            )


def _check_security(settings: Settings) -> None:
    security, tls = settings.security, settings.tls
    if security.tls_required and tls.cert is None:
        raise UnsafeConfig("[security] tls_required, but there is no certificate: give --tls-cert and --tls-key")
    if tls.key is not None and tls.cert is None:
        raise ConfigError("--tls-key needs --tls-cert")
    for origin in security.allowed_origins:
        if not ORIGIN.match(origin):
            raise ConfigError(f"[security] allowed_origins: {origin!r} is no origin such as https://app.example.com")
    for name, given in (
        ("[security] trusted_proxies", security.trusted_proxies),
        ("[security] unblockable_networks", security.unblockable_networks),
        ("[limits] exempt_networks", settings.limits.exempt_networks),
    ):
        try:
            networks(given)
        except ValueError as failure:
            raise ConfigError(f"{name}: {failure}") from None


def _namespace(name: str, policy: Any) -> Namespace:
    """A namespace as configured; what the table leaves out comes from the built-in one of that name, if any."""
    if not NAMESPACE_NAME.match(name):
        raise ConfigError(f"[namespaces.{name}] is not a name: use lower-case letters, digits and _")
    if not isinstance(policy, dict):
        raise ConfigError(f"[namespaces.{name}] must be a table")
    base = msgspec.to_builtins(DEFAULTS[name]) if name in DEFAULTS else {}
    try:
        namespace = msgspec.convert({**base, **policy}, Namespace)
    except msgspec.ValidationError as failure:
        raise ConfigError(f"[namespaces.{name}] is wrong: {failure}") from None
    for entry in (*namespace.publish, *namespace.subscribe):
        if entry.partition(":")[2] not in QUALIFIERS:
            raise ConfigError(f"[namespaces.{name}] {entry!r} is no role: qualify with :own, :team or :role")
    return namespace


def _path(kind: type, value: Any) -> Any:
    if kind is Path:
        return Path(value).expanduser()
    raise NotImplementedError(kind)
