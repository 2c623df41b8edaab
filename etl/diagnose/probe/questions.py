"""A few read-only questions to the live API that the documentation leaves open.

At most `MAX_QUESTIONS`, one after the other, about the configured view with the most records.
`answers` evaluates the responses.
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
from etl.diagnose.probe.data import ALL_OTHERS, LIMITS, Answer, Probe
from etl.diagnose.probe.records import attributes_of, texts_in
from etl.diagnose.probe.redaction import Redaction
from etl.errors import DatadogError, EtlError

MAX_QUESTIONS = 20
_ENOUGH_RECORDS = 20  # to see what attributes look like
_MAX_VIEWS = 3
_SHORTEST_VALUE = 3  # shorter texts are too common to be redacted
_TRAFFIC = {
    "filter": {"from": "now-30d", "to": "now", "query": "@type:view"},
    "compute": [{"aggregation": "count", "type": "total"}],
    "group_by": [{"facet": "@view.name", "limit": 1}],
}


def probe(config: Config, listed: Sequence[tuple[View, int]], stop: threading.Event) -> Probe:
    """Ask all questions. `listed`: each view with its records as `check` counted them; -1: failed.

    Raises `ConfigError` without keys. A question without an answer is noted, never raised.
    """
    keys = require_keys(config)
    names: dict[str, int] = {}
    for view, count in sorted(listed, key=lambda item: -item[1]):
        names.setdefault(view.name, max(0, count))
    result = Probe(
        next(iter(names.values()), 0), credentials(keys), _redaction(config, keys, names)
    )
    result.stored = _stored_rows(config)

    def count_request() -> None:
        result.requests += 1

    with Client(config, keys, stop=stop, on_request=count_request) as client:
        _Questions(client, result, list(names), config.max_wait_s, stop).run()
    return result


def credentials(keys: Keys) -> str:
    """The kind of the credentials, by the prefixes that Datadog documents."""
    kinds = {"ddpat_": "personal access token", "ddsat_": "service account access token"}
    token = keys.bearer_token or keys.app_key
    kind = next((name for prefix, name in kinds.items() if token.startswith(prefix)), "")
    if keys.bearer_token:
        return f"bearer token ({kind})" if kind else "bearer token"
    return f"API key and {kind}" if kind else "API key and application key"


def _redaction(config: Config, keys: Keys, names: Mapping[str, int]) -> Redaction:
    redaction = Redaction((key, "key") for key in (keys.api_key, keys.app_key, keys.bearer_token))
    for number, name in enumerate(names, start=1):
        redaction.learn(name, f"view {number}")
    for view in config.views:
        redaction.learn(view.name, "view")
        redaction.learn(view.application_id or "", "application")
    return redaction


def _stored_rows(config: Config) -> dict[str, int]:
    """How many rows the tables have; empty where there are no tables."""
    s = snapshots.c
    query = select(func.count(), func.count(s.removed_at)).where(s.source == config.source)
    returned_query = select(func.count()).where(s.source == config.source, s.began == "returned")
    try:
        with opened_if_current(config) as (database, _):
            if database is None:
                return {}
            rows, removed = database.read(lambda c: tuple(c.execute(query).one()))
            returned = database.read(lambda c: c.execute(returned_query).scalar()) or 0
    except EtlError:
        return {}
    return {"rows": rows, "removed": removed, "returned": returned}


class _Questions:
    """The questions, most useful first: the limits may leave out later ones."""

    def __init__(
        self,
        client: Client,
        result: Probe,
        names: Sequence[str],
        max_wait_s: float,
        stop: threading.Event,
    ) -> None:
        self._client = client
        self._result = result
        self._names = names
        self._stop = stop
        self._end = time.monotonic() + max_wait_s
        self._max_wait_s = max_wait_s
        self._name = names[0] if names else ""

    def run(self) -> None:
        """Ask every question that still makes sense after the answers so far."""
        if self._name:
            default = self._list("default", {})
            if default is not None and default.status == 200:
                self._limits()
                self._filters()
                self._errors()
            else:
                self._skip(ALL_OTHERS, "the list endpoint brought no list")
        self._ask("applications", APPLICATIONS, {})
        self._ask("aggregate", AGGREGATE, {}, _TRAFFIC)
        self._more_records()

    def _limits(self) -> None:
        limits = list(LIMITS)
        while limits:
            limit, known = limits.pop(0), self._result.known
            answer = self._list(f"limit {limit}", {"page[limit]": str(limit)})
            if answer is None or not (answer.is_refused or answer.records is not None):
                break
            if answer.records is not None:
                if answer.count >= min(known, limit):
                    break
                # A larger limit may bring fewer: some servers then fall back to a smaller one.
                limits = [n for n in limits if n in (1000, 100, 10)]
        limit, largest = self._result.largest
        if lower := next((n for n in LIMITS if n < largest.count and n not in (limit, 1001)), 0):
            self._list(f"limit {lower}", {"page[limit]": str(lower)})
        if largest.records is None:
            self._skip("again", "no limit brought a list")
        else:
            self._list("again", {"page[limit]": str(limit)})

    def _filters(self) -> None:
        limit, largest = self._result.largest
        keys = [*self._variants(), "device", "device case"]
        if not largest.count:
            for key in keys:
                self._skip(key, "the view has no record")
            return
        for key, name in self._variants().items():
            if not name or name == self._name:
                self._skip(key, "the name has nothing to vary")
            else:
                self._result.redaction.learn(name, "a name like it")
                parameters = {"filter[view_name]": name, "page[limit]": str(limit)}
                self._ask(key, SNAPSHOTS, parameters)
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
        types = (attributes_of(r).get("device_type") for r in self._result.largest[1].records or [])
        names = [t for t in types if type(t) is str and t != t.swapcase()]
        if not names:
            self._skip("device", "no record names a device type")
            return
        usual = max(names, key=names.count)
        for key, text in (("device", usual), ("device case", usual.swapcase())):
            self._list(key, {"filter[device_type]": text, "page[limit]": str(limit)})

    def _errors(self) -> None:
        self._ask("empty", SNAPSHOTS, {"filter[view_name]": ""})
        self._ask("missing", SNAPSHOTS, {})
        for key, text in (("zero", "0"), ("negative", "-1"), ("text", "ten")):
            self._list(f"limit {key}", {"page[limit]": text})

    def _more_records(self) -> None:
        for number, name in enumerate(self._names[1:_MAX_VIEWS], start=2):
            if len(self._result.records) >= _ENOUGH_RECORDS:
                return
            parameters = {"filter[view_name]": name, "page[limit]": "100"}
            self._ask(f"view {number}", SNAPSHOTS, parameters)

    def _list(self, key: str, parameters: Mapping[str, str]) -> Answer | None:
        return self._ask(key, SNAPSHOTS, {"filter[view_name]": self._name, **parameters})

    def _ask(
        self, key: str, path: str, parameters: Mapping[str, str], body: object = None
    ) -> Answer | None:
        """The answer; None when it was not asked, for the reason in `not_asked`."""
        left_s = self._end - time.monotonic()
        if key in self._result.answers:
            return self._result.answers[key]
        if reason := self._reason_to_skip(left_s):
            self._skip(key, reason)
            return None
        try:
            reply = self._client.try_once(path, parameters, body, max_wait_s=left_s)
        except DatadogError as error:
            answer = Answer(fault=str(error))
        else:
            # Only the kind of a fault: its text may name a host.
            answer = Answer(reply.status, reply.headers, reply.body, reply.kind)
        self._result.answers[key] = answer
        for text in texts_in(answer.parsed) if answer.status == 200 else ():
            if len(text) >= _SHORTEST_VALUE:
                self._result.redaction.learn(text, "value")
        return answer

    def _reason_to_skip(self, left_s: float) -> str:
        if self._stop.is_set():
            return "stopped"
        if len(self._result.answers) >= MAX_QUESTIONS:
            return f"a report asks {MAX_QUESTIONS} questions at most"
        return "" if left_s > 0 else f"datadog.max_wait_s = {self._max_wait_s:g} was used up before"

    def _skip(self, key: str, reason: str) -> None:
        self._result.not_asked[key] = reason
