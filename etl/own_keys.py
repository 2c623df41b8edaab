"""Finds our own keys in what others send: the one place that knows what a key may look like. Pure.

A server or a proxy that echoes keys is broken or hostile, so that an answer which holds one is no
answer. What is looked for, in any case of letters, and cut anywhere:

- the key itself, also split by blanks, signs, tags or characters that nobody sees;
- the same in base64 (at any of three alignments), and in hexadecimal;
- any of these with percent, JSON, HTML and C escapes, also mixed and one within another.

An answer must never be refused by chance: its ids stay the same, and it would always be refused.
Datadog's keys are 32 and 40 hexadecimal digits, and so are many ids. One key of each kind has
17 + 25 runs of 16 digits. Chance puts one of them at a given place once in 4e17 times: for ten
views of a hundred, read hourly (16,000 places in each answer), once in 300 million years. It would
put a run of eight into 19 answers a year. So an answer is refused for a run of 16, or for pieces
of eight that stand near each other and hold 24 characters together, which is rarer still.
In a text for people a run of eight is blotted out: there, a few stars too many do no harm.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

BLOT = "***"
SHORTEST_RUN = 8
"""Characters of a key: a run of so many is blotted out of a text, and a piece of an answer."""
REFUSED_RUN, REFUSED_PIECES = 16, 24
"""Characters of a key for which an answer is refused: in one run; in pieces together."""
_NEAR = 1000  # characters between the first and the last piece
_FEWEST_DIFFERENT = 4  # characters in a run: 00000000 is in many ids, and in no good key
_MOST_HITS = 1000  # in one chunk, which nobody sends by chance

_CHUNK, _OVERLAP = 256 * 1024, 4 * 1024  # bytes: a copy of a large answer would take its room twice
_SMALL = 64 * 1024
"""Bytes of an answer that is looked at so closely that no piece of eight is missed. In a larger one
those of 15 are all found, at 3 ns for each byte: decoding takes 12, and storing 40."""
_MOST_LAYERS = 6

_ALNUM = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_OTHERS = bytes(set(range(256)) - set(_ALNUM))
_LOWER = bytes(range(256)).lower()

# Only characters that can be part of a key, or that separate without being seen, are read: a text
# in Japanese may consist of escapes. Both cases are spelled out, as a pattern that ignores them is
# tried at every byte.
_HEX = rb"[0-9A-Fa-f]"
_UNSEEN = (
    rb"00[aA][0dD]|034[fF]|061[cC]|11[56][0fF]|17[bB][45]|180[bBcCdDeE]|20[0-6]H|3000"
    rb"|[fF][eE]0H|[fF][eE][fF]{2}|[dD][bB]40|[dD][cC][0-7]H|[dD][dD][0-9a-eA-E]H"
)
_ESCAPE = re.compile(
    (
        rb"[%\\&<](?:"  # one set first: what begins with alternatives is tried at every byte, too
        rb"(?<=%)(?:25)*(?:([0-7]H)|[cC]2%(?:25)*[aA][0dD]|[eE]2%(?:25)*8[01]%(?:25)*[89abAB]H"
        rb"|[eE][fF]%(?:25)*[bB]{2}%(?:25)*[bB][fF])"
        # From the first of its backslashes: to try at each of a million would take hours.
        rb"|(?<=\\)(?<!\\\\)\\*+(?:(?:u00|x|U000000)([0-7]H)|u\{0*([0-7]?H)\}"
        rb"|u(?:" + _UNSEEN + rb")|([01][0-7]{2})|[nrtbf/])"
        rb"|(?<=&)(?:amp;)*(?:#0*([0-9]{1,7});?|#[xX]0*(H{1,6});?|([A-Za-z]{2,31}[0-9]{0,2});)"
        rb"|(?<=<)/?[A-Za-z]{1,10}/?>"
        rb")"
    ).replace(b"H", _HEX)
)
_BASE_OF_GROUP = (16, 16, 16, 8, 10, 16)  # in the order of the groups above
_SIGNS = {b"amp": b"&", b"lt": b"<", b"gt": b">", b"quot": b"", b"apos": b"", b"nbsp": b""}
_MARKERS = (b"%", b"\\", b"&", b"<")


@dataclass(frozen=True)
class _Guise:
    """A key as it may be written, in lower case and without signs.

    `run`: so many characters of it in one run are refused; `pieces`: so many in several.
    """

    text: str
    run: int
    pieces: int


class OwnKeys:
    """Our keys, to be found in foreign bytes and texts. Those that are "" are no keys.

    A key of fewer than eight letters and digits is none of Datadog's, and would be found in words:
    it is blotted out of texts, and not looked for in answers.
    """

    def __init__(self, keys: Iterable[str] = ()) -> None:
        # The longest first: one may be part of another.
        self._keys = sorted({key for key in keys if key}, key=len, reverse=True)

    def are_in(self, body: bytes) -> bool:
        """Whether an answer holds so much of a key, in any guise, that it cannot be by chance."""
        if not self._numbers:
            return False
        shifts = range(SHORTEST_RUN) if len(body) <= _SMALL else range(1)
        chunks = (body[at : at + _CHUNK + _OVERLAP] for at in range(0, len(body), _CHUNK))
        return any(self._are_in(_plain(layer), shifts) for c in chunks for layer in _layers(c))

    def blotted(self, text: str) -> str:
        """The text with stars for each key and each run of eight characters of one.

        Where a key is hidden behind escapes, nothing of the text is left.
        """
        for key in self._keys:
            text = re.sub(re.escape(key), BLOT, text, flags=re.IGNORECASE)
        if not self._grams:
            return text
        text = self._blotted(text)
        hidden = (_plain(layer).decode() for layer in _layers(text.encode(errors="replace")))
        return BLOT if any(any(self._runs_in(layer)) for layer in hidden) else text

    def _blotted(self, text: str) -> str:
        letters = [(at, c.lower()) for at, c in enumerate(text) if c.isascii() and c.isalnum()]
        places = [at for at, _ in letters]
        blotted, done = "", 0
        for first in self._runs_in("".join(c for _, c in letters)):
            begin, end = places[first], places[first + SHORTEST_RUN - 1] + 1
            # Runs that overlap, or follow each other, get the same stars.
            if begin > done or not blotted:
                blotted += text[done:begin] + BLOT
            done = max(done, end)
        return blotted + text[done:]

    def _runs_in(self, plain: str) -> Iterator[int]:
        """Where a run of eight characters of a key begins."""
        grams = self._grams
        last = len(plain) - SHORTEST_RUN
        return (at for at in range(last + 1) if plain[at : at + SHORTEST_RUN] in grams)

    def _are_in(self, plain: bytes, shifts: Iterable[int]) -> bool:
        """Whether there is enough of a key; one of its runs begins at a shift, or 8, 16, ... on."""
        hits: list[int] = []
        for shift in shifts:
            end = len(plain) - (len(plain) - shift) % SHORTEST_RUN
            numbers = memoryview(plain)[shift : max(shift, end)].cast("Q")
            # Eight bytes as one number: a set of numbers is the fastest that Python can search for.
            if not self._numbers.isdisjoint(numbers):
                found = enumerate(numbers)
                hits += [shift + 8 * at for at, number in found if number in self._numbers]
        return bool(hits) and self._is_enough(plain.decode(), sorted(hits))

    def _is_enough(self, plain: str, hits: Sequence[int]) -> bool:
        if len(hits) > _MOST_HITS:
            return True
        pieces: dict[_Guise, list[tuple[int, range]]] = {}
        for hit in hits:
            for guise in self._grams[plain[hit : hit + SHORTEST_RUN]]:
                for piece in _pieces(guise.text, plain, hit):
                    others = (p for p in pieces.get(guise, ()) if p[1] != piece)
                    near = [p for p in others if hit - p[0] <= _NEAR]
                    pieces[guise] = [*near, (hit, piece)]
                    together = len({at for _, part in pieces[guise] for at in part})
                    if len(piece) >= guise.run or together >= guise.pieces:
                        return True
        return False

    @cached_property
    def _grams(self) -> dict[str, list[_Guise]]:
        """Every run of eight characters of a key, in each guise that it is part of."""
        grams: dict[str, list[_Guise]] = {}
        for guise in {guise for key in self._keys for guise in _guises(key)}:
            for gram in {guise.text[at : at + SHORTEST_RUN] for at in range(len(guise.text) - 7)}:
                if len(set(gram)) >= _FEWEST_DIFFERENT:
                    grams.setdefault(gram, []).append(guise)
        return grams

    @cached_property
    def _numbers(self) -> frozenset[int]:
        return frozenset(memoryview(gram.encode()).cast("Q")[0] for gram in self._grams)


NO_KEYS = OwnKeys()


def _guises(key: str) -> Iterator[_Guise]:
    plain = _plain(key.encode()).decode()
    run, pieces = (min(least, len(plain)) for least in (REFUSED_RUN, REFUSED_PIECES))
    if len(plain) < SHORTEST_RUN:
        return
    yield _Guise(plain, run, pieces)
    for spelled in {key, key.lower(), key.upper()}:
        content = spelled.encode()
        yield _Guise(content.hex(), 2 * run, 2 * pieces)
        for before in range(3):
            # Only the characters that depend on nothing before or after the key.
            encoded = b64encode(bytes(before) + content)[(0, 2, 3)[before] :]
            whole = encoded[: (8 * (before + len(content))) // 6 - (0, 2, 3)[before]]
            text = _plain(whole).decode()
            most = len(text)
            yield _Guise(text, min(most, run * 4 // 3 - 2), min(most, pieces * 4 // 3 - 2))


def _pieces(key: str, plain: str, hit: int) -> Iterator[range]:
    """What of a key stands around a hit, for each place of the key that it may be."""
    gram = plain[hit : hit + SHORTEST_RUN]
    at = key.find(gram)
    while at >= 0:
        begin, end = 0, SHORTEST_RUN
        while at + begin > 0 and hit + begin > 0 and key[at + begin - 1] == plain[hit + begin - 1]:
            begin -= 1
        while key[at + end : at + end + 1] == plain[hit + end : hit + end + 1] != "":
            end += 1
        yield range(at + begin, at + end)
        at = key.find(gram, at + 1)


def _plain(content: bytes) -> bytes:
    """Letters and digits alone, in lower case."""
    return content.translate(_LOWER, _OTHERS)


def _layers(content: bytes) -> Iterator[bytes]:
    """The content, and what it is when its escapes are read once, twice, and so on."""
    yield content
    for _ in range(_MOST_LAYERS):
        before = content
        if any(marker in content for marker in _MARKERS):
            content = _ESCAPE.sub(_read, content)
        if content == before:
            return
        yield content


def _read(escape: re.Match[bytes]) -> bytes:
    """What an escape stands for; nothing where that is no ASCII, which separates at most."""
    for number, base in enumerate(_BASE_OF_GROUP, start=1):
        if digits := escape[number]:
            code = int(digits, base)
            return bytes([code]) if code < 128 else b""
    name = escape[7]
    if name in _SIGNS:
        return _SIGNS[name]
    if name:
        import html  # with two thousand names of characters; no usual answer holds one

        return html.unescape(f"&{name.decode()};").encode("ascii", "ignore")
    return b""
