"""`heatmap-etl schedule` for a slot of some seconds, which the program refuses."""

# The shortest interval is a minute, so every wait is a fifteenth of what it is, too.
SCRIPT = """
import sys
from etl.database.dialects import servers, sqlite
servers.LOCK_TIMEOUT_S, sqlite._BUSY_TIMEOUT_S = 1, 2
from etl.schedule import daemon
daemon._HELD_S, daemon._LONGEST_RETRY_S = daemon._HELD_S / 15, daemon._LONGEST_RETRY_S / 15
from etl.__main__ import run
from msgspec.structs import force_setattr
from etl.config import settings, validators
force_setattr(settings._BY_KEY["schedule.every"], "check", validators.duration("1s", "52w"))
sys.exit(run())
"""
