"""What has one cause is one line, and what has not is not."""

import string
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.causes import Told, cause_lines, grouped, key_of, line_of

UNITS = {"ms", "s", "min", "h", "day", "days", "byte", "bytes"}
UNITS |= {f"{k}{i}{b}" for k in "kKMGT" for i in ("", "i") for b in "bB"}
words = st.text(string.ascii_letters, min_size=1, max_size=7).filter(lambda w: w not in UNITS)
ids = st.one_of(
    st.uuids(version=4).map(str),
    st.integers(0, 10**30).map(str),
    st.integers(16**5, 16**32).map("{:x}".format).filter(lambda t: any(c.isdigit() for c in t)),
    st.floats(0, 1e6).map("{:.1f}".format),
    st.datetimes().map(lambda at: f"{at.isoformat()}Z"),
    st.ip_addresses(v=4).map(str),
    st.text(string.ascii_letters + string.digits, min_size=22, max_size=22).map("{}7==".format),
)


def same(one: str, other: str) -> bool:
    return key_of(Told(one)) == key_of(Told(other))


@given(st.lists(words, min_size=2, max_size=6), st.data())
def test_texts_that_differ_in_numbers_and_ids_have_one_cause(
    text: list[str], data: st.DataObject
) -> None:
    one, other = (" ".join(f"{word} ({data.draw(ids)})" for word in text) for _ in range(2))
    assert same(f"500: {one}", f"500: {other}")


@given(st.lists(words, min_size=1, max_size=6), st.lists(words, min_size=1, max_size=6), ids, ids)
def test_texts_that_differ_in_words_have_not(
    text: list[str], other: list[str], id_1: str, id_2: str
) -> None:
    one, two = " - ".join([*text, id_1]), " - ".join([*other, id_2])
    assert same(one, two) == (text == other)


@given(st.integers(100, 599), st.integers(100, 599), st.sampled_from(["", "failed: "]))
def test_statuses_are_never_merged(one: int, other: int, before: str) -> None:
    for after in ("", ": oops", "; given up: another wait would exceed max_wait_s = 1"):
        assert same(f"{before}{one}{after}", f"{before}{other}{after}") == (one == other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("500: oops", "500: oops; given up: another wait would exceed max_wait_s = 120"),
        (
            "500: oops; given up: another wait would exceed 1 s",
            "500: oops; not asked, as no answer",
        ),
        ("no way: took too long: within 1.5 s", "no way: took too long: within 30 s"),
        ("it waits 30 s", "it waits 5 min"),
        ("1 record is missing", "12 records is missing"),
        ("12 MB free in /data", "3.5 GB free in /data"),
        ("500: Ray ID: 8f2a1b3c4d5e6f70", "500: Ray ID: abcdef0123456789"),
        ("Reference #18.4f2c1502.1700000000.1a2b3c4", "Reference #9.1a5c1502.1700000009.fa2b3c9"),
        ("could not extend base/16384/24601", "could not extend base/5/7"),
        ("Root=1-67891233-abcdef012345678912345678", "Root=1-67891299-012345678912345678abcdef"),
    ],
)
def test_one_cause(one: str, other: str) -> None:
    assert same(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("failed: 429: no", "failed: 500: no"),
        ("x509 is refused", "oauth2 is refused"),
        ("no answer: no connection to a", "no answer: the head did not arrive"),
        ("500: given up", "500: not asked"),
    ],
)
def test_two_causes(one: str, other: str) -> None:
    assert not same(one, other)


def test_the_name_of_a_view_in_its_own_text_is_no_difference() -> None:
    text = "truncated: 3 of them prove nothing: view {} [app-a]: 500"
    keys = {key_of(Told(text.format(name), f"{name} [mobile]")) for name in ("/a", "/checkout/?")}
    assert len(keys) == 1
    assert key_of(Told(text.format("/b"), "/a")) not in keys


def test_one_cause_is_one_line_with_the_first_names_and_the_count() -> None:
    causes = [(f"/view/{number}", "failed: 503: down") for number in range(120)]

    assert cause_lines(causes) == ["120 views (/view/0, /view/1, /view/2, ...): failed: 503: down"]


def test_few_names_all_stand_in_the_line() -> None:
    causes = [("/a", "down"), ("/b", "cut"), ("/c", "down")]

    assert cause_lines(causes) == ["2 views (/a, /c): down", "/b: cut"]


def test_numbers_of_one_view_are_not_told_of_another() -> None:
    causes = [("/a", "5 removals held"), ("/b", "7 removals held")]

    assert cause_lines(causes) == ["2 views (/a, /b), the first: 5 removals held"]


def test_what_was_done_about_it_is_told_of_the_first() -> None:
    causes = [("/a", "500; given up: tired"), ("/b", "500; not asked, as nobody answered")]

    assert cause_lines(causes) == ["2 views (/a, /b): 500; given up: tired"]


def test_too_many_causes_are_counted() -> None:
    lines = cause_lines([(f"/{letter}", f"why {letter}") for letter in string.ascii_letters[:43]])

    assert lines[39:] == ["/N: why N", "... and 3 more causes"]


def test_answers_of_one_status_whose_texts_are_random_are_one_cause() -> None:
    causes = [(f"/{a}{b}", f"failed: 500: token {a}{b}x") for a in "abcdefgh" for b in "klmno"]
    (line,) = cause_lines([*causes])
    assert line == "40 views (/ak, /al, /am, ...), the first: failed: 500: token akx"
    few = [("/a", "failed: 500: oops"), ("/b", "failed: 500: ouch"), ("/c", "failed: 400: oops")]
    assert len(cause_lines(few)) == 3
    assert len(cause_lines([*causes, ("/z", "failed: 400: oops")])) == 2


def test_a_long_name_is_shortened() -> None:
    (line,) = cause_lines([("x" * 400, "down")])

    assert len(line) < 80


def test_sources_and_their_views_are_counted_and_the_first_sources_named() -> None:
    def told(source: str, *views: str) -> list[Told]:
        return [Told("500: oops", view, source) for view in views or ("",)]

    assert line_of(told("a")) == "a: 500: oops"
    assert line_of(told("a", "/x")) == "a: /x: 500: oops"
    assert line_of(told("a", "/x", "/y")) == "a: 2 views (/x, /y): 500: oops"
    many = [one for number in range(1000) for one in told(f"org-{number}", "/x", "/y")]
    assert line_of(many) == ("1,000 sources (org-0, org-1, org-2, ...), 2,000 views: 500: oops")
    assert line_of([*told("a"), *told("b")]) == "2 sources (a, b): 500: oops"


def test_what_is_of_a_source_alone_is_no_difference_between_sources() -> None:
    told = [
        Told(f"sqlite:///{s}.db: full; source {s} waits", source=s, own=(f"sqlite:///{s}.db",))
        for s in ("a", "b")
    ]
    assert len(grouped(told, lambda one: one)) == 1


def test_a_uuid_without_digits_in_its_parts_is_one_all_the_same() -> None:
    one, other = UUID("abcdefab-cdef-4bcd-afab-cdefabcdefab"), UUID(int=0)
    assert same(f"request {one}", f"request {other}")
