"""Asks RUM which applications and views there are.

The list endpoint needs a view name and no endpoint lists them; RUM counts page views by name.
It keeps 30 days and may answer in part, so its counts are a hint: everything that makes
an answer less than whole is kept in `Discovery.warnings`.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeAlias

import msgspec

from etl.datadog.client import Client
from etl.datadog.retry import SHORTEST_EXCHANGE_S, RetryBudget
from etl.datadog.rum import APPLICATION, VIEW, Application, Page, applications_of, page_of
from etl.errors import DatadogAuthError, DatadogError, DatadogResponseError
from etl.extract.ask import ask
from etl.transform.envelope import open_envelope

SPAN = timedelta(days=30)  # RUM keeps events this long
MAX_BUCKETS = 10_000  # Datadog's bound on the product of the limits of all facets
MAX_PAGES = 100
PAGE_S = 10.0
"""For one page where no run depends on it: RUM counts 30 days, which takes it some seconds."""
SEARCH_S = 20.0
"""For all pages together where no run depends on them: they may come slowly, and never end."""
_QUERY = "@type:view @session.type:user"
_LIMITS = {VIEW: 1000, APPLICATION: 10}


Applications: TypeAlias = "Sequence[Application]"
"""RUM applications, each id once."""


class Traffic(msgspec.Struct, frozen=True):
    """Views of one name in one application."""

    view_name: str
    application_id: str | None
    views_30d: int

    def key(self, source: str) -> str:
        """32 hex digits: a hash of source, name and application."""
        parts = json.dumps([source, self.view_name, self.application_id])
        return hashlib.sha256(parts.encode()).hexdigest()[:32]


class Discovery(msgspec.Struct, frozen=True):
    """What RUM counted, busiest first, each pair of name and application once."""

    traffic: tuple[Traffic, ...]
    warnings: tuple[str, ...] = ()
    is_cut_short: bool = False  # RUM stopped before it had counted everything
    skipped: int = 0  # buckets that name no view that could be asked for
    requests: int = 0


def traffic_by_name(traffic: Iterable[Traffic]) -> dict[str, int]:
    """Views of 30 days by view name, over all applications."""
    views: dict[str, int] = {}
    for item in traffic:
        views[item.view_name] = views.get(item.view_name, 0) + item.views_30d
    return views


class ApplicationList(msgspec.Struct, frozen=True):
    """RUM's applications, each id once. `doubt`: why there may be more, "" for no reason."""

    applications: Sequence[Application]
    doubt: str = ""

    def whole(self) -> Sequence[Application]:
        """Every application of the organization; raises DatadogResponseError when in doubt."""
        if self.doubt:
            text = f"the list of RUM applications may be incomplete ({self.doubt})"
            raise DatadogResponseError(text, status=200)
        return self.applications


def read_applications(client: Client) -> ApplicationList:
    """The applications of the organization; raises `DatadogError`.

    No listing depends on them: they get a few seconds. A list that says that there are more, or
    that it comes from a cache, or that holds what has no usable id, is in doubt.
    """
    budget = client.side_budget()

    def attempt() -> ApplicationList:
        answer = client.list_applications(within_s=max(SHORTEST_EXCHANGE_S, budget.left))
        applications, without_id = answer.decoded(applications_of)
        partial = answer.decoded(open_envelope).partial(len(applications) + without_id)
        doubt = answer.safe(partial) or answer.part_header or answer.cache_header
        if without_id and not doubt:
            doubt = f"{without_id:,} without a usable id"
        return ApplicationList(applications, doubt)

    return ask(attempt, budget)[0]


def discover(
    client: Client,
    list_applications: Callable[[Client], ApplicationList] = read_applications,
    *,
    is_side_question: bool = False,
) -> Discovery:
    """Page views of 30 days by view name and application; raises `DatadogError`.

    `is_side_question`: no view of the run depends on it, so that all waits and failed tries get a
    few seconds together, and all pages `SEARCH_S`: what was counted by then is the answer.
    """
    budget = client.side_budget() if is_side_question else None
    end = time.monotonic() + SEARCH_S if is_side_question else math.inf
    search = _Search(client, list_applications, budget, end)
    try:
        search.count(_QUERY, _LIMITS)
    except DatadogAuthError as refusal:
        error = client.explained(refusal)
        if error.status != 403:
            raise error from None
        text = f"{error}; to discover views, the keys need the permission rum_apps_read"
        raise DatadogAuthError(
            text, status=error.status, detail=error.detail, requests=error.requests
        ) from None
    if search.is_at_limit:
        search.count_by_application()
    return search.result()


class _Search(msgspec.Struct):
    """The requests of one discovery, and what their answers hold together.

    `counts`: views by name and application; `skipped`: buckets that name no view.
    """

    client: Client
    list_applications: Callable[[Client], ApplicationList]
    budget: RetryBudget | None  # for all pages together; None: a new one for each
    end: float  # when no further page is asked for, in monotonic time
    counts: dict[tuple[str, str | None], int] = msgspec.field(default_factory=dict)
    warnings: list[str] = msgspec.field(default_factory=list)
    is_cut_short: bool = False
    skipped: int = 0
    requests: int = 0

    @property
    def is_at_limit(self) -> bool:
        """Whether a facet has as many values as were asked for: there may be more."""
        applications = Counter(name for name, _ in self.counts)
        most = max(applications.values(), default=0)
        return len(applications) >= _LIMITS[VIEW] or most >= _LIMITS[APPLICATION]

    def count_by_application(self) -> None:
        """Count each application by itself, which has room for more names."""
        for application in self._all_applications():
            if self._is_late():
                return
            quoted = application.replace("\\", "\\\\").replace('"', '\\"')
            try:
                query = f'{_QUERY} {APPLICATION}:"{quoted}"'
                buckets = self.count(query, {VIEW: MAX_BUCKETS}, application)
            except DatadogError as error:
                self._warn(f"the list of views may be cut: {error}")
                return
            if buckets >= MAX_BUCKETS:
                self._warn(
                    f"RUM names no more than {MAX_BUCKETS:,} views of application {application}:"
                    " the list may be cut"
                )

    def _all_applications(self) -> list[str]:
        seen = sorted({app for _, app in self.counts if app is not None})
        try:
            whole = self.list_applications(self.client).whole()
            listed = [application.application_id for application in whole]
        except DatadogError as error:
            self._warn(f"the list of views may be cut, applications are not known: {error}")
            return seen
        self.requests += 1
        return sorted({*seen, *listed})

    def count(self, query: str, limits: Mapping[str, int], application: str | None = None) -> int:
        """Read every page of the answer to one query; returns how many buckets came.

        `limits`: values by facet. `application`: the only one that the query is about.
        """
        body, cursors, buckets = _aggregation(query, limits), {""}, 0
        for _ in range(MAX_PAGES):
            page, requests = self._page(body)
            self.requests += requests
            self._add(page, application)
            buckets += len(page.buckets) + page.skipped
            cursor = page.after
            if not cursor:
                return buckets
            if cursor in cursors:
                self._warn("RUM sends the same page again and again: the list of views may be cut")
                return buckets
            if self._is_late():
                return buckets
            cursors.add(cursor)
            body["page"] = body["page"] | {"cursor": cursor}
        self._warn(f"RUM sends more than {MAX_PAGES} pages: the list of views may be cut")
        return buckets

    def _is_late(self) -> bool:
        """Whether there is no time for another page; warns of it."""
        if time.monotonic() < self.end:
            return False
        self.is_cut_short = True
        self._warn(f"the list of views may be cut: RUM took longer than {SEARCH_S:g} s")
        return True

    def _page(self, query: Mapping[str, Any]) -> tuple[Page, int]:
        """One page, and how many requests were sent for it."""

        within_s = PAGE_S if self.budget else None

        def attempt() -> Page:
            answer = self.client.aggregate_rum(query, within_s=within_s)
            page = answer.decoded(page_of)
            return msgspec.structs.replace(page, warnings=tuple(map(answer.safe, page.warnings)))

        return ask(attempt, self.budget or self.client.retry_budget())

    def _add(self, page: Page, application: str | None) -> None:
        for (name, seen_in), count in page.buckets:
            pair = (name, application or seen_in)
            self.counts[pair] = max(count, self.counts.get(pair, 0))
        self.skipped += page.skipped
        if page.is_timeout:
            self.is_cut_short = True
            self._warn("RUM ran out of time: views may be missing, and the counts too small")
        for text in page.warnings:
            self._warn(f"RUM warns: {text}")

    def _warn(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)

    def result(self) -> Discovery:
        """Everything found so far."""
        traffic = [Traffic(name, app, count) for (name, app), count in self.counts.items()]
        traffic.sort(key=lambda t: (-t.views_30d, t.view_name, t.application_id or ""))
        skipped = f"{self.skipped:,} of RUM's counts have no view name that can be asked for"
        return Discovery(
            traffic=tuple(traffic),
            warnings=(*self.warnings, *([skipped] if self.skipped else [])),
            is_cut_short=self.is_cut_short,
            skipped=self.skipped,
            requests=self.requests,
        )


def _aggregation(query: str, limits: Mapping[str, int]) -> dict[str, Any]:
    # Without `from` RUM counts 15 minutes; without limits it names ten.
    busiest = {"aggregation": "count", "order": "desc", "type": "measure"}
    return {
        "filter": {"from": "now-30d", "to": "now", "query": query},
        "compute": [{"aggregation": "count", "type": "total"}],
        "group_by": [{"facet": f, "limit": n, "sort": busiest} for f, n in limits.items()],
        "page": {"limit": 1000},
    }
