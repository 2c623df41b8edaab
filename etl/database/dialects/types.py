"""Column types that mean the same on every database: instants, JSON as text, long text."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import DateTime, Dialect, Text
from sqlalchemy.types import TypeDecorator, TypeEngine, UserDefinedType

from etl.errors import StoreError

_MYSQL_FAMILY = ("mysql", "mariadb")


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC datetime, to the microsecond, on every database."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name in _MYSQL_FAMILY:
            from sqlalchemy.dialects import (
                mysql,
            )  # with its nine drivers; a run on MySQL has loaded it anyway

            return dialect.type_descriptor(mysql.DATETIME(fsp=6))
        return dialect.type_descriptor(DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuses naive values with ValueError: they could mean any instant."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"naive datetime {value}")
        value = value.astimezone(UTC)
        return value if dialect.name == "postgresql" else value.replace(tzinfo=None)

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:
        """On SQLite, which stores any text: raises `StoreError` for one that is no instant."""
        process = super().result_processor(dialect, coltype)
        if dialect.name != "sqlite" or process is None:
            return process

        def checked(value: Any) -> Any:
            try:
                return process(value)
            except ValueError:  # it quotes the text
                raise StoreError("a column of instants holds something else") from None

        return checked

    def process_result_value(
        self,
        value: datetime | None,
        dialect: Dialect,  # noqa: ARG002
    ) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class _PostgresJson(UserDefinedType[str]):
    """PostgreSQL's `json`, given and read as text; `jsonb` refuses NUL and folds numbers."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        return "JSON"


class JsonText(TypeDecorator[str]):
    """ASCII-escaped JSON as text."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(_PostgresJson())
        return dialect.type_descriptor(_long_text(dialect))

    def compare_against_backend(self, dialect: Dialect, conn_type: TypeEngine[Any]) -> bool | None:
        """For `alembic check`, which takes PostgreSQL's json for another type."""
        return type(conn_type).__name__.upper() == "JSON" if dialect.name == "postgresql" else None


class LongText(TypeDecorator[str]):
    """Text of any length."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(_long_text(dialect))


def _long_text(dialect: Dialect) -> TypeEngine[str]:
    if dialect.name not in _MYSQL_FAMILY:
        return Text()
    from sqlalchemy.dialects import mysql

    return mysql.LONGTEXT()
