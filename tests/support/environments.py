"""Virtual environments for tests in `build/`, with what shall not be in the project's own."""

from dataclasses import dataclass
from pathlib import Path

from tests.support.paths import ROOT


@dataclass(frozen=True)
class Environment:
    """One that `scripts/make-environment` makes of a lock file."""

    folder: Path
    lock: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    def is_there(self) -> bool:
        """Whole, and in the versions of its lock file."""
        installed = self.folder / "installed.lock"
        return installed.exists() and installed.read_bytes() == self.lock.read_bytes()


DBT = Environment(ROOT / "build" / "dbt", ROOT / "dashboards" / "dbt" / "requirements.lock")
CLIENTS = Environment(
    ROOT / "build" / "clients", ROOT / "tests" / "support" / "clients" / "requirements.lock"
)
SITE = Environment(ROOT / "build" / "site-venv", ROOT / "docs" / "requirements.lock")

_LOCKS = sorted((ROOT / "tests" / "support" / "grafana").glob("*.lock"))
GRAFANA = {lock.stem: Environment(ROOT / "build" / "grafana" / lock.stem, lock) for lock in _LOCKS}
"""Folders with Grafana's own types for dashboards, by the version of Grafana; no environments."""
