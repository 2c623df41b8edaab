"""Datadog's sites, and the hosts of a site or an override."""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple
from urllib.parse import urlsplit

from etl.config.validators import BadValue, shown, type_name

DEFAULT_SITE = "datadoghq.com"

# Only the oldest deployments have an `app.` host; on the others the site itself is it.
SITES = {
    "datadoghq.com": "app.datadoghq.com",
    "us3.datadoghq.com": "us3.datadoghq.com",
    "us5.datadoghq.com": "us5.datadoghq.com",
    "datadoghq.eu": "app.datadoghq.eu",
    "ap1.datadoghq.com": "ap1.datadoghq.com",
    "ap2.datadoghq.com": "ap2.datadoghq.com",
    "uk1.datadoghq.com": "uk1.datadoghq.com",
    "ddog-gov.com": "app.ddog-gov.com",
    "us2.ddog-gov.com": "us2.ddog-gov.com",
}
_SHORT_NAMES = {
    "us": "datadoghq.com",
    "us1": "datadoghq.com",
    "us3": "us3.datadoghq.com",
    "us5": "us5.datadoghq.com",
    "eu": "datadoghq.eu",
    "eu1": "datadoghq.eu",
    "ap1": "ap1.datadoghq.com",
    "ap2": "ap2.datadoghq.com",
    "uk1": "uk1.datadoghq.com",
    "us1-fed": "ddog-gov.com",
    "us2-fed": "us2.ddog-gov.com",
}
_DOMAIN = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]")


class Hosts(NamedTuple):
    """Where requests and links go; URLs without a slash at the end."""

    api_url: str
    app_url: str


def site(value: object) -> str:
    """A site in lower case, known or not. BadValue says what to write instead of a URL."""
    if not isinstance(value, str):
        raise BadValue(f'expected a site such as "datadoghq.eu", found {type_name(value)}')
    name = value.lower()
    if short := _SHORT_NAMES.get(name):
        raise BadValue(f'{shown(value)} is not a domain; write "{short}"')
    bare = re.sub(r"^.*@|[:/?#].*$", "", re.sub(r"^[a-z]+://", "", name), flags=re.DOTALL)
    bare = re.sub(r"^(api|app)\.", "", bare)
    if bare == name and len(name) <= 200 and _DOMAIN.fullmatch(name):
        return name
    if _DOMAIN.fullmatch(bare):
        meant = bare if bare in SITES else _nearest(bare, 0.7) or bare
        raise BadValue(f'expected the bare site, not a URL or host; write "{meant}"')
    raise BadValue(
        'is not a site; expected a domain such as "datadoghq.com" or "datadoghq.eu" '
        "(for another host set datadog.api_url)"
    )


def site_warning(name: str) -> str | None:
    """The warning about a site that is not one of Datadog's known ones; None: it is one."""
    if name in SITES:
        return None
    close = _nearest(name, 0.5)
    meant = f" (did you mean {close}?)" if close else ""
    return f"{name} is not a known Datadog site{meant}; requests go to https://api.{name}"


def _nearest(name: str, cutoff: float) -> str | None:
    import difflib  # not before there is a mistake

    # An organization may have a name of its own before that of its site; us6 is rather a slip.
    above = name.partition(".")[2]
    if above in SITES:
        cutoff = 0.92
    close = difflib.get_close_matches(name, SITES, n=1, cutoff=cutoff)
    return close[0] if close else above if above in SITES else None


def hosts(name: str, api_url: str | None, app_url: str | None) -> Hosts:
    """API and app URL of a site; each override wins on its own."""
    app_host = SITES.get(name) or (name if name.count(".") > 1 else f"app.{name}")
    return Hosts(api_url or f"https://api.{name}", app_url or f"https://{app_host}")


def sends_keys_in_clear(url: str) -> bool:
    """Whether a request to `url` crosses a network without encryption."""
    parts = urlsplit(url)
    return parts.scheme == "http" and not _is_loopback(parts.hostname or "")


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
