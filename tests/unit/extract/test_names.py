"""etl.extract.names: whose answer it is, by what its records name."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.extract.names import (
    OTHERS,
    OURS,
    RELATIONS,
    SPELLINGS,
    UNKNOWN,
    Named,
    judge,
    learned,
    named_in,
    naming,
    other_part,
    relation,
)
from etl.transform.decode import decode
from tests.support.strategies import body, record

CONFIGURED = ("/home", "/HOME", "/homepage", "/checkout/?", "/b")


@pytest.mark.parametrize(
    ("asked", "name", "found"),
    [
        ("/home", "/Home", "case"),
        ("/straße", "/STRASSE", "case"),
        ("/home", "/home/", "spelling"),
        ("/home", " /home\t", "spelling"),
        ("/caf\u00e9", "/cafe\u0301", "spelling"),
        ("/a b", "/a%20B", "spelling"),
        ("/caf\u00e9", "/caf%C3%A9", "spelling"),
        ("/", "", "spelling"),
        ("/checkout/?", "/checkout/17", "pattern"),
        ("/checkout/?", "/checkout/17/pay", ""),
        ("/checkout/?", "/checkout/", ""),
        ("/users/?/posts/?", "/users/1/posts/2", "pattern"),
        ("/docs/*", "/docs/a/b\nc", "pattern"),
        ("*/pay", "/checkout/17/pay", "pattern"),
        ("/a*b*c", "/a-b-b-c", "pattern"),
        ("/a*b*c", "/a-c-b", ""),
        ("/a.*", "/abc", ""),
        ("/home", "/homepage", "prefix"),
        ("/home", "/new/home", "contains"),
        ("/home", "/cart", ""),
        ("/home", "/hom", ""),
        ("/a%zz", "/a", ""),
    ],
)
def test_the_narrowest_relation_between_two_names(asked: str, name: str, found: str) -> None:
    assert relation(asked, name) == found


def test_a_pattern_of_many_stars_takes_no_time() -> None:
    started = time.monotonic()
    assert relation("*a" * 40 + "b", "a" * 3000) == ""
    assert time.monotonic() - started < 1


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ({"/home"}, set()),
        ({"/home", "/Home"}, {"case"}),
        ({"/home", "/Home", "/homepage"}, {"case", "prefix"}),
        ({"/home", "/Home", "/cart"}, set()),  # no relation explains it
        ({"/Home"}, set()),  # it may be another view's answer
        (set(), set()),
    ],
)
def test_how_names_match_is_learned_where_the_name_itself_is_among_them(
    names: set[str], found: set[str]
) -> None:
    assert learned("/home", names) == found


@pytest.mark.parametrize(
    ("asked", "names", "matching", "stored", "verdict"),
    [
        # 1. The very name is among them, or there is none.
        ("/home", [], [], ["/b"], OURS),
        ("/home", ["/home"], [], ["/b"], OURS),
        ("/home", ["/b", "/home"], [], ["/b"], OURS),
        # 2. Names match as was learned.
        ("/home", ["/Home"], ["case"], ["/home"], OURS),
        ("/home", ["/HOME"], ["case"], ["/home"], OURS),  # configured, and the same
        ("/home", ["/Home"], ["spelling"], ["/home"], OURS),  # which includes case
        ("/home", ["/Home/"], ["case"], ["/home"], UNKNOWN),
        ("/home", ["/home-2"], ["prefix"], ["/home"], OURS),
        ("/home", ["/home-2"], ["contains"], ["/home"], OURS),  # which includes prefix
        ("/home", ["/new/home"], ["prefix"], ["/home"], OTHERS),
        ("/home", ["/Home", "/home-2"], ["prefix", "case"], ["/home"], OURS),
        ("/home", ["/homepage"], ["prefix"], ["/home"], UNKNOWN),  # configured, and less
        ("/checkout/?", ["/checkout/9"], ["pattern"], ["/checkout/1"], OURS),
        # 3. Another configured view.
        ("/home", ["/b"], [], [], OTHERS),
        ("/home", ["/b"], ["case", "prefix"], [], OTHERS),
        ("/home", ["/homepage", "/home-2"], [], [], OTHERS),
        ("/home", ["/b"], [], ["/b"], OTHERS),
        ("/home", ["/HOME"], [], [], UNKNOWN),  # merely another spelling
        # 4. What the view's own rows named.
        ("/home", ["/old"], [], ["/old", "/older"], OURS),
        ("/home", ["/old", "/new"], [], ["/old"], OURS),
        ("/home", ["/old"], [], ["/home"], OTHERS),
        ("/home", ["/old"], [], ["/home", "/old"], OTHERS),
        ("/home", ["/old"], [], ["/older"], OTHERS),
        ("/home", ["/Home"], [], ["/home"], UNKNOWN),
        ("/home", ["/Home"], [], ["/Home"], OURS),
        ("/checkout/?", ["/checkout/9"], [], ["/checkout/1"], UNKNOWN),
        ("/checkout/?", ["/checkout/9", "/c"], [], ["/checkout/1"], OTHERS),
        # 5. Nothing is known.
        ("/home", ["/old"], [], [], UNKNOWN),
        ("/home", ["/homes", "/Home"], [], [], UNKNOWN),
    ],
)
def test_whose_answer_it_is(
    asked: str, names: list[str], matching: list[str], stored: list[str], verdict: str
) -> None:
    found = judge(
        asked, names, others=CONFIGURED, matching=matching, read_stored=lambda: set(stored)
    )
    assert found == verdict


def test_the_tables_are_asked_only_where_they_decide() -> None:
    def refuse() -> set[str]:
        raise AssertionError("asked")

    for names in ([], ["/home"], ["/b"], ["/Home"]):
        judge("/home", names, others=CONFIGURED, matching=["case"], read_stored=refuse)


some_names = st.sampled_from(["/a", "/A", "/a/", "/ab", "/b", "/ba", "/a?", "/c/?", "/c/1", "/%41"])
name_sets = st.frozensets(some_names, max_size=4)


@given(asked=some_names, names=name_sets, stored=name_sets, others=name_sets)
def test_what_an_answer_taught_makes_no_other_answer_less_ones_own(
    asked: str, names: frozenset[str], stored: frozenset[str], others: frozenset[str]
) -> None:
    def verdict(matching: frozenset[str]) -> str:
        return judge(asked, names, others=others, matching=matching, read_stored=lambda: stored)

    order = (OTHERS, UNKNOWN, OURS)
    ways = learned(asked, {*names, asked})
    if verdict(frozenset()) != OURS:
        assert order.index(verdict(ways)) >= order.index(verdict(frozenset()))
    if ways <= SPELLINGS and ways:
        assert verdict(ways) == OURS


@given(asked=some_names, name=some_names)
def test_a_spelling_is_one_both_ways(asked: str, name: str) -> None:
    assert (relation(asked, name) in SPELLINGS) == (relation(name, asked) in SPELLINGS)
    assert relation(asked, name) in {*RELATIONS, ""}


@pytest.mark.parametrize(
    ("application", "device", "named", "reason"),
    [
        (None, None, Named({}, {"b": 1}, {"TV": 1}), ""),
        ("a", None, Named({}, {}, {}), ""),
        ("a", None, Named({}, {"A": 1, "b": 9}, {}), ""),
        ("a", None, Named({}, {"b": 2}, {}), "another application: all 2 records name b"),
        ("a", "tv", Named({}, {"a": 1}, {"TV": 1}), ""),
        ("a", "tv", Named({}, {"a": 1}, {"m": 1}), "another device type: its one record names m"),
        ("a", "tv", Named({}, {"b": 3, "c": 1}, {"m": 1}), "all 4 records name b and 1 more"),
    ],
)
def test_an_answer_for_another_part_is_told_by_records_that_name_no_other(
    application: str | None, device: str | None, named: Named, reason: str
) -> None:
    found = other_part(application, device, named)
    assert found.endswith(reason)
    assert bool(found) is bool(reason)


def test_a_foreign_name_is_short_and_clean() -> None:
    text = naming({"/\x1b[2J\n" + "x" * 500: 1000})
    assert text.startswith("all 1,000 records name /\\x1b[2J\\n")
    assert len(text) < 110
    assert text.isprintable()


def test_a_record_without_a_usable_id_still_names_its_view():
    """An answer of nothing else would else belong to every view that asks."""
    place = {"view_name": "/b", "application_id": "app-1", "device_type": "mobile"}
    rejects = [record(None, **place), record(7, **place), record("", view_name=5), 3, [record()]]
    decoded = decode(body(*rejects, record("x", view_name="/b")))
    assert len(decoded.rejected) == 5
    assert named_in(decoded.snapshots, decoded.rejected) == Named(
        {"/b": 3}, {"app-1": 2}, {"mobile": 2}
    )
