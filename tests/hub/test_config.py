"""The configuration file: what it may say, and one clear sentence for everything else."""

from __future__ import annotations

from pathlib import Path

import pytest

from hub.bootstrap import make_tokens
from hub.clock import SystemClock
from hub.config import ExchangeFeed, ReplayFeed, SimulatedFeed, load
from hub.namespaces import DEFAULTS
from hub.redis_url import servers
from hub.unusable import ConfigError, UnsafeConfig


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "krin.toml"
    path.write_text(text)
    return path


def test_without_a_file_everything_has_a_default(tmp_path: Path) -> None:
    settings = load(data_dir=str(tmp_path))

    assert settings.host == "127.0.0.1"
    assert settings.namespaces == DEFAULTS
    assert settings.node


def test_a_namespace_of_ones_own_stands_beside_the_built_in_ones(tmp_path: Path) -> None:
    path = write(tmp_path, '[namespaces.chat]\npromise = "recoverable"\npublish = ["*"]\nhistory_size = 5\n')

    settings = load(path, data_dir=str(tmp_path))

    assert settings.namespaces["chat"].history_size == 5
    assert set(settings.namespaces) == {*DEFAULTS, "chat"}


def test_a_built_in_namespace_changes_only_where_the_file_says_so(tmp_path: Path) -> None:
    path = write(tmp_path, "[namespaces.prices]\nmax_keys = 7\n")

    prices = load(path, data_dir=str(tmp_path)).namespaces["prices"]

    assert prices.max_keys == 7
    assert prices.publish == DEFAULTS["prices"].publish
    assert prices.latest


def test_what_is_given_beats_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, 'port = 1234\nhost = "0.0.0.0"\n[limits]\nsubscriptions = 3\n')

    settings = load(path, data_dir=str(tmp_path), port=4321)

    assert (settings.port, settings.host, settings.limits.subscriptions) == (4321, "0.0.0.0", 3)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("port = 70000", "port"),
        ("port = -1", "port"),
        ('port = "eighty"', "port"),
        ("prot = 80", "prot"),
        ("ping_interval_s = 0", "ping_interval_s"),
        ("drain_timeout_s = -1", "drain_timeout_s"),
        ("drain_timeout_s = inf", "drain_timeout_s"),
        ("drain_timeout_s = nan", "drain_timeout_s"),
        ("ping_interval_s = inf", "ping_interval_s"),
        ("ping_interval_s = nan", "ping_interval_s"),
        ('log_level = "loud"', "log_level"),
        ("[limits]\nmessage_bytes = 1", "message_bytes"),
        ("[limits]\noutbox_bytes = 0", "outbox_bytes"),
        ("[limits]\nconnections = 0", "connections"),
        ("[limits]\nconections = 1", "conections"),
        ("limits = 3", "limits"),
        ("[auth]\nalgorithm = 3", "algorithm"),
        ("[trading]\npaper_taker_bps = 1.5", "paper_taker_bps"),
        ("[trading]\npaper_latency_ms = -1", "paper_latency_ms"),
        ('[trading]\npaper_balance = { USD = "-1" }', "paper_balance"),
        ('[namespaces.x]\npromise = "eventually"', "promise"),
        ('[namespaces.x]\npromis = "latest"', "promis"),
        ("[namespaces.x]\nhistory_size = -1", "history_size"),
        ('[namespaces.x]\npublish = "feed"', "publish"),
        ("namespaces = 3", "namespaces"),
        ("[namespaces]\nx = 3", "x"),
        ('[namespaces."Not A Name"]\npromise = "latest"', "Not A Name"),
        ('[namespaces."a:b"]\npromise = "latest"', "a:b"),
        ('[namespaces.x]\npublish = ["trader:ownn"]', "ownn"),
        ("port = 80\nport = 81", "krin.toml"),
        ("= =", "krin.toml"),
    ],
)
def test_a_wrong_value_is_one_sentence_that_names_it(tmp_path: Path, text: str, names: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, text), data_dir=str(tmp_path))

    assert names in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_or_not_text_is_one_sentence(tmp_path: Path) -> None:
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "missing.toml", binary, tmp_path):
        with pytest.raises(ConfigError) as caught:
            load(path, data_dir=str(tmp_path))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "auth",
    [
        '[auth]\nalgorithm = "none"',
        '[auth]\nalgorithm = "HS512"',
        '[auth]\nalgorithm = "HS256"\nverifying_key_file = "/nowhere/key"',
        '[auth]\nalgorithm = "RS256"\nverifying_key_file = "/nowhere/key.pem"',
        '[auth]\nsigning_key_file = "/nowhere/key"',
    ],
)
def test_a_key_that_cannot_be_used_is_one_sentence(tmp_path: Path, auth: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_tokens(load(write(tmp_path, auth), data_dir=str(tmp_path)), SystemClock())

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"short", b"00" * 8, b"\xff\xfe" * 40, b"zz" * 40])
def test_a_damaged_signing_key_is_one_sentence_and_never_replaced(tmp_path: Path, content: bytes) -> None:
    key = tmp_path / "keys" / "signing.key"
    key.parent.mkdir()
    key.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        make_tokens(load(data_dir=str(tmp_path)), SystemClock())

    assert "\n" not in str(caught.value)
    assert key.read_bytes() == content


@pytest.mark.parametrize("content", ["", "secret", "x" * 31])
def test_a_configured_secret_that_is_too_short_is_refused_at_start(tmp_path: Path, content: str) -> None:
    (tmp_path / "secret").write_text(content)
    settings = load(
        write(tmp_path, f'[auth]\nalgorithm = "HS256"\nsigning_key_file = "{tmp_path}/secret"'), data_dir=str(tmp_path)
    )
    with pytest.raises(ConfigError):
        make_tokens(settings, SystemClock())


def test_a_key_file_of_another_kind_is_refused_at_start(tmp_path: Path) -> None:
    (tmp_path / "public.pem").write_text("this is no key")
    settings = load(
        write(tmp_path, f'[auth]\nalgorithm = "ES256"\nverifying_key_file = "{tmp_path}/public.pem"'),
        data_dir=str(tmp_path),
    )
    with pytest.raises(ConfigError):
        make_tokens(settings, SystemClock())


@pytest.mark.parametrize(
    "url",
    [
        "redis://cache:6379/0",
        "rediss://10.0.0.5",
        "redis+cluster://user@c1,c2:7001",
        "redis+cluster://127.0.0.1:7000,c2:7001",
        "redis://:@cache",
    ],
)
def test_c71_a_redis_of_another_machine_without_a_password_is_refused_unless_that_is_wanted(
    tmp_path: Path, url: str
) -> None:
    with pytest.raises(UnsafeConfig, match="password"):
        load(redis_url=url)
    wanted = tmp_path / "krin.toml"
    wanted.write_text("[redis]\nallow_insecure = true\n")

    assert load(wanted, redis_url=url).redis_url == url


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1:6379/0",
        "redis://localhost",
        "redis://[::1]:6379",
        "unix:///run/redis.sock",
        "redis://user:secret@cache",
        "rediss://cache/0?password=secret",
        "redis+cluster://user:secret@c1:7000,c2:7001",
        "redis+cluster://127.0.0.1:7000,127.0.0.1:7001",
    ],
)
def test_a_redis_of_this_machine_or_with_a_password_is_accepted(url: str) -> None:
    assert load(redis_url=url).redis_url == url


@pytest.mark.parametrize(
    "url", ["http://cache", "cache:6379", "redis+cluster://user:secret@c1,,c2", "redis+cluster://"]
)
def test_what_is_no_redis_url_is_refused_without_naming_its_password(url: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        load(redis_url=url)

    assert "secret" not in str(refusal.value)


def test_a_cluster_url_names_each_of_its_servers() -> None:
    assert servers("rediss+cluster://u:p@c1:7000,[::1]:7001,c3") == [
        "rediss://u:p@c1:7000/",
        "rediss://u:p@[::1]:7001/",
        "rediss://u:p@c3/",
    ]


def test_c76_settings_do_not_repeat_the_secrets_they_were_given(tmp_path: Path) -> None:
    settings = load(
        data_dir=str(tmp_path), database_url="postgresql://krin:canary@db/krin", redis_url="redis://:canary@cache"
    )
    assert "canary" not in repr(settings)
    assert "canary" not in f"{settings!s} {settings}"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('[security]\nallowed_origins = ["https://app.example/"]', "allowed_origins"),
        ('[security]\nallowed_origins = ["*"]', "allowed_origins"),
        ('[security]\nallowed_origins = ["HTTPS://app.example"]', "allowed_origins"),
        ('[security]\ntrusted_proxies = ["10.0.0.1/8"]', "trusted_proxies"),
        ('[security]\nunblockable_networks = ["everything"]', "unblockable_networks"),
        ('[limits]\nexempt_networks = ["localhost"]', "exempt_networks"),
        ("[limits]\nconnects_per_s = 0", "connects_per_s"),
        ('[tls]\nkey = "key.pem"', "--tls-cert"),
    ],
)
def test_a_wrong_limit_network_or_origin_is_one_sentence_that_names_it(tmp_path: Path, text: str, names: str) -> None:
    with pytest.raises(ConfigError, match=names):
        load(write(tmp_path, text), data_dir=str(tmp_path))


def test_c01_a_missing_certificate_that_was_declared_necessary_is_an_unsafe_configuration(tmp_path: Path) -> None:
    path = write(tmp_path, "[security]\ntls_required = true\n")
    with pytest.raises(UnsafeConfig):
        load(path, data_dir=str(tmp_path))
    assert load(path, data_dir=str(tmp_path), tls_cert="cert.pem").tls.cert == "cert.pem"


def test_feeds_are_read_by_kind(tmp_path: Path) -> None:
    path = tmp_path / "krin.toml"
    path.write_text(
        """
        [market]
        stale_after_ms_of = { "AAPL" = 60000 }

        [feeds.cb]
        kind = "ccxt"
        exchange = "coinbaseexchange"
        symbols = ["BTC-USD"]

        [feeds.spare]
        kind = "replay"
        file = "kraken.txt"
        role = "SECONDARY"

        [feeds.sim]
        kind = "simulated"
        """
    )
    settings = load(path)
    assert settings.feeds == {
        "cb": ExchangeFeed(exchange="coinbaseexchange", symbols=("BTC-USD",)),
        "spare": ReplayFeed(file="kraken.txt", role="SECONDARY"),
        "sim": SimulatedFeed(),
    }
    assert settings.market.stale_after_ms_of == {"AAPL": 60_000}


@pytest.mark.parametrize(
    "feed", ["", 'kind = "carrier pigeon"', 'kind = "ccxt"\nexchange = "kraken"\nsymbols = []', 'kind = "replay"']
)
def test_a_feed_that_is_none_is_refused(tmp_path: Path, feed: str) -> None:
    path = tmp_path / "krin.toml"
    path.write_text(f"[feeds.x]\n{feed}\n")
    with pytest.raises(ConfigError, match="feeds"):
        load(path)


def test_a_key_for_openai_alone_sends_nothing_anywhere(tmp_path: Path) -> None:
    settings = load(data_dir=str(tmp_path), openai_api_key="sk-secret")
    assert settings.search.embedder == "hashing"
    assert settings.insights.model is None
    assert "sk-secret" not in repr(settings)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[search]\nembedder = "openai"', "needs OPENAI_API_KEY"),
        ('[insights]\nmodel = "m"', "needs OPENAI_API_KEY"),
        ('[search]\nnamespaces = ["prices"]', "'prices' is no durable namespace"),
        ('[search]\nnamespaces = ["nowhere"]', "'nowhere' is no durable namespace"),
    ],
)
def test_a_search_that_cannot_work_is_refused(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "krin.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=said):
        load(file, data_dir=str(tmp_path))
