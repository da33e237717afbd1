"""One frame to many sockets: the same outcome with io_uring and without, whatever state the sockets are in."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from doubles import RecordingSocket, outbox

from hub.connections.burst import ENTRIES, WORTHWHILE, Burst, UringBurst, open_burst, write_each
from hub.connections.outbox import Outbox


class Peer(RecordingSocket):
    """A connected socket, and what was left for its transport."""

    def __init__(self) -> None:
        super().__init__()
        self.ours, self.theirs = socket.socketpair()
        self.ours.setblocking(False)
        self.theirs.setblocking(False)
        self.fd = self.ours.fileno()
        self.outbox = outbox(self, touch=lambda _: None)

    def fill(self) -> int:
        """Leave the kernel no room; answers how much it took."""
        taken = 0
        try:
            while True:
                taken += self.ours.send(b"." * 65_536)
        except BlockingIOError:
            return taken

    def received(self) -> bytes:
        found = b""
        try:
            while part := self.theirs.recv(1 << 20):
                found += part
        except BlockingIOError:
            pass
        return found

    def left(self) -> bytes:
        return b"".join(self.writes)


@pytest.fixture
def peers() -> Iterator[list[Peer]]:
    made = [Peer() for _ in range(ENTRIES + 50)]
    yield made
    for peer in made:
        peer.ours.close()
        peer.theirs.close()


@pytest.fixture(params=["one by one", "io_uring"])
def burst(request: pytest.FixtureRequest) -> Iterator[Burst]:
    if request.param == "one by one":
        yield write_each
        return
    try:
        uring = UringBurst()
    except OSError as failure:
        pytest.skip(f"no io_uring here: {failure}")
    yield uring
    uring.close()


def outboxes(peers: list[Peer]) -> list[Outbox]:
    return [peer.outbox for peer in peers if peer.outbox is not None]


def test_everyone_gets_every_frame_in_order_through_the_ring_many_times_over(burst: Burst, peers: list[Peer]) -> None:
    frames = [b"frame %d;" % number * 20 for number in range(40)]
    for number, frame in enumerate(frames):
        burst(outboxes(peers[number % 7 :]), frame)

    for index, peer in enumerate(peers):
        assert peer.received() == b"".join(frame for number, frame in enumerate(frames) if number % 7 <= index)
        assert peer.left() == b""


def test_what_the_kernel_does_not_take_is_left_to_the_transport_byte_for_byte(burst: Burst, peers: list[Peer]) -> None:
    frame = bytes(range(256)) * 4096
    before = {index: peers[index].fill() for index in (0, 3, len(peers) - 1)}

    burst(outboxes(peers), frame)

    for index, peer in enumerate(peers):
        assert peer.received()[before.get(index, 0) :] + peer.left() == frame
    assert all(peers[index].left() == frame for index in before)


def test_sockets_that_are_gone_or_have_no_way_past_the_transport_harm_no_others(
    burst: Burst, peers: list[Peer]
) -> None:
    frame = b"news" * 10
    peers[1].theirs.close()
    for peer in (peers[2], peers[300]):
        assert peer.outbox is not None
        peer.outbox.fd = -1

    burst(outboxes(peers), frame)

    assert all(peers[index].left() == frame for index in (1, 2, 300))
    assert all(peer.received() == frame for index, peer in enumerate(peers) if index not in (1, 2, 300))


def test_a_small_audience_is_served_as_well(burst: Burst, peers: list[Peer]) -> None:
    for size in (0, 1, WORTHWHILE - 1, WORTHWHILE):
        burst(outboxes(peers[:size]), b"x")

    assert [len(peer.received()) for peer in peers[: WORTHWHILE + 1]] == [3] + [2] * (WORTHWHILE - 2) + [1, 0]


def test_a_socket_is_let_go_of_when_its_outbox_closes(burst: Burst, peers: list[Peer]) -> None:
    burst(outboxes(peers), b"last words")
    gone = peers[7]
    assert gone.outbox is not None
    gone.outbox.close()
    gone.ours.close()

    assert gone.received() == b"last words"
    assert gone.theirs.recv(1) == b""  # the end, and not "try again later"


def test_a_file_descriptor_that_is_used_again_belongs_to_its_new_socket(burst: Burst, peers: list[Peer]) -> None:
    burst(outboxes(peers), b"old")
    gone = peers.pop(7)
    gone.ours.close()  # and nobody told the outbox
    newcomer = Peer()
    assert newcomer.fd == gone.fd
    peers.append(newcomer)

    burst(outboxes(peers), b"new")

    assert newcomer.received() == b"new"
    assert gone.received() == b"old"
    gone.theirs.close()


def test_io_uring_can_be_turned_off() -> None:
    with open_burst(uring=False) as burst:
        assert burst is write_each
