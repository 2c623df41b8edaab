"""Write SQLite's SQL views so that DuckDB runs them too; keep the revision in InnoDB.

Why: DuckDB attached to the file takes a view's SQL and runs it itself, with the types
of the tables. One construct that it does not know (GLOB, SQLite's date arithmetic) and
the view cannot be read; one such view, and nor can the list of tables. What the views
say stays as it was, but for three rare values that are right now: the end of a replay
saved in the last microsecond of a day, ages of the year 9999, ids that hold NUL.
PostgreSQL's and MariaDB's views are left alone. On MariaDB and MySQL the table of the
revision was made in the default engine of the server: Galera replicates InnoDB only.
Code of the revision before keeps running with it: yes.

Revision: 0006, after 0005
"""

from __future__ import annotations

from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

from alembic import op
from sqlalchemy import text

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

VERSION_TABLE = "heatmap_etl_version"

# Common to both: strftime(format, instant), date(text), substr, trim, printf, round, %, CASE, CAST.
# Not common: `/` of integers (DuckDB's has a fraction), and what CAST does with one.

YEAR = "CAST(substr(CAST({0} AS TEXT), 1, 4) AS BIGINT)"
MONTH = "CAST(substr(CAST({0} AS TEXT), 6, 2) AS BIGINT)"
DAY = "CAST(substr(CAST({0} AS TEXT), 9, 2) AS BIGINT)"

DATE = "date(substr(CAST({0} AS TEXT), 1, 10))"
PASSED = f"({YEAR} - 1)"
# Whole seconds of {0} since the year 1, in the calendar that both count by. What is taken off
# before `round` makes it the whole number below. The day is that of the date alone: SQLite rounds
# an instant to milliseconds, and so at times into the next day.
SECONDS = f"""\
86400 * (round(365.25 * {PASSED} - 0.375) - round({PASSED} / 100.0 - 0.495)
      + round({PASSED} / 400.0 - 0.49875) + CAST(strftime('%j', {DATE}) AS BIGINT))
      + 3600 * CAST(substr(CAST({{0}} AS TEXT), 12, 2) AS BIGINT)
      + 60 * CAST(substr(CAST({{0}} AS TEXT), 15, 2) AS BIGINT)
      + CAST(substr(CAST({{0}} AS TEXT), 18, 2) AS BIGINT)"""
NOW = "CAST(CURRENT_TIMESTAMP AS TEXT)"
# SQLite's now is in UTC and says no zone. DuckDB's says that of its session: +00 or -03:30.
ZONE = f"(ltrim(substr({NOW}, 20), '.0123456789') || '+00:00')"
CLOCK = f"""\
WITH clock AS (
  SELECT {SECONDS.format("CURRENT_TIMESTAMP")}
      - 3600 * CAST(substr({ZONE}, 1, 3) AS BIGINT)
      - 60 * CAST(substr({ZONE}, 1, 1) || substr({ZONE}, 5, 2) AS BIGINT) AS seconds
)
"""
SECONDS_SINCE = f"((SELECT seconds FROM clock) - ({SECONDS}))"  # noqa: S608 - SQL of our own
QUOTIENT = "CAST(({0} - {0} % {1}) / {1} AS BIGINT)"

# SQLite looks for each character from the left: those of a UUID are found soonest.
PLAIN = "0123456789abcdef-ghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_"
SAFE = f"trim({{0}}, '{PLAIN}') = ''"

# 15 months later is the same day, or the last one of a shorter month.
YEARS_LATER = f"({YEAR} + CASE WHEN {MONTH} >= 10 THEN 2 ELSE 1 END)"
IN_15_MONTHS = f"""\
printf('%04d-%02d-%02d', {YEARS_LATER}, ({MONTH} + 2) % 12 + 1,
      CASE WHEN {MONTH} IN (1, 3, 6, 8) AND {DAY} = 31 THEN 30
        WHEN {MONTH} = 11 AND {DAY} > 28 THEN CASE
          WHEN {YEARS_LATER} % 400 = 0 OR {YEARS_LATER} % 4 = 0 AND {YEARS_LATER} % 100 > 0
          THEN 29 ELSE 28 END
        ELSE {DAY} END) || substr(CAST({{0}} AS TEXT), 11)"""


def upgrade() -> None:
    if op.get_bind().dialect.name in ("mysql", "mariadb"):
        _keep_revision_in_innodb()
    if op.get_bind().dialect.name != "sqlite":
        return
    views = _revision_3()
    views.SAFE["sqlite"] = SAFE
    views.IN_15_MONTHS["sqlite"] = IN_15_MONTHS
    views.SECONDS_SINCE["sqlite"] = SECONDS_SINCE
    views.QUOTIENT["sqlite"] = QUOTIENT
    for name, select in views.VIEWS.items():
        if "days_since" in select or "minutes_since" in select:
            views.VIEWS[name] = CLOCK + select.lstrip()
    views.upgrade()


def downgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        _revision_3().upgrade()


def _keep_revision_in_innodb() -> None:
    """Empty in between: other nodes may lack the row, and would leave the cluster at its change.

    Cut there, the upgrade begins anew with the first revision.
    """
    engine = text(
        "SELECT engine FROM information_schema.tables"
        " WHERE table_schema = DATABASE() AND table_name = :name"
    )
    if op.get_bind().execute(engine, {"name": VERSION_TABLE}).scalar_one() != "InnoDB":
        op.execute(f"TRUNCATE TABLE {VERSION_TABLE}")
        op.execute(f"ALTER TABLE {VERSION_TABLE} ENGINE = InnoDB")
        op.execute(f"INSERT INTO {VERSION_TABLE} VALUES ('{down_revision}')")  # noqa: S608


def _revision_3() -> ModuleType:
    """The revision that made the views: a copy, so that what is changed here is changed only here.

    Its upgrade makes what is missing, and the views anew.
    """
    path = Path(__file__).with_name("0003_sql_views.py")
    loader = SourceFileLoader("revision_3", str(path))
    module = ModuleType(loader.name)
    loader.exec_module(module)
    return module
