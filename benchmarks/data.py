"""The organization of the benchmarks: view names and bodies, the same for the same size.

A stage is a moment: between any two stages one snapshot in a hundred was re-pointed, in every
view alike. Nothing is random but by seed; nothing is kept, so that any size can be served.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from random import Random

ONE_IN = 100  # snapshots of a view that a stage re-points
ORG_ID = 321813
SECTIONS = ("home", "checkout/?", "product/?", "a b/ü", "sale/100%+#top", "search?q=1&x=%2F")
PEOPLE = (
    ("Ada Okafor", "ada.okafor@example.com", 1402881),
    ("Zoë Łukasiewicz", "zoe@example.com", 1402907),
    ("Seán O'Brien", "sean.obrien@example.com", 1977410),
    ("山田 太郎", "taro.yamada@example.co.jp", 2300115),
    ('Maria "Mimi" Rossi', "maria.rossi+rum@example.com", 4_294_967_301),
)
SNAPSHOT_NAMES = (
    *("Default view", "Open navigation menu", "Open modal", "Cookie banner gone"),
    *("Checkout - step 2", "Logged in, empty cart", 'Variant "B"', "Größe wählen 👟"),
    *("<main> & footer", "before redesign"),
)
DEVICE_TYPES = ("desktop", "desktop", "desktop", "mobile", "mobile", "tablet")
APPLICATIONS = tuple(f"{n:08x}-6f1c-4b7e-9d2a-5c0e8a4b7f{n:02x}" for n in (3, 71, 190))
NEWEST = datetime(2026, 11, 1, 9, 0, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Size:
    """So many views of about so many snapshots."""

    views: int
    about: int
    seed: int = 1

    def names(self) -> tuple[str, ...]:
        return tuple(map(self.name, range(self.views)))

    def name(self, number: int) -> str:
        return f"/{SECTIONS[number % len(SECTIONS)]}/{number}"

    def counts(self) -> tuple[int, ...]:
        """Differing, none that looks like a cap, and one view with more than any other."""
        return _counts(self)

    def body(self, number: int, stage: int) -> bytes:
        """What the API answers for the view of this number, newest snapshot first."""
        return b'{"data":[' + b",".join(self.records(number, stage)) + b"]}"

    def records(self, number: int, stage: int) -> Iterator[bytes]:
        name = json.dumps(self.name(number))
        random = Random(f"{self.seed} {number}")
        background = Random(f"{self.seed} {number} {stage}")
        created = NEWEST - timedelta(minutes=random.randrange(1, 10_000))
        for place in range(self.counts()[number]):
            drawn, again = random.getrandbits(128 * 4 + 64), 0
            if stage and place % ONE_IN == number % ONE_IN:
                again = background.getrandbits(128 * 3 + 32)
            created -= timedelta(microseconds=1 + (drawn >> 11 & 0x3FFFFFFFF))
            yield _record(drawn, again, created, name).encode()

    def changed(self) -> int:
        """How many snapshots each stage re-points."""
        return sum(
            len(range(number % ONE_IN, count, ONE_IN)) for number, count in enumerate(self.counts())
        )


@cache
def _counts(size: Size) -> tuple[int, ...]:
    random = Random(f"{size.seed} counts")
    spread = max(3, size.about // 20)
    usual = [
        count
        for count in range(max(1, size.about - spread), size.about + spread)
        if count < 10 or count % 5
    ]
    counts = random.choices(usual, k=size.views)
    larger = range(max(usual) + 1, size.about * 9)
    counts[size.views // 2] = next(count for count in larger if count % 5)
    return tuple(counts)


def _record(drawn: int, again: int, created: datetime, name: str) -> str:
    ids = f"{drawn:0144x}"
    background = f"{again:0104x}" if again else ids[40:]
    session, event, view = background[-96:-64], background[-64:-32], background[-32:]
    modified = created + timedelta(seconds=again & 0xFFFFF)
    person, handle, user_id = PEOPLE[drawn % len(PEOPLE)]
    start = int(background[-100:-96], 16) * 27
    is_selected = "true" if int(background[-101], 16) < 5 else "false"
    return (
        f'{{"id":"{_uuid(ids[8:40])}","type":"snapshots","attributes":{{'
        f'"application_id":"{APPLICATIONS[(drawn >> 3) % 3]}",'
        f'"created_at":"{_instant(created)}","created_by":{_PEOPLE[person]},'
        f'"created_by_handle":"{handle}","created_by_user_id":{user_id},'
        f'"device_type":"{DEVICE_TYPES[(drawn >> 7) % 6]}","event_id":"{_uuid(event)}",'
        f'"is_device_type_selected_by_user":{is_selected},'
        f'"modified_at":"{_instant(modified)}","org_id":{ORG_ID},'
        f'"session_id":"{_uuid(session)}","snapshot_name":{_NAMES[(drawn >> 5) % 10]},'
        f'"start":{start},"view_id":"{_uuid(view)}","view_name":{name}}}}}'
    )


_PEOPLE = {person: json.dumps(person) for person, _, _ in PEOPLE}
_NAMES = [json.dumps(name) for name in SNAPSHOT_NAMES]


def _instant(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def _uuid(digits: str) -> str:
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"
