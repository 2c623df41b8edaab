"""What is fuzzed: each target takes any bytes, and raises AssertionError where a promise is broken.

An exception that is not one of our own is such a promise, too: it passes through.
"""

from __future__ import annotations

import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

from etl.config.credentials import Keys
from etl.config.load import load_config
from etl.config.views import View
from etl.datadog.client import Client
from etl.datadog.retry import Retryable
from etl.datadog.wire import transport
from etl.datadog.wire.network import Network
from etl.errors import ConfigError, DatadogError, DatadogResponseError, EtlError
from etl.transform import decode as decoding
from etl.transform import lenient_json
from etl.transform.decode import decode
from etl.transform.envelope import open_envelope
from etl.transform.snapshot import Decoded
from tests.support.project import make_config

SECRET = "5ec2e7ba11ad0fdea7b0a7bea75c0a57"
KEY_HERE = b"KEY-HERE"
"""Stands in an input for the secret: a server may send our key back."""
LONGEST = 16_384


def _within(seconds: float, act: Callable[[], Any]) -> Any:
    began = time.process_time()
    result = act()
    took = time.process_time() - began
    assert took < seconds, f"it took {took:.1f} s of CPU time"
    return result


def decoder(data: bytes) -> None:
    """Any body is records, or our one error; typed and lenient decoding agree."""

    def outcome() -> Decoded | str:
        try:
            return decode(data)
        except DatadogResponseError as error:
            return str(error)

    first = _within(2 + len(data) / 5_000, outcome)
    assert outcome() == first, "decoded twice, it differs"
    if isinstance(first, str):
        assert len(first) < 2_000, "the error quotes the body"
        return
    envelope = open_envelope(data)
    quick = decoding._decode_quickly(envelope)  # noqa: SLF001
    if quick is not None:
        records = decoding._records(envelope)  # noqa: SLF001
        alone = [decoding._decode_lenient(record) for record in records]  # noqa: SLF001
        assert [s for one in alone for s in one.snapshots] == quick.snapshots
        assert [r for one in alone for r in one.rejected] == quick.rejected
    for reject in first.rejected:
        assert lenient_json.canonical(lenient_json.parse(reject.raw.encode())) is not None


@cache
def _http_config() -> Any:
    config = make_config("sqlite:///unused.db", "http://127.0.0.1:9")
    return replace(config, timeout_s=5.0, max_body_mb=1)


def http(data: bytes) -> None:
    """Whatever stands in an answer of HTTP: an answer, or an error of ours that tells no key."""
    theirs, ours = socket.socketpair()
    keys = Keys(SECRET, SECRET[::-1])
    with (
        theirs,
        _connected_to(ours),
        Client(_http_config(), keys, stop=threading.Event()) as client,
    ):
        theirs.sendall(data[:LONGEST].replace(KEY_HERE, SECRET.encode()))
        theirs.shutdown(socket.SHUT_WR)
        try:
            answer = _within(
                3,
                lambda: client.list_snapshots(
                    View("/home"), 1000, before_body=lambda: None, on_large=lambda _: True
                ),
            )
            answer.decoded(decode)
        except Retryable as fault:
            _tells_no_key(fault.error)
        except EtlError as error:
            _tells_no_key(error)


@cache
def _certificates() -> ssl.SSLContext:
    """None are needed; to load them takes a hundred times as long as an answer."""
    return ssl.create_default_context(cafile=None, capath="/nowhere")


@contextmanager
def _connected_to(ours: socket.socket) -> Iterator[None]:
    def connected(*_: object) -> socket.socket:
        ours.settimeout(5.0)
        return ours

    certificates = patch.object(transport, "default_certificates", _certificates)
    with patch.object(Network, "_connected", connected), certificates:
        yield
    ours.close()


def _tells_no_key(error: EtlError) -> None:
    text = str(error) + (error.detail if isinstance(error, DatadogError) else "")
    for key in (SECRET, SECRET[::-1]):
        assert key not in text, "the error tells the key"


def configuration(data: bytes) -> None:
    """Any file and environment are a configuration, or its problems without the secrets."""
    toml, _, lines = data[:LONGEST].partition(b"\0")
    environ = {
        "DD_API_KEY": SECRET,
        "DD_APP_KEY": SECRET[::-1],
        "HEATMAP_ETL_HASH_KEY": SECRET * 2,
        "DATABASE_URL": f"postgresql://me:{SECRET}@db.invalid/heatmap",
    }
    for line in lines.split(b"\0"):
        name, equals, value = line.partition(b"=")
        if equals and name and b"FILE" not in name and b"CONFIG" not in name:
            environ[name.decode(errors="surrogateescape")] = value.decode(errors="surrogateescape")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "heatmap-etl.toml"
        file.write_bytes(toml)

        def outcome() -> object:
            try:
                return load_config(file, environ, cwd=Path(folder))
            except ConfigError as error:
                return str(error)

        first = _within(3, outcome)
        assert outcome() == first, "loaded twice, it differs"
    texts = [first] if isinstance(first, str) else first.warnings
    for text in texts:
        assert SECRET not in text, "a problem or warning tells a secret"
        assert SECRET[::-1] not in text, "a problem or warning tells a secret"


TARGETS: dict[str, Callable[[bytes], None]] = {
    "decoder": decoder,
    "http": http,
    "configuration": configuration,
}
