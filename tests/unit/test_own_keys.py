"""Our own keys in foreign bytes and texts: every guise is found, and nothing is by chance."""

import html
import json
import random
import uuid
from base64 import b64encode, urlsafe_b64encode
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl import own_keys
from etl.own_keys import BLOT, NO_KEYS, OwnKeys
from tests.support.api import record

API_KEY, APP_KEY = "3f1c9a7e5b2d4806c8e1f7a95d03b246", "a41d7c0e92b85f36e7d14c09b8a25f631e07d9c4"
TOKEN = "ddpat_Zx81mQ-47Kd_pL09vRt3Wy6Bh5NqJ2"
KEYS = OwnKeys([API_KEY, APP_KEY, TOKEN, ""])
ZERO_WIDTH = "\u200b"


def escaped(text: str, form: str) -> str:
    return "".join(form.format(ord(c)) for c in text)


def spread(text: str, by: str, length: int) -> str:
    return by.join(text[at : at + length] for at in range(0, len(text), length))


def wrapped(text: str, length: int, by: str = "\r\n") -> str:
    """As MIME breaks base64 into lines."""
    return spread(text, by, length)


def attributes(key: str, length: int) -> str:
    text = "".join(c for c in key if c.isalnum())
    pieces = [text[at : at + length] for at in range(0, len(text), length)]
    return json.dumps({f"member_{number}": piece for number, piece in enumerate(pieces)})


def with_base64(content: bytes, before: int) -> str:
    return b64encode(b"x" * before + content + b"yz").decode()


GUISES = {
    "plain": lambda key: key,
    "upper": str.upper,
    "title": str.title,
    "lower": str.lower,
    "percent": lambda key: escaped(key, "%{:02X}"),
    "percent-small": lambda key: escaped(key, "%{:02x}"),
    "percent-in-part": lambda key: spread(key, "", 2).replace(key[5], f"%{ord(key[5]):02x}"),
    "percent-twice": lambda key: quote(escaped(key, "%{:02X}")),
    "percent-thrice": lambda key: quote(quote(escaped(key, "%{:02X}"))),
    "percent-alternating": lambda key: "".join(
        c if n % 2 else f"%{ord(c):02X}" for n, c in enumerate(key)
    ),
    "json": lambda key: escaped(key, "\\u{:04x}"),
    "json-upper": lambda key: escaped(key, "\\u{:04X}"),
    "json-twice": lambda key: escaped(key, "\\\\u{:04x}"),
    "json-mixed": lambda key: "".join(
        c if n % 3 else f"\\u{ord(c):04x}" for n, c in enumerate(key)
    ),
    "x-escapes": lambda key: escaped(key, "\\x{:02x}"),
    "octal": lambda key: escaped(key, "\\\\{:03o}"),
    "tags": lambda key: spread(key, "<wbr>", 4),
    "tags-closed": lambda key: spread(key, "<b><\\/b>", 5),
    "tags-escaped": lambda key: spread(key, "&lt;i/&gt;", 3),
    "tag-characters": lambda key: spread(key, "\\udb40\\udc20", 1),
    "variation-selectors": lambda key: spread(key, "\\udb40\\udd00", 4),
    "u-braces": lambda key: escaped(key, "\\u{{{:x}}}"),
    "decimal-entities": lambda key: escaped(key, "&#{};"),
    "decimal-entities-zeros": lambda key: escaped(key, "&#{:07};"),
    "hex-entities": lambda key: escaped(key, "&#x{:x};"),
    "hex-entities-upper": lambda key: escaped(key, "&#X{:X};"),
    "entities-twice": lambda key: html.escape(escaped(key, "&#{};")),
    "named-entities": lambda key: spread(key, "&ZeroWidthSpace;", 5),
    "entities-in-percent": lambda key: quote(escaped(key, "&#{};"), safe=""),
    "mixed": lambda key: (
        escaped(key[:9], "%{:02X}") + escaped(key[9:17], "\\u{:04x}") + escaped(key[17:], "&#{};")
    ),
    "base64": lambda key: with_base64(key.encode(), 0),
    "base64-1": lambda key: with_base64(key.encode(), 1),
    "base64-2": lambda key: with_base64(key.encode(), 2),
    "base64-upper": lambda key: with_base64(key.upper().encode(), 1),
    "base64-url": lambda key: urlsafe_b64encode(b"\xff" * 4 + key.encode()).decode(),
    "base64-lines": lambda key: wrapped(with_base64(key.encode(), 2), 20),
    "base64-json-lines": lambda key: json.dumps(wrapped(with_base64(key.encode(), 1), 16)),
    "base64-percent": lambda key: quote(escaped(with_base64(key.encode(), 0), "%{:02x}")),
    "basic-auth": lambda key: "Basic " + b64encode(f"user:{key}".encode()).decode(),
    "hex": lambda key: key.encode().hex(),
    "hex-upper": lambda key: key.encode().hex().upper(),
    "hex-colons": lambda key: key.encode().hex(":"),
    "split-blanks": lambda key: spread(key, " ", 1),
    "split-lines": lambda key: spread(key, "\n", 3),
    "split-json-lines": lambda key: json.dumps(spread(key, "\n", 3)),
    "split-dashes": lambda key: spread(key, "-", 4),
    "split-signs": lambda key: spread(key, '", "', 2),
    "split-unseen": lambda key: spread(key, ZERO_WIDTH, 2),
    "split-unseen-json": lambda key: json.dumps(spread(key, ZERO_WIDTH, 2)),
    "split-unseen-percent": lambda key: quote(spread(key, ZERO_WIDTH, 2)),
    "split-unseen-entities": lambda key: spread(key, "&#8203;", 2),
    "two-attributes": lambda key: attributes(key, (len(key) + 1) // 2),
    "three-attributes": lambda key: attributes(key, (len(key) + 2) // 3),
    "attributes-of-eight": lambda key: attributes(key, 8),
    "start": lambda key: key[:20],
    "end": lambda key: key[-20:],
    "middle": lambda key: key[5:25],
    "utf-16": lambda key: spread(key, "\0", 1),
}


@pytest.mark.parametrize("guise", GUISES)
def test_an_answer_with_a_key_is_known(guise: str) -> None:
    for key in (API_KEY, APP_KEY, TOKEN):
        held = f'"held": "{GUISES[guise](key)}"}}'
        assert KEYS.are_in(f"{{{held}".encode()), key
        assert KEYS.are_in(f'{{"x": "...", {held}'.encode()), key
        # In a large answer not every short piece is looked for.
        if guise not in ("attributes-of-eight", "three-attributes"):
            padding = "/home " * (own_keys._SMALL // 6 + 1)
            assert KEYS.are_in(f'{{"x": "{padding}", {held}'.encode()), key


@pytest.mark.parametrize("guise", GUISES)
def test_a_text_with_a_key_keeps_no_run_of_it(guise: str) -> None:
    for key in (API_KEY, APP_KEY, TOKEN):
        kept = KEYS.blotted(f"it said {GUISES[guise](key)}!")
        assert BLOT in kept
        assert not KEYS.are_in(kept.encode())
        runs = {key[at : at + 8].lower() for at in range(len(key) - 7)}
        assert not any(run in kept.lower() for run in runs)


@pytest.mark.parametrize("length", [15, 16])
def test_a_run_of_sixteen_is_no_chance(length: int) -> None:
    for key in (API_KEY, APP_KEY):
        for start in range(len(key) - length + 1):
            for padding in (b"", b"/" * own_keys._SMALL):
                body = padding + b"zz" + key[start : start + length].encode() + b"zz"
                assert KEYS.are_in(body) is (length == 16)


@given(st.sampled_from([API_KEY, APP_KEY]), st.integers(0, 30), st.integers(1, 40))
def test_a_run_of_eight_is_blotted_out(key: str, start: int, length: int) -> None:
    run = key[start : start + length]
    text = f"at /{run}: refused"
    assert KEYS.blotted(text) == (f"at /{BLOT}: refused" if len(run) >= 8 else text)


def test_what_is_no_key_stays_as_it_is() -> None:
    for text in (
        "",
        "DD-API-KEY was refused",
        "a 7-run 3f1c9a7",
        "100 % &amp; \\n caf\u00e9",
    ):
        assert KEYS.blotted(text) == text
    assert KEYS.blotted(f"{API_KEY} and {APP_KEY[:9]}.") == f"{BLOT} and {BLOT}."
    assert KEYS.blotted(API_KEY + API_KEY[:20] + " x") == f"{BLOT}{BLOT} x"


def test_ids_are_no_keys() -> None:
    """As large an answer as there may be, were it not for the time: a run of eight is there."""
    chance = random.Random(15)
    ids = [uuid.UUID(int=chance.getrandbits(128)) for _ in range(5000)]
    ids.append(uuid.UUID(f"{API_KEY[:8]}{'0' * 24}"))
    ids.append(uuid.UUID(f"{'0' * 17}{APP_KEY[8:23]}"))
    body = json.dumps({"data": [record(str(one)) for one in ids]}).encode()
    assert API_KEY[:8].encode() in body
    assert not KEYS.are_in(body)
    assert not KEYS.are_in(body[-20_000:])


def test_the_arithmetic_of_chance_holds() -> None:
    """With runs short enough to be seen by chance, they are seen as often as is computed."""
    chance = random.Random(15)
    digits = "".join(f"{chance.getrandbits(4096):01024x}" for _ in range(500))
    runs = {key[at : at + 4] for key in (API_KEY, APP_KEY) for at in range(len(key) - 3)}
    found = sum(digits[at : at + 4] in runs for at in range(len(digits) - 3))
    assert found == pytest.approx(len(digits) * len(runs) / 16**4, rel=0.15)
    a_place = (len(API_KEY) - 15 + len(APP_KEY) - 15) / 16**own_keys.REFUSED_RUN
    a_year = 365 * 24 * 10 * 100 * 160 * a_place
    assert a_place < 2.4e-18
    assert 1 / a_year > 300e6


def test_a_short_or_dull_key_is_not_looked_for_in_answers() -> None:
    """It would be found in words and in ids: such a key is none of Datadog's."""
    body = json.dumps({"data": [record("00000000-0000-0000-0000-000000000001")]}).encode()
    for keys in ([], [""], ["key"], ["api-key"], ["a" * 32], ["0" * 40], ["----------"]):
        assert not OwnKeys(keys).are_in(body + b"key api-key ----------" + b"a" * 50), keys
    assert not NO_KEYS.are_in(b"x" * 100)
    assert OwnKeys(["fake-api-key"]).are_in(b'{"x": "fake-api-key"}')
    assert not OwnKeys(["fake-api-key"]).are_in(b'{"x": "fake-app-key"}')
    assert OwnKeys(["key"]).blotted("the KEY") == f"the {BLOT}"


def test_a_key_across_the_border_of_two_chunks_is_found() -> None:
    border = own_keys._CHUNK
    for at in range(border - 40, border + 10, 7):
        assert KEYS.are_in(b"x" * at + API_KEY.encode() + b"y" * 10_000)


def test_endless_backslashes_cost_no_endless_time() -> None:
    # Tried from each of its backslashes, one such text would take hours.
    body = b'{"data":[{"id":"' + b"\\" * 2_000_000 + b'"}]}'
    assert not KEYS.are_in(body)
    assert KEYS.blotted("\\" * 20_000) == "\\" * 20_000


def test_endless_pieces_of_a_key_cost_no_endless_time() -> None:
    assert KEYS.are_in((API_KEY[:8] + "-" + "zq" * 600).encode() * 5 + API_KEY[:8].encode() * 2000)


@pytest.mark.parametrize("sign", ["\\", "%", "&", "%25", "&amp;", "25", "&#0", "\\u{0", "&a"])
def test_endless_escapes_cost_no_endless_time(sign: str) -> None:
    """Each run of signs is read once: a look at it from each of its signs would take minutes."""
    body = sign.encode() * (own_keys._CHUNK // len(sign))
    assert not KEYS.are_in(body)
    assert KEYS.are_in(body + b"u" + escaped(API_KEY, "\\u{:04x}").encode())


@given(st.binary(max_size=300))
def test_any_bytes_can_be_searched(body: bytes) -> None:
    assert not KEYS.are_in(body)
    text = body.decode("utf-8", "replace")
    assert KEYS.blotted(text) == text
