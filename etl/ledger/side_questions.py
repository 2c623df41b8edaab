"""`side_questions`: what got no answer when last asked, and when it is asked again."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import asdict
from sqlalchemy import Connection, delete, insert, select

from etl.database.schema import side_questions
from etl.extract.side_question import Unanswered

_s = side_questions.c


def read_unanswered(connection: Connection, source: str) -> dict[str, Unanswered]:
    """The questions of the source that have no answer, by question."""
    columns = [_s[name] for name in Unanswered.__struct_fields__]
    rows = connection.execute(select(*columns).where(_s.source == source).order_by(_s.question))
    return {row.question: Unanswered(*row) for row in rows}


def write_unanswered(connection: Connection, source: str, failed: Iterable[Unanswered]) -> None:
    """Keep what got no answer; each replaces what was kept of the same question."""
    for item in failed:
        note_answered(connection, source, item.question)
        connection.execute(insert(side_questions).values(source=source, **asdict(item)))


def note_answered(connection: Connection, source: str, question: str) -> None:
    """Forget that the question had no answer."""
    of_question = (_s.source == source) & (_s.question == question)
    connection.execute(delete(side_questions).where(of_question))
