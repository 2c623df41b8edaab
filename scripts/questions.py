"""Writes the twelve questions into a page: python -m scripts.questions docs/queries.md

`make docs` does it; a test fails when the page is out of date.
"""

from __future__ import annotations

import sys
from pathlib import Path

from etl.serve.dashboard.questions import QUESTIONS, Question
from scripts.marked import rewritten


def with_questions(page: str) -> str:
    """The page with the questions of the catalogue."""
    sections = [_section(n, q) for n, q in enumerate(QUESTIONS.questions, start=1)]
    return rewritten(page, "questions", "\n".join(["", *sections, ""]))


def _section(number: int, question: Question) -> str:
    note = f"\n{question.note}\n" if question.note else ""
    sql = QUESTIONS.portable_sql(question)
    return f"## {number}. {question.title}\n\n```sql\n{sql}\n```\n{note}"


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(with_questions(path.read_text(encoding="utf-8")), encoding="utf-8")
