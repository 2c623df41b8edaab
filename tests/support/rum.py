"""What RUM answers of applications and of views, as the scripted API gives it."""

from typing import Any

WEB, IOS = "aaaaaaaa-1111-2222-3333-bbbbbbbbbbbb", "cccccccc-1111-2222-3333-dddddddddddd"


def bucket(view: object, count: object, application: object = WEB) -> dict[str, Any]:
    by = {"@view.name": view, "@application.id": application}
    return {"by": by, "computes": {"c0": count}}


def page(*buckets: object, **meta: object) -> dict[str, Any]:
    return {"meta": {"status": "done", "elapsed": 3} | meta, "data": {"buckets": list(buckets)}}


def application(identifier: object, **attributes: object) -> dict[str, Any]:
    return {"type": "rum_application", "id": identifier, "attributes": attributes}
