"""Who is there, and whose pages may ask: the pure decisions behind the outermost layer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.guard.addresses import client_address, neighbourhood, networks, party, within
from hub.guard.origins import allowed_origin

PROXIES = networks(["10.0.0.0/8", "fd00::/8"])
addresses = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("203.0.113.9", ["6.6.6.6"], "203.0.113.9"),  # a stranger's word
        ("10.0.0.1", ["198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["6.6.6.6, 198.51.100.7"], "198.51.100.7"),  # what the client wrote itself stands left of it
        ("10.0.0.1", ["6.6.6.6", "198.51.100.7, 10.0.0.2"], "198.51.100.7"),  # two headers, two proxies
        ("10.0.0.1", ["10.0.0.9, 10.0.0.2"], "10.0.0.9"),  # everybody is a proxy: the farthest
        ("10.0.0.1", ["198.51.100.7, nonsense"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.7:4711"], "10.0.0.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("fd00::1", ["2001:db8::7"], "2001:db8::7"),
        ("", ["6.6.6.6"], ""),
    ],
)
def test_c12_the_client_is_the_nearest_hop_that_is_no_trusted_proxy(
    peer: str, forwarded: list[str], address: str
) -> None:
    assert client_address(peer, forwarded, PROXIES) == address


@given(peer=addresses, forwarded=st.lists(st.text(max_size=30), max_size=4))
def test_c12_without_trusted_proxies_no_header_changes_who_is_there(peer: str, forwarded: list[str]) -> None:
    assert client_address(peer, forwarded, ()) == peer


@given(hop=addresses, claimed=st.lists(addresses, max_size=5))
def test_c12_whatever_a_client_claims_stands_left_of_what_the_proxy_saw(hop: str, claimed: list[str]) -> None:
    if not within(hop, PROXIES):
        assert client_address("10.0.0.1", [", ".join([*claimed, hop])], PROXIES) == hop


def test_an_ipv6_party_is_its_whole_network_and_an_ipv4_address_is_one() -> None:
    assert party("2001:db8:1:2::7") == party("2001:db8:1:2:ffff::9") == "2001:db8:1:2::/64"
    assert party("198.51.100.7") == "198.51.100.7"
    assert neighbourhood("198.51.100.7") == "198.51.100.0/24"
    assert neighbourhood("no address") == "no address"
    assert within("::ffff:10.1.2.3", PROXIES)


HERE = "app.example:8443"


@pytest.mark.parametrize(
    ("origins", "allowed"),
    [
        ([], True),
        ([f"https://{HERE}"], True),
        ([f"http://{HERE}"], False),
        (["https://app.example"], False),
        (["https://app.example:8443.evil.example"], False),
        (["https://evil.example"], False),
        ([f"HTTPS://{HERE}"], False),
        (["https://APP.example:8443"], False),
        ([f"https://{HERE}/"], False),
        ([f" https://{HERE}"], False),
        ([f"https://user@{HERE}"], False),
        (["null"], False),
        ([""], False),
        ([f"https://{HERE}", f"https://{HERE}"], False),
    ],
)
def test_c02_only_the_hubs_own_pages_may_connect_byte_for_byte(origins: list[str], allowed: bool) -> None:
    assert allowed_origin(origins, hosts=[HERE], scheme="https", listed=()) is allowed


def test_c02_a_list_takes_the_place_of_the_hubs_own_origin() -> None:
    listed = {"https://app.example"}
    assert allowed_origin(["https://app.example"], hosts=[HERE], scheme="https", listed=listed)
    assert not allowed_origin([f"https://{HERE}"], hosts=[HERE], scheme="https", listed=listed)
    assert not allowed_origin(["https://app.example.evil"], hosts=[HERE], scheme="https", listed=listed)


@given(origin=st.text(max_size=40), host=st.text(max_size=40))
def test_c02_what_is_allowed_names_the_very_host_that_was_asked(origin: str, host: str) -> None:
    if allowed_origin([origin], hosts=[host], scheme="http", listed=()):
        assert origin == f"http://{host}"
