"""History as DataFrames: what a real hub has kept, with the types that it has on the wire."""

from __future__ import annotations

import secrets
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pandas as pd
import pytest

from hub.client import HubError, Message, dataframes
from hub.client.sync import Client, connect
from protocol.vocabulary import DATA_TYPES

T0 = 1_700_000_000_000_000


@pytest.fixture
def krin(hub: Any) -> Iterator[Client]:
    with connect(hub.url, token=hub.token("ada"), timeout_s=30) as client:
        yield client


def fresh(kind: str = "custom") -> str:
    return f"{kind}:{secrets.token_hex(4)}"


def message(offset: int, kind: str, data: Any, **fields: Any) -> Message:
    return Message(kind, "custom:a", offset, "e1", 1_700_000_000_000, data, **fields)


def test_trades_have_prices_sizes_and_times(krin: Client) -> None:
    channel = fresh("trades")
    trade = {"symbol": "BTC-USD", "size": "0.5", "source": "coinbase"}
    krin.publish(channel, "TRADE", {**trade, "price": "64000.10", "ts_event": T0 + 1, "seq": 7})
    krin.publish(channel, "TRADE", {**trade, "price": "64000.20", "aggressor_side": "BUYER"}, key="k")

    table = dataframes.read(krin, channel)

    assert (table.index.name, list(table.index)) == ("offset", [1, 2])
    assert list(table.columns[:4]) == ["timestamp", "type", "key", "publisher"]
    assert table["price"].dtype == "float64"
    assert table["price"].tolist() == [64000.1, 64000.2]
    assert table["ts_event"].dtype == "datetime64[us, UTC]"
    assert table["ts_event"].iloc[0] == pd.Timestamp(T0 + 1, unit="us", tz="UTC")
    assert pd.isna(table["ts_event"].iloc[1])
    assert table["timestamp"].dtype == "datetime64[ms, UTC]"
    assert table["seq"].dtype == "Int64"
    assert table["aggressor_side"].tolist() == ["NONE", "BUYER"]  # what is left out is what it means
    assert table["publisher"].tolist() == ["ada", "ada"]
    assert table["key"].tolist()[1] == "k"


def test_prices_are_decimals_on_request(krin: Client) -> None:
    channel = fresh("trades")
    for price in ("0.10", "123456789012345678.000000000000000001"):
        krin.publish(channel, "TRADE", {"symbol": "A", "price": price, "size": "1"})
    exact = dataframes.read(krin, channel, exact=True)
    assert exact["price"].tolist() == [Decimal("0.10"), Decimal("123456789012345678.000000000000000001")]
    assert sum(exact["size"]) == Decimal(2)


def test_bars_are_ready_to_be_drawn(krin: Client) -> None:
    channel = "bars:1m:" + secrets.token_hex(4).upper()
    bar = {"symbol": "A", "interval": "1m", "open": "1", "high": "2", "low": "0.5", "close": "1.5", "volume": "10"}
    for minute in range(3):
        start = T0 + minute * 60_000_000
        krin.publish(channel, "BAR", {**bar, "start": start, "end": start + 60_000_000, "closed": minute < 2})
    bars = dataframes.read(krin, channel).set_index("start")
    assert bars["closed"].dtype == "boolean"
    assert bars["closed"].tolist() == [True, True, False]
    assert bars["trade_count"].tolist() == [0, 0, 0]
    assert bars.resample("1h")["volume"].sum().sum() == 30.0


def test_orders_are_of_several_types_and_may_be_chosen(krin: Client) -> None:
    channel = fresh("orders")
    order = {"account": "ada", "client_order_id": "c1", "symbol": "A", "side": "BUY"}
    krin.publish(channel, "EXECUTION_REPORT", {**order, "exec_type": "NEW", "ord_status": "NEW", "price": "2"})
    krin.publish(channel, "ORDER_EVENT", {**order, "ord_status": "NEW"})
    assert dataframes.read(krin, channel)["type"].tolist() == ["EXECUTION_REPORT", "ORDER_EVENT"]
    reports = dataframes.read(krin, channel, types=["EXECUTION_REPORT"])
    assert reports["price"].tolist() == [2.0]
    assert reports.attrs["position"].offset == 2
    none = dataframes.read(krin, channel, types=["RISK_DECISION"])
    assert len(none) == 0
    assert "result" in none.columns


def test_a_whole_history_is_read_in_pages_and_parts(krin: Client) -> None:
    """A page has at most 256 KiB: ten messages of 60 kB need several."""
    room = fresh()
    for number in range(10):
        krin.publish(room, "NOTE", {"n": number, "text": "x" * 60_000})
    assert krin.history(room, limit=1000).more
    assert dataframes.read(krin, room)["n"].tolist() == list(range(10))

    parts = dataframes.read_in_parts(krin, room, rows=4)
    first = next(parts)
    assert first["n"].tolist() == [0, 1, 2, 3]
    krin.publish(room, "NOTE", {"n": 10})
    assert [part["n"].tolist() for part in parts] == [[4, 5, 6, 7], [8, 9, 10]]  # read when it was asked for
    later = dataframes.read(krin, room, since=first.attrs["position"])
    assert later.index[0] == 5


def test_an_empty_channel_is_an_empty_table(krin: Client) -> None:
    table = dataframes.read(krin, fresh("trades"), types=["TRADE"])
    assert (len(table), table["price"].dtype) == (0, "float64")
    assert list(dataframes.read_in_parts(krin, fresh())) == []
    assert len(dataframes.read(krin, fresh())) == 0


def test_errors_of_the_hub_come_through(krin: Client) -> None:
    with pytest.raises(HubError):
        dataframes.read(krin, "nowhere")


def test_custom_fields_may_come_and_go_and_clash_with_columns() -> None:
    table = dataframes.dataframe_of(
        [
            message(1, "NOTE", {"n": 1}),
            message(2, "NOTE", {"type": "inner", "text": "b"}),
            message(3, "OTHER", {"n": 2.5}),
        ]
    )
    assert table["n"].dtype == "float64"
    assert table["n"].tolist()[::2] == [1.0, 2.5]
    assert table["type"].tolist() == ["NOTE", "NOTE", "OTHER"]
    assert table["data.type"].dropna().to_dict() == {2: "inner"}


def test_a_field_that_means_something_else_elsewhere_is_left_as_it_is() -> None:
    tick = message(1, "PRICE_TICK", {"symbol": "A", "bid": "1", "quality": {"sources_ok": 1, "sources_total": 2}})
    note = message(2, "NOTE", {"bid": ["a hand", "a lead"]})
    table = dataframes.dataframe_of([tick, note])
    assert table["quality"].iloc[0]["sources_ok"] == 1
    assert table["bid"].tolist() == ["1", ["a hand", "a lead"]]


def test_each_specialist_of_an_update_is_a_row() -> None:
    data = [{"specialist_id": "a", "progress": 0.5}, {"specialist_id": "b", "cost_usd": "0.10"}]
    table = dataframes.dataframe_of([message(7, "SPECIALIST_UPDATE", data)])
    assert list(table.index) == [7, 7]
    assert table["specialist_id"].tolist() == ["a", "b"]
    assert table["cost_usd"].tolist()[1] == 0.1


@pytest.mark.parametrize("name", sorted(DATA_TYPES))
def test_every_message_type_has_columns_of_known_kinds(name: str) -> None:
    kinds = dataframes.fields_of(name)
    assert set(kinds.values()) <= set(dataframes.COLUMNS)
    assert not {field for field, kind in kinds.items() if field.startswith("ts_") and kind != "micros"}
    assert len(dataframes.dataframe_of([], types=[name])) == 0


def test_without_pandas_it_says_what_to_install() -> None:
    code = "import sys; sys.modules['pandas'] = None; import hub.client.sync; import hub.client.dataframes"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "pip install 'krin-hub[pandas]'" in done.stderr
