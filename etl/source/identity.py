"""A source: one label in the configuration, and one Datadog organization (rule 8)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from sqlalchemy import Connection, select, update

from etl.config.model import Config
from etl.database.schema import snapshots, sources
from etl.errors import SourceMismatch
from etl.transform.snapshot import Decoded


@dataclass(slots=True)
class Organization:
    """The organization that a source is bound to, and what one run learned about its keys.

    A source is bound to the first organization whose records were read. Copy it with
    `dataclasses.replace` before a transaction that may have to be repeated.
    """

    org_id: int | None = None
    is_seen: bool = False  # a listing of this run held its records
    is_asked: bool = False  # this run asked RUM, with or without an answer
    is_other: bool = False  # the keys belong to another one: rows it does not list are not gone

    @property
    def is_open(self) -> bool:
        """Whether the organization of the keys is not known yet, and RUM can still be asked."""
        is_known = self.org_id is None or self.is_seen or self.is_other
        return not (is_known or self.is_asked)

    def recognise(self, source: str, decoded: Decoded) -> None:
        """Learn the organization of a source from a listing, or compare the listing with it.

        Raises `SourceMismatch` when the records name organizations, and none of them is the one
        that the source is bound to. One record of another organization among others proves
        nothing.
        """
        named = Counter(s.org_id for s in decoded.snapshots if s.org_id is not None)
        if not named:
            return
        if self.org_id is None:
            self.org_id = max(named, key=lambda org_id: (named[org_id], -org_id))
        elif self.org_id not in named:
            raise SourceMismatch(
                f"these keys belong to another organization: the API listed records of org_id"
                f" {min(named)}, but the rows of source {source} are of org_id {self.org_id};"
                " use the keys of that organization, or set another datadog.source for these keys"
            )
        self.is_seen = True


def bind(connection: Connection, source: str, org_id: int) -> None:
    """Bind the source to the organization, in the transaction that writes its first rows."""
    connection.execute(update(sources).where(sources.c.source == source).values(org_id=org_id))


def require_label(connection: Connection, config: Config) -> None:
    """Raises `SourceMismatch` when the label looks like a new name for a source that has rows.

    A view's key is a hash of the label too: under a new label the stored rows would look like
    those of another organization that lists the same ids. So a label is refused when no run was
    ever made under it, and exactly one source that is no longer configured holds rows, which came
    from the same API.
    """
    s = sources.c
    known = {row.source: row.api_url for row in connection.execute(select(s.source, s.api_url))}
    if config.source in known:
        return
    not_configured = sorted(known.keys() - set(config.neighbours))
    with_rows = [name for name in not_configured if _has_rows(connection, name)]
    if len(with_rows) != 1 or known[with_rows[0]] != config.api_url:
        return
    old, new = with_rows[0], config.source
    raise SourceMismatch(
        f"the database has rows of source {old}, but none of {new}, which is configured; "
        f"if both are one organization, run: heatmap-etl db rename-source {old} {new}; if not, put "
        "the files of both into one folder and run with --config FOLDER"
    )


def _has_rows(connection: Connection, source: str) -> bool:
    row = select(snapshots.c.id).where(snapshots.c.source == source).limit(1)
    return connection.execute(row).first() is not None
