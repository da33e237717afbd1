"""The same bytes to many sockets at once.

On Linux (6.1 and newer, where io_uring is permitted) a burst of sends is one system call, which costs a fifth to a
quarter less than one `send()` for each, in C or in Python. Elsewhere each outbox is written by itself: the outcome is
the same. What the kernel does not take at once goes to the transport, as ever.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import socket
import struct
import sys
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from hub.connections.outbox import Outbox

Burst = Callable[[Sequence[Outbox], bytes], None]
"""Write one complete frame to outboxes that are all `ready`."""

ENTRIES = 512
WORTHWHILE = 16  # a smaller audience is written to sooner one by one

# linux/io_uring.h; the numbers of the system calls are the same on every architecture.
SYS_IO_URING_SETUP = 425
SYS_IO_URING_ENTER = 426
SYS_IO_URING_REGISTER = 427
SETUP_SUBMIT_ALL = 1 << 7
SETUP_SINGLE_ISSUER = 1 << 12
SETUP_DEFER_TASKRUN = 1 << 13
FEAT_SINGLE_MMAP = 1 << 0
ENTER_GETEVENTS = 1 << 0
OFF_SQES = 0x10000000
REGISTER_FILES_UPDATE = 6
REGISTER_FILES2 = 13
REGISTER_SPARSE = 1 << 0
OP_SEND = 26
FIXED_FILE = 1 << 0
# opcode, flags, ioprio, fd, off, addr, len, msg_flags, user_data, and three words that a send does not use
SQE = struct.Struct("=BBHiQQIIQ24x")
TABLE = struct.Struct("=II24x")  # struct io_uring_rsrc_register: size, flags
UPDATE = struct.Struct("=I4xQ")  # struct io_uring_files_update: first slot, address of the file descriptors
MAX_FILES = 1 << 16
CQE_WORDS = 4  # user_data takes two, then res and flags
USER_DATA = 0
ADDRESS = 2  # in words of eight bytes
LENGTH = 6  # in words of four
RES = 2


def write_each(outboxes: Sequence[Outbox], frame: bytes) -> None:
    """A burst without io_uring."""
    for outbox in outboxes:
        outbox.transmit(frame)


@contextmanager
def open_burst(*, uring: bool = True) -> Iterator[Burst]:
    """The cheapest way that this machine offers; `uring` False: without io_uring."""
    if not uring:
        yield write_each
        return
    try:
        ring = UringBurst()
    except OSError:
        yield write_each
        return
    try:
        yield ring
    finally:
        ring.close()


class _Params(ctypes.Structure):
    """struct io_uring_params with its offsets into the two rings."""

    _fields_ = (
        *((name, ctypes.c_uint32) for name in ("sq_entries", "cq_entries", "flags", "cpu", "idle", "features", "wq")),
        ("reserved", ctypes.c_uint32 * 3),
        *((f"sq_{name}", ctypes.c_uint32) for name in ("head", "tail", "mask", "size", "flags_at", "dropped", "array")),
        ("sq_reserved", ctypes.c_uint32 * 3),
        *((f"cq_{name}", ctypes.c_uint32) for name in ("head", "tail", "mask", "size", "overflow", "cqes", "flags_at")),
        ("cq_reserved", ctypes.c_uint32 * 3),
    )


class UringBurst:
    """A burst as one system call. Belongs to the thread that makes it.

    A socket's entry is made once; a burst fills in where the frame is. Every send is complete, or refused, when the
    call returns: nothing is ever in flight between two bursts. The kernel keeps the socket in a table of the ring, in
    the place of its file descriptor, which spares it looking the socket up for every send. Such a socket lives until
    its outbox lets go of it: see `Outbox.entry`.
    """

    def __init__(self) -> None:
        """Raises OSError where the kernel is another or older, or io_uring is not permitted."""
        if sys.platform != "linux":
            raise OSError(errno.ENOSYS, "io_uring is Linux's")
        libc = ctypes.CDLL(None, use_errno=True)
        self._syscall = libc.syscall
        self._syscall.restype = ctypes.c_long
        params = _Params(flags=SETUP_SUBMIT_ALL | SETUP_SINGLE_ISSUER | SETUP_DEFER_TASKRUN)
        self._fd = self._call(SYS_IO_URING_SETUP, ctypes.c_uint(ENTRIES), ctypes.byref(params))
        try:
            if not params.features & FEAT_SINGLE_MMAP:
                raise OSError(errno.ENOSYS, "io_uring with two maps")
            length = max(params.sq_array + params.sq_entries * 4, params.cq_cqes + params.cq_entries * CQE_WORDS * 4)
            self._rings = mmap.mmap(self._fd, length, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE)
            self._entries = mmap.mmap(
                self._fd, params.sq_entries * SQE.size, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE, offset=OFF_SQES
            )
        except OSError:
            os.close(self._fd)
            raise
        words = memoryview(self._rings).cast("I")
        self._tail = words[params.sq_tail // 4 : params.sq_tail // 4 + 1]
        self._seen = words[params.cq_head // 4 : params.cq_head // 4 + 1]
        array = params.sq_array // 4
        for index in range(params.sq_entries):
            words[array + index] = index
        cqes = params.cq_cqes // 4
        self._capacity = params.cq_entries
        self._outcomes = words[cqes : cqes + params.cq_entries * CQE_WORDS].cast("B").cast("i")
        self._files = self._open_table()

    def close(self) -> None:
        os.close(self._fd)

    def __call__(self, outboxes: Sequence[Outbox], frame: bytes) -> None:
        if len(outboxes) < WORTHWHILE:
            write_each(outboxes, frame)
            return
        for start in range(0, len(outboxes), ENTRIES):
            self._send(outboxes[start : start + ENTRIES], frame)

    def _send(self, outboxes: Sequence[Outbox], frame: bytes) -> None:
        count, size = len(outboxes), len(frame)
        try:
            block = bytearray().join([outbox.entry for outbox in outboxes])  # type: ignore[misc]  # see the next line
        except TypeError:  # some are written to for the first time
            block = bytearray().join([outbox.entry or self._enter(outbox) for outbox in outboxes])
        with memoryview(block) as view:
            address = ctypes.cast(ctypes.c_char_p(frame), ctypes.c_void_p).value or 0
            view.cast("Q")[ADDRESS :: SQE.size // 8] = array("Q", [address]) * count
            view.cast("I")[LENGTH :: SQE.size // 4] = array("I", [size]) * count
        first = self._seen[0]
        done = self._submit(block, count)
        taken = self._column(RES, first, done)
        if taken.count(size) == count:
            return
        taken_by = dict(zip(self._column(USER_DATA, first, done), taken, strict=True))
        for outbox in outboxes:
            taken_here = max(taken_by.get(outbox.fd, 0), 0)
            if taken_here != size:  # the kernel's buffer is full, or the peer is gone: the transport finds out which
                outbox.write(frame[taken_here:])

    def _submit(self, entries: bytearray, count: int) -> int:
        """Hand the entries over; returns how many were worked off. Fewer than all only when the kernel is at a loss."""
        tail = self._tail[0]
        at = (tail % ENTRIES) * SQE.size
        room = len(self._entries) - at
        if len(entries) <= room:
            self._entries[at : at + len(entries)] = entries
        else:
            self._entries[at:] = entries[:room]
            self._entries[: len(entries) - room] = entries[room:]
        self._tail[0] = (tail + count) % 2**32
        done = 0
        try:
            while done < count:
                left = ctypes.c_uint(count - done)
                done += self._call(SYS_IO_URING_ENTER, self._fd, left, left, ctypes.c_uint(ENTER_GETEVENTS), None, None)
        except OSError:
            self._tail[0] = (tail + done) % 2**32  # the kernel reads this only in a call of ours
        self._seen[0] = (self._seen[0] + done) % 2**32
        return done

    def _column(self, word: int, first: int, count: int) -> list[int]:
        """One word of each outcome."""
        at = first % self._capacity
        until = at + count
        found = self._outcomes[at * CQE_WORDS + word : min(until, self._capacity) * CQE_WORDS : CQE_WORDS].tolist()
        if until > self._capacity:
            found += self._outcomes[word : (until - self._capacity) * CQE_WORDS : CQE_WORDS].tolist()
        return found

    def _enter(self, outbox: Outbox) -> bytes:
        """Make an outbox's entry, complete but for the frame's address and length."""
        fd = outbox.fd
        fixed = 0 <= fd < self._files and self._place(fd, fd)
        flags = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
        entry = SQE.pack(OP_SEND, FIXED_FILE if fixed else 0, 0, fd, 0, 0, 0, flags, fd & 0xFFFFFFFF)
        outbox.entry = entry
        outbox.release = self._release if fixed else None
        return entry

    def _release(self, fd: int) -> None:
        self._place(fd, -1)

    def _open_table(self) -> int:
        """How many places the table has; 0 where the kernel has none to give."""
        import resource  # unknown on Windows

        places = min(resource.getrlimit(resource.RLIMIT_NOFILE)[0], MAX_FILES)
        table = TABLE.pack(places, REGISTER_SPARSE)
        try:
            self._call(
                SYS_IO_URING_REGISTER, self._fd, ctypes.c_uint(REGISTER_FILES2), table, ctypes.c_uint(TABLE.size)
            )
        except OSError:
            return 0
        return places

    def _place(self, place: int, fd: int) -> bool:
        """Put a file descriptor, or -1 for none, into a place of the table; whatever was there is let go."""
        files = (ctypes.c_int * 1)(fd)
        update = UPDATE.pack(place, ctypes.addressof(files))
        try:
            self._register(REGISTER_FILES_UPDATE, update, 1)
        except OSError:
            return False
        return True

    def _register(self, operation: int, argument: bytes, count: int) -> None:
        self._call(SYS_IO_URING_REGISTER, self._fd, ctypes.c_uint(operation), argument, ctypes.c_uint(count))

    def _call(self, number: int, *arguments: object) -> int:
        result: int = self._syscall(ctypes.c_long(number), *arguments)
        if result < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        return result
