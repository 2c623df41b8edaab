"""What a server may send, as Hypothesis strategies, and small builders of bodies and snapshots."""

import json
from typing import Any

from hypothesis import strategies as st

from etl.transform.decode import decode
from etl.transform.snapshot import Snapshot

TEXTS = (
    "application_id",
    "created_by",
    "created_by_handle",
    "device_type",
    "event_id",
    "session_id",
    "snapshot_name",
    "view_id",
    "view_name",
)
INTEGERS = ("created_by_user_id", "org_id", "start")
INSTANTS = ("created_at", "modified_at")
BOOLEANS = ("is_device_type_selected_by_user",)
ATTRIBUTES = (*TEXTS, *INTEGERS, *INSTANTS, *BOOLEANS)


def record(identifier: Any = "a", **attributes: Any) -> dict[str, Any]:
    return {"id": identifier, "type": "snapshots", "attributes": attributes}


def body(*records: Any) -> bytes:
    """Python writes lone surrogates as escapes, NaN and Infinity as they are."""
    return json.dumps({"data": records}).encode()


def raw_body(record: str) -> bytes:
    """For what `json.dumps` cannot write."""
    return f'{{"data":[{record}]}}'.encode()


def snapshot(identifier: str = "a", **attributes: Any) -> Snapshot:
    return decode(body(record(identifier, **attributes))).snapshots[0]


# --- what is as specified -----------------------------------------------------------------

words = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=6
) | st.sampled_from(["", "/home", "é", "😀", "a b", "\x01\n", "\\u0000", "\u2028"])
int64 = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([0, -1, 2**53 + 1, 2**63 - 1, -(2**63)])
ids = words.filter(bool)

_zones = st.sampled_from(["Z", "z", "+00:00", "-00:00", "+05:30", "-0800", "+14", ""])
_fractions = st.text("0123456789", max_size=9).map(lambda digits: digits and f".{digits}")
_seconds = st.datetimes().map(lambda at: at.replace(microsecond=0).isoformat())
timestamps = st.builds("{}{}{}".format, _seconds, _fractions, _zones)

_valid_values = {
    **dict.fromkeys(TEXTS, words),
    **dict.fromkeys(INTEGERS, int64),
    **dict.fromkeys(INSTANTS, timestamps | words),
    **dict.fromkeys(BOOLEANS, st.booleans()),
}
valid_attributes = st.fixed_dictionaries(
    {}, optional={name: st.none() | values for name, values in _valid_values.items()}
)
valid_records = st.builds(lambda identifier, a: record(identifier, **a), ids, valid_attributes)
valid_bodies = st.lists(valid_records, max_size=4).map(lambda records: body(*records))

# --- and what is not ----------------------------------------------------------------------

odd_words = st.text(st.characters(exclude_categories=()), max_size=6) | st.sampled_from(
    ["\0", "\ud800", "\udc00\ud83d", "\udfffdeep:x", "$", "$top", "$literal", "12", "-0", "NaN"]
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(2**62, 2**70)
    | st.floats()
    | odd_words
    | timestamps
)
_names = odd_words | st.sampled_from(["$top", "$$top", "extra", "content_hash", "id", "start_ms"])
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_names, inner, max_size=3),
    max_leaves=6,
)
odd_attributes = st.builds(
    lambda known, unknown: unknown | known,
    st.fixed_dictionaries({}, optional=dict.fromkeys(ATTRIBUTES, values)),
    st.dictionaries(_names, values, max_size=3),
)
_members = {
    "id": ids | values,
    "type": st.just("snapshots") | values,
    "attributes": valid_attributes | odd_attributes | values,
}
odd_records = st.builds(
    lambda beside, members: beside | members,
    st.dictionaries(_names, values, max_size=2),
    st.fixed_dictionaries({}, optional=_members),
)
rows_with_rejects_and_drift = st.builds(
    lambda identifier, attributes, beside: {**beside, **record(identifier, **attributes)},
    ids,
    valid_attributes | odd_attributes,
    st.dictionaries(_names, values, max_size=2),
)
any_records = valid_records | odd_records | values
