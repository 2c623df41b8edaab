"""The endpoints: make the reply to a request, without sockets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import unquote

import msgspec
from msgspec import UNSET, UnsetType

from etl.fake_datadog.aggregate import BadRequest, aggregate
from etl.fake_datadog.organization import Application, Organization
from etl.fake_datadog.world import World

API_KEY = "fake-api-key"
APP_KEY = "fake-app-key"
BEARER_TOKEN = "fake-bearer-token"  # noqa: S105 - opens nothing but this fake
API_KEY_ID = "a1b2c3d4-0000-4000-8000-0123456789ab"
ORG_UUID = "0f1e2d3c-0000-4000-8000-0123456789ab"

SNAPSHOTS = "/api/v2/replay/heatmap/snapshots"
AGGREGATE = "/api/v2/rum/analytics/aggregate"
APPLICATIONS = "/api/v2/rum/applications"
VALIDATE_V1 = "/api/v1/validate"
VALIDATE = "/api/v2/validate"
VALIDATE_KEYS = "/api/v2/validate_keys"

JSON = "application/json"
JSON_API = "application/vnd.api+json"


@dataclass(frozen=True, slots=True)
class Request:
    """One request; header names in lower case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Reply:
    """Status, body and its type.

    `is_cut`: only half of the body is sent; `clock_offset_s`: how far its Date is off.
    """

    status: int
    body: bytes = b""
    content_type: str = JSON
    is_cut: bool = False
    clock_offset_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys that open the fake: the first two together, or the token."""

    api_key: str = field(default=API_KEY, repr=False)
    app_key: str = field(default=APP_KEY, repr=False)
    bearer_token: str = field(default=BEARER_TOKEN, repr=False)

    def refusal(self, request: Request) -> Reply | None:
        """401 when a key is missing, 403 when one is wrong, None when all are right."""
        headers = request.headers
        if "authorization" in headers:
            sent, expected = [headers["authorization"]], [f"Bearer {self.bearer_token}"]
        else:
            sent, expected = [headers.get("dd-api-key", "")], [self.api_key]
            if request.path not in (VALIDATE_V1, VALIDATE):
                sent.append(headers.get("dd-application-key", ""))
                expected.append(self.app_key)
        if not all(sent):
            return _errors(401, "Unauthorized")
        if sent != expected:
            return refused_keys()
        return None


class _Create(msgspec.Struct):
    view_name: str
    device_type: str
    application_id: str
    snapshot_name: str
    event_id: str
    start: int
    is_device_type_selected_by_user: bool
    session_id: str | UnsetType | None = UNSET
    view_id: str | UnsetType | None = UNSET


class _Update(msgspec.Struct, forbid_unknown_fields=True):
    event_id: str | UnsetType = UNSET
    is_device_type_selected_by_user: bool | UnsetType = UNSET
    session_id: str | UnsetType | None = UNSET
    start: int | UnsetType = UNSET
    view_id: str | UnsetType | None = UNSET


class _CreateData(msgspec.Struct):
    type: Literal["snapshots"]
    attributes: _Create


class _UpdateData(msgspec.Struct):
    type: Literal["snapshots"]
    attributes: _Update
    id: str | UnsetType = UNSET


class _CreateBody(msgspec.Struct):
    data: _CreateData


class _UpdateBody(msgspec.Struct):
    data: _UpdateData


class Api:
    """Answers requests from the state of a world."""

    def __init__(self, world: World, keys: Keys, page_default: int, page_max: int) -> None:
        self._world = world
        self._keys = keys
        self._page_default = page_default
        self._page_max = page_max
        self._routes = {
            ("GET", SNAPSHOTS): self._list,
            ("POST", SNAPSHOTS): self._create,
            ("POST", AGGREGATE): self._aggregate,
            ("GET", APPLICATIONS): self._applications,
            ("GET", VALIDATE_V1): lambda _: _json({"valid": True}),
            ("GET", VALIDATE): self._validate,
            ("GET", VALIDATE_KEYS): lambda _: _json({"status": "ok"}),
            ("PATCH", f"{SNAPSHOTS}/"): self._update,
            ("DELETE", f"{SNAPSHOTS}/"): self._delete,
        }

    def answer(self, request: Request) -> Reply:
        """The reply to any request; a malformed one gets a 400, an unknown path a 404."""
        prefix = f"{SNAPSHOTS}/"
        has_id = request.path.startswith(prefix) and request.path != prefix
        route = self._routes.get((request.method, prefix if has_id else request.path))
        if route is None or request.path == prefix:
            return _errors(404, "Not Found")
        try:
            return self._keys.refusal(request) or route(request)
        except (BadRequest, msgspec.DecodeError, UnicodeDecodeError) as error:
            return _errors(400, f"Bad Request: {error}")

    def _list(self, request: Request) -> Reply:
        view_name = request.query.get("filter[view_name]")
        if not view_name:
            raise BadRequest("filter[view_name] is required")
        records = self._world.listing(
            view_name,
            application_id=request.query.get("filter[application_id]"),
            device_type=request.query.get("filter[device_type]"),
            limit=self._limit(request.query.get("page[limit]")),
        )
        return Reply(200, b'{"data":[' + b",".join(records) + b"]}", JSON_API)

    def _limit(self, text: str | None) -> int:
        if text is None:
            return min(self._page_default, self._page_max)
        if not (text.isascii() and text.isdecimal() and len(text) < 19 and int(text) > 0):
            raise BadRequest(f"page[limit] must be a positive integer, not {text!r}")
        return min(int(text), self._page_max)

    def _create(self, request: Request) -> Reply:
        body = msgspec.json.decode(request.body, type=_CreateBody)
        attributes = _set_fields(body.data.attributes)
        del attributes["view_name"]
        # An attribute that the caller leaves out stays out: `pin` would invent it.
        omitted = {"session_id", "view_id"} - set(attributes)
        view_name = body.data.attributes.view_name
        record = self._world.pin(view_name, without=omitted, **attributes)
        return _json({"data": record}, 200, JSON_API)

    def _update(self, request: Request) -> Reply:
        snapshot_id = unquote(request.path.removeprefix(f"{SNAPSHOTS}/"))
        data = msgspec.json.decode(request.body, type=_UpdateBody).data
        if data.id not in (UNSET, snapshot_id):
            raise BadRequest("data.id is not the id of the path")
        attributes = _set_fields(data.attributes)
        if not attributes:
            raise BadRequest("data.attributes is empty")
        try:
            return _json({"data": self._world.repoint(snapshot_id, **attributes)}, 200, JSON_API)
        except KeyError:
            return _errors(404, "Snapshot not found")

    def _delete(self, request: Request) -> Reply:
        try:
            self._world.unpin(unquote(request.path.removeprefix(f"{SNAPSHOTS}/")))
        except KeyError:
            return _errors(404, "Snapshot not found")
        return Reply(204)

    def _aggregate(self, request: Request) -> Reply:
        return _json(aggregate(request.body, self._world.traffic, self._world.now))

    def _validate(self, _: Request) -> Reply:
        attributes = {"api_key_id": API_KEY_ID, "api_key_scopes": [], "valid": True}
        return _json({"data": {"attributes": attributes, "id": ORG_UUID, "type": "validate_v2"}})

    def _applications(self, _: Request) -> Reply:
        organization = self._world.organization
        items = [_application(a, organization) for a in organization.applications]
        return _json({"data": items}, 200, JSON_API)


def refused_keys() -> Reply:
    """What keys get that are not right."""
    return _json({"errors": [{"title": "Forbidden", "status": "403"}]}, 403)


def _application(application: Application, organization: Organization) -> dict[str, object]:
    created_at = int(application.created_at.timestamp() * 1000)
    return {
        "type": "rum_application",
        "id": application.application_id,
        "attributes": {
            "name": application.name,
            "type": application.type,
            "is_active": application.is_active,
            "org_id": organization.org_id,
            "application_id": application.application_id,
            "created_at": created_at,
            "updated_at": created_at + 86_400_000,
            "created_by_handle": organization.people[0].handle,
            "updated_by_handle": organization.people[0].handle,
            "product_analytics_replay_sample_rate": 100,
            "product_scales": {
                "rum_event_processing_scale": {"state": "ALL", "last_modified_at": created_at}
            },
            "tags": ["team:shop"],
        },
    }


def _set_fields(attributes: msgspec.Struct) -> dict[str, object]:
    """The fields that the caller set, also those set to null."""
    fields = msgspec.structs.asdict(attributes)
    return {name: value for name, value in fields.items() if value is not UNSET}


def _json(document: object, status: int = 200, content_type: str = JSON) -> Reply:
    return Reply(status, msgspec.json.encode(document), content_type)


def _errors(status: int, message: str) -> Reply:
    return _json({"errors": [message]}, status)
