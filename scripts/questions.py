"""Writes `docs/queries.md` from the catalogue of questions: python -m scripts.questions

`make docs` does it; a test fails when the page is out of date.
"""

from __future__ import annotations

import sys

from etl.serve.dashboard.questions import QUESTIONS, Question


def page() -> str:
    """The text of `docs/queries.md`."""
    sections = [_section(n, q) for n, q in enumerate(QUESTIONS.questions, start=1)]
    return "\n".join(["# Twelve questions\n", f"{QUESTIONS.about}\n", *sections])


def _section(number: int, question: Question) -> str:
    note = f"\n{question.note}\n" if question.note else ""
    sql = QUESTIONS.portable_sql(question)
    return f"## {number}. {question.title}\n\n```sql\n{sql}\n```\n{note}"


if __name__ == "__main__":
    sys.stdout.write(page())
