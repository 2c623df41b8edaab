"""Who created a snapshot is hidden wherever it stands, always alike, and nothing else is."""

import hmac
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.transform.decode import decode
from etl.transform.privacy import DROP, HASH, KEEP, Privacy, comparable, without_personal_data
from etl.transform.snapshot import (
    CONTENT,
    PERSONAL,
    Decoded,
    Snapshot,
    mark_of,
    record_of,
    reject_text,
    with_hash,
)
from tests.support.strategies import (
    any_records,
    body,
    odd_attributes,
    record,
    snapshot,
    values,
    words,
)

KEY = "planted-hash-key-4711"
HASHED, DROPPED, KEPT = Privacy(HASH, KEY), Privacy(DROP), Privacy()
SETTINGS = (HASHED, DROPPED)
ADA: dict[str, Any] = {
    "created_by": "Ada Lovelace",
    "created_by_handle": "ada@planted.example",
    "created_by_user_id": 987_654_321_987,
}
PLANTED = ("Lovelace", "planted.example", "987654321987", "98765432198")


def applied(privacy: Privacy, *records: Any) -> Decoded:
    return privacy.apply(decode(body(*records)))


def protected(privacy: Privacy, **attributes: Any) -> Snapshot:
    return applied(privacy, record("a", **attributes)).snapshots[0]


def texts_of(decoded: Decoded) -> str:
    return repr(decoded)


def extra_of(found: Snapshot) -> Any:
    return json.loads(found.extra) if found.extra else None


# --- columns ------------------------------------------------------------------------------


def test_keep_is_the_very_same():
    decoded = decode(body(record("a", **ADA)))
    assert KEPT.apply(decoded) is decoded
    assert (KEPT.mark, KEPT.setting) == ("", None)


def test_drop_leaves_null():
    found = protected(DROPPED, **ADA, snapshot_name="Menu")
    assert [getattr(found, name) for name in sorted(PERSONAL)] == [None] * 3
    assert found.snapshot_name == "Menu"
    assert found.extra is None


def test_hash_is_32_hex_digits_and_63_bits():
    found = protected(HASHED, **ADA)
    by_hand = hmac.digest(KEY.encode(), b'created_by:"Ada Lovelace"', "sha256")
    assert found.created_by == by_hand.hex()[:32]
    by_hand = hmac.digest(KEY.encode(), b"created_by_user_id:987654321987", "sha256")
    assert found.created_by_user_id == int.from_bytes(by_hand[:8]) >> 1


@given(user=st.integers(-(2**63), 2**63 - 1))
def test_a_hashed_user_id_fits_its_column(user: int):
    found = protected(HASHED, created_by_user_id=user).created_by_user_id
    assert found is not None
    assert 0 <= found < 2**63


@given(one=words, other=words)
def test_equal_people_stay_equal_and_others_differ(one: str, other: str):
    found = [protected(HASHED, created_by=name).created_by for name in (one, other)]
    assert (found[0] == found[1]) == (one == other)


def test_a_hash_tells_nothing_of_another_column():
    found = protected(HASHED, created_by="ada@x", created_by_handle="ada@x")
    assert found.created_by != found.created_by_handle


def test_another_key_gives_another_hash_and_another_setting():
    other = Privacy(HASH, KEY + "!")
    assert protected(other, **ADA).created_by != protected(HASHED, **ADA).created_by
    assert other.setting != HASHED.setting
    assert other.mark != HASHED.mark


def test_the_key_stands_nowhere():
    assert KEY not in repr(HASHED)
    assert KEY not in str(HASHED.setting)
    assert KEY not in texts_of(applied(HASHED, record("a", **ADA), {"id": None, **ADA}))


@pytest.mark.parametrize("privacy", SETTINGS, ids=[HASH, DROP])
def test_null_stays_null(privacy: Privacy):
    found = protected(privacy, created_by=None)
    assert (found.created_by, found.created_by_handle, found.extra) == (None, None, None)


@pytest.mark.parametrize("privacy", SETTINGS, ids=[HASH, DROP])
def test_what_is_not_about_persons_stays(privacy: Privacy):
    attributes = {"snapshot_name": "created_by", "color": "red", "org_id": 7.5, "view_name": "\0"}
    with_ada = protected(privacy, **attributes, **ADA)
    without = snapshot("a", **attributes)
    assert without_personal_data(tuple(getattr(with_ada, n) for n in CONTENT)) == tuple(
        getattr(without, n) for n in CONTENT
    )


# --- elsewhere ----------------------------------------------------------------------------

ODD = [
    pytest.param({"created_by": 987_654_321_987}, id="number-for-name"),
    pytest.param({"created_by": {"name": "Lovelace"}}, id="object-for-name"),
    pytest.param({"created_by": ["Lovelace"]}, id="list-for-name"),
    pytest.param({"created_by_handle": "ada\0@planted.example"}, id="nul"),
    pytest.param({"created_by_handle": "ada\ud800@planted.example"}, id="surrogate"),
    pytest.param({"created_by_user_id": 987654321987.5}, id="float"),
    pytest.param({"created_by_user_id": "987654321987"}, id="digits"),
    pytest.param({"created_by_user_id": 987654321987 * 10**20}, id="too-large"),
    pytest.param({"created_by_email": "ada@planted.example"}, id="unknown-relative"),
    pytest.param({"createdBy": "Lovelace"}, id="camel"),
    pytest.param({"CREATED_BY": "Lovelace"}, id="upper"),
    pytest.param({"$created_by": "Lovelace"}, id="dollar"),
    pytest.param({"user": {"x": [{"created_by": "Lovelace"}]}}, id="nested"),
    pytest.param({"blob": json.dumps(ADA)}, id="json-in-text"),
    pytest.param({"blob": json.dumps(json.dumps(ADA))}, id="json-in-json-in-text"),
    pytest.param({"blob": '{"\\u0063reated_by": "Lovelace"}'}, id="escaped-name-in-text"),
]


def in_every_place(attributes: dict[str, Any]) -> list[Any]:
    deep: Any = attributes
    for _ in range(80):
        deep = {"x": [deep]}
    return [
        record("a", **attributes),
        {**record("b"), **attributes},
        {"id": "c", "type": "snapshots", "attributes": [attributes]},
        {"id": "d", "type": attributes, "attributes": json.dumps(attributes)},
        {"id": "", "attributes": attributes},
        {"attributes": [attributes], **attributes},
        [attributes],
        json.dumps(attributes),
        record("e", unknown=deep),
        {"id": None, "deep": deep},
    ]


@pytest.mark.parametrize("attributes", [*ODD, pytest.param(ADA, id="ada")])
@pytest.mark.parametrize("privacy", SETTINGS, ids=[HASH, DROP])
def test_nobody_is_found_wherever_it_stood(privacy: Privacy, attributes: dict[str, Any]):
    records = in_every_place(attributes)
    before, after = decode(body(*records)), applied(privacy, *records)
    assert any(word in texts_of(before) for word in PLANTED)
    assert [word for word in PLANTED if word in texts_of(after)] == []
    assert after.listed == before.listed
    assert {d: count for d, (count, _) in after.drift.items()} == {
        d: count for d, (count, _) in before.drift.items()
    }


def test_in_extra_a_hash_is_wrapped_and_a_dropped_value_is_gone():
    assert set(extra_of(protected(HASHED, created_by=5))["created_by"]) == {"$hash"}
    assert protected(DROPPED, created_by=5).extra is None
    top = {**record("a"), "created_by": "Ada"}
    assert applied(DROPPED, top).snapshots[0].extra is None
    assert protected(DROPPED, created_by=5, color="red").extra == '{"color":"red"}'


def test_what_was_received_never_looks_like_a_hash():
    found = protected(HASHED, created_by={"$hash": "Lovelace"}, color={"$hash": "x"})
    assert "Lovelace" not in str(found.extra)
    assert extra_of(found)["color"] == {"$$hash": "x"}


@pytest.mark.parametrize("privacy", SETTINGS, ids=[HASH, DROP])
def test_an_example_that_was_cut_short_is_hidden_as_a_whole(privacy: Privacy):
    cut = '{"created_by":"Ada Lovel'
    for name, text in (
        ("blob", cut),
        ("created_by", '"Ada Lovel'),
        ("a name too long…", '"Lovel"'),
    ):
        once = privacy.example(name, text)
        assert "Lovel" not in once
        assert privacy.example(name, once) == once
    assert privacy.example("blob", '{"color":"re') == '{"color":"re'


# --- more than three names ----------------------------------------------------------------

REACHED = [
    {"pairs": [{"name": "created_by", "value": "Lovelace"}]},
    {"pairs": [[{"value": "Lovelace", "extra": 1, "key": "createdBy"}]]},
    {"pairs": {"field": "CREATED-BY", "value": ["Lovelace"]}},
    {"pairs": {"attribute": "owner", "old": "Lovelace", "new": {"x": "planted.example"}}},
    {"name": "created_by", "value": "Lovelace"},
    {"pairs": [{"id": "created_by", "value": "Lovelace"}, {"title": "updatedBy", "x": "Lovelace"}]},
    {"pairs": [{"k": "modified_by", "v": "Lovelace"}, {"type": "created_by", "x": "Lovelace"}]},
    {"creator_user_id": "Lovelace", "owner_user_handle": "ada@planted.example"},
    {"pair": ["created_by", "Lovelace"]},
    {"modified_by": "Lovelace"},
    {"lastUpdatedBy": {"x": "Lovelace"}},
    {"creator": {"handle": "ada@planted.example", "name": "Lovelace", "x": {"y": "Lovelace"}}},
    {"owner_email": "ada@planted.example"},
    {"Owner-Handle": "Lovelace"},
    {"users": [{"id": 987_654_321_987}]},
    {"usr.name": "Lovelace"},
    {"deep": [{"user": {"x": ["Lovelace"]}}]},
    {"tags": ["env:prod", "owner:Lovelace", "creator=Lovelace"]},
    {"blob": '{"owner": "Lovelace"}'},
    {"blob": json.dumps(json.dumps([{"name": "user", "value": "Lovelace"}]))},
    {"blob": '{"user": {"na'},
    {"owner:Lovelace": True},
]


@pytest.mark.parametrize("attributes", REACHED, ids=json.dumps)
@pytest.mark.parametrize("privacy", SETTINGS, ids=[HASH, DROP])
def test_other_names_of_persons_are_reached_too(privacy: Privacy, attributes: dict[str, Any]):
    for place in (record("a", **attributes), {**record("a"), **attributes}, {"at": attributes}):
        found = privacy.apply(decode(body(place)))
        for part in (found.snapshots, found.rejected):
            assert [word for word in PLANTED if word in repr(part)] == []


EQUAL = [
    {"nick": "Ada Lovelace"},
    {"nick": " ADA lovelace\n"},
    {"deep": [{"x": ["ada@PLANTED.example"]}]},
    {"number": 987_654_321_987},
    {"text": "987654321987"},
    {"counts": {"ada@planted.example": 5}},
    {"snapshot_name": "ada lovelace "},
]


@pytest.mark.parametrize("attributes", EQUAL, ids=json.dumps)
@pytest.mark.parametrize("privacy", SETTINGS, ids=[HASH, DROP])
def test_a_text_that_equals_a_person_of_its_record_is_hidden(
    privacy: Privacy, attributes: dict[str, Any]
):
    planted = ("lovelace", "planted.example", "987654321987")
    for place in (record("a", **ADA, **attributes), {**record(None, **ADA), **attributes}):
        after = privacy.apply(decode(body(place)))
        assert [word for word in planted if word in texts_of(after).casefold()] == []


def test_such_a_text_has_the_hash_of_its_column():
    found = protected(HASHED, **ADA, nick="ada lovelace", snapshot_name="ada@planted.example")
    assert extra_of(found) == {
        "nick": {"$hash": found.created_by},
        "snapshot_name": {"$hash": found.created_by_handle},
    }
    assert found.snapshot_name is None
    pair = protected(HASHED, **ADA, pair={"value": "Ada Lovelace", "name": "created_by"})
    assert extra_of(pair)["pair"] == {"name": "created_by", "value": {"$hash": pair.created_by}}


@pytest.mark.parametrize("privacy", SETTINGS, ids=[HASH, DROP])
def test_ids_views_and_devices_stay_whatever_they_equal(privacy: Privacy):
    same = "Ada Lovelace"
    names = ("application_id", "session_id", "view_id", "event_id", "view_name", "device_type")
    (found,) = privacy.apply(
        decode(body(record(same, **ADA, **dict.fromkeys(names, same))))
    ).snapshots
    assert [found.id, *(getattr(found, name) for name in names)] == [same] * 7


@pytest.mark.parametrize("privacy", SETTINGS, ids=[HASH, DROP])
def test_what_only_sounds_like_a_person_stays(privacy: Privacy):
    attributes = {
        "user_agent": "Firefox",
        "ownership": "shared",
        "recreator_count": 3,
        "note": "the user said so: created by hand",
        "pair": {"name": "color", "value": "red"},
        "kinds": [{"type": "user", "page": "start"}, {"id": "owner", "title": "user"}],
        "width": 1000,
        "is_device_type_selected_by_user": "yes",
    }
    assert extra_of(protected(privacy, **ADA, **attributes)) == attributes


def test_more_names_can_be_told():
    more = ("pinned_by", "Team.Lead")
    record_ = record("a", pinnedBy="Lovelace", team_lead_email="ada@planted.example")
    assert "Lovelace" in texts_of(HASHED.apply(decode(body(record_))))
    for privacy in (Privacy(HASH, KEY, more), Privacy(DROP, "", more)):
        assert [w for w in PLANTED if w in texts_of(privacy.apply(decode(body(record_))))] == []
    assert Privacy(HASH, KEY, more).setting != HASHED.setting
    assert Privacy(DROP, "", more).mark != DROPPED.mark
    assert Privacy(DROP, "", more).setting == Privacy(DROP, "", ("teamLead", "PINNED-BY")).setting
    assert len(f"1{Privacy(HASH, KEY, more).mark}~:") + 32 <= 64  # the column


# --- what earlier rules hid ---------------------------------------------------------------


def of_before(privacy: Privacy, mark: str, extra: Any, name: str | None = None) -> Snapshot:
    """A row as the first rules left it: the columns hidden, all else as it came."""
    found = protected(privacy, **ADA)
    content = [getattr(found, column) for column in CONTENT[:-1]]
    content[CONTENT.index("snapshot_name")] = name
    return with_hash("a", tuple(content), json.dumps(extra, sort_keys=True), mark)


EXTRA = {"owner": "Grace Hopper", "nick": "Ada Lovelace", "pair": {"name": None, "value": "Hopper"}}


def test_a_hash_of_before_is_not_hashed_again_and_the_rest_is_hidden():
    fingerprint = HASHED.mark[:17]
    stored = of_before(HASHED, fingerprint, EXTRA, "ada@planted.example")
    again = HASHED.rewritten(stored)
    assert again is not None
    assert again.created_by == protected(HASHED, **ADA).created_by
    assert [word for word in (*PLANTED, "Hopper") if word in repr(again)] == []
    assert extra_of(again)["nick"] == {"$hash": again.created_by}
    assert HASHED.rewritten(again) is None
    dropped = DROPPED.rewritten(again)
    assert dropped is not None
    assert "$hash" not in repr(dropped)


def test_a_name_that_was_hashed_in_a_pair_still_names_its_value():
    name = HASHED.masked("", "createdBy")
    found = HASHED.rewritten(
        of_before(HASHED, HASHED.mark[:17], {"p": {"key": name, "value": "L"}})
    )
    assert found is not None
    assert set(extra_of(found)["p"]["value"]) == {"$hash"}


def test_what_was_dropped_before_is_hidden_as_far_as_it_can_be_told():
    again = DROPPED.rewritten(of_before(DROPPED, "d", EXTRA))
    assert again is not None
    assert "Hopper" not in repr(again)
    assert DROPPED.rewritten(again) is None


@pytest.mark.parametrize("privacy", SETTINGS, ids=[HASH, DROP])
def test_the_next_reading_after_that_is_no_change(privacy: Privacy):
    before = of_before(privacy, "d" if privacy is DROPPED else HASHED.mark[:17], EXTRA, "Lovelace")
    again = privacy.rewritten(before)
    now = protected(privacy, **ADA, owner="Grace Hopper", nick="Ada Lovelace", snapshot_name=None)
    assert again is not None
    contents = [tuple(getattr(s, n) for n in CONTENT) for s in (again, now)]
    marks = (mark_of(again.content_hash), mark_of(now.content_hash))
    assert marks[0] != marks[1]
    one, other = comparable(contents[0], contents[1], marks)
    assert one == other


# --- properties ---------------------------------------------------------------------------

_people = st.sampled_from(
    ["Ada Lovelace", "ada@planted.example", 987_654_321_987, 987654321987.5, ["Lovelace"]]
)
_names = st.sampled_from(
    [
        *("created_by", "created_by_handle", "created_by_user_id", "createdBy", "created_by_name"),
        *("MODIFIED-BY", "updatedBy", "creator", "owner_handle", "userEmail", "Owner", "user"),
    ]
)
_pairs = st.builds(
    lambda naming, name, value, person: {value: person, naming: name},
    st.sampled_from(["name", "key", "field", "Attribute-Name"]),
    _names,
    st.sampled_from(["value", "values", "to", "x"]),
    _people | st.lists(_people, max_size=2),
)
_persons = (
    st.dictionaries(_names, _people | st.builds(lambda x: {"x": x}, _people), min_size=1) | _pairs
)
_planted = st.recursive(
    _persons | _persons.map(json.dumps),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=2)
        | st.dictionaries(words | _names, inner, min_size=1, max_size=2)
        | st.builds(lambda value, other: {"other": other, "x": value}, inner, values)
    ),
    max_leaves=4,
)
planted_records = st.one_of(
    _planted,
    st.builds(lambda i, p: record(i, **p), words | values, _persons),
    st.builds(lambda i, p: record(i, unknown=p), words | values, _planted),
    st.builds(lambda i, p: {"id": i, "attributes": p}, words | values, _planted),
    st.builds(lambda i, p: {**record(i), "beside": p, "type": p}, words | values, _planted),
)


@given(records=st.lists(planted_records, min_size=1, max_size=3))
def test_no_planted_person_survives(records: list[Any]):
    for privacy in SETTINGS:
        found = texts_of(applied(privacy, *records))
        assert [word for word in PLANTED if word in found] == []


@given(
    attributes=odd_attributes,
    texts=st.lists(st.sampled_from(["Ada Lovelace", " ada@PLANTED.example ", "987654321987"])),
    where=st.sampled_from(["snapshot_name", "color", "beside"]),
)
def test_no_text_of_a_person_survives_beside_the_column(
    attributes: dict[str, Any], texts: list[str], where: str
):
    placed: Any = texts[0] if texts and where == "snapshot_name" else {"x": [texts]}
    attributes = {k: v for k, v in attributes.items() if k not in ADA} | ADA
    rows = [record("a", **{**attributes, where: placed}), {**record("b", **ADA), where: placed}]
    for privacy in SETTINGS:
        found = texts_of(applied(privacy, *rows)).casefold()
        assert [word for word in PLANTED if word.casefold() in found] == []


odd = st.lists(any_records | planted_records, max_size=3)


@given(records=odd)
def test_hiding_twice_is_hiding_once(records: list[Any]):
    for privacy in SETTINGS:
        once = applied(privacy, *records)
        assert [privacy.rewritten(s) for s in once.snapshots] == [None] * len(once.snapshots)
        assert [privacy.reject(r) for r in once.rejected] == once.rejected
        for drift, (_, example) in once.drift.items():
            assert privacy.example(drift.name, example) == example


@given(records=odd)
def test_what_was_stored_is_rewritten_as_a_run_would_store_it(records: list[Any]):
    kept = decode(body(*records))
    for privacy in SETTINGS:
        run = privacy.apply(kept)
        assert [privacy.rewritten(s) for s in kept.snapshots] == run.snapshots
        assert [privacy.reject(r) for r in kept.rejected] == run.rejected
        # A record that is rejected late is rejected under the setting of the row it is not.
        for before, after in zip(kept.snapshots, run.snapshots, strict=True):
            late = privacy.reject(reject_text("", record_of(before)))
            assert late == reject_text("", record_of(after))


@given(records=odd)
def test_dropping_what_was_hashed_is_dropping(records: list[Any]):
    dropped, hashed = applied(DROPPED, *records), applied(HASHED, *records)
    assert [DROPPED.rewritten(s) for s in hashed.snapshots] == dropped.snapshots
    assert [DROPPED.reject(r) for r in hashed.rejected] == dropped.rejected
    contents = [
        [without_personal_data(tuple(getattr(s, n) for n in CONTENT)) for s in found.snapshots]
        for found in (decode(body(*records)), hashed, dropped)
    ]
    assert contents[0] == contents[1] == contents[2]


@pytest.mark.parametrize("wider", [KEPT, HASHED, Privacy(HASH, KEY + "!")])
def test_what_is_gone_is_never_hashed(wider: Privacy):
    for narrow in (DROPPED, Privacy(HASH, "another key of length")):
        assert wider.rewritten(protected(narrow, **ADA)) is None
    assert (KEEP, HASH, DROP) == ("keep", "hash", "drop")


def test_an_attribute_without_a_name_keeps_its_name_in_drift():
    for privacy in SETTINGS:
        found = applied(privacy, record("a", **{"": {"created_by": "Ada"}}))
        assert [drift.name for drift in found.drift] == [""]
