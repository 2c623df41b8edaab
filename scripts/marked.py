"""The part of a page that is written by a program, between two marks."""

from __future__ import annotations


def rewritten(page: str, name: str, inner: str) -> str:
    """The page with `inner` between its marks of that name; raises `ValueError` without them."""
    begin, end = f"<!-- {name}: written by `make docs` -->\n", f"<!-- end of {name} -->"
    before, found_begin, rest = page.partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found_begin and found_end):
        raise ValueError(f"there is no {begin.strip()} with {end} after it")
    return f"{before}{begin}{inner}{end}{after}"
