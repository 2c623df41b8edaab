"""When a job is due: standard cron, intervals, both changes of clocks, and what was missed."""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import islice, pairwise, takewhile
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.schedule.cron import Cron, Due, Every, Slots, parse_cron

BERLIN = ZoneInfo("Europe/Berlin")
NEW_YORK = ZoneInfo("America/New_York")
LORD_HOWE = ZoneInfo("Australia/Lord_Howe")  # moves its clocks by half an hour
APIA = ZoneInfo("Pacific/Apia")  # had no 30 December 2011


def at(text: str, zone: ZoneInfo | None = None) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=zone or UTC).astimezone(UTC)


def slots(found: Slots, after: datetime, count: int) -> list[datetime]:
    listed = [after]
    for _ in range(count):
        listed.append(found.next_after(listed[-1]))
    return listed[1:]


@pytest.mark.parametrize(
    ("line", "after", "expected"),
    [
        # 2026-11-25 is a Wednesday.
        pytest.param("17 * * * *", "2026-11-25 10:17", "2026-11-25 11:17", id="hourly"),
        pytest.param("*/20 * * * *", "2026-11-25 10:21", "2026-11-25 10:40", id="step"),
        pytest.param("5/20 * * * *", "2026-11-25 10:26", "2026-11-25 10:45", id="step from"),
        pytest.param(
            "10-30/10 * * * *", "2026-11-25 10:30", "2026-11-25 11:10", id="step of range"
        ),
        pytest.param("0 9,17 * * *", "2026-11-25 09:00", "2026-11-25 17:00", id="list"),
        pytest.param("0 0 * * 0", "2026-11-25 10:00", "2026-11-29 00:00", id="0 is Sunday"),
        pytest.param("0 0 * * 7", "2026-11-25 10:00", "2026-11-29 00:00", id="7 is Sunday"),
        pytest.param("0 0 * * 1", "2026-11-25 10:00", "2026-11-30 00:00", id="1 is Monday"),
        pytest.param("0 0 * * SUN", "2026-11-25 10:00", "2026-11-29 00:00", id="name"),
        pytest.param(
            "0 0 * * mon-fri", "2026-11-27 10:00", "2026-11-30 00:00", id="names, a range"
        ),
        pytest.param("0 0 * * 5-7", "2026-11-28 10:00", "2026-11-29 00:00", id="up to Sunday"),
        pytest.param("0 0 * * sat-sun", "2026-11-25 10:00", "2026-11-28 00:00", id="Sunday last"),
        pytest.param("0 0 * * */2", "2026-11-25 10:00", "2026-11-26 00:00", id="Thursday is even"),
        pytest.param("0 0 1 jan *", "2026-11-25 10:00", "2027-01-01 00:00", id="month by name"),
        pytest.param("0 0 31 * *", "2026-11-25 10:00", "2026-12-31 00:00", id="no 31 November"),
        pytest.param("0 0 29 2 *", "2026-11-25 10:00", "2028-02-29 00:00", id="leap year"),
        pytest.param("0 0 29 2 *", "2096-03-01 00:00", "2104-02-29 00:00", id="2100 is none"),
        pytest.param("0 0 13 * 5", "2026-11-25 10:00", "2026-11-27 00:00", id="either: a Friday"),
        pytest.param("0 0 13 * 5", "2026-12-11 10:00", "2026-12-13 00:00", id="either: the 13th"),
        pytest.param(
            "0 0 */2 * 1", "2026-11-25 10:00", "2026-12-07 00:00", id="a star restricts not"
        ),
        pytest.param("59 23 31 12 *", "2026-12-31 23:59", "2027-12-31 23:59", id="end of a year"),
    ],
)
def test_cron_means_what_cron_means(line: str, after: str, expected: str):
    assert parse_cron(line, UTC).next_after(at(after)) == at(expected)


@pytest.mark.parametrize(
    ("line", "word"),
    [
        pytest.param("* * * *", "4 fields", id="too few"),
        pytest.param("60 * * * *", "wrong minute", id="too large"),
        pytest.param("* * 0 * *", "wrong day of month", id="too small"),
        pytest.param("* * * * 8", "wrong day of week", id="eighth day"),
        pytest.param("* * * mon *", "wrong month", id="name of another field"),
        pytest.param("*/0 * * * *", "wrong minute", id="step of nothing"),
        pytest.param("30-10 * * * *", "backwards in its minute", id="backwards"),
        pytest.param("* * * * fri-mon", "backwards in its day of week", id="backwards by name"),
        pytest.param("0 0 30 2 *", "never due", id="no such day"),
        pytest.param("@daily", "1 field;", id="nickname"),
        pytest.param("* * L * *", "wrong day of month", id="last"),
        pytest.param("* * * * 5#2", "wrong day of week", id="second Friday"),
    ],
)
def test_a_line_that_is_no_cron_line_says_what_is_wrong(line: str, word: str):
    with pytest.raises(ValueError, match=word):
        parse_cron(line, UTC)


@pytest.mark.parametrize(
    ("line", "zone", "after", "expected"),
    [
        pytest.param(
            "30 2 * * *",
            BERLIN,
            "2026-03-28T00:00",
            ["2026-03-28T01:30", "2026-03-29T01:00", "2026-03-30T00:30"],
            id="spring: 02:30 is missing and runs at 03:00",
        ),
        pytest.param(
            "30 2 * * *",
            BERLIN,
            "2026-10-24T01:00",
            ["2026-10-25T00:30", "2026-10-26T01:30"],
            id="autumn: 02:30 comes twice and runs the first time",
        ),
        pytest.param(
            "0 * * * *",
            BERLIN,
            "2026-03-29T00:00",
            ["2026-03-29T01:00", "2026-03-29T02:00", "2026-03-29T03:00"],
            id="spring, hourly: 02:00 and 03:00 are one slot",
        ),
        pytest.param(
            "0 * * * *",
            BERLIN,
            "2026-10-24T23:00",
            ["2026-10-25T00:00", "2026-10-25T01:00", "2026-10-25T02:00", "2026-10-25T03:00"],
            id="autumn, hourly: 02:00 twice, then 03:00",
        ),
        pytest.param(
            "30 1 * * *",
            NEW_YORK,
            "2026-10-31T12:00",
            ["2026-11-01T05:30", "2026-11-02T06:30"],
            id="autumn in New York",
        ),
        pytest.param(
            "15 2 * * *",
            LORD_HOWE,
            "2026-10-03T00:00",
            ["2026-10-03T15:30", "2026-10-04T15:15"],
            id="half an hour",
        ),
        pytest.param(
            "0 12 * * *",
            APIA,
            "2011-12-29T00:00",
            ["2011-12-29T22:00", "2011-12-30T10:00", "2011-12-30T22:00", "2011-12-31T22:00"],
            id="a day that was left out runs when the next begins",
        ),
        pytest.param(
            "0,30 2 * * *",
            BERLIN,
            "2026-03-28T02:00",
            ["2026-03-29T01:00", "2026-03-30T00:00", "2026-03-30T00:30"],
            id="spring: all that is missing is one slot",
        ),
        pytest.param(
            "30 2 * * *",
            BERLIN,
            "2026-10-25T01:10",
            ["2026-10-26T01:30"],
            id="autumn: asked when 02:10 came again",
        ),
        pytest.param(
            "*/30 2 * * *",
            BERLIN,
            "2026-03-28T02:00",
            ["2026-03-30T00:00", "2026-03-30T00:30"],
            id="spring: real time has no hour of two",
        ),
        pytest.param(
            "*/30 2 * * *",
            BERLIN,
            "2026-10-24T02:00",
            ["2026-10-25T00:00", "2026-10-25T00:30", "2026-10-25T01:00", "2026-10-25T01:30"],
            id="autumn: real time has two of them",
        ),
    ],
)
def test_clocks_change(line: str, zone: ZoneInfo, after: str, expected: list[str]):
    found = slots(parse_cron(line, zone), at(after), len(expected))
    assert found == [at(text) for text in expected]


@pytest.mark.parametrize(
    ("found", "last", "now", "expected"),
    [
        pytest.param(Every(900), "10:00", "10:14:59", None, id="not yet"),
        pytest.param(Every(900), "10:00", "10:15", Due(at("2026-01-01 10:15"), 0), id="now"),
        pytest.param(Every(900), "10:00", "11:01", Due(at("2026-01-01 11:00"), 3), id="missed"),
        pytest.param(Every(900), "10:07", "10:16", Due(at("2026-01-01 10:15"), 0), id="new"),
        pytest.param(Every(900), "10:00", "09:00", None, id="clock put back"),
        pytest.param(
            parse_cron("17 * * * *", UTC),
            "10:17",
            "13:18",
            Due(at("2026-01-01 13:17"), 2),
            id="cron, missed",
        ),
        pytest.param(parse_cron("17 * * * *", UTC), "10:17", "11:16", None, id="cron, not yet"),
        pytest.param(parse_cron("17 * * * *", UTC), "10:17", "09:00", None, id="cron, put back"),
    ],
)
def test_missed_slots_collapse_into_the_latest(
    found: Slots, last: str, now: str, expected: Due | None
):
    assert found.due(at(f"2026-01-01 {last}"), at(f"2026-01-01 {now}")) == expected


def test_a_slot_at_midnight_belongs_to_the_day_that_begins():
    due = parse_cron("0 0 * * *", UTC).due(at("2026-11-23 10:00"), at("2026-11-26 10:00"))
    assert due == Due(at("2026-11-26 00:00"), missed_slots=2)


def test_every_minute_of_a_year_is_counted_through_both_changes_of_clocks():
    begin, end = at("2026-01-01T00:00", BERLIN), at("2027-01-01T00:00", BERLIN)
    assert parse_cron("* * * * *", BERLIN).due(begin, end) == Due(end, 365 * 24 * 60 - 1)


BEGIN = at("2025-12-31 23:59:59")
END = at("2035-12-31 23:59:59")
HOUR = timedelta(hours=1)


def listed(found: Cron, begin: datetime = BEGIN, end: datetime = END) -> list[datetime]:
    """Every slot later than `begin`, up to `end`."""
    return list(takewhile(lambda slot: slot <= end, found.slots_after(begin)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("zone", "changes"),
    [
        pytest.param(UTC, {}, id="UTC"),
        pytest.param(BERLIN, {}, id="Berlin"),
        pytest.param(NEW_YORK, {}, id="New York"),
        # Twice a year its clocks show another minute than an hour before.
        pytest.param(LORD_HOWE, {1.5 * HOUR: 20}, id="Lord Howe"),
    ],
)
def test_an_hourly_line_runs_every_hour_for_ten_years(zone: tzinfo, changes: dict[timedelta, int]):
    found = listed(parse_cron("17 * * * *", zone))
    distances = Counter(later - slot for slot, later in pairwise(found))
    assert distances == {HOUR: len(found) - 1 - sum(changes.values()), **changes}
    assert {slot.astimezone(zone).minute for slot in found} == {17}
    assert found[0] - BEGIN <= HOUR
    assert END - found[-1] <= HOUR


@pytest.mark.parametrize("line", ["30 2 * * *", "15 1 * * *", "0 0 * * *", "59 23 * * *"])
@pytest.mark.parametrize("zone", [UTC, BERLIN, NEW_YORK, LORD_HOWE], ids=str)
def test_a_daily_line_runs_once_on_every_day_of_ten_years(line: str, zone: tzinfo):
    days = [slot.astimezone(zone).date() for slot in listed(parse_cron(line, zone))]
    assert days == [days[0] + timedelta(days=n) for n in range((END - BEGIN).days)]


@pytest.mark.parametrize(
    ("line", "minutes", "hours"),
    [
        pytest.param("*/20 * * * *", {0, 20, 40}, set(range(24)), id="every 20 minutes"),
        pytest.param("*/20 1-2 * * *", {0, 20, 40}, {1, 2}, id="every 20 minutes for two hours"),
        pytest.param("5,55 */2 * * *", {5, 55}, set(range(0, 24, 2)), id="every other hour"),
    ],
)
@pytest.mark.parametrize(
    ("zone", "begin"),
    [
        pytest.param(BERLIN, "2026-03-28", id="spring in Berlin"),
        pytest.param(BERLIN, "2026-10-24", id="autumn in Berlin"),
        pytest.param(NEW_YORK, "2026-03-07", id="spring in New York"),
        pytest.param(NEW_YORK, "2026-10-31", id="autumn in New York"),
    ],
)
def test_a_line_with_a_star_runs_whenever_the_clock_on_the_wall_shows_it(
    zone: ZoneInfo, begin: str, line: str, minutes: set[int], hours: set[int]
):
    found, every = parse_cron(line, zone), [at(begin) + timedelta(minutes=n) for n in range(4320)]
    walls = [(moment, moment.astimezone(zone)) for moment in every[1:]]
    expected = [m for m, wall in walls if wall.minute in minutes and wall.hour in hours]
    assert listed(found, every[0], every[-1]) == expected
    assert found.due(every[0], every[-1]) == Due(expected[-1], len(expected) - 1)


ZONES = st.sampled_from([UTC, BERLIN, NEW_YORK, LORD_HOWE, APIA])
CHANGES = ["2026-03-29 00:59:59", "2026-10-25 00:30", "2026-10-25 01:30", "2011-12-30 09:59"]
MOMENTS = st.integers(0, 18 * 365 * 86400).map(
    lambda seconds: at("2011-12-01") + timedelta(seconds=seconds)
) | st.sampled_from(CHANGES).map(at)


MINUTES = {"*/7": range(0, 60, 7), "0": {0}, "30": {30}, "59": {59}, "0,30": {0, 30}}
HOURS = {"*": range(24), "2": {2}, "0": {0}, "1-3": {1, 2, 3}, "23": {23}}


@st.composite
def crons(draw: st.DrawFn) -> Cron:
    minute = draw(st.sampled_from(list(MINUTES)))
    hour = draw(st.sampled_from(list(HOURS)))
    days = draw(st.sampled_from(["* * *", "1 * *", "* * 0", "13 * 5", "* 3,10 *", "31 12 *"]))
    return parse_cron(f"{minute} {hour} {days}", draw(ZONES))


ALL_SLOTS = crons() | st.sampled_from([60, 900, 7000, 86400]).map(Every)


@given(ALL_SLOTS, MOMENTS)
def test_the_next_slot_is_later_and_the_first(found: Slots, moment: datetime):
    following = found.next_after(moment)
    assert following > moment
    assert found.due(moment, following) == Due(following, 0)
    assert found.due(moment, following - timedelta(microseconds=1)) is None


@given(ALL_SLOTS, MOMENTS, st.integers(1, 8))
def test_what_is_due_counts_every_slot_once(found: Slots, moment: datetime, count: int):
    listed = slots(found, moment, count)
    assert listed == sorted(set(listed))
    assert found.due(moment, listed[-1]) == Due(listed[-1], count - 1)
    assert found.due(listed[-1], listed[-1]) is None


@given(crons(), MOMENTS)
def test_a_slot_is_on_the_clock_or_in_the_gap_of_it(found: Cron, moment: datetime):
    local = found.next_after(moment).astimezone(found.zone)
    minute, hour, *_ = found.line.split()
    is_on_the_clock = local.minute in MINUTES[minute] and local.hour in HOURS[hour]
    is_real_time = "*" in minute or "*" in hour
    before = local - timedelta(hours=1)  # the offset before a change was smaller by the gap
    is_shifted = before.utcoffset() != local.utcoffset() or found.zone is APIA
    assert (local.second, local.microsecond) == (0, 0)
    assert is_on_the_clock or (is_shifted and not is_real_time)
    assert local.fold == 0 or is_real_time


def test_in_the_middle_of_a_change_the_slots_are_those_from_before_it():
    """Lord Howe goes back half an hour at 2 o'clock; cronsim counts 2:20 twice from in between."""
    job = Cron("*/20 2 * * *", LORD_HOWE)
    day = list(islice(job.slots_after(datetime(2026, 4, 4, 12, tzinfo=UTC)), 4))
    for minute in range(0, 4 * 60, 5):
        moment = datetime(2026, 4, 4, 13, 0, 7, tzinfo=UTC) + timedelta(minutes=minute)
        assert job.next_after(moment) == next(slot for slot in day if slot > moment)


def test_whole_days_are_not_listed_slot_by_slot(monkeypatch: pytest.MonkeyPatch):
    """A year of minutes would take seconds."""
    listed, real = [], Cron.slots_after

    def noted(job: Cron, moment: datetime) -> Iterator[datetime]:
        listed.append(moment)
        return real(job, moment)

    monkeypatch.setattr(Cron, "slots_after", noted)
    begin = datetime(2026, 1, 1, tzinfo=UTC) - timedelta(seconds=1)
    due = Cron("* * * * *", UTC).due(begin, begin + timedelta(days=365))
    assert due == Due(datetime(2026, 12, 31, 23, 59, tzinfo=UTC), 365 * 24 * 60 - 1)
    assert listed == [begin]  # the rest of its day


@pytest.mark.parametrize(("day", "keeps"), [(29, True), (30, False), (31, False)])
def test_a_day_that_is_left_out_does_not_keep_the_clock(day: int, keeps: bool):
    """The day after it is as long as others, but its ends are not on the same clock."""
    assert Cron("0 0 * * *", APIA)._keeps_clock(datetime(2011, 12, day, tzinfo=UTC).date()) is keeps
