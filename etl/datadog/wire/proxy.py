"""Which proxy the environment names for a URL. Pure: reads only the mapping it is given."""

from __future__ import annotations

import importlib.util
import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import TypeAlias

import msgspec

from etl.config.host_name import ascii_host
from etl.errors import ConfigError
from etl.formatting import to_install

_Address: TypeAlias = "ipaddress.IPv4Address | ipaddress.IPv6Address"
_Network: TypeAlias = "ipaddress.IPv4Network | ipaddress.IPv6Network"

_PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}
_URL = re.compile(
    r"(?:(?P<scheme>[a-z][a-z0-9+.-]*)://)?(?:(?P<user>[^/?#]*)@)?"
    r"(?P<host>\[[^\]]*\]|[^:/?#\[\]]*)(?::(?P<port>[^/?#]*))?(?P<path>[/?#].*)?",
    re.IGNORECASE,
)
# As in _URL, but without user and path, and a bare IPv6 address may stand there.
_ENTRY = re.compile(
    r"(?:(?P<scheme>[a-z]+)://)?(?:\[(?P<ipv6>[^\]]*)\](?P<prefix>/[0-9]+)?|(?P<host>[^:\[\]]*))"
    r"(?::(?P<port>[0-9]{0,5}))?/?"
)


# Such as 127.1 and 0x7f000001, which are sent to 127.0.0.1.
_SHORT_IPV4 = re.compile(r"(?:0x[0-9a-f]+|[0-9]+)(?:\.(?:0x[0-9a-f]+|[0-9]+)){0,3}", re.IGNORECASE)


class Proxy(msgspec.Struct, frozen=True):
    """A proxy, and the environment variable that names it. The URL may hold a password.

    `url` is `scheme://[user[:password]@]host:port`, the host in ASCII.
    """

    url: str
    variable: str

    @property
    def address(self) -> str:
        """`host:port`, for people."""
        return self.url.rpartition("//")[2].rpartition("@")[2]

    @property
    def label(self) -> str:
        """The proxy for messages: without user and password, with its variable."""
        return f"the proxy {self.address} of {self.variable}"


def find_proxy(
    url: str, environment: Mapping[str, str], *, speaks_socks: bool = True
) -> Proxy | None:
    """The proxy for requests to `url`; None: none, or NO_PROXY excludes its host.

    Names in lower case win, and a name in lower case without a value counts as no proxy, as for
    Python's urllib and httpx. `speaks_socks`: whether the one who asks can use a SOCKS proxy.

    Raises ConfigError, one line that names the variable and the reason, without any password, when
    the proxy that would be used cannot be. The other variables are not looked at.
    """
    scheme, host, port = _target(url)
    found = _named_proxy(scheme, environment)
    excluded = environment.get("no_proxy", "").strip() or environment.get("NO_PROXY", "")
    if found is None or is_excluded(scheme, host, port, excluded):
        return None
    variable, value = found
    try:
        return Proxy(_usable_url(value, speaks_socks=speaks_socks), variable)
    except ValueError as error:
        raise ConfigError([f"{variable}: {error}"]) from None


def _named_proxy(scheme: str, environment: Mapping[str, str]) -> tuple[str, str] | None:
    """The variable for a scheme, and its value."""
    for lower in (f"{scheme}_proxy", "all_proxy"):
        names = [lower, lower.upper()]
        if lower == "http_proxy" and "REQUEST_METHOD" in environment:
            names.pop()  # in a CGI program it is the header `Proxy` of whoever asks
        name = next((name for name in names if name in environment), "")
        if value := environment.get(name, "").strip():
            return name, value
    return None


def _target(url: str) -> tuple[str, str, int]:
    """Scheme, host and port of a URL that is one."""
    parts = _URL.fullmatch(url)
    if parts is None:
        return "", "", 0
    scheme, port = (parts["scheme"] or "http").lower(), parts["port"] or ""
    is_port = port.isascii() and port.isdigit()
    return scheme, parts["host"], int(port) if is_port else _PORTS.get(scheme, 0)


# --- the proxy ----------------------------------------------------------------------------


def _usable_url(value: str, *, speaks_socks: bool) -> str:
    """The URL of a proxy in full. Raises ValueError, whose text shows nothing of the value."""
    if not value.isprintable() or " " in value:
        raise ValueError("holds a space, a control character, or text that is not UTF-8")
    if value[0] in "'\"":
        raise ValueError("has quotes around it; write it without them")
    if "${" in value or "$(" in value:
        raise ValueError("holds ${...} or $(...), which nothing has replaced")
    parts = _URL.fullmatch(value)
    if parts is None or (not parts["scheme"] and (parts["path"] or "/") != "/"):
        raise ValueError("is not a URL; expected something like http://proxy.example.com:3128")
    scheme = (parts["scheme"] or "http").lower()
    _require_scheme(scheme, speaks_socks=speaks_socks)
    if "@" in (parts["path"] or ""):
        # Else the beginning of the password would be taken for the port, and shown.
        raise ValueError(
            "has an @ after its host; in user name and password write %2F for /, %3F for ?, "
            "%23 for #"
        )
    try:
        host = ascii_host(parts["host"])
    except ValueError as error:
        raise ValueError(f"is not a proxy that can be used: its host {error}") from None
    port = parts["port"] or str(_PORTS[scheme])
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) <= 65535:
        raise ValueError("has a port that is not a number from 1 to 65535")
    user = f"{parts['user']}@" if parts["user"] else ""
    return f"{scheme}://{user}{f'[{host}]' if ':' in host else host}:{int(port)}"


def _require_scheme(scheme: str, *, speaks_socks: bool) -> None:
    if scheme not in _PORTS:
        raise ValueError(
            f"{scheme}:// is not supported for a proxy; expected http://, https://, socks5:// or "
            "socks5h://"
        )
    if not scheme.startswith("socks"):
        return
    if not speaks_socks:
        raise ValueError("is a SOCKS proxy, which cannot be used here")
    if importlib.util.find_spec("socksio") is None:
        raise ValueError(f"a SOCKS proxy needs an extra; run: {to_install('socks')}")


# --- NO_PROXY -----------------------------------------------------------------------------


def is_excluded(scheme: str, host: str, port: int, no_proxy: str) -> bool:
    """Whether the text of NO_PROXY says that requests to `host` go through no proxy.

    Its entries are separated by commas or spaces. Quotes, `;` and `|` separate too, because no host
    holds them. An entry is `*`, a host, a domain, a name with `*` for any text, an IP address, or a
    network such as 10.0.0.0/8. A domain means all in it, with or without a dot before it. Each
    entry may have a port after it. Anything else is ignored.
    """
    name, addresses = _name(host), _addresses(host)
    return any(
        _covers(entry, scheme, name, addresses, port)
        for entry in re.split(r"""[\s,;|"']+""", no_proxy)
    )


def _covers(entry: str, scheme: str, name: str, addresses: set[_Address], port: int) -> bool:
    if network := _networks(entry):  # with all its colons, as no port stands behind it
        return _contains(network, addresses)
    parts = _ENTRY.fullmatch(entry.lower())
    if not entry or parts is None or (parts["scheme"] or scheme) not in (scheme, "all"):
        return False
    if parts["port"] and int(parts["port"]) != port:
        return False
    inner = parts["ipv6"] or parts["host"] or ""
    inner = (inner.removesuffix("/") if parts["scheme"] else inner) + (parts["prefix"] or "")
    if network := _networks(inner):
        return _contains(network, addresses)
    return parts["ipv6"] is None and _names(inner, name, is_address=bool(addresses))


def _names(pattern: str, name: str, *, is_address: bool) -> bool:
    """Whether a name stands for `name`; nothing is a domain of an address."""
    if "*" in pattern:
        labels = (label if "*" in label else _name(label) for label in pattern.split("."))
        wanted = re.escape(".".join(labels).removesuffix(".")).replace(r"\*", ".*")
        return re.fullmatch(wanted, name) is not None
    domain = _name(pattern.lstrip("."))
    if not domain:
        return False
    return name == domain or (name.endswith(f".{domain}") and not is_address)


def _name(host: str) -> str:
    """The one spelling of a name that names are compared in."""
    host = host.strip("[]").lower().removesuffix(".")
    if host.isascii():
        return host
    import idna  # comes with httpx; most hosts are ASCII

    try:
        return idna.encode(host, uts46=True).decode("ascii").removesuffix(".")
    except UnicodeError:
        return host


def _addresses(host: str) -> set[_Address]:
    """The address that a host is, also as the IPv4 address that it means; none for a name."""
    text = re.sub(r"%.*", "", host.strip("[]")).removesuffix(".")
    try:
        address = ipaddress.ip_address(_dotted(text) if _SHORT_IPV4.fullmatch(text) else text)
    except ValueError:
        return set()
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return {address, mapped} if mapped else {address}


def _dotted(text: str) -> str:
    """An IPv4 address of fewer than four numbers, or of hexadecimal ones, in its usual form.

    The last number stands for all that is left of the address. Raises ValueError.
    """
    *first, last = [int(n, 16 if n[:2].lower() == "0x" else 10) for n in text.split(".")]
    rest = last.to_bytes(4 - len(first), "big") if last < 256 ** (4 - len(first)) else b""
    return ".".join(str(number) for number in (*first, *rest))


def _networks(text: str) -> set[_Network]:
    """The network that an address or a CIDR means, also as one of IPv4; none for other text."""
    address, slash, prefix = text.partition("/")
    address = re.sub(r"%.*", "", address)  # a zone says through which card, not which address
    try:
        network = ipaddress.ip_network(f"{address.removesuffix('.')}{slash}{prefix}", strict=False)
    except ValueError:
        return set()
    first = network.network_address
    mapped = first.ipv4_mapped if isinstance(first, ipaddress.IPv6Address) else None
    if mapped is None or network.prefixlen < 96:
        return {network}
    return {network, ipaddress.ip_network((mapped, network.prefixlen - 96))}


def _contains(networks: Iterable[_Network], addresses: Iterable[_Address]) -> bool:
    return any(address in network for network in networks for address in addresses)
