"""The organization: its people, applications and views, and the attributes of one snapshot.

All values are drawn from a random generator: the same seed gives the same values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random

VIEWS = (
    "/home",
    "/checkout/?",
    "/product/?",
    "/search?q=1&x=%2F",
    "/a b/ü",
    "/sale/100%+#top",
    "//",
    "/dashboard/:screenId(/:screenName)",
    "/account/settings",
)
VIEWS_WITHOUT_SNAPSHOTS = ("/blog/?", "/legal/imprint")

PEOPLE = (
    ("Ada Okafor", "ada.okafor@example.com", 1402881),
    ("Zoë Łukasiewicz", "zoe@example.com", 1402907),
    ("Seán O'Brien", "sean.obrien@example.com", 1977410),
    ("山田 太郎", "taro.yamada@example.co.jp", 2300115),
    ('Maria "Mimi" Rossi', "maria.rossi+rum@example.com", 4_294_967_301),
)
APPLICATIONS = (
    ("shop-web", "browser", True),
    ("shop-checkout", "browser", True),
    ("back-office", "browser", True),
    ("shop-ios", "ios", True),
    ("landing-2023", "browser", False),
)
BROWSER_APPLICATIONS = 3  # the first ones: those whose views carry snapshots

SNAPSHOT_NAMES = (
    "Default view",
    "Open navigation menu",
    "Open modal",
    "Cookie banner gone",
    "Checkout – step 2",  # noqa: RUF001 - an en dash on purpose
    "Logged in, empty cart",
    'Variant "B"',
    "Größe wählen 👟",
    "<main> & footer",
    "before redesign",
)
DEVICE_TYPES = ("desktop", "mobile", "tablet")
REPOINTABLE = ("event_id", "is_device_type_selected_by_user", "session_id", "start", "view_id")


@dataclass(frozen=True, slots=True)
class Person:
    """A user of the organization, who pins snapshots."""

    name: str
    handle: str
    user_id: int


@dataclass(frozen=True, slots=True)
class Application:
    """A RUM application."""

    application_id: str
    name: str
    type: str
    is_active: bool
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Traffic:
    """How often a view of an application was visited in 30 days."""

    view_name: str
    application_id: str
    views_30d: int


@dataclass(frozen=True, slots=True)
class Organization:
    """The people, applications and page views of one customer of Datadog."""

    org_id: int
    people: tuple[Person, ...]
    applications: tuple[Application, ...]
    applications_of_view: dict[str, tuple[str, ...]]
    traffic: tuple[Traffic, ...]


def draw_organization(random: Random, views: Sequence[str], start_at: datetime) -> Organization:
    """Draw an organization whose applications show these views."""
    applications = tuple(
        Application(draw_id(random), *application, start_at - timedelta(days=400 + 37 * number))
        for number, application in enumerate(APPLICATIONS)
    )
    candidates = [a.application_id for a in applications[:BROWSER_APPLICATIONS]]
    shown = {view: tuple(random.sample(candidates, random.choice((1, 2, 2)))) for view in views}
    return Organization(
        org_id=321813,
        people=tuple(Person(*person) for person in PEOPLE),
        applications=applications,
        applications_of_view=shown,
        traffic=_draw_traffic(random, shown, candidates[0]),
    )


def _draw_traffic(
    random: Random, shown: dict[str, tuple[str, ...]], main_application: str
) -> tuple[Traffic, ...]:
    """Visits of all views but the last, and of two views without snapshots."""
    # A snapshot outlives the page views of its view: discovery is not the only source of views.
    visited = dict(list(shown.items())[:-1]) if len(shown) > 1 else dict(shown)
    for view in VIEWS_WITHOUT_SNAPSHOTS:
        visited.setdefault(view, (main_application,))
    return tuple(
        # The first view is busy, so that even the last minutes are never empty.
        Traffic(view, application_id, int(10 ** random.uniform(*((1.3, 4.2) if n else (3.6, 4.6)))))
        for n, (view, application_ids) in enumerate(visited.items())
        for application_id in application_ids
    )


def draw_id(random: Random) -> str:
    """A UUID of version 4."""
    digits = f"{random.getrandbits(128):032x}"
    variant = "89ab"[int(digits[16], 16) % 4]
    return "-".join(
        (digits[:8], digits[8:12], f"4{digits[13:16]}", f"{variant}{digits[17:20]}", digits[20:])
    )


def draw_counts(random: Random, views: int) -> list[int]:
    """How many snapshots each view has: 5 to 39, never a round number, equal only among very many.

    Round or equal counts would look like the limit of a server.
    """
    counts = [count for count in range(5, 40) if count < 10 or count % 5]
    if views <= len(counts):
        return random.sample(counts, views)
    return random.choices(counts, k=views)


def draw_background(random: Random) -> dict[str, object]:
    """The five attributes that say which moment of which session is the background."""
    background: dict[str, object] = {
        "event_id": draw_id(random),
        "is_device_type_selected_by_user": random.random() < 0.3,
        "session_id": draw_id(random),
        "start": 0 if random.random() < 0.05 else random.randrange(1, 1_800_000),
        "view_id": draw_id(random),
    }
    chance = random.random()
    if chance < 0.08:  # a screenshot of the live application belongs to no session
        del background["session_id"], background["view_id"]
    elif chance < 0.12:
        background["session_id"] = None
    elif chance < 0.15:
        del background["view_id"]
    return background


def draw_attributes(
    random: Random, organization: Organization, view_name: str, created_at: datetime
) -> dict[str, object]:
    """All attributes of a new snapshot."""
    person = random.choice(organization.people)
    created = draw_timestamp(random, created_at)
    main_application = (organization.applications[0].application_id,)
    shown_by = organization.applications_of_view.get(view_name, main_application)
    return {
        "application_id": random.choice(shown_by),
        "created_at": created,
        "created_by": person.name,
        "created_by_handle": person.handle,
        "created_by_user_id": person.user_id,
        "device_type": random.choices(DEVICE_TYPES, (6, 3, 1))[0],
        **draw_background(random),
        "modified_at": created,
        "org_id": organization.org_id,
        "snapshot_name": random.choice(SNAPSHOT_NAMES),
        "view_name": view_name,
    }


def draw_timestamp(random: Random, moment: datetime) -> str:
    """The moment as Go prints it; a few with nanoseconds, milliseconds or whole seconds."""
    digits = random.choices((6, 9, 3, 0), (90, 2, 5, 3))[0]
    nanoseconds = random.randrange(1, 1000) if digits == 9 else 0
    unit = 10 ** max(0, 6 - digits)
    return go_timestamp(
        moment.replace(microsecond=moment.microsecond // unit * unit), nanoseconds=nanoseconds
    )


def go_timestamp(moment: datetime, *, nanoseconds: int = 0) -> str:
    """RFC3339Nano: UTC, and a fraction without trailing zeros or none at all."""
    utc = moment.astimezone(UTC)
    fraction = f"{utc.microsecond:06d}{nanoseconds:03d}".rstrip("0")
    return f"{utc:%Y-%m-%dT%H:%M:%S}{'.' if fraction else ''}{fraction}Z"
