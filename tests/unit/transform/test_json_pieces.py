"""The text of a list, cut into those of its items."""

import pytest

from etl.transform.json_pieces import NotAList, TooLong, pieces


def cut(text: bytes, longest: int = 100) -> list[bytes]:
    """The list stands between other texts."""
    beside = b'[1,2],"x'
    whole = beside + text + b"]},7"
    found = pieces(whole, len(beside), len(beside) + len(text), longest=longest)
    return [whole[begin:end] for begin, end in found]


@pytest.mark.parametrize(
    ("text", "items"),
    [
        (b"[]", []),
        (b"[ \t\n\r]", []),
        (b"[1]", [b"1"]),
        (b"[1,2]", [b"1", b"2"]),
        (b"[ 1 , 2 ]", [b" 1 ", b" 2 "]),
        (b"[{},[1,2],{}]", [b"{}", b"[1,2]", b"{}"]),
        (b'["a,b","]","\\"]"]', [b'"a,b"', b'"]"', b'"\\"]"']),
        (b"[1,]", [b"1", b""]),
        (b"[,1]", [b"", b"1"]),
        (b"[,]", [b"", b""]),
    ],
)
def test_each_item_is_a_piece(text: bytes, items: list[bytes]) -> None:
    assert cut(text) == items


@pytest.mark.parametrize("text", [b"[1", b"[1}", b"[1]]", b"[1] ", b"[[1]", b"[1,2],[3]", b'["1]'])
def test_brackets_that_do_not_match_are_no_list(text: bytes) -> None:
    with pytest.raises(NotAList):
        cut(text)


def test_an_item_may_be_so_long_and_no_longer() -> None:
    assert cut(b"[1234,1234]", longest=4) == [b"1234", b"1234"]
    for text in (b"[12345,1]", b"[1,12345]", b"[12345]"):
        with pytest.raises(TooLong):
            cut(text, longest=4)


def test_what_comes_before_the_fault_is_cut_all_the_same() -> None:
    found = pieces(b"[1,22222]", 0, 9, longest=3)
    assert next(found) == (1, 2)
    with pytest.raises(TooLong):
        next(found)
