"""Which names say that their value is about a person."""

import pytest

from etl.transform import person_names
from etl.transform.person_names import (
    RULES_VERSION,
    is_naming,
    is_personal,
    may_name,
    plain,
    quotes_a_name,
    tagged,
)

MORE = ("pinned_by", "Team.Lead")


def test_the_rules_have_a_number() -> None:
    """Another one makes `privacy apply` due on every database."""
    assert RULES_VERSION == 2


@pytest.mark.parametrize("name", ["createdBy", "created-by", "CREATED_BY", "$Created.By "])
def test_case_and_signs_do_not_count(name: str) -> None:
    assert plain(name) == "createdby"


@pytest.mark.parametrize(
    ("name", "more", "is_one"),
    [
        ("created_by", (), True),
        ("last_modified_by_name", (), True),
        ("xUpdatedByX", (), True),
        ("owner", (), True),
        ("owners", (), True),
        ("owner_ids", (), True),
        ("usr.name", (), True),
        ("x.owner", (), True),
        ("owner.x", (), True),
        ("a.b.user_email.c", (), True),
        ("ownership", (), False),
        ("x.ownership", (), False),
        ("x_owner", (), False),
        ("owner_x", (), False),
        ("name", (), False),
        ("", (), False),
        ("pinned_by", (), False),
        ("pinnedBy", MORE, True),
        ("team_lead_email", MORE, True),
        ("x.pinned_by", MORE, True),
        ("owner", MORE, True),
        ("x_pinned_by", MORE, False),
    ],
)
@pytest.mark.parametrize("signs", [0, 300])
def test_a_name_is_that_of_a_person(
    name: str, more: tuple[str, ...], is_one: bool, signs: int
) -> None:
    """However long it is: signs do not count."""
    assert is_personal(name + "-" * signs, more) is is_one


@pytest.mark.parametrize(("length", "remembered"), [(200, 1), (201, 0)])
def test_long_names_are_not_remembered(length: int, remembered: int) -> None:
    """Whatever a server sends would stay in memory."""
    person_names._is_personal.cache_clear()
    person_names._is_naming.cache_clear()
    assert is_personal("owner".ljust(length, "-")) is True
    assert person_names._is_personal.cache_info().currsize == remembered
    assert is_naming("name".ljust(length, "-")) is bool(remembered)
    assert person_names._is_naming.cache_info().currsize == remembered


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("name", True),
        ("Key", True),
        ("attribute_name", True),
        ("propertyKey", True),
        ("field.path", True),
        ("label", True),
        ("label_key", False),
        ("name_key", False),
        ("value", False),
        ("", False),
    ],
)
def test_a_name_says_what_the_others_hold(name: str, is_one: bool) -> None:
    assert is_naming(name) is is_one


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("owner:ada", ("owner", "ada")),
        (" created_by = Ada L.", ("created_by", " Ada L.")),
        ("owner:", ("owner", "")),
        ("pinned_by:ada", None),
        ("color:red", None),
        ("the owner said: no", None),
        ("owner", None),
        ("", None),
    ],
)
def test_a_tag_has_name_and_value(text: str, found: tuple[str, str] | None) -> None:
    assert tagged(text) == found
    assert tagged("pinned_by:ada", MORE) == ("pinned_by", "ada")


QUOTING = [
    ('{"owner": "ada"}', True),
    ("{'owner': 'ada'}", True),
    ('["owner", "ada"]', True),
    ('[["owner", "ada"]', True),
    ('"owner", "ada"', False),
    ('{"color": "red"}', False),
    ('{"color": "red", "user_email": "x', True),
    ('{\\"owner\\": \\"ada', True),
    ('{"\\u006fwner": 1}', True),
    ('{"\\u006fwnership": 1}', False),
    ("created_by", True),
    ("modifiedBy Ada", True),
    ("created by hand", False),
    ("owner:ada", True),
    ("said \\ nothing", False),
    ("", False),
]


@pytest.mark.parametrize(("text", "quotes"), QUOTING)
def test_a_text_quotes_a_name(text: str, quotes: bool) -> None:
    assert quotes_a_name(text) is quotes


def test_a_text_quotes_one_more_name() -> None:
    for text in ('{"pinnedBy": "x"}', "team_lead:x"):
        assert quotes_a_name(text) is False
        assert quotes_a_name(text, MORE) is True


@pytest.mark.parametrize(
    ("text", "more", "may"),
    [
        ('{"color":"red"}', (), False),
        ('{"ownership":"shared"}', (), False),
        ('{"owner":"ada"}', (), True),
        ('{"Created-By":1}', (), True),
        ('{"x":"created_by"}', (), True),
        ('{"x":"owner:ada"}', (), True),
        ('{"x":"the user said"}', (), False),
        ('{"x":"a \\" b"}', (), True),
        ('{"x":{"$hash":"1"}}', (), True),
        ('{"x":{"$$hash":"1"}}', (), False),
        ('{"pinnedBy":"x"}', (), False),
        ('{"pinnedBy":"x"}', MORE, True),
        ('{"x":"pinnedBy:x"}', MORE, True),
        ("{}", (), False),
    ],
)
def test_json_may_name_somebody(text: str, more: tuple[str, ...], may: bool) -> None:
    assert may_name(text, more) is may
