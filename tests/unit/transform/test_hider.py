"""What is hidden in one record, and what stays."""

import json
from typing import Any

import pytest

from etl.transform.hider import Hider, Masked, is_hash
from etl.transform.lenient_json import Number, Value
from etl.transform.persons import Persons, Rules


def mask(name: str, value: Value) -> Value:
    return value if is_hash(value) or value is None else hashed(name, value)


def hashed(name: str, value: Any) -> dict[str, Value]:
    return {"$hash": f"{name}|{json.dumps(value)}"}


def nothing(name: str, value: Value) -> Value:
    return None


def hider(*whom: str, is_dropping: bool = False, hashes: frozenset[str] = frozenset()) -> Hider:
    persons = Persons(Rules(is_hidden_name=lambda v: isinstance(v, dict) and v == {"$hash": "n"}))
    for value in whom:
        persons.add("created_by", value)
    chosen = nothing if is_dropping else mask
    return Hider(persons, chosen, is_dropping=is_dropping, hashes=hashes)


ADA = hashed("created_by", "Ada")
HASHED_KEY = "$hash:"

RECORDS: dict[str, tuple[Value, Value, Value]] = {
    # name: the record, hashed, dropped
    "a list": ([{"owner": "Bob"}], [{"owner": hashed("owner", "Bob")}], [{}]),
    "a text": ("ada", ADA, None),
    "another text": ("bob", "bob", "bob"),
    "a number": (Number("5"), Number("5"), Number("5")),
    "a flag": (True, True, True),
    "null": (None, None, None),
    "a hash": ({"$hash": "x"}, {"$hash": "x"}, None),
    "a literal": ({"$literal": "x"}, {"$literal": "x"}, {"$literal": "x"}),
    "a literal with a name": (
        {"$literal": '{"owner": '},
        hashed("", {"$literal": '{"owner": '}),
        None,
    ),
    "a literal that is none": (
        {"$literal": Number("5")},
        {"$literal": Number("5")},
        {"$literal": Number("5")},
    ),
    "a literal of another type": ({"$literal": [True]}, hashed("", {"$literal": [True]}), None),
    "id and type": (
        {"id": "Ada", "type": "snapshots"},
        {"id": "Ada", "type": "snapshots"},
        {"id": "Ada", "type": "snapshots"},
    ),
    "an id that is a list": ({"id": ["Ada"]}, {"id": [ADA]}, {"id": [None]}),
    "another type": ({"type": "Ada"}, {"type": ADA}, {"type": None}),
    "an id deeper": ({"x": {"id": "Ada"}}, {"x": {"id": ADA}}, {"x": {"id": None}}),
    "a type deeper": ({"x": {"type": "Ada"}}, {"x": {"type": ADA}}, {"x": {"type": None}}),
    "snapshots as an id": ({"id": "snapshots"}, {"id": "snapshots"}, {"id": "snapshots"}),
    "a column": (
        {"attributes": {"view_name": "Ada", "org_id": "Ada", "color": "Ada"}},
        {"attributes": {"view_name": "Ada", "org_id": "Ada", "color": ADA}},
        {"attributes": {"view_name": "Ada", "org_id": "Ada", "color": None}},
    ),
    "a column that holds a list": (
        {"attributes": {"view_name": ["Ada"]}},
        {"attributes": {"view_name": [ADA]}},
        {"attributes": {"view_name": [None]}},
    ),
    "the column that people write": (
        {"attributes": {"snapshot_name": "Ada", "view_id": None}},
        {"attributes": {"snapshot_name": ADA, "view_id": None}},
        {"attributes": {"view_id": None}},
    ),
    "another name in it": (
        {"attributes": {"snapshot_name": "Bob"}},
        {"attributes": {"snapshot_name": "Bob"}},
        {"attributes": {"snapshot_name": "Bob"}},
    ),
    "a column's name beside": ({"view_name": "Ada"}, {"view_name": ADA}, {"view_name": None}),
    "attributes as a list": (
        {"attributes": [{"owner": "Bob", "view_name": "Ada"}]},
        {"attributes": [{"owner": hashed("owner", "Bob"), "view_name": ADA}]},
        {"attributes": [{"view_name": None}]},
    ),
    "attributes as a literal": (
        {"attributes": {"$literal": "owner:Bob"}},
        {"attributes": hashed("", {"$literal": "owner:Bob"})},
        {"attributes": None},
    ),
    "a pair": (
        {"x": {"name": "owner", "value": "Bob"}},
        {"x": {"name": "owner", "value": hashed("owner", "Bob")}},
        {"x": {"name": "owner", "value": None}},
    ),
    "a pair whose name is hidden": (
        {"x": {"name": {"$hash": "n"}, "value": "Bob"}},
        {"x": {"name": {"$hash": "n"}, "value": hashed("", "Bob")}},
        {"x": {"name": None, "value": None}},
    ),
    "a pair as a list": (
        {"x": ["owner", "Bob"]},
        {"x": ["owner", hashed("owner", "Bob")]},
        {"x": ["owner", None]},
    ),
    "other lists": ({"x": ["a", "ada"]}, {"x": ["a", ADA]}, {"x": ["a", None]}),
    "a person as a key": (
        {"x": {"ada": True, "bob": False}},
        {"x": {HASHED_KEY + str(ADA["$hash"]): True, "bob": False}},
        {"x": {"bob": False}},
    ),
    "a tag as a key": (
        {"x": {"owner:Bob": True}},
        {"x": {HASHED_KEY + str(hashed("", "owner:Bob")["$hash"]): True}},
        {"x": {}},
    ),
    "a key that was hashed": ({"$hash:x": True}, {"$hash:x": True}, {}),
    "a tag": ({"x": "owner:Bob"}, {"x": hashed("", "owner:Bob")}, {"x": None}),
    "JSON in a text": (
        {"x": '{"owner": "B'},
        {"x": hashed("", '{"owner": "B')},
        {"x": None},
    ),
    "a person's number": ({"x": Number("5")}, {"x": Number("5")}, {"x": Number("5")}),
}


@pytest.mark.parametrize(("record", "when_hashed", "when_dropped"), RECORDS.values(), ids=RECORDS)
def test_in_a_record(record: Value, when_hashed: Value, when_dropped: Value) -> None:
    assert hider("Ada").record(record) == when_hashed
    assert hider("Ada", is_dropping=True).record(record) == when_dropped


def test_a_number_that_is_a_persons_is_hidden() -> None:
    assert hider("12345").record({"x": Number("12345")}) == {"x": hashed("created_by", "12345")}
    (name,) = hider("ada l.").record({"x": {"$literal": "by Ada L."}}).values()  # type: ignore[union-attr]
    assert name == hashed("", {"$literal": "by Ada L."})


EXTRAS: dict[str, tuple[dict[str, Value], Value, Value]] = {
    "attributes": (
        {"owner": "Bob", "color": "red"},
        {"owner": hashed("owner", "Bob"), "color": "red"},
        {"color": "red"},
    ),
    "a column": ({"view_id": "Ada"}, {"view_id": "Ada"}, {"view_id": "Ada"}),
    "beside": (
        {"color": "Ada", "$top": {"creator": "Bob", "id": "Ada", "color": "red"}},
        {"color": ADA, "$top": {"creator": hashed("creator", "Bob"), "id": "Ada", "color": "red"}},
        {"color": None, "$top": {"id": "Ada", "color": "red"}},
    ),
    "nothing left beside": ({"$top": {"creator": None}}, {"$top": {"creator": None}}, {}),
    "nothing": ({}, {}, {}),
}


@pytest.mark.parametrize(("extra", "when_hashed", "when_dropped"), EXTRAS.values(), ids=EXTRAS)
def test_in_extra(extra: dict[str, Value], when_hashed: Value, when_dropped: Value) -> None:
    assert hider("Ada").members_of_extra(extra) == when_hashed
    assert hider("Ada", is_dropping=True).members_of_extra(extra) == when_dropped


@pytest.mark.parametrize(
    ("name", "value", "hidden"),
    [
        ("view_name", "Ada", "Ada"),
        ("view_name", ["Ada"], [ADA]),
        ("snapshot_name", "Ada", ADA),
        ("snapshot_name", "Bob", "Bob"),
        ("color", "Ada", ADA),
        ("color", {"owner": "Bob"}, {"owner": hashed("owner", "Bob")}),
    ],
)
def test_in_one_attribute(name: str, value: Value, hidden: Value) -> None:
    assert hider("Ada").attribute(name, value) == hidden


@pytest.mark.parametrize(
    ("key", "when_hashed", "when_dropped"),
    [
        ("color", "color", "color"),
        ("ada", HASHED_KEY + str(ADA["$hash"]), None),
        ("owner:Bob", HASHED_KEY + str(hashed("", "owner:Bob")["$hash"]), None),
        ("$hash:x", "$hash:x", None),
        ("x$hash:", "x$hash:", "x$hash:"),
    ],
)
def test_in_a_key(key: str, when_hashed: str | None, when_dropped: str | None) -> None:
    assert hider("Ada").key(key) == when_hashed
    assert hider("Ada", is_dropping=True).key(key) == when_dropped


def test_what_equals_a_value_that_is_gone_is_known_by_its_hash() -> None:
    of_before = hider(hashes=frozenset({'created_by_handle|"ada"'}))
    assert of_before.same(" ada ") == Masked(hashed("created_by_handle", "ada"))
    assert of_before.same("bob") is None
    assert hider().same("ada") is None
    assert hider("Ada", is_dropping=True).same("ada") == Masked(None)
    # When dropping there is no hash to compare with.
    assert hider(is_dropping=True, hashes=frozenset({"None"})).same("ada") is None


@pytest.mark.parametrize(
    ("value", "is_one"),
    [({"$hash": "x"}, True), ({"$hash": "x", "y": 1}, False), ({}, False), ("$hash", False)],
)
def test_a_hash_has_one_member(value: Value, is_one: bool) -> None:
    assert is_hash(value) is is_one
