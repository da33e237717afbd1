"""What a front end expects, compared with the hub's own structs."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from hub.coordination.contracts import Contracts
from hub.namespaces import Namespaces
from hub.permissions import METHODS
from protocol.contracts import ContractExpectation, ContractReport
from protocol.operations import OPERATIONS
from protocol.vocabulary import DATA_TYPES

CONTRACTS = Contracts(Namespaces(), methods=METHODS)


def report(**expected: Any) -> ContractReport:
    return CONTRACTS.report(msgspec.convert({"consumer": "board", **expected}, ContractExpectation))


def reads(type: str, **fields: dict[str, Any]) -> ContractReport:
    return report(messages=[{"type": type, "fields": fields}])


def found(answer: ContractReport) -> list[tuple[str, str]]:
    assert answer.valid == (not answer.violations)
    return [(each.code, each.at) for each in answer.violations]


def test_what_the_hub_does_is_valid() -> None:
    answer = report(
        messages=[
            {
                "type": "SPECIALIST_UPDATE",
                "fields": {
                    "offset": {"type": "integer", "always": True},
                    "data[].specialist_id": {"type": "string", "always": True},
                    "data[].progress": {"type": "number"},
                    "data[].blockers[].kind": {"type": "string", "always": True},
                    "coordination.blocked.build[]": {"type": "string"},
                    "coordination.suggestions[].why": {"type": ["string", "null"]},
                },
            },
            {"type": "PRICE_TICK", "fields": {"data.symbol": {"type": "string", "always": True}}},
        ],
        calls=[
            {
                "method": "strategies.stop",
                "params": {
                    "account": {"type": "string", "always": True},
                    "strategy_id": {"type": "string", "always": True},
                },
                "result": {"state": {"values": ["RUNNING", "STOPPING", "STOPPED", "FAILED"]}},
            }
        ],
        channels=[{"channel": "team:alpha", "types": ["SPECIALIST_UPDATE", "ALERT"]}],
    )
    assert found(answer) == []
    assert answer.checked == 16
    assert answer.unchecked == []


def test_a_type_that_does_not_exist_is_named_with_the_one_that_was_meant() -> None:
    answer = reads("TASK_STATE_UPDATE")
    assert found(answer) == [("UNKNOWN_TYPE", "messages[0].type")]
    assert answer.violations[0].did_you_mean == "TASK_STATUS_UPDATE"


def test_a_field_that_does_not_exist_is_named_with_the_one_that_was_meant() -> None:
    answer = reads("TASK_STATUS_UPDATE", **{"data.task_identifier": {}, "data.blockers[].knd": {}})
    assert found(answer) == [
        ("UNKNOWN_FIELD", "messages[0].fields.data.task_identifier"),
        ("UNKNOWN_FIELD", "messages[0].fields.data.blockers[].knd"),
    ]
    assert answer.violations[1].did_you_mean == "kind"


@pytest.mark.parametrize(
    ("path", "type"),
    [
        ("data.progress", "integer"),
        ("data.title", "number"),
        ("data.blockers", "object"),
        ("data.state", ["integer", "null"]),
        ("timestamp", "string"),
    ],
)
def test_a_reader_must_take_every_type_that_may_come(path: str, type: Any) -> None:
    assert found(reads("TASK_STATUS_UPDATE", **{path: {"type": type}})) == [
        ("WRONG_TYPE", f"messages[0].fields.{path}")
    ]


def test_what_may_be_left_out_cannot_be_relied_on() -> None:
    answer = reads("TASK_STATUS_UPDATE", **{"data.specialist_id": {"always": True}, "data.task_id": {"always": True}})
    assert found(answer) == [("MAY_BE_ABSENT", "messages[0].fields.data.specialist_id")]


def test_a_reader_must_understand_every_value_that_may_come() -> None:
    answer = reads("TASK_STATUS_UPDATE", **{"data.state": {"values": ["SUBMITTED", "WORKING", "COMPLETED", "FAILED"]}})
    assert found(answer) == [("UNKNOWN_VALUE", "messages[0].fields.data.state")]
    assert "INPUT_REQUIRED" in answer.violations[0].message
    assert found(reads("TASK_STATUS_UPDATE", **{"data.title": {"values": ["x"]}})) == []  # any text: nothing is closed


def test_free_form_objects_are_reported_as_unchecked_and_not_as_right() -> None:
    answer = reads("TASK_STATUS_UPDATE", **{"data.ext.colour": {"type": "string"}})
    assert answer.valid
    assert answer.unchecked == ["messages[0].fields.data.ext.colour"]


def test_a_call_with_a_wrong_missing_or_unknown_parameter() -> None:
    answer = report(
        calls=[
            {"method": "orders.place"},
            {"method": "orders.cancel", "params": {"account": {"always": True}, "client_order_id": {}}},
            {
                "method": "risk.halt",
                "params": {
                    "scope": {"type": "string", "always": True, "values": ["ACCOUNT", "PLANET"]},
                    "reason": {"type": ["string", "null"], "always": True},
                    "cancels": {"type": "boolean"},
                },
                "result": {"state.mode": {"type": "string"}, "cancelled": {}},
            },
        ]
    )
    assert found(answer) == [
        ("UNKNOWN_METHOD", "calls[0].method"),
        ("MISSING_PARAM", "calls[1].params.client_order_id"),
        ("UNKNOWN_VALUE", "calls[2].params.scope"),
        ("WRONG_TYPE", "calls[2].params.reason"),
        ("UNKNOWN_FIELD", "calls[2].params.cancels"),
        ("UNKNOWN_FIELD", "calls[2].result.cancelled"),
    ]
    assert [each.did_you_mean for each in answer.violations[-2:]] == ["cancel", "canceled"]


def test_a_method_whose_parameters_are_not_written_down_is_unchecked() -> None:
    contracts = Contracts(Namespaces(), methods=["odd.method"])
    answer = contracts.report(
        msgspec.convert({"consumer": "x", "calls": [{"method": "odd.method"}]}, ContractExpectation)
    )
    assert (answer.valid, answer.unchecked) == (True, ["calls[0].method"])


def test_a_channel_of_no_namespace_and_a_type_that_its_namespace_does_not_carry() -> None:
    answer = report(channels=[{"channel": "teams:alpha"}, {"channel": "tasks:alpha", "types": ["PRICE_TICK"]}])
    assert found(answer) == [("UNKNOWN_CHANNEL", "channels[0].channel"), ("NOT_IN_CHANNEL", "channels[1].types[0]")]
    assert answer.violations[0].did_you_mean == "team"


@pytest.mark.parametrize("type", DATA_TYPES)
def test_every_field_of_every_type_can_be_compared(type: str) -> None:
    data = DATA_TYPES[type]
    listed = "[]" if type == "SPECIALIST_UPDATE" else ""
    struct = data.__args__[0] if listed else data
    fields = {f"data{listed}.{name}": {"type": "null"} for name in struct.__struct_encode_fields__}
    answer = reads(type, **fields)
    assert {each.code for each in answer.violations} == {"WRONG_TYPE"}
    assert answer.checked == len(fields) + 1
    assert len(answer.violations) + len(answer.unchecked) == len(fields)


@pytest.mark.parametrize("method", OPERATIONS)
def test_every_operation_is_a_method_and_takes_what_it_says_it_takes(method: str) -> None:
    assert method in METHODS
    names = OPERATIONS[method].params.__struct_encode_fields__
    kinds = {name: {"type": "null", "always": True} for name in names}
    assert {code for code, _ in found(report(calls=[{"method": method, "params": kinds}]))} <= {"WRONG_TYPE"}
    assert found(report(calls=[{"method": method, "params": {name: {"always": True} for name in names}}])) == []
