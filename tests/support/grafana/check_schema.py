"""Compares dashboards with Grafana's published types: python check_schema.py FILE...

`grafana-foundation-sdk` holds the types, made from Grafana's own schema. It runs with a version of
it on PYTHONPATH, prints what does not fit, a line each, and ends with 1 when there is any.
"""

from __future__ import annotations

import enum
import json
import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard


def lost(given: Any, kept: Any, path: str) -> Iterator[str]:
    """What the types do not know: it is no longer there, or another, after reading and writing."""
    if isinstance(given, dict) and isinstance(kept, dict):
        for key, value in given.items():
            if key in kept:
                yield from lost(value, kept[key], f"{path}.{key}")
            else:
                yield f"{path}.{key}: no such property"
    elif isinstance(given, list) and isinstance(kept, list) and len(given) == len(kept):
        for number, (mine, theirs) in enumerate(zip(given, kept, strict=True)):
            yield from lost(mine, theirs, f"{path}[{number}]")
    elif given != kept:
        yield f"{path}: {given!r} became {kept!r}"


def misfits(value: Any, declared: Any, path: str) -> Iterator[str]:
    """Values that are not of the declared type, all the way down."""
    origin, arguments = typing.get_origin(declared), typing.get_args(declared)
    if declared in (Any, object):
        return
    if origin in (typing.Union, types.UnionType):
        found = [list(misfits(value, one, path)) for one in arguments]
        if all(found):
            # The one that fits best fails furthest inside.
            yield from max(found, key=lambda lines: len(lines[0].partition(": ")[0]))
    elif origin in (list, dict):
        yield from _misfits_of_many(value, origin, arguments[-1], path)
    elif origin is typing.Literal:
        if value not in arguments:
            yield f"{path}: {value!r} is none of {', '.join(map(repr, arguments))}"
    elif isinstance(value, dict) and hasattr(declared, "from_json"):
        yield from compared(value, declared, path)  # the package left it as it was
    else:
        yield from _misfits_of_class(value, declared, path)


def _misfits_of_many(value: Any, origin: type, declared: Any, path: str) -> Iterator[str]:
    if not isinstance(value, origin):
        yield f"{path}: {value!r} is no {origin.__name__}"
        return
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        yield from misfits(item, declared, f"{path}[{key}]")


def _misfits_of_class(value: Any, declared: type, path: str) -> Iterator[str]:
    if issubclass(declared, enum.Enum):
        if value not in [member.value for member in declared]:
            names = ", ".join(repr(member.value) for member in declared)
            yield f"{path}: {value!r} is none of {names}"
    elif declared is float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            yield f"{path}: {value!r} is no number"
    elif not isinstance(value, declared) or (declared is int and isinstance(value, bool)):
        yield f"{path}: {value!r} is no {declared.__name__}"
    else:
        yield from _misfits_inside(value, path)


def _misfits_inside(value: Any, path: str) -> Iterator[str]:
    """Those of the fields of an object of the package; its panels and queries say `object`."""
    if not type(value).__module__.startswith("grafana_foundation_sdk."):
        return
    module = sys.modules[type(value).__module__]
    hints = typing.get_type_hints(type(value), vars(module))
    for name, declared in hints.items():
        field = getattr(value, name)
        yield from misfits(field, declared, f"{path}.{name}")
        if declared is object or object in typing.get_args(declared):
            yield from _misfits_inside(field, f"{path}.{name}")
    if "targets" in hints:
        for number, query in enumerate(value.targets or []):
            yield from _misfits_inside(query, f"{path}.targets[{number}]")


def compared(given: dict[str, Any], declared: Any, path: str) -> Iterator[str]:
    """What does not fit, each with where it is."""
    read = declared.from_json(given)
    yield from lost(given, json.loads(json.dumps(read, cls=JSONEncoder)), path)
    yield from misfits(read, declared, path)


if __name__ == "__main__":
    register_default_plugins()
    found = [
        f"{name}: {problem}"
        for name in sys.argv[1:]
        for problem in compared(
            json.loads(Path(name).read_text(encoding="utf-8")), Dashboard, "dashboard"
        )
    ]
    print(*found, sep="\n")  # noqa: T201
    sys.exit(bool(found))
