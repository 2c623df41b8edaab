"""What Grafana makes of a query before it is sent: variables in the browser, macros in the server.

As its sources have it: `interpolateVariable` of the SQL data sources, `interpolateQueryExpr` of
that for Prometheus, and `macros.go` of PostgreSQL and MySQL. A macro that is not here is an error,
as it is there.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

Chosen = Mapping[str, Sequence[str]]
"""The values chosen for each variable that allows several; none: All."""

_VARIABLE = re.compile(r"\$(\w+)|\$\{(\w+)\}")
_MACRO = re.compile(r"\$([_a-zA-Z0-9]+)\(([^)]*)\)")
_SECONDS = {"h": 3600, "d": 86400, "w": 7 * 86400}


def sql_with_values(sql: str, chosen: Chosen, all_value: str) -> str:
    """With each value in quotes. What stands for All is put in as it is."""

    def quoted(values: Sequence[str]) -> str:
        return ",".join("'" + value.replace("'", "''") + "'" for value in values)

    return _with_values(sql, chosen, all_value, quoted)


def promql_with_values(query: str, chosen: Chosen, all_value: str) -> str:
    """With the values as a regular expression, for a string in PromQL."""

    def alternatives(values: Sequence[str]) -> str:
        escaped = [
            re.sub(r"[$^*{}\[\]'+?.()|]", r"\\\\\g<0>", value.replace("\\", "\\" * 4))
            for value in values
        ]
        return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"

    return _with_values(query, chosen, all_value, alternatives)


def _with_values(
    query: str, chosen: Chosen, all_value: str, written: Callable[[Sequence[str]], str]
) -> str:
    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if name not in chosen:
            return match[0]  # a macro, for the server
        return written(chosen[name]) if chosen[name] else all_value

    return _VARIABLE.sub(value, query)


def sql_with_macros(sql: str, dialect: str, begin: datetime, end: datetime) -> str:
    """The SQL that PostgreSQL or MariaDB gets."""

    def expanded(match: re.Match[str]) -> str:
        arguments = [argument.strip(" ") for argument in match[2].split(",")]
        if match[1] == "__timeFilter":
            return _time_filter(dialect, arguments[0], begin, end)
        if match[1] == "__timeGroup":
            return _time_group(dialect, *arguments)
        raise ValueError(f"unknown macro {match[1]}")

    # On PostgreSQL one before a comma gets an alias too, as old versions of Grafana had it.
    assert not re.search(r"\$__timeGroup\([^)]*\),", sql)
    return _MACRO.sub(expanded, sql)


def _time_filter(dialect: str, column: str, begin: datetime, end: datetime) -> str:
    if dialect == "postgresql":
        first, last = (f"'{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}'" for at in (begin, end))
    else:
        first, last = (f"FROM_UNIXTIME({int(at.timestamp())})" for at in (begin, end))
    return f"{column} BETWEEN {first} AND {last}"


def _time_group(dialect: str, column: str, interval: str) -> str:
    number, unit = interval.strip("'")[:-1], interval.strip("'")[-1]
    seconds = int(number) * _SECONDS[unit]
    if dialect == "postgresql":
        return f"floor(extract(epoch from {column})/{seconds})*{seconds}"
    return f"UNIX_TIMESTAMP({column}) DIV {seconds} * {seconds}"
