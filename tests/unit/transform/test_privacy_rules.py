"""A privacy setting, one function at a time."""

import hmac
from typing import Any

import pytest

from etl.config import validators
from etl.transform.decode import decode
from etl.transform.fields import READERS
from etl.transform.lenient_json import Number, Value
from etl.transform.person_names import plain
from etl.transform.persons import Persons
from etl.transform.privacy import DROP, HASH, Privacy, comparable
from etl.transform.snapshot import (
    CONTENT,
    PERSONAL,
    Decoded,
    Drift,
    Snapshot,
    mark_of,
    reject_text,
    with_hash,
)
from tests.support.strategies import body, record, snapshot

KEY = "planted-hash-key-4711"
HASHED, DROPPED, KEPT = Privacy(HASH, KEY), Privacy(DROP), Privacy()
OTHER_KEY = Privacy(HASH, "another key of length")
MORE = Privacy(HASH, KEY, ("pinned_by",))
ADA: dict[str, Any] = {"created_by": "Ada Lovelace"}


def digest(text: str, key: str = KEY) -> str:
    return hmac.digest(key.encode(), text.encode(), "sha256").hex()


FINGERPRINT = digest("heatmap-etl privacy fingerprint")[:16]


def protected(privacy: Privacy, **attributes: Any) -> Snapshot:
    return privacy.apply(Decoded([snapshot("a", **attributes)])).snapshots[0]


def stored(mark: str, extra: str | None = None, **columns: Any) -> Snapshot:
    content = tuple(columns.get(name) for name in CONTENT[:-1])
    return with_hash("a", content, extra, mark)


def column(found: Snapshot | None, name: str) -> Any:
    assert found is not None
    return getattr(found, name)


def ada(privacy: Privacy) -> Persons:
    found = privacy.nobody()
    found.add("created_by", "Ada Lovelace")
    return found


# --- settings and marks -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("privacy", "setting", "mark"),
    [
        (KEPT, None, ""),
        (Privacy(person_attributes=("x",)), None, ""),
        (DROPPED, "drop:2", "d2"),
        (HASHED, f"hash:{FINGERPRINT}:2", f"h{FINGERPRINT}.2"),
        (MORE, f"hash:{FINGERPRINT}:2-5e296f", f"h{FINGERPRINT}.2-5e296f"),
    ],
)
def test_a_setting_and_its_mark(privacy: Privacy, setting: str | None, mark: str) -> None:
    """They are stored: another spelling would hide everything once more."""
    assert (privacy.setting, privacy.mark) == (setting, mark)


def test_more_names_are_told_apart_by_their_plain_spelling() -> None:
    one, same = Privacy(DROP, "", ("b", "A")), Privacy(DROP, "", ("a", "B", "b"))
    assert one.mark == same.mark != Privacy(DROP, "", ("ab",)).mark


def test_a_hash_is_that_of_name_and_value() -> None:
    assert HASHED.column("created_by", "Ada") == digest('created_by:"Ada"')[:32]
    assert HASHED.column("created_by_user_id", 12) == (
        int(digest("created_by_user_id:12")[:16], 16) >> 1
    )
    assert HASHED.column("created_by", None) is None
    assert DROPPED.column("created_by", "Ada") is None


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("owner", "Ada", 'owner:"Ada"'),
        ("owner", Number("12"), "owner:12"),
        ("owner", ["Ada", None], 'owner:["Ada",null]'),
        ("created_by_user_id", Number("12.5"), "created_by_user_id:12.5"),
        ("created_by_user_id", Number("12.0"), "created_by_user_id:12.0"),
        ("created_by_user_id", "Ada", 'created_by_user_id:"Ada"'),
    ],
)
def test_what_stands_for_a_value(name: str, value: Value, text: str) -> None:
    assert HASHED.masked(name, value) == {"$hash": digest(text)[:32]}
    assert DROPPED.masked(name, value) is None


@pytest.mark.parametrize("value", [Number("12"), "12"], ids=["number", "text"])
def test_an_id_has_the_hash_of_its_column(value: Value) -> None:
    masked = HASHED.masked("created_by_user_id", value)
    assert masked == {"$hash": str(HASHED.column("created_by_user_id", 12))}
    assert isinstance(masked, dict)
    assert isinstance(masked["$hash"], Number)


def test_null_and_hashes_stay() -> None:
    assert HASHED.masked("owner", None) is None
    assert HASHED.masked("owner", {"$hash": "x"}) == {"$hash": "x"}
    assert DROPPED.masked("owner", {"$hash": "x"}) is None


# --- answers ------------------------------------------------------------------------------


def test_keep_gives_back_the_very_same() -> None:
    decoded = decode(body(record("a", **ADA), record(None, **ADA)))
    assert KEPT.apply(decoded) is decoded
    (rejected,) = decoded.rejected
    assert KEPT.reject(rejected) is rejected
    assert KEPT.example("created_by", '"Ada"') == '"Ada"'
    assert KEPT.rewritten(decoded.snapshots[0]) is None
    assert KEPT.rewritten(protected(HASHED, **ADA)) is None


def test_a_reject_without_persons_is_the_very_same() -> None:
    rejected = reject_text("why", '{"color":"red"}')
    assert HASHED.reject(rejected) is rejected
    hidden = HASHED.reject(reject_text("why", '{"owner":"Ada"}'))
    assert hidden == reject_text(
        "why", f'{{"owner":{{"$hash":"{digest(chr(34).join(OWNER))[:32]}"}}}}'
    )


OWNER = ("owner:", "Ada", "")


def test_drift_is_hidden_by_whom_all_of_its_answer_name() -> None:
    """An example may be of another record than the one that names the person."""
    decoded = decode(body(record("a", **ADA), record(None, owner="Bobby"), record("b")))
    decoded.drift = {
        Drift("color", "unknown"): (2, '"ada lovelace"'),
        Drift("shade", "unknown"): (3, '"bobby"'),
        Drift("ada lovelace", "unknown"): (4, '"x"'),
        Drift("form", "unknown"): (5, '"round"'),
    }
    drift = HASHED.apply(decoded).drift
    assert [count for count, _ in drift.values()] == [2, 3, 4, 5]
    assert [d.name for d in drift][:2] == ["color", "shade"]
    assert drift[Drift("form", "unknown")] == (5, '"round"')
    assert not [word for word in ("lovelace", "bobby") if word in repr(drift)]
    dropped = DROPPED.apply(decoded).drift
    assert dropped[Drift("color", "unknown")] == (2, "null")
    assert dropped[Drift("…", "unknown")] == (4, "null")  # whose name nobody knows now


def test_an_answer_without_drift_has_none_afterwards() -> None:
    decoded = Decoded([snapshot("a", **ADA)])
    found = HASHED.apply(decoded)
    assert (found.drift, len(found.snapshots)) == ({}, 1)


@pytest.mark.parametrize(
    ("privacy", "name", "text", "is_hidden"),
    [
        (HASHED, "owner", '"Bob"', True),
        (HASHED, "own…", '"Bob"', True),
        (HASHED, "color", '"Bob"', False),
        (HASHED, "color", '"ADA lovelace"', True),
        (HASHED, "color", '{"owner":"Bob"}', True),
        (HASHED, "view_name", '"Ada Lovelace"', False),
        (HASHED, "owner", '"Bo', True),
        (HASHED, "own…", '"Bo', True),
        (HASHED, "color", '"Bo', False),
        (HASHED, "color", '{"owner":"B', True),
        (HASHED, "color", '{"x":"by Ada Lovelace', True),
        (HASHED, "pinnedBy", '"Bob"', False),
        (MORE, "pinnedBy", '"Bob"', True),
        (HASHED, "color", '{"pinnedBy":"B', False),
        (MORE, "color", '{"pinnedBy":"B', True),
    ],
)
def test_an_example_is_hidden(privacy: Privacy, name: str, text: str, is_hidden: bool) -> None:
    found = privacy.example(name, text, ada(privacy))
    assert (found != text) is is_hidden
    assert "$hash" in found or not is_hidden


def test_an_example_alone_names_nobody() -> None:
    assert HASHED.example("color", '"Ada Lovelace"') == '"Ada Lovelace"'


def test_a_name_of_drift_is_hidden_where_it_is_a_person() -> None:
    for privacy in (HASHED, DROPPED):
        assert privacy.drift_name("color", ada(privacy)) == "color"
    assert DROPPED.drift_name("ada lovelace", ada(DROPPED)) == "…"
    hashed = digest('created_by:"Ada Lovelace"')[:32]
    assert HASHED.drift_name("ada lovelace", ada(HASHED)) == f"$hash:{hashed}"


# --- rows ---------------------------------------------------------------------------------


def test_a_row_names_its_columns_and_extra_unless_they_are_hidden() -> None:
    row = stored("", '{"owner":"Bob"}', created_by="Ada", created_by_user_id=4711)
    found = HASHED.nobody()
    HASHED.collect(found, row)
    assert found.values == {
        "ada": ("created_by", "Ada"),
        "4711": ("created_by_user_id", "4711"),
        "bob": ("owner", "Bob"),
    }
    for mark in (HASHED.mark, "d"):
        found = HASHED.nobody()
        HASHED.collect(found, stored(mark, '{"owner":"Bob"}', created_by="Ada"))
        assert found.values == {}
    HASHED.collect(found, stored("", None, snapshot_name="Ada"))
    assert found.values == {}


def test_a_row_without_persons_keeps_its_extra() -> None:
    row = stored("", '{"b": 1, "a": 2}', view_name="/home")
    found = column(HASHED.rewritten(row), "extra")
    assert found == '{"b": 1, "a": 2}'


def test_the_name_that_people_write_is_hidden_alone_and_beside_others() -> None:
    hashed = HASHED.column("created_by", "Ada")
    for extra, rest in ((None, ""), ('{"color":"red"}', '"color":"red",')):
        row = stored("", extra, created_by="Ada", snapshot_name=" ada")
        found = HASHED.rewritten(row)
        assert column(found, "snapshot_name") is None
        assert column(found, "extra") == f'{{{rest}"snapshot_name":{{"$hash":"{hashed}"}}}}'
        dropped = DROPPED.rewritten(row)
        assert column(dropped, "snapshot_name") is None
        assert column(dropped, "extra") == extra
    row = stored("", None, created_by="Ada", snapshot_name="Bob")
    assert column(HASHED.rewritten(row), "snapshot_name") == "Bob"


@pytest.mark.parametrize(
    ("before", "privacy", "mark"),
    [
        ("", HASHED, HASHED.mark),
        (HASHED.mark, HASHED, None),
        (HASHED.mark + "~", HASHED, None),
        (HASHED.mark[:17], HASHED, HASHED.mark + "~"),
        (OTHER_KEY.mark, HASHED, None),
        (OTHER_KEY.mark + "~", HASHED, None),
        (OTHER_KEY.mark[:17], HASHED, HASHED.mark + "~"),
        (MORE.mark, HASHED, HASHED.mark + "~"),
        ("d2", HASHED, None),
        ("d", HASHED, HASHED.mark + "~"),
        ("d2", DROPPED, None),
        ("d2~", DROPPED, None),
        ("d", DROPPED, "d2~"),
        (HASHED.mark, DROPPED, "d2"),
        (HASHED.mark + "~", DROPPED, "d2~"),
        (MORE.mark, DROPPED, "d2~"),
    ],
)
def test_which_mark_a_row_has_afterwards(before: str, privacy: Privacy, mark: str | None) -> None:
    found = privacy.rewritten(stored(before, None, created_by="x"))
    assert (found and mark_of(found.content_hash)) == mark


@pytest.mark.parametrize(
    ("privacy", "mark", "has_lost"),
    [
        (HASHED, "", False),
        (HASHED, HASHED.mark, False),
        (HASHED, HASHED.mark[:17], False),
        (HASHED, MORE.mark, False),
        (HASHED, HASHED.mark[:8] + "0" * 9, True),
        (HASHED, OTHER_KEY.mark, True),
        (HASHED, "d2", True),
        (DROPPED, HASHED.mark, False),
        (KEPT, HASHED.mark, False),
    ],
)
def test_what_a_setting_would_show_is_gone(privacy: Privacy, mark: str, has_lost: bool) -> None:
    assert privacy.has_lost(f"1{mark}:0123") is has_lost


def test_a_row_that_was_hidden_by_earlier_rules_is_hidden_by_those_of_now() -> None:
    hashed = HASHED.column("created_by", "ada")
    extra = '{"nick":" ada","owner":"Bob","b":"bob"}'
    before = stored(HASHED.mark[:17], extra, created_by=hashed, snapshot_name="ada")
    found = HASHED.rewritten(before)
    assert column(found, "created_by") == hashed
    assert column(found, "snapshot_name") is None
    text = column(found, "extra")
    assert f'"nick":{{"$hash":"{hashed}"}}' in text
    assert f'"snapshot_name":{{"$hash":"{hashed}"}}' in text
    assert "bob" not in text.casefold()
    # Another key cannot tell which text equals the hash.
    other = OTHER_KEY.rewritten(before)
    assert column(other, "snapshot_name") == "ada"
    assert '"nick":" ada"' in column(other, "extra")
    dropped = DROPPED.rewritten(before)
    assert (column(dropped, "created_by"), column(dropped, "extra")) == (
        None,
        '{"b":null,"nick":" ada"}',
    )


def test_of_what_the_first_rules_dropped_any_null_may_be_the_name_of_a_pair() -> None:
    extra = '{"p":{"name":null,"value":"Bob"}}'
    assert (
        column(DROPPED.rewritten(stored("d", extra)), "extra") == '{"p":{"name":null,"value":null}}'
    )
    whole = DROPPED.rewritten(stored(MORE.mark, extra))
    assert column(whole, "extra") == extra


def test_a_hashed_name_of_a_pair_is_known_by_the_key() -> None:
    def pair(mark: str, name: Value) -> str:
        hashed = name["$hash"] if isinstance(name, dict) else name
        extra = f'{{"p":{{"name":{{"$hash":"{hashed}"}},"value":"Bob"}}}}'
        return str(column(MORE.rewritten(stored(mark, extra)), "extra"))

    known = HASHED.masked("", "created_by")
    assert "Bob" not in pair(HASHED.mark, known)
    assert "Bob" in pair(HASHED.mark, HASHED.masked("", "color"))
    # The first rules say nothing of the key: whatever was hidden may be the name.
    assert "Bob" not in pair(HASHED.mark[:17], HASHED.masked("", "color"))


def test_whom_extra_names_is_hidden_in_all_of_extra() -> None:
    extra = '{"nick":" BOB","owner":"Bob"}'
    hashed = digest('owner:"Bob"')[:32]
    found = column(HASHED.rewritten(stored("", extra)), "extra")
    assert found == f'{{"nick":{{"$hash":"{hashed}"}},"owner":{{"$hash":"{hashed}"}}}}'
    assert column(DROPPED.rewritten(stored("", extra)), "extra") == '{"nick":null}'


def test_whether_a_value_was_the_name_of_a_pair_is_a_plain_answer() -> None:
    for privacy in (HASHED, DROPPED):
        assert privacy.nobody().rules.names("name", "color") is False
        assert privacy.nobody().rules.names("name", None) is False
    assert HASHED.nobody().rules.names("name", HASHED.masked("", "created_by")) is True
    assert DROPPED.nobody().rules.names("name", HASHED.masked("", "created_by")) is False


# --- what is the same ---------------------------------------------------------------------


def content(name: str | None, extra: str | None, **columns: Any) -> tuple[Any, ...]:
    values = {"snapshot_name": name, "extra": extra, **columns}
    return tuple(values.get(column) for column in CONTENT)


@pytest.mark.parametrize(
    ("before", "after", "marks", "is_same"),
    [
        (content("a", None, created_by="x"), content("a", None), ("", "d2"), True),
        (content("a", '{"x":1}'), content("a", '{"x":2}'), ("", "d2"), False),
        (content("a", '{"x":1}'), content("a", '{"x":2}'), ("d", "d2"), True),
        (content("a", '{"x":1}'), content("a", '{"x":2}'), ("d2", MORE.mark), True),
        (content("a", '{"x":1}'), content("a", '{"x":2}'), ("", ""), False),
        (content("a", None), content("b", None), ("d", "d2"), False),
        (content("a", None), content(None, None), ("d", "d2"), True),
        (content(None, None), content("a", None), ("d", "d2"), True),
        (content("a", None), content(None, None), ("d2", "d2"), False),
    ],
)
def test_two_contents_are_compared_by_what_every_rule_leaves(
    before: tuple[Any, ...], after: tuple[Any, ...], marks: tuple[str, str], is_same: bool
) -> None:
    one, other = comparable(before, after, marks)
    assert (one == other) is is_same


def test_no_attribute_with_a_column_can_be_named_as_a_person():
    """`config` keeps these names by itself: it may not import the transform."""
    columns = {plain(name) for name in READERS} | {"id", "type", "attributes"}
    assert columns - {plain(name) for name in PERSONAL} == validators._COLUMNS


def test_where_the_first_rules_hid_a_row_some_are_gone() -> None:
    marks = {"": False, HASHED.mark: False, HASHED.mark[:17]: True, "d": True, "d2": False}
    for mark, are_gone in marks.items():
        found = HASHED.nobody()
        HASHED.collect(found, stored(mark, None, created_by="Ada"))
        assert found.are_some_gone is are_gone
        HASHED.collect(found, stored("", None, created_by="Ada"))
        assert found.are_some_gone is are_gone


@pytest.mark.parametrize(
    ("text", "is_hidden"),
    [('"x"', True), ("12345", True), ("{}", True), ("12", False), ("true", False), ("[]", False)],
)
def test_where_some_are_gone_any_text_may_be_one(text: str, is_hidden: bool) -> None:
    persons = HASHED.nobody()
    persons.are_some_gone = True
    assert (HASHED.example("color", text, persons) != text) is is_hidden
