"""Superset for a try on one machine: a random secret, no telemetry, SQLite files as sources."""

import os

SECRET_KEY = os.environ["SUPERSET_TRY_SECRET"]
SQLALCHEMY_DATABASE_URI = os.environ["SUPERSET_TRY_METADATA"]
PREVENT_UNSAFE_DB_CONNECTIONS = False  # SQLite sources are refused otherwise
# The script that imports and asks is no browser form; the server listens on 127.0.0.1 alone.
WTF_CSRF_ENABLED = False
TALISMAN_ENABLED = False
