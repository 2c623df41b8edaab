"""etl.transform.envelope: what stands beside the records of an answer, and what it says."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.errors import DatadogAnswerTooLarge, DatadogResponseError
from etl.transform.decode import decode
from etl.transform.envelope import MAX_BESIDE, open_envelope
from etl.transform.snapshot import Drift
from tests.support.strategies import body, record, valid_bodies, values

PARTIAL: list[tuple[dict[str, Any], str]] = [
    ({"links": {"next": "https://api.example.com/?page=2"}}, "links.next"),
    ({"links": {"next": {"href": "/?page=2"}}}, "links.next"),
    ({"next": "/?page=2"}, "next"),
    ({"next_page": 2}, "next_page"),
    ({"nextPageToken": "abc"}, "nextPageToken"),
    ({"meta": {"page": {"after": "abc"}}}, "meta.page.after"),
    ({"meta": {"cursor": "abc"}}, "meta.cursor"),
    ({"meta": {"page": {"next_cursor": "abc"}}}, "meta.page.next_cursor"),
    ({"meta": {"a": {"b": [{"next-cursor": "abc"}]}}}, "meta.a.b.next-cursor"),
    ({"meta": {"continuationToken": "abc"}}, "meta.continuationToken"),
    ({"meta": {"pagination": {"next_offset": 2}}}, "meta.pagination.next_offset"),
    ({"total": 3}, "total 3"),
    ({"total": "3"}, "total 3"),
    ({"count": 3}, "count 3"),
    ({"total_count": 3.0}, "total_count 3"),
    ({"meta": {"totalCount": 120}}, "meta.totalCount 120"),
    ({"meta": {"page": {"total_filtered_count": 120}}}, "meta.page.total_filtered_count 120"),
    ({"meta": {"hits": {"total": {"value": 9, "relation": "gte"}}}}, "meta.hits.total 9"),
    ({"pagination": {"total_pages": 2}}, "pagination.total_pages 2"),
    ({"meta": {"status": "timeout"}}, "meta.status: timeout"),
    ({"status": "partial"}, "status: partial"),
    ({"meta": {"warnings": [{"title": "slow"}]}}, "meta.warnings"),
    ({"warnings": "slow"}, "warnings"),
    ({"truncated": True}, "truncated"),
    ({"meta": {"is_partial": True}}, "meta.is_partial"),
    ({"incomplete": 1}, "incomplete"),
    ({"timed_out": True}, "timed_out"),
    ({"timeout": True}, "timeout"),
    ({"has_more": True}, "has_more"),
    ({"HasMore": "true"}, "HasMore"),
    ({"more": True}, "more"),
    ({"page": {"hasNextPage": True}}, "page.hasNextPage"),
    ({"complete": False}, "complete: false"),
    ({"meta": {"done": False}}, "meta.done: false"),
    ({"page": {"is_last_page": "false"}}, "page.is_last_page: false"),
    ({"more_available": True}, "more_available"),
    ({"status": False}, "status: false"),
    ({"links": [{"rel": "self"}, {"rel": "next", "href": "/?page=2"}]}, "links.next"),
    ({"_links": {"next": {"href": "/?page=2"}}}, "_links.next"),
    ({"@odata.nextLink": "/?page=2"}, "@odata.nextLink"),
    ({"@odata.count": 120}, "@odata.count 120"),
    ({"response_metadata": {"next_cursor": "abc"}}, "response_metadata.next_cursor"),
    ({"result_info": {"total_count": 120}}, "result_info.total_count 120"),
    ({"NextMarker": "abc"}, "NextMarker"),
    ({"meta": {"page": {"total": "1,200"}}}, "meta.page.total 1200"),
    ({"meta": {"total": [{"value": 120}]}}, "meta.total 120"),
    ({"numFound": 120}, "numFound 120"),
]
NO_ANSWER: list[dict[str, Any]] = [
    {"error": "boom"},
    {"error": {"code": 7}},
    {"errors": ["boom"]},
    {"errors": {"title": "boom"}},
    {"errors": "boom"},
    {"status": "error"},
    {"status": "Failed"},
    {"status": 500},
    {"success": False},
    {"meta": {"status": "error"}},
    {"meta": {"errors": ["boom"]}},
    {"error_message": "boom"},
    {"errorCode": 7},
    {"status": " ERROR "},
]
HARMLESS: list[dict[str, Any]] = [
    {"links": {"next": None, "self": "/a", "first": "/a", "last": "/b", "prev": "/c"}},
    {"links": {"next": ""}},
    {"links": {"next": {"href": None}}},
    {"meta": {"page": {"after": "", "cursor": None, "prev_cursor": "abc"}}},
    {"meta": {"total": 2, "count": 2, "total_count": 0, "total_pages": 1}},
    {"meta": {"status": "done", "warnings": [], "elapsed": 12, "request_id": "abc"}},
    {"status": "OK", "error": None, "errors": [], "success": True},
    {"status": 200, "errors": {}, "warnings": {}},
    {"truncated": False, "has_more": False, "more": 0, "timed_out": "false", "complete": True},
    {"timeout": 30},
    {"meta": {"status": " Done ", "error_code": 0, "error_message": ""}, "done": True},
    {"links": [{"rel": "self", "href": "/a"}, {"rel": "prev", "href": "/b"}]},
    {"pagination": {"type": "cursor", "total": ["2"], "limit": 1000, "next_marker": None}},
    {"meta": {"total_time_ms": 900, "error_count": 9}},
    {"included": [{"id": "1", "next": "abc"}]},
    {"jsonapi": {"version": "1.0"}},
]


def answer(members: dict[str, Any], *, last: bool = False) -> bytes:
    data = {"data": [record("a"), record("b")]}
    return json.dumps(members | data if last else data | members).encode()


def ids(case: Any) -> str:
    return json.dumps(case)[:50]


@pytest.mark.parametrize("last", [False, True], ids=["data first", "data last"])
@pytest.mark.parametrize(("members", "named"), PARTIAL, ids=ids)
def test_answer_that_says_it_is_partial_names_the_member(members, named, last):
    decoded = decode(answer(members, last=last))
    assert (decoded.partial, decoded.listed) == (named, 2)


@pytest.mark.parametrize("last", [False, True], ids=["data first", "data last"])
@pytest.mark.parametrize("members", NO_ANSWER, ids=ids)
def test_answer_that_says_something_went_wrong_is_none(members, last):
    with pytest.raises(DatadogResponseError):
        decode(answer(members, last=last))


@pytest.mark.parametrize("members", HARMLESS, ids=ids)
def test_members_that_say_nothing_are_drift(members):
    decoded = decode(answer(members))
    assert decoded.partial == ""
    assert decoded.snapshots == decode(body(record("a"), record("b"))).snapshots
    assert decoded.drift.keys() == {Drift(f"$body.{name}", "unknown member") for name in members}
    assert all(count == 1 for count, _ in decoded.drift.values())


def test_beside_nan_they_are_read_as_well():
    odd = answer({"meta": {"page": {"after": "abc"}}}).replace(b'"meta"', b'"x":NaN,"meta"')
    assert decode(odd).partial == "meta.page.after"


def test_essence_of_an_answer_is_its_records_or_all_of_it_where_nothing_else_is_there():
    alone = body(record("a"), record("b"))
    assert bytes(open_envelope(alone).essence) == alone
    first, second = (answer({"meta": {"elapsed": n}, "request_id": str(n)}) for n in (1, 2))
    assert bytes(open_envelope(first).essence) == bytes(open_envelope(second).essence)
    assert json.loads(bytes(open_envelope(first).essence)) == json.loads(alone)["data"]


def test_what_stands_beside_the_records_has_a_bound():
    with pytest.raises(DatadogAnswerTooLarge, match="beside the records"):
        decode(answer({"x": "y" * MAX_BESIDE}))


@given(valid_bodies, st.dictionaries(st.text("abc", max_size=3), values, max_size=3), st.booleans())
def test_records_read_the_same_whatever_stands_beside_them(plain, members, last):
    data = json.loads(plain)
    text = json.dumps({**members, **data} if last else {**data, **members}).encode()
    expected, found = decode(plain), decode(text)
    assert (found.snapshots, found.rejected) == (expected.snapshots, expected.rejected)
    envelope = open_envelope(text)
    assert json.loads(text[envelope.start : envelope.end]) == data["data"]
    assert len(envelope.beside) == len(members)
