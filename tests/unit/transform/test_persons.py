"""Whom a record names, and where their values stand again."""

from typing import Any

import pytest

from etl.transform.lenient_json import Constant, Number, Value
from etl.transform.persons import (
    OF_ATTRIBUTES,
    OF_OTHERS,
    Member,
    Persons,
    Rules,
    is_wrapper,
    members_of,
    name_in_list,
)

RULES = Rules()
HIDDEN = Rules(is_hidden_name=lambda value: isinstance(value, dict) or value is None)


def persons(*values: str, name: str = "owner") -> Persons:
    found = Persons(RULES)
    for value in values:
        found.add(name, value)
    return found


# --- names in pairs -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "key", "value", "is_name"),
    [
        (RULES, "name", "created_by", True),
        (RULES, "name", "color", False),
        (RULES, "name", None, False),
        (RULES, "name", ["created_by"], False),
        (RULES, "color", "created_by", False),
        (Rules(("pinned_by",)), "key", "pinnedBy", True),
        (HIDDEN, "name", {"$hash": "x"}, True),
        (HIDDEN, "name", None, True),
        (HIDDEN, "name", "color", False),
        (HIDDEN, "color", {"$hash": "x"}, False),
    ],
)
def test_a_member_names_an_attribute(rules: Rules, key: str, value: Value, is_name: bool) -> None:
    assert rules.names(key, value) is is_name


def test_the_other_members_of_a_pair_hold_the_attribute() -> None:
    pair: dict[str, Value] = {"name": "created_by", "value": "Ada", "type": "x", "owner": "Bob"}
    assert list(members_of(pair, RULES, OF_OTHERS)) == [
        Member("name", "created_by", None, True),
        Member("value", "Ada", "created_by", False),
        Member("type", "x", None, False),
        Member("owner", "Bob", "owner", False),
    ]


def test_of_two_names_the_first_by_key_counts_and_without_any_there_is_no_pair() -> None:
    two: dict[str, Value] = {"name": "owner", "key": "user", "value": "Ada"}
    assert [m.person for m in members_of(two, RULES, OF_OTHERS)] == [None, None, "user"]
    none: dict[str, Value] = {"value": "Ada"}
    assert [m.person for m in members_of(none, RULES, OF_OTHERS)] == [None]
    hidden: dict[str, Value] = {"name": {"$hash": "x"}, "value": "Ada"}
    assert [m.person for m in members_of(hidden, HIDDEN, OF_OTHERS)] == [None, ""]


@pytest.mark.parametrize(
    ("rules", "items", "name"),
    [
        (RULES, ["created_by", "Ada"], "created_by"),
        (RULES, ["color", "created_by"], None),
        (RULES, ["created_by"], None),
        (RULES, ["created_by", "Ada", "x"], None),
        (HIDDEN, [{"$hash": "x"}, "Ada"], ""),
        (HIDDEN, ["x", {"$hash": "x"}], None),
        (HIDDEN, [None, "Ada"], None),
        (HIDDEN, ["created_by", None], "created_by"),
    ],
)
def test_a_list_of_two_is_a_pair(rules: Rules, items: list[Value], name: str | None) -> None:
    assert name_in_list(items, rules) == name


@pytest.mark.parametrize(
    ("value", "is_one"),
    [
        ({"$hash": "x"}, True),
        ({"$literal": "x"}, True),
        ({"$hash": "x", "y": 1}, False),
        ({"x": 1}, False),
        ({}, False),
        (["$hash"], False),
    ],
)
def test_a_wrapper_has_one_member(value: Value, is_one: bool) -> None:
    assert is_wrapper(value) is is_one


# --- values -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "noted"),
    [
        ("Ada", {"ada": ("owner", "Ada")}),
        (" ADA\n", {"ada": ("owner", " ADA\n")}),
        ("", {}),
        (" ", {}),
        (Number("123"), {}),
        ("123", {}),
        (Number("1234"), {"1234": ("owner", "1234")}),
        ([Number("12"), "", "Ada"], {"ada": ("owner", "Ada")}),
        ({"type": "user", "x": {"y": "Ada"}}, {"ada": ("owner", "Ada")}),
        ({"x": ["Ada", "Bob"]}, {"ada": ("owner", "Ada"), "bob": ("owner", "Bob")}),
        ({"$hash": "Ada"}, {}),
        ({"$literal": "Ada"}, {}),
        (Constant("NaN"), {}),
        (True, {}),
        (None, {}),
    ],
)
def test_all_texts_of_a_value_are_noted(value: Value, noted: dict[str, Any]) -> None:
    found = Persons(RULES)
    found.add("owner", value)
    assert found.values == noted


def test_the_same_text_stands_under_its_column_first_then_by_name_then_by_spelling() -> None:
    for names in (("user", "owner", "created_by"), ("created_by", "owner", "user")):
        found = Persons(RULES)
        for name in names:
            found.add(name, name[0] + "da".upper())
            found.add(name, "Ada")
        assert found.find(" aDa ") == ("created_by", "Ada")
    for two in (("user", "owner"), ("owner", "user")):
        found = Persons(RULES)
        for name in two:
            found.add(name, "Ada")
        assert found.find("ada") == ("owner", "Ada")
    for spellings in (("ADA", "Ada"), ("Ada", "ADA")):
        assert persons(*spellings).find("ada") == ("owner", "ADA")


def test_nobody_is_found_among_none() -> None:
    assert Persons(RULES).find("ada") is None
    assert persons("Ada").find("bob") is None


def test_the_values_of_another_record_are_noted_too() -> None:
    found, other = persons("Ada"), persons("Bob", "Ada", name="created_by")
    found.add_all(other)
    assert found.values == {"ada": ("created_by", "Ada"), "bob": ("created_by", "Bob")}


@pytest.mark.parametrize(
    ("value", "text", "is_in"),
    [
        ("Ada L.", '{"x": "by ADA L. and', True),
        ("Ada L.", '{"x": "by ADA L', False),
        ("1234", "x1234x", True),
        ("Ada", "Ada", False),  # too short to mean anybody
        ('ada "x"', '{"x": "ada \\"x\\""', True),
        ("Zoë L.", '"zoë l."', True),
        ("Zoë L.", '"zo\\u00eb l."', True),
        ('x"yz', 'a\\"yz', False),
        ('yz"x', 'yz\\"a', False),
    ],
)
def test_a_text_that_nobody_reads_holds_a_value(value: str, text: str, is_in: bool) -> None:
    assert persons(value).are_in(text) is is_in


def test_one_of_several_values_is_enough() -> None:
    assert persons("Bobby", "Ada L.").are_in("by ada l.")
    assert not Persons(RULES).are_in("by ada l.")


@pytest.mark.parametrize(("text", "may"), [('"ADA"', True), ('"AD"', False)])
def test_json_may_hold_a_value(text: str, may: bool) -> None:
    assert persons("Ada", "Bob").may_be_in(text) is may
    assert Persons(RULES).may_be_in(text) is False


# --- where they stand ---------------------------------------------------------------------

PAIR: dict[str, Value] = {"name": "created_by", "value": "Ada"}

COLLECTED: list[tuple[Value, set[str]]] = [
    ({"owner": "Ada"}, {"ada"}),
    ([{"owner": "Ada"}, {"user": "Bob"}], {"ada", "bob"}),
    ({"x": {"y": [{"owner": "Ada"}]}}, {"ada"}),
    (["created_by", "Ada"], {"ada"}),
    ({"x": ["created_by", "Ada"]}, {"ada"}),
    (["created_by", {"owner": "Ada"}], {"ada"}),
    ({**PAIR, "id": "one", "type": "kind"}, {"ada", "one"}),
    ("owner:Ada", {"ada"}),
    (["x", "y", "owner=Ada"], {"ada"}),
    ({"owner:Ada": True}, {"ada"}),
    ({"x": "owner:Ada"}, {"ada"}),
    ({"owner": {"user:Bob": "Ada"}}, {"ada", "bob"}),
    ({"$literal": "owner:Ada"}, set()),
    ({"$hash": "owner:Ada"}, set()),
    ("Ada", set()),
    (Number("12345"), set()),
    (None, set()),
    (True, set()),
]


def str_of(value: object) -> str:
    """The id of a case: the same in each process of the tests, also for a set."""
    return repr(sorted(value)) if isinstance(value, set) else repr(value)


@pytest.mark.parametrize(("value", "whom"), COLLECTED, ids=str_of)
def test_whom_any_value_names(value: Value, whom: set[str]) -> None:
    found = Persons(RULES)
    found.collect(value)
    assert found.values.keys() == whom


def test_what_is_never_the_value_of_a_pair_names_nobody() -> None:
    found = Persons(RULES)
    found.collect({**PAIR, "view_id": "one", "x": "Bob"}, OF_ATTRIBUTES)
    assert found.values.keys() == {"ada", "bob"}


RECORDS: list[tuple[Value, set[str]]] = [
    ({"id": "one", "type": "kind", **PAIR}, {"ada"}),
    ({"id": "one", "creator": "Bob", "attributes": {"owner": "Ada"}}, {"ada", "bob"}),
    ({"id": "one", "attributes": {**PAIR, "view_id": "home"}}, {"ada"}),
    ({**PAIR, "attributes": {"view_id": "home", "x": "Bob"}}, {"ada"}),
    ({"attributes": [{"owner": "Ada"}]}, {"ada"}),
    ({"attributes": "owner:Ada"}, {"ada"}),
    ({"attributes": {"$literal": "owner:Ada"}}, set()),
    ({"$literal": "owner:Ada"}, set()),
    ([{"owner": "Ada"}], {"ada"}),
    ("owner:Ada", {"ada"}),
    (None, set()),
]


@pytest.mark.parametrize(("record", "whom"), RECORDS, ids=str_of)
def test_whom_a_record_names(record: Value, whom: set[str]) -> None:
    found = Persons(RULES)
    found.collect_record(record)
    assert found.values.keys() == whom


EXTRAS: list[tuple[dict[str, Value], set[str]]] = [
    ({"owner": "Ada", "$top": {"creator": "Bob"}}, {"ada", "bob"}),
    ({"$top": {"id": "one", **PAIR}}, {"ada"}),
    ({**PAIR, "$top": {"x": "Bob"}}, {"ada"}),
    ({**PAIR, "view_id": "home"}, {"ada"}),
    ({"$top": "owner:Ada"}, {"ada"}),
    ({}, set()),
]


@pytest.mark.parametrize(("extra", "whom"), EXTRAS, ids=str_of)
def test_whom_extra_names(extra: dict[str, Value], whom: set[str]) -> None:
    found = Persons(RULES)
    found.collect_extra(extra)
    assert found.values.keys() == whom
