"""The records of answers that are not loaded yet: at most eight bodies in memory, the rest on disk.

A `Buffer` has a number of slots and a file. A `Slot` is room for one body in memory. `Records` are
the records of one listing. Memory stays flat however many views must wait for others, and however
slow the database is.
"""

from __future__ import annotations

import math
import os
import queue
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from etl.extract.spill_file import Spilled, SpillFile, spill_folders
from etl.transform.snapshot import Decoded

MAX_BODIES = 8
_TICK_S = 0.1


class Buffer:
    """Room for `size` bodies in memory, for all threads, and `spill_file` for what is spilled.

    `stop` ends every wait for room.
    """

    def __init__(
        self,
        size: int = MAX_BODIES,
        stop: threading.Event | None = None,
        folders: Iterable[Path] | None = None,
    ) -> None:
        self._stop = stop or threading.Event()
        # Not a semaphore: the garbage collector may free a slot in a thread that is just taking or
        # freeing another one, and only the `put` of a SimpleQueue may be interrupted by itself.
        self._free_slots: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(size):
            self._free_slots.put(None)
        self._turns: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._turns.put(None)
        self.spill_file = SpillFile(spill_folders(None, os.environ) if folders is None else folders)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Delete what is on disk."""
        self.spill_file.close()

    def slot(self) -> Slot:
        """A slot that is not taken yet."""
        return Slot(self)

    def wrap(self, decoded: Decoded) -> Records:
        """Records that are in memory already; they take a slot where one is free."""
        with self.slot() as slot:
            slot.take_now()
            return slot.keep(decoded)

    def acquire(self) -> bool:
        """Take room for one body, waiting for it; False: the process must stop."""
        return self._acquire(self._free_slots, math.inf)

    def acquire_now(self) -> bool:
        """Take room for one body without waiting; False: there is none."""
        try:
            self._free_slots.get_nowait()
        except queue.Empty:
            return False
        return True

    def release(self) -> None:
        """Give room for one more body."""
        self._free_slots.put(None)

    def acquire_turn(self, within_s: float) -> bool:
        """Take the turn of the large bodies; False: it did not come, or the process must stop."""
        return self._acquire(self._turns, within_s)

    def release_turn(self) -> None:
        """Let the next large body be received."""
        self._turns.put(None)

    def _acquire(self, tokens: queue.SimpleQueue[None], within_s: float) -> bool:
        until = time.monotonic() + within_s
        while not self._stop.is_set() and (left_s := until - time.monotonic()) > 0:
            try:
                tokens.get(timeout=min(_TICK_S, left_s))
            except queue.Empty:
                continue
            return True
        return False


class Slot:
    """Room for one body, taken when the body begins to arrive.

    It is freed when the `with` ends, or when it is garbage, unless `keep` has handed it on.
    """

    def __init__(self, buffer: Buffer) -> None:
        self.buffer = buffer
        self._is_taken = False
        self._has_turn = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.free()

    def __del__(self) -> None:
        self.free()

    def take(self) -> None:
        """Take the slot, waiting for room; returns at once when the process must stop."""
        self._is_taken = self._is_taken or self.buffer.acquire()

    def take_now(self) -> bool:
        """Take the slot where that needs no wait; returns whether it is taken."""
        self._is_taken = self._is_taken or self.buffer.acquire_now()
        return self._is_taken

    def take_turn(self, within_s: float) -> bool:
        """Wait until no other large body is received or decoded; False: that did not happen.

        The turn is given back when the `with` ends: what was decoded may live on without it.
        """
        self._has_turn = self._has_turn or self.buffer.acquire_turn(within_s)
        return self._has_turn

    def free(self) -> None:
        """Free the slot, and the turn, for another body; harmless when they are not taken."""
        if self._has_turn:
            self._has_turn = False
            self.buffer.release_turn()
        if self._is_taken:
            self._is_taken = False
            self.buffer.release()

    def keep(self, decoded: Decoded | None) -> Records:
        """Records of the body for which the slot was taken; the slot is theirs from now on."""
        slot = type(self)(self.buffer)
        slot._is_taken, self._is_taken = self._is_taken, False  # noqa: SLF001 - the same class
        return Records(decoded, slot)


class Records:
    """The records of one listing, to be read once: `with listing.records as decoded`.

    `decoded` is None when the answer is the same as last time; it is not even decoded then. When
    the `with` ends, the records are gone from memory, though the listing may live on. After
    `spill` they can be read again, until the `Buffer` is closed. Records that are garbage free
    their slot by themselves.
    """

    def __init__(self, decoded: Decoded | None, slot: Slot | None = None) -> None:
        self._is_same = decoded is None
        self._decoded = decoded
        self._slot = slot or Buffer(1).slot()
        self._spilled: Spilled | None = None
        if self._is_same:
            self._slot.free()

    def __enter__(self) -> Decoded | None:
        if self._is_same or self._decoded is not None:
            return self._decoded
        if self._spilled is None:
            raise AssertionError("the records were read already, and not spilled")
        # Never waits: the thread that reads is the one that makes room.
        self._slot.take_now()
        self._decoded = self._slot.buffer.spill_file.read(self._spilled)
        return self._decoded

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the memory without reading the records."""
        self._decoded = None
        self._slot.free()

    def spill(self) -> None:
        """Write the records to disk, for a later `with`, and free the memory.

        Raises `SpillFailed` when there is no room; the records are gone then.
        """
        try:
            if self._decoded is not None and self._spilled is None:
                self._spilled = self._slot.buffer.spill_file.write(self._decoded)
        finally:
            self.close()

    def reserve(self) -> bool:
        """Take room before the records are read; returns whether they have it, or need none."""
        return self._is_same or self._slot.take_now()
