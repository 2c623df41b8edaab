"""Packed bodies, piece by piece: what `gzip.decompress` makes of the whole decides."""

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.datadog.wire import body
from etl.datadog.wire.body import BadEncoding, Body, BodyTooLarge

MB = 1 << 20


def read(data: bytes, encoding: str = "gzip", *, step: int = 7, most: int = 9 * MB) -> bytes:
    it = Body(encoding, most, lambda: None)
    for start in range(0, len(data), step):
        it.add(data[start : start + step])
    return it.whole()


members = st.lists(st.binary(max_size=99).map(gzip.compress), min_size=1, max_size=3)
spoilt = st.tuples(st.binary(max_size=9), st.integers(0, 60), st.binary(max_size=3))


@given(members, st.sampled_from([b"", b"\0", b"\0" * 9, b"x", b"\x1f", b"\x1f\x8b"]), spoilt)
def test_it_takes_what_gzip_takes_and_refuses_what_gzip_refuses(
    packed: list[bytes], between: bytes, spoil: tuple[bytes, int, bytes]
) -> None:
    whole = between.join(packed) + between
    for data in (whole, whole[: spoil[1]], whole[: spoil[1]] + spoil[2]):
        try:
            expected = gzip.decompress(data)
        except (OSError, EOFError, zlib.error):
            with pytest.raises(BadEncoding, match=r"^bad gzip: "):
                read(data)
        else:
            assert read(data) == expected


@pytest.mark.parametrize("step", [1, 1000, 10 * MB])
def test_a_body_that_unpacks_to_much_more_is_whole(step: int) -> None:
    content = bytes(5 * MB) + b"end"
    assert read(gzip.compress(content), step=step) == content


@pytest.mark.parametrize("size", [3 * MB, 3 * MB + 1])
@pytest.mark.parametrize("encoding", ["", "gzip"])
def test_the_bound_is_met_to_the_byte(size: int, encoding: str) -> None:
    content = bytes(size)
    data = gzip.compress(content) if encoding else content
    if size == 3 * MB:
        assert read(data, encoding, step=MB, most=3 * MB) == content
    else:
        with pytest.raises(BodyTooLarge):
            read(data, encoding, step=MB, most=3 * MB)


def test_packed_bytes_that_unpack_to_nothing_are_bounded_too() -> None:
    with pytest.raises(BodyTooLarge):
        read(gzip.compress(b"") * 60_000, step=1 << 16, most=MB)


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip", "x"])
def test_what_was_not_asked_for_is_refused(encoding: str) -> None:
    with pytest.raises(BadEncoding, match="not asked for"):
        Body(encoding, MB, lambda: None)


@pytest.mark.parametrize("encoding", ["", "Identity", " GZIP ", "x-gzip"])
def test_an_empty_body_is_empty(encoding: str) -> None:
    assert read(b"", encoding) == b""


def test_a_large_body_says_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "LARGE_BYTES", 10)
    said: list[int] = []
    it = Body("", MB, lambda: said.append(1))
    it.add(b"x" * 10)
    assert said == []
    it.add(b"x")
    it.add(b"x")
    assert said == [1]
