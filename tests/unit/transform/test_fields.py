"""transform.fields: one raw value -> what its typed column holds, and whether that says it all."""

from datetime import UTC, datetime, timedelta, timezone
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from etl.transform.fields import (
    INT64_MAX,
    INT64_MIN,
    READERS,
    Read,
    boolean,
    identifier,
    instant,
    integer,
    is_storable,
    text,
)
from etl.transform.lenient_json import Constant, Number
from tests.support.strategies import ATTRIBUTES, BOOLEANS, INSTANTS, INTEGERS, TEXTS

SECOND = datetime(2024, 10, 28, 14, 43, 1, tzinfo=UTC)
ZERO_TIME = datetime(1, 1, 1, tzinfo=UTC)
LAST = datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)


def at(microsecond: int = 0, **shift: float) -> datetime:
    return SECOND.replace(microsecond=microsecond) + timedelta(**shift)


def no_row(kind: str) -> Read[object]:
    return Read(None, kind, is_exact=False)


# --- timestamps ---------------------------------------------------------------------------

EXACT = [
    pytest.param("2024-10-28T14:43:01Z", at(), id="no fraction"),
    pytest.param("2024-10-28T14:43:01.0Z", at(), id="1 digit"),
    pytest.param("2024-10-28T14:43:01.06Z", at(60_000), id="2 digits"),
    pytest.param("2024-10-28T14:43:01.065Z", at(65_000), id="3 digits"),
    pytest.param("2024-10-28T14:43:01.0654Z", at(65_400), id="4 digits"),
    pytest.param("2024-10-28T14:43:01.06546Z", at(65_460), id="5 digits"),
    pytest.param("2024-10-28T14:43:01.065463Z", at(65_463), id="6 digits"),
    pytest.param("2024-10-28T14:43:01.0654630Z", at(65_463), id="7 digits, the last is zero"),
    pytest.param("2024-10-28T14:43:01.06546300Z", at(65_463), id="8 digits, the last two are zero"),
    pytest.param("2024-10-28T14:43:01.065463000Z", at(65_463), id="9 digits, microseconds"),
    pytest.param("2024-10-28T14:43:01.065463+00:00", at(65_463), id="+00:00"),
    pytest.param("2024-10-28T14:43:01-00:00", at(), id="-00:00"),
    pytest.param("2024-10-28T14:43:01+05:30", at(hours=-5, minutes=-30), id="an offset"),
    pytest.param("2024-10-28T14:43:01-08:00", at(hours=8), id="an offset to the west"),
    pytest.param("2024-10-28T14:43:01+0530", at(hours=-5, minutes=-30), id="without a colon"),
    pytest.param("2024-10-28T14:43:01+05", at(hours=-5), id="hours alone"),
    pytest.param("2024-10-28T14:43:01+23:59", at(hours=-23, minutes=-59), id="the greatest offset"),
    pytest.param("2024-10-28t14:43:01z", at(), id="lower case t and z"),
    pytest.param("2024-10-28 14:43:01Z", at(), id="a space for the T"),
    pytest.param("0001-01-01T00:00:00Z", ZERO_TIME, id="the zero time of Go"),
    pytest.param("9999-12-31T23:59:59.999999Z", LAST, id="the last instant there is"),
    pytest.param("2024-02-29T00:00:00Z", datetime(2024, 2, 29, tzinfo=UTC), id="a leap day"),
]


@pytest.mark.parametrize(("received", "expected"), EXACT)
def test_timestamp_is_held_exactly(received, expected):
    read = instant(received)
    assert read == Read(expected)
    assert read.value is not None
    assert read.value.tzinfo is UTC


GUESSED = [
    ("2024-10-28T14:43:01.0654638Z", at(65_463), "finer than microseconds", "7 digits"),
    ("2024-10-28T14:43:01.06546382Z", at(65_463), "finer than microseconds", "8 digits"),
    ("2024-10-28T14:43:01.065463823Z", at(65_463), "finer than microseconds", "9 digits"),
    ("2024-10-28T14:43:01.0000000001Z", at(), "finer than microseconds", "10 digits"),
    ("9999-12-31T23:59:59.999999999Z", LAST, "finer than microseconds", "the last nanosecond"),
    ("2024-10-28T14:43:01", at(), "timestamp without zone", "no zone"),
    ("2024-10-28 14:43:01.065", at(65_000), "timestamp without zone", "no zone, with a space"),
    ("2024-10-28T14:43:01.065463823", at(65_463), "timestamp without zone", "no zone, 9 digits"),
    (Number("1730126581"), at(), "epoch for timestamp", "epoch seconds"),
    (Number("1730126581065"), at(65_000), "epoch for timestamp", "epoch milliseconds"),
    ("1730126581", at(), "epoch for timestamp", "epoch seconds as text"),
    ("1730126581065", at(65_000), "epoch for timestamp", "epoch milliseconds as text"),
]


@pytest.mark.parametrize(
    ("received", "expected", "kind"), [pytest.param(*row[:3], id=row[3]) for row in GUESSED]
)
def test_timestamp_is_read_and_kept_in_extra_too(received, expected, kind):
    assert instant(received) == Read(expected, kind, is_exact=False)


UNREADABLE = {
    "": "nothing",
    " ": "a space",
    "yesterday": "a word",
    "2016-12-31T23:59:60Z": "a leap second",
    "2024-10-28T24:00:00Z": "24:00",
    "2024-10-28T14:60:00Z": "minute 60",
    "2024-02-30T00:00:00Z": "30 February",
    "2023-02-29T00:00:00Z": "29 February in no leap year",
    "2024-13-01T00:00:00Z": "month 13",
    "2024-00-01T00:00:00Z": "month 0",
    "0000-01-01T00:00:00Z": "the year 0",
    "-001-01-01T00:00:00Z": "a year before Christ",
    "10000-01-01T00:00:00Z": "the year 10000",
    "0001-01-01T00:00:00+00:01": "an offset that leaves the first day",
    "9999-12-31T23:59:59-00:01": "an offset that leaves the last day",
    "2024-10-28T14:43:01+24:00": "an offset of a whole day",
    "2024-10-28T14:43:01+00:60": "an offset with minute 60",
    "2024-10-28T14:43:01+05:75": "an offset with minute 75",
    "2024-10-28T14:43:01+5": "an offset of one digit",
    "2024-10-28T14:43:01+05:30:15": "an offset with seconds",
    "2024-10-28T14:43:01 UTC": "a zone by name",
    "2024-10-28T14:43:01 Z": "a space before the zone",
    "2024-10-28T14:43:01ZZ": "two zones",
    "2024-10-28T14:43:01Z\n": "a line break behind",
    " 2024-10-28T14:43:01Z": "a space before",
    "2024-10-28T14:43:01.Z": "a point without digits",
    "2024-10-28T14:43:01,065Z": "a comma for the point",
    "2024-10-28T14:43Z": "no seconds",
    "2024-10-28": "a day",
    "14:43:01Z": "no day",
    "20241028T144301Z": "the basic format",
    "2024-W44-1T14:43:01Z": "a week date",
    "2024-302T14:43:01Z": "the day of the year",
    "2024-10-28T14:43:01\0Z": "a NUL",
    "2024-10-28T14:43:01\ud800Z": "a lone surrogate",
    "٢٠٢٤-10-28T14:43:01Z": "Arabic digits",
    "١٧٣٠١٢٦٥٨١": "an epoch in Arabic digits",
    "Mon, 28 Oct 2024 14:43:01 GMT": "the HTTP format",
    "-1730126581": "a negative epoch as text",
    "1730126581.5": "a fraction of an epoch as text",
}


@pytest.mark.parametrize("received", [pytest.param(k, id=v) for k, v in UNREADABLE.items()])
def test_timestamp_is_unreadable(received):
    assert instant(received) == no_row("unreadable timestamp")


@pytest.mark.parametrize("digits", [*range(1, 10), 11, 12, *range(14, 25), 10_000])
def test_epoch_of_an_odd_number_of_digits_is_not_guessed(digits):
    for received in (Number("1" * digits), "1" * digits):
        read = instant(received)
        assert (read.value, read.is_exact) == (None, False)
        assert read.kind


@pytest.mark.parametrize("received", ["1730126581.5", "-1730126581", "1.7e9", "1e400", "-0"])
def test_number_that_is_no_epoch_is_unreadable(received):
    assert instant(Number(received)) == no_row("unreadable timestamp")


offsets = st.integers(-23 * 60 - 59, 23 * 60 + 59).map(lambda m: timezone(timedelta(minutes=m)))


@given(st.datetimes(timezones=offsets), st.integers(0, 9))
def test_any_instant_comes_back_to_the_microsecond(moment, digits):
    cut = moment.replace(microsecond=moment.microsecond // 10 ** max(0, 6 - digits))
    fraction = f".{cut.microsecond:0{min(digits, 6)}d}{'0' * (digits - 6)}" if digits else ""
    exact = moment.replace(microsecond=cut.microsecond * 10 ** max(0, 6 - digits))
    try:
        expected = exact.astimezone(UTC) if digits else exact.replace(microsecond=0).astimezone(UTC)
    except OverflowError:
        assume(False)
    minutes = int((moment.utcoffset() or timedelta()).total_seconds()) // 60
    zone = f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}"
    received = f"{moment.replace(tzinfo=None, microsecond=0).isoformat()}{fraction}{zone}"
    assert instant(received) == Read(expected)


# --- integers -----------------------------------------------------------------------------

INTEGERS_READ = [
    (Number("0"), Read(0), "zero"),
    (Number("-0"), Read(0), "minus zero"),
    (Number("-5"), Read(-5), "a negative number"),
    (Number(str(2**53 + 1)), Read(2**53 + 1), "what no float holds"),
    (Number(str(INT64_MAX)), Read(INT64_MAX), "the greatest"),
    (Number(str(INT64_MIN)), Read(INT64_MIN), "the least"),
    (Number(str(INT64_MAX + 1)), no_row("out of range"), "one more than the greatest"),
    (Number(str(INT64_MIN - 1)), no_row("out of range"), "one less than the least"),
    (Number("9" * 10_000), no_row("out of range"), "ten thousand digits"),
    (Number("-" + "9" * 10_000), no_row("out of range"), "minus ten thousand digits"),
    ("12", Read(12, "text for integer"), "digits as text"),
    ("-12", Read(-12, "text for integer"), "a negative number as text"),
    (str(INT64_MAX), Read(INT64_MAX, "text for integer"), "the greatest as text"),
    (str(INT64_MAX + 1), no_row("wrong type"), "one more than the greatest as text"),
    ("9" * 10_000, no_row("wrong type"), "ten thousand digits as text"),
    ("", no_row("wrong type"), "no text"),
    ("012", no_row("wrong type"), "a leading zero, which the number would not give back"),
    ("+12", no_row("wrong type"), "a plus, which the number would not give back"),
    (" 12", no_row("wrong type"), "a space, which the number would not give back"),
    ("12\n", no_row("wrong type"), "a line break, which the number would not give back"),
    ("1_000", no_row("wrong type"), "an underscore"),
    ("\uff11\uff12", no_row("wrong type"), "full-width digits"),
    ("²", no_row("wrong type"), "a superscript"),
    ("12.0", no_row("wrong type"), "a float as text"),
    ("abc", no_row("wrong type"), "a word"),
    (Number("12.0"), Read(12, "float for integer", is_exact=False), "a whole float"),
    (Number("1.2e1"), Read(12, "float for integer", is_exact=False), "a whole exponent"),
    (Number("120E-1"), Read(12, "float for integer", is_exact=False), "a negative exponent"),
    (Number("-0.0"), Read(0, "float for integer", is_exact=False), "minus zero as float"),
    (Number("12.5"), no_row("float for integer"), "a fraction"),
    (Number("1e400"), no_row("float for integer"), "1e400"),
    (Number("1e-400"), no_row("float for integer"), "1e-400"),
    (Number("1e" + "9" * 30), no_row("float for integer"), "an exponent of thirty digits"),
    (Number("-1e-" + "9" * 30), no_row("float for integer"), "a tiny exponent of thirty digits"),
    (
        Number("9223372036854775807.0"),
        Read(INT64_MAX, "float for integer", is_exact=False),
        "the greatest as float",
    ),
    (Number("9223372036854775808.0"), no_row("float for integer"), "more than that as float"),
    (Number("9.3e18"), no_row("float for integer"), "more than that by exponent"),
    (Number("-9.3e18"), no_row("float for integer"), "less than the least by exponent"),
    (Number("1." + "0" * 40 + "1"), no_row("float for integer"), "a fraction far behind"),
    (Number("0." + "9" * 10_000), no_row("float for integer"), "almost one"),
    (Constant("NaN"), no_row("wrong type"), "NaN"),
    (Constant("Infinity"), no_row("wrong type"), "Infinity"),
    (True, no_row("wrong type"), "true"),
    (False, no_row("wrong type"), "false"),
    ([], no_row("wrong type"), "a list"),
    ({}, no_row("wrong type"), "an object"),
    (None, Read(None), "null"),
]


@pytest.mark.parametrize(
    ("received", "expected"), [pytest.param(*row[:2], id=row[2]) for row in INTEGERS_READ]
)
def test_integer(received, expected):
    read = integer(received)
    assert read == expected
    assert type(read.value) is type(expected.value)


@given(
    st.from_regex(r"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?", fullmatch=True)
)
def test_integer_column_holds_a_number_only_when_it_equals_it(spelled):
    exact = Fraction(spelled)
    assume(exact or "e" not in spelled.lower())  # 0e999 is nobody's zero
    fits = exact.denominator == 1 and INT64_MIN <= exact <= INT64_MAX
    assert integer(Number(spelled)).value == (int(exact) if fits else None)


# --- texts and booleans -------------------------------------------------------------------


@pytest.mark.parametrize(
    "received", ["", " ", "NULL", "12", "é😀", "\x01", "a" * 100_000, "\ufeff"]
)
def test_text_is_held_as_it_came(received):
    assert text(received) == Read(received)


@pytest.mark.parametrize(
    "received",
    [
        pytest.param("\0", id="NUL"),
        pytest.param("é\0", id="NUL behind other letters"),
        pytest.param("\ud800", id="a high surrogate"),
        pytest.param("a\udfff", id="a low surrogate"),
        pytest.param("\udc00\ud800", id="a pair the wrong way round"),
        pytest.param("\udcff", id="a byte that was no UTF-8"),
    ],
)
def test_text_that_no_database_stores_is_left_to_extra(received):
    assert text(received) == no_row("NUL or lone surrogate")
    assert not is_storable(received)


@pytest.mark.parametrize(
    "received",
    [Number("1"), Number("1e400"), Constant("NaN"), True, False, [], ["a"], {}, {"a": "b"}],
    ids=repr,
)
def test_text_column_takes_nothing_but_text(received):
    assert text(received) == no_row("wrong type")


@pytest.mark.parametrize("received", [True, False])
def test_boolean_is_held(received):
    assert boolean(received) == Read(received)


@pytest.mark.parametrize(
    "received", [Number("0"), Number("1"), "true", "", Constant("NaN"), [], {}], ids=repr
)
def test_boolean_column_takes_nothing_but_booleans(received):
    assert boolean(received) == no_row("wrong type")


# --- all of them --------------------------------------------------------------------------


def test_each_attribute_has_a_reader_of_its_type():
    expected = {
        **dict.fromkeys(TEXTS, text),
        **dict.fromkeys(INTEGERS, integer),
        **dict.fromkeys(INSTANTS, instant),
        **dict.fromkeys(BOOLEANS, boolean),
        "application_id": identifier,
    }
    assert expected == READERS
    assert sorted(ATTRIBUTES) == list(READERS)


def test_an_application_id_too_long_to_be_indexed_is_kept_apart():
    assert identifier("é" * 255) == Read("é" * 255)
    assert identifier("é" * 256) == no_row("too long")
    assert identifier(None) == Read(None)


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_null_is_no_drift(name):
    assert READERS[name](None) == Read(None)


@pytest.mark.parametrize("name", [*INSTANTS, *INTEGERS])
@pytest.mark.parametrize("received", [True, False, [], {}, Constant("-Infinity")], ids=repr)
def test_wrong_types_give_no_value(name, received):
    assert READERS[name](received) == no_row("wrong type")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("-9223372036854775808.0", -(2**63)),
        ("9223372036854775807.0", 2**63 - 1),
        ("-9223372036854775809.0", None),
        ("9223372036854775808.0", None),
        ("1e18", 10**18),
        ("1e19", None),
    ],
)
def test_a_whole_number_spelled_as_a_float_has_the_same_bounds(text, value):
    assert integer(Number(text)) == (value, "float for integer", False)


@pytest.mark.parametrize(
    ("text", "is_one"), [("a", True), ("é", True), ("\0", False), ("é\0", False), ("\ud800", False)]
)
def test_text_that_every_database_stores(text, is_one):
    assert is_storable(text) is is_one
