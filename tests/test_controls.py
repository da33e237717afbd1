"""Which test proves which security control, C1 to C95. A test says so in its name: `test_c45_...`, `test_c78_c79_...`.

`ELSEWHERE` names the tests that prove a control without its number; `OPEN` is what no test proves, and why. SECURITY.md
says what the controls are in a line each where we differ from them.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parent

ELSEWHERE = {
    5: ["edge/test_handshake.py::test_a_bad_authorization_header_is_401_before_the_upgrade"],
    6: [
        "edge/test_handshake.py::test_who_connects_and_says_nothing_is_sent_away_after_ten_seconds",
        "edge/test_handshake.py::test_five_hundred_strangers_that_never_connect_do_not_keep_others_out",
    ],
    7: ["edge/test_handshake.py::test_a_slow_drip_is_cut_off_wherever_it_drips"],
    8: ["edge/test_handshake.py::test_a_header_flood_is_431_and_the_connection_ends"],
    9: ["edge/test_handshake.py::test_an_odd_request_is_refused_in_http"],
    10: ["edge/test_handshake.py::test_an_odd_request_is_refused_in_http"],
    16: ["edge/test_websocket_frames.py::test_a_broken_frame_ends_the_connection_with_the_code_of_the_standard"],
    17: ["edge/test_websocket_frames.py::test_a_broken_frame_ends_the_connection_with_the_code_of_the_standard"],
    18: ["edge/test_websocket_frames.py::test_a_broken_frame_ends_the_connection_with_the_code_of_the_standard"],
    19: ["edge/test_hostile_messages.py::test_a_frame_of_the_other_format_ends_the_connection_as_bad_protocol"],
    21: ["edge/test_websocket_frames.py::test_a_million_empty_fragments_cost_the_hub_nothing"],
    22: ["edge/test_websocket_frames.py::test_a_ping_flood_is_cut_off_and_not_answered_into_memory"],
    43: ["hub/test_connection.py::test_a_token_about_to_expire_is_announced_once_and_then_ends_the_connection"],
    75: [
        "hub/test_providers.py::test_an_answer_that_is_no_plain_bounded_document_is_a_failure_in_one_line",
        "hub/test_providers.py::test_a_provider_that_cannot_be_trusted_is_refused_at_the_start",
    ],
    81: ["edge/test_audit_commands.py::test_c78_verify_tail_and_export_agree_and_an_export_verifies_elsewhere"],
    83: ["hub/test_dispatch.py::test_an_unexpected_failure_is_internal_with_an_incident_that_stands_in_the_log"],
}

OPEN = {
    20: "permessage-deflate is never negotiated (hub/serve.py), so there is nothing to inflate",
    64: "there is no search yet",
    84: "pgaudit is not in the embedded Postgres; hub/README.md recommends it for a server of one's own",
}


def every_test() -> set[str]:
    return {
        f"{path.relative_to(TESTS).as_posix()}::{node.name}"
        for path in TESTS.rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test")
    }


def numbered(names: set[str]) -> set[int]:
    return {int(number) for name in names for number in re.findall(r"_c(\d+)(?=_)", name.partition("::")[2])}


def test_every_control_is_proven_or_said_to_be_open() -> None:
    by_name = numbered(every_test())
    known = by_name | set(ELSEWHERE) | set(OPEN)

    assert sorted(set(range(1, 96)) - known) == []
    assert sorted(by_name & (set(ELSEWHERE) | set(OPEN))) == [], "these have tests of their own by now"


def test_every_named_test_exists() -> None:
    names = every_test()
    assert [name for named in ELSEWHERE.values() for name in named if name not in names] == []
