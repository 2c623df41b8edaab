"""JSON text -> typed values, by msgspec, which is fast and takes nothing that is unusual."""

from __future__ import annotations

from typing import Protocol, TypeVar

from etl.library_faults import name_of

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class NotStrict(Exception):
    """The strict decoder does not take the text; `lenient_json` may."""


class Decoder(Protocol[T_co]):
    """As `msgspec.json.Decoder` is."""

    def decode(self, buf: bytes, /) -> T_co:
        """The values of the text."""


def read(decoder: Decoder[T], text: bytes) -> T:
    """What the decoder makes of the text; raises `NotStrict`, whatever msgspec raises."""
    try:
        return decoder.decode(text)
    except Exception as error:  # noqa: BLE001 - of msgspec, for bytes of anybody
        raise NotStrict(name_of(error)) from None
