"""Whose rows a source holds: what a listing says of it."""

from dataclasses import replace
from typing import Any

import pytest

from etl.errors import SourceMismatch
from etl.source.identity import Organization
from etl.transform.snapshot import Decoded, Snapshot


def listing(*org_ids: int | None) -> Decoded:
    blank: dict[str, Any] = dict.fromkeys(Snapshot.__struct_fields__)
    return Decoded([Snapshot(**{**blank, "id": "x", "org_id": number}) for number in org_ids])


def test_a_source_takes_the_organization_that_most_records_name_and_of_equals_the_lesser():
    for named, expected in [((7,), 7), ((8, 7, 8), 8), ((8, 7), 7), ((None, 9), 9)]:
        organization = Organization()
        organization.recognise("eu", listing(*named))
        assert organization == Organization(expected, is_seen=True)


def test_a_listing_that_names_none_says_nothing():
    for known in (Organization(), Organization(7)):
        organization = replace(known)
        organization.recognise("eu", listing(None))
        organization.recognise("eu", listing())
        assert organization == known


def test_one_odd_record_proves_nothing_but_a_listing_of_others_does():
    organization = Organization(7)
    organization.recognise("eu", listing(8, 8, 7))
    assert organization == Organization(7, is_seen=True)
    with pytest.raises(
        SourceMismatch, match=r"records of org_id 8, but the rows of source eu are of"
    ):
        organization.recognise("eu", listing(9, 8))
    assert organization == Organization(7, is_seen=True)


@pytest.mark.parametrize(
    ("organization", "is_open"),
    [
        (Organization(), False),
        (Organization(7), True),
        (Organization(7, is_seen=True), False),
        (Organization(7, is_asked=True), False),
        (Organization(7, is_other=True), False),
    ],
)
def test_it_is_open_until_a_listing_or_the_api_was_heard(organization: Organization, is_open: bool):
    assert organization.is_open is is_open


def test_a_copy_shares_nothing():
    organization = Organization()
    replace(organization).recognise("eu", listing(7))
    assert organization == Organization()
