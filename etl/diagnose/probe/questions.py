"""A few read-only questions to the live API that the documentation leaves open.

At most `MOST` questions, one after the other, about the configured view with the most
records. What the answers tell is judged by `answers`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence

from sqlalchemy import func, select

from etl.config.credentials import Keys
from etl.config.model import Config, require_keys
from etl.config.views import View
from etl.database.migrations import opened_if_current
from etl.database.schema import snapshots
from etl.datadog.client import AGGREGATE, APPLICATIONS, SNAPSHOTS, Client
from etl.diagnose.probe.data import LIMITS, THE_REST, Answer, Probe
from etl.diagnose.probe.records import attributes_of, texts_in
from etl.diagnose.probe.redaction import Redaction
from etl.errors import DatadogError, EtlError

MOST = 20
_ENOUGH = 20  # records, to see what attributes look like
_MOST_VIEWS = 3
_SHORTEST = 3  # of a value that says something
_TRAFFIC = {
    "filter": {"from": "now-30d", "to": "now", "query": "@type:view"},
    "compute": [{"aggregation": "count", "type": "total"}],
    "group_by": [{"facet": "@view.name", "limit": 1}],
}


def probe(config: Config, listed: Sequence[tuple[View, int]], stop: threading.Event) -> Probe:
    """Ask. `listed`: each view and how many records `check` found; -1: it failed.

    Raises `ConfigError` without keys. What gives no answer is noted, never raised.
    """
    keys = require_keys(config)
    names: dict[str, int] = {}
    for view, count in sorted(listed, key=lambda item: -item[1]):
        names.setdefault(view.name, max(0, count))
    found = Probe(next(iter(names.values()), 0), credentials(keys), _redaction(config, keys, names))
    found.stored = _stored_rows(config)

    def count_request() -> None:
        found.requests += 1

    with Client(config, keys, stop=stop, on_request=count_request) as client:
        _Questions(client, found, list(names), config.max_wait_s, stop).run()
    return found


def credentials(keys: Keys) -> str:
    """Which kind they are, by the prefixes that Datadog documents."""
    kinds = {"ddpat_": "personal access token", "ddsat_": "service account access token"}
    token = keys.bearer_token or keys.app_key
    kind = next((name for prefix, name in kinds.items() if token.startswith(prefix)), "")
    if keys.bearer_token:
        return f"bearer token ({kind})" if kind else "bearer token"
    return f"API key and {kind}" if kind else "API key and application key"


def _redaction(config: Config, keys: Keys, names: Mapping[str, int]) -> Redaction:
    found = Redaction((key, "key") for key in (keys.api_key, keys.app_key, keys.bearer_token))
    for number, name in enumerate(names, start=1):
        found.learn(name, f"view {number}")
    for view in config.views:
        found.learn(view.name, "view")
        found.learn(view.application_id or "", "application")
    return found


def _stored_rows(config: Config) -> dict[str, int]:
    """How many rows the tables have; nothing where there are none."""
    s = snapshots.c
    query = select(func.count(), func.count(s.removed_at)).where(s.source == config.source)
    again = select(func.count()).where(s.source == config.source, s.began == "returned")
    try:
        with opened_if_current(config) as (database, _):
            if database is None:
                return {}
            rows, removed = database.read(lambda c: tuple(c.execute(query).one()))
            returned = database.read(lambda c: c.execute(again).scalar()) or 0
    except EtlError:
        return {}
    return {"rows": rows, "removed": removed, "returned": returned}


class _Questions:
    """The questions, in the order of their use: later ones may not be reached."""

    def __init__(
        self,
        client: Client,
        found: Probe,
        names: Sequence[str],
        max_wait_s: float,
        stop: threading.Event,
    ) -> None:
        self._client = client
        self._found = found
        self._names = names
        self._stop = stop
        self._end = time.monotonic() + max_wait_s
        self._max_wait_s = max_wait_s
        self._name = names[0] if names else ""

    def run(self) -> None:
        """All questions, as far as they make sense after the answers so far."""
        if self._name:
            default = self._list("default", {})
            if default is not None and default.status == 200:
                self._limits()
                self._filters()
                self._errors()
            else:
                self._skip(THE_REST, "the list endpoint brought no list")
        self._ask("applications", APPLICATIONS, {})
        self._ask("aggregate", AGGREGATE, {}, _TRAFFIC)
        self._more_records()

    def _limits(self) -> None:
        limits = list(LIMITS)
        while limits:
            limit, known = limits.pop(0), self._found.known
            answer = self._list(f"limit {limit}", {"page[limit]": str(limit)})
            if answer is None or not (answer.is_refused or answer.records is not None):
                break
            if answer.records is not None:
                if answer.count >= min(known, limit):
                    break
                # A larger limit need not bring more: some servers then fall back to a smaller one.
                limits = [n for n in limits if n in (1000, 100, 10)]
        limit, largest = self._found.largest
        if lower := next((n for n in LIMITS if n < largest.count and n not in (limit, 1001)), 0):
            self._list(f"limit {lower}", {"page[limit]": str(lower)})
        if largest.records is None:
            self._skip("again", "no limit brought a list")
        else:
            self._list("again", {"page[limit]": str(limit)})

    def _filters(self) -> None:
        limit, largest = self._found.largest
        keys = [*self._variants(), "device", "device case"]
        if not largest.count:
            for key in keys:
                self._skip(key, "the view has no record")
            return
        for key, name in self._variants().items():
            if not name or name == self._name:
                self._skip(key, "the name has nothing to vary")
            else:
                self._found.redaction.learn(name, "a name like it")
                asked = {"filter[view_name]": name, "page[limit]": str(limit)}
                self._ask(key, SNAPSHOTS, asked)
        self._device(limit)

    def _variants(self) -> dict[str, str]:
        name = self._name
        return {
            "other case": name.swapcase(),
            "prefix": name[:-1].rstrip(),
            "slash": name[:-1] if name.endswith("/") else f"{name}/",
            "blanks": f" {name} ",
            "star": f"{name[:-1]}*",
        }

    def _device(self, limit: int) -> None:
        types = (attributes_of(r).get("device_type") for r in self._found.largest[1].records or [])
        found = [t for t in types if type(t) is str and t != t.swapcase()]
        if not found:
            self._skip("device", "no record names a device type")
            return
        usual = max(found, key=found.count)
        for key, text in (("device", usual), ("device case", usual.swapcase())):
            self._list(key, {"filter[device_type]": text, "page[limit]": str(limit)})

    def _errors(self) -> None:
        self._ask("empty", SNAPSHOTS, {"filter[view_name]": ""})
        self._ask("missing", SNAPSHOTS, {})
        for key, text in (("zero", "0"), ("negative", "-1"), ("text", "ten")):
            self._list(f"limit {key}", {"page[limit]": text})

    def _more_records(self) -> None:
        for number, name in enumerate(self._names[1:_MOST_VIEWS], start=2):
            if len(self._found.records) >= _ENOUGH:
                return
            asked = {"filter[view_name]": name, "page[limit]": "100"}
            self._ask(f"view {number}", SNAPSHOTS, asked)

    def _list(self, key: str, parameters: Mapping[str, str]) -> Answer | None:
        return self._ask(key, SNAPSHOTS, {"filter[view_name]": self._name, **parameters})

    def _ask(
        self, key: str, path: str, parameters: Mapping[str, str], body: object = None
    ) -> Answer | None:
        """None: not asked, and why stands in `not_asked`."""
        left = self._end - time.monotonic()
        if key in self._found.answers:
            return self._found.answers[key]
        if reason := self._reason_to_end(left):
            self._skip(key, reason)
            return None
        try:
            reply = self._client.try_once(path, parameters, body, max_wait_s=left)
        except DatadogError as error:
            answer = Answer(fault=str(error))
        else:
            # What follows the kind of a fault may name a host.
            fault = reply.broken.partition(":")[0]
            answer = Answer(reply.status, reply.headers, reply.body, fault)
        self._found.answers[key] = answer
        for text in texts_in(answer.parsed) if answer.status == 200 else ():
            if len(text) >= _SHORTEST:
                self._found.redaction.learn(text, "value")
        return answer

    def _reason_to_end(self, left: float) -> str:
        if self._stop.is_set():
            return "stopped"
        if len(self._found.answers) >= MOST:
            return f"a report asks {MOST} questions at most"
        return "" if left > 0 else f"datadog.max_wait_s = {self._max_wait_s:g} was used up before"

    def _skip(self, key: str, reason: str) -> None:
        self._found.not_asked[key] = reason
