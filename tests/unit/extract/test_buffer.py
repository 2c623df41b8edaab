"""What the records of a listing hold in memory, and when they let go of it."""

import gc
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from etl.extract.buffer import Buffer, Records
from etl.transform.snapshot import Decoded
from tests.support.strategies import snapshot


@pytest.fixture
def buffer() -> Iterator[Buffer]:
    with Buffer(2) as buffer:
        yield buffer


def received(buffer: Buffer) -> Records:
    with buffer.slot() as slot:
        slot.take()
        return slot.keep(Decoded([snapshot("a")]))


def free(buffer: Buffer) -> int:
    """How many more bodies there is room for."""
    slots = [buffer.slot() for _ in range(9)]
    return sum(slot.take_now() for slot in slots)


def ids(decoded: Decoded | None) -> list[str]:
    assert decoded is not None
    return [s.id for s in decoded.snapshots]


def alive() -> int:
    return sum(isinstance(thing, Decoded) for thing in gc.get_objects())


def test_records_are_gone_when_they_were_read(buffer: Buffer) -> None:
    before, records = alive(), received(buffer)
    assert (free(buffer), alive()) == (1, before + 1)
    with records as decoded:
        assert ids(decoded) == ["a"]
        assert free(buffer) == 1
    del decoded
    assert (free(buffer), alive()) == (2, before)
    with pytest.raises(AssertionError, match="not spilled"), records:
        pass


def test_they_are_gone_when_the_reader_fails(buffer: Buffer) -> None:
    records = received(buffer)
    with pytest.raises(ZeroDivisionError), records:
        raise ZeroDivisionError
    assert free(buffer) == 2


def test_spilled_records_take_no_memory_until_they_are_read(buffer: Buffer) -> None:
    before, records = alive(), received(buffer)
    for _ in range(2):
        records.spill()
        assert (free(buffer), alive()) == (2, before)
    for _ in range(2):
        with records as decoded:
            assert ids(decoded) == ["a"]
            assert free(buffer) == 1
        del decoded
        assert (free(buffer), alive()) == (2, before)


def test_they_may_be_spilled_while_they_are_read(buffer: Buffer) -> None:
    records = received(buffer)
    with records as decoded:
        records.spill()
        assert free(buffer) == 2
        assert ids(decoded) == ["a"]
    with records as decoded:
        assert ids(decoded) == ["a"]


def test_records_that_nobody_has_any_more_give_their_slot_back(buffer: Buffer) -> None:
    records = received(buffer)
    assert free(buffer) == 1
    del records
    assert free(buffer) == 2


def test_they_do_as_part_of_a_cycle(buffer: Buffer) -> None:
    cycle: list[object] = [received(buffer)]
    cycle.append(cycle)
    del cycle
    gc.collect()
    assert free(buffer) == 2


def test_an_answer_that_is_the_same_takes_no_room(buffer: Buffer) -> None:
    with buffer.slot() as slot:
        slot.take()
        records = slot.keep(None)
    assert free(buffer) == 2
    for _ in range(2):
        with records as decoded:
            assert decoded is None
    records.spill()
    assert records.reserve()
    assert free(buffer) == 2


def test_a_slot_of_which_nothing_came_is_free_again(buffer: Buffer) -> None:
    with buffer.slot() as slot:
        slot.take()
        assert free(buffer) == 1
    assert free(buffer) == 2


def test_reading_again_never_waits_for_room(buffer: Buffer) -> None:
    records = received(buffer)
    records.spill()
    others = [received(buffer), received(buffer)]
    assert not records.reserve()
    with records as decoded:
        assert ids(decoded) == ["a"]
    del others
    assert free(buffer) == 2
    assert records.reserve()
    assert free(buffer) == 1


def test_a_body_waits_until_there_is_room(buffer: Buffer) -> None:
    records = [received(buffer), received(buffer)]
    taken = threading.Event()

    def wait() -> None:
        with buffer.slot() as slot:
            slot.take()
            taken.set()

    waiting = threading.Thread(target=wait)
    waiting.start()
    assert not taken.wait(0.05)
    records[0].close()
    assert taken.wait(5)
    waiting.join()


def test_nobody_waits_any_more_when_the_process_is_to_stop() -> None:
    stop = threading.Event()
    buffer = Buffer(0, stop)
    threading.Timer(0.05, stop.set).start()
    slot = buffer.slot()
    slot.take()
    assert not slot.take_now()


def test_records_made_without_a_buffer_can_be_read_and_spilled() -> None:
    records = Records(Decoded([snapshot("a")]))
    records.spill()
    with records as decoded:
        assert ids(decoded) == ["a"]


def test_large_bodies_take_turns_and_their_records_do_not(buffer: Buffer) -> None:
    with buffer.slot() as slot:
        slot.take()
        assert slot.take_turn(1.0)
        assert slot.take_turn(0.0), "it has it already"
        with buffer.slot() as other:
            assert not other.take_turn(0.05)
        records = slot.keep(Decoded([snapshot("a")]))
    with buffer.slot() as other:
        assert other.take_turn(0.05), "what is decoded needs no turn"
        assert free(buffer) == 1
    records.close()


def test_a_turn_comes_back_from_whoever_fails_with_it(buffer: Buffer) -> None:
    with suppress(ZeroDivisionError), buffer.slot() as slot:
        assert slot.take_turn(1.0)
        raise ZeroDivisionError
    with buffer.slot() as other:
        assert other.take_turn(0.05)


def test_stop_ends_the_wait_for_a_turn() -> None:
    stop = threading.Event()
    buffer = Buffer(2, stop)
    with buffer.slot() as slot, buffer.slot() as other:
        assert slot.take_turn(1.0)
        threading.Timer(0.05, stop.set).start()
        begun = time.monotonic()
        assert not other.take_turn(30.0)
        assert time.monotonic() - begun < 2
