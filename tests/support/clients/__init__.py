"""Clients of other makers that read the SQL views, and what they need of this machine."""

from pathlib import Path

PACKAGES = {
    "default-jre-headless": "usr/bin/java",
    "libxerial-sqlite-jdbc-java": "usr/share/java/sqlite-jdbc.jar",
    "libpostgresql-jdbc-java": "usr/share/java/postgresql.jar",
    "libmariadb-java": "usr/share/java/mariadb-java-client.jar",
    "libodbc2": "usr/lib/*/libodbc.so.2",
    "libsqliteodbc": "usr/lib/*/odbc/libsqlite3odbc.so",
    "odbc-postgresql": "usr/lib/*/odbc/psqlodbcw.so",
    "odbc-mariadb": "usr/lib/*/odbc/libmaodbc.so",
}
"""Packages of Debian, with where a file of each lies."""


def missing_packages() -> list[str]:
    """Those of `PACKAGES` that are not on this machine."""
    return [package for package, file in PACKAGES.items() if not any(Path("/").glob(file))]
