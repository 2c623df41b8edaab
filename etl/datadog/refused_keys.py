"""A 401 or 403 -> what to check, and which of the two keys was refused, where Datadog says it."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable

from etl.config.credentials import Keys
from etl.datadog.responses import is_page
from etl.errors import DatadogError

VALIDATE = "/api/v2/validate"
"""Asked with the API key alone, it says whether that is valid."""
PAGE_ADVICE = (
    "a web page, as a proxy or a firewall sends it, and not Datadog's API: if it was Datadog, "
)
_KEYS_ADVICE = (
    "the keys were refused ({api_key}, {app_key}): check that they belong to site {site}, that each"
    " is the key's value and not its id; that they have rum_session_replay_read (probably)"
    " and rum_apps_read, and that the owner of the application key is still in the organization"
)
_APP_KEY_ADVICE = (
    "the keys were refused: Datadog accepts the API key in {api_key}, so it is the application key"
    " in {app_key}, or its permissions: check that it belongs to site {site}, that it is the key's"
    " value and not its id, that it has rum_session_replay_read (probably) and rum_apps_read, and"
    " that its owner is still in the organization"
)
_API_KEY_ADVICE = (
    "the keys were refused: Datadog does not accept the API key in {api_key}: check that it belongs"
    " to site {site}, that it is the key's value and not its id, and that it was not revoked"
)
_BEARER_ADVICE = (
    "the keys were refused: check that the token in {token} belongs to site {site}, that it has"
    " rum_session_replay_read (probably) and rum_apps_read, and that it has not expired"
)


def advice(keys: Keys, site: str, *, is_api_key_valid: bool | None = None) -> str:
    """What to check, with the variables that the keys come from; None: nobody told them apart."""
    told_apart = {None: _KEYS_ADVICE, True: _APP_KEY_ADVICE, False: _API_KEY_ADVICE}
    text = _BEARER_ADVICE if keys.bearer_token else told_apart[is_api_key_valid]
    return text.format(
        site=site,
        api_key=keys.api_key_from,
        app_key=keys.app_key_from,
        token=keys.bearer_token_from,
    )


class Validation:
    """What Datadog says of the API key alone, asked at most once by all clients that share this.

    `is_left_alone`: not even once. `is_wanted`: some request was refused. `is_done`: it was asked,
    or is left alone. `failure`: why there was no answer.
    """

    def __init__(self, *, is_left_alone: bool = False) -> None:
        self.is_done = is_left_alone
        self.is_wanted = False
        self.failure: DatadogError | None = None
        self._is_valid: bool | None = None
        self._lock = threading.Lock()

    @property
    def is_known(self) -> bool:
        """Whether Datadog has said it."""
        return self._is_valid is not None

    def is_api_key_valid(self, ask: Callable[[], bool | None]) -> bool | None:
        """What `ask` returned the first time; None: nobody says. `ask` may raise DatadogError."""
        with self._lock:
            self.is_wanted = True
            if not self.is_done:
                self.is_done = True
                try:
                    self._is_valid = ask()
                except DatadogError as error:
                    self.failure = error
            return self._is_valid


def said_of_api_key(status: int | None, body: bytes) -> bool | None:
    """What an answer of `VALIDATE` says of the API key; None: nothing."""
    if status in (401, 403):
        return None if is_page(body) else False
    found: object = None
    if status == 200:
        with contextlib.suppress(ValueError, RecursionError):
            found = json.loads(body)
    if isinstance(found, dict) and found.get("status") == "ok":
        return True  # as the endpoint for both keys says it
    for name in ("data", "attributes", "valid"):  # or "valid" alone, as the older endpoint says it
        if isinstance(found, dict):
            found = found.get("valid", found.get(name))
    return found if isinstance(found, bool) else None
