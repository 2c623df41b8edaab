"""Everything that can go wrong, on one page.

    EtlError                      an expected failure: one line for people, exit code
    ├── ConfigError               usage or configuration; several problems at once
    ├── StoreError                the database
    │   ├── DatabaseUnreachable   cannot be opened, or refuses us
    │   ├── SchemaMismatch        absent, outdated, or newer than this program
    │   ├── SourceMismatch        the tables hold another source under this name
    │   └── PrivacyMismatch       the rows were stored under another privacy setting
    ├── LeaseHeld                 another process works on this source (exit 75)
    │   ├── LeaseLost             it took the lease over during our run
    │   └── SlotTaken             it has run this slot of the schedule already
    ├── DatadogError              one request, hence one view, failed
    │   ├── DatadogAuthError      401, 403: the keys were refused
    │   ├── DatadogRequestError   any other 4xx: asking again will not help
    │   ├── DatadogUnavailable    network, 408, 429, 5xx: retried as long as `max_wait_s` allows
    │   │   └── DatadogHostUnknown    the host's name does not exist
    │   ├── SpillFailed           its answer fits neither in memory nor on disk
    │   └── DatadogResponseError  a 200 that is not {"data": [...]}: retried too
    │       └── DatadogAnswerTooLarge    it holds more than can be read: not retried
    ├── ClockAhead                this machine's clock is too far ahead of the server's
    ├── RunStuck                  a run made no progress, and was ended (exit 1)
    │   └── RunAbandoned          it could not be ended: its thread still hangs
    ├── SystemRefused             no file, room, memory or thread, where no other is meant (exit 1)
    ├── OutputError               a result could not be written to stdout (exit 1)
    └── Stopped                   SIGINT or SIGTERM (exit 130, 143)

Messages never hold a key, a token or a database password.
"""

from __future__ import annotations

from collections.abc import Sequence


class EtlError(Exception):
    """An expected failure. `str()` is one line that says what to do."""

    exit_code = 2


class ConfigError(EtlError):
    """Every problem found in usage or configuration; `problems` holds one line for each."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(self.problems))


class StoreError(EtlError):
    """The database refused a statement, or cannot be used."""


class DatabaseUnreachable(StoreError):
    """The database cannot be opened, or refuses the connection."""


class SchemaMismatch(StoreError):
    """The schema is absent, outdated, or newer than this program."""


class SourceMismatch(StoreError):
    """The stored rows belong to another source than the configured one."""


class PrivacyMismatch(StoreError):
    """The rows were stored under another privacy setting than the configured one."""


class LeaseHeld(EtlError):
    """Another process holds the lease of the source."""

    exit_code = 75


class LeaseLost(LeaseHeld):
    """Another process took the lease over during this run; nothing more is written."""


class SlotTaken(LeaseHeld):
    """Another process has run this slot of the schedule already."""


class DatadogError(EtlError):
    """One list request failed for good.

    `status` is the HTTP status, None when no answer came. `detail` is the first error text of
    the answer, shortened, or what the network said. `requests` is how many were sent in all.
    """

    exit_code = 1

    def __init__(
        self, message: str, *, status: int | None = None, detail: str = "", requests: int = 0
    ) -> None:
        super().__init__(message)
        self.status = status
        self.detail = detail
        self.requests = requests


class DatadogAuthError(DatadogError):
    """401 or 403: the keys were refused.

    `advice`: the part of the message that says what to check; "" where it cannot be told better.
    """

    exit_code = 2

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        detail: str = "",
        requests: int = 0,
        advice: str = "",
    ) -> None:
        super().__init__(message, status=status, detail=detail, requests=requests)
        self.advice = advice


class DatadogRequestError(DatadogError):
    """A 3xx or 4xx that another try would not change."""


class DatadogUnavailable(DatadogError):
    """No answer, 408, 429 or 5xx, for longer than `max_wait_s`."""


class DatadogHostUnknown(DatadogUnavailable):
    """The name of the API's host, or of the proxy, does not exist: a wrong site, or no network."""


class SpillFailed(DatadogError):
    """The records of one view must wait for others, and there is no room for them on disk."""


class DatadogResponseError(DatadogError):
    """A 200 whose body is not `{"data": [...]}`."""


class DatadogAnswerTooLarge(DatadogResponseError):
    """A 200 that holds more than this program reads; another try would only bring it again."""


class ClockAhead(EtlError):
    """This machine's clock is ahead of the server's by more than can be stored as an instant."""


class RunStuck(EtlError):
    """A run made no progress for longer than its waits can add up to, and was ended."""

    exit_code = 1


class RunAbandoned(RunStuck):
    """Its thread hangs even so, with whatever it holds: the process should end."""


class SystemRefused(EtlError):
    """The operating system refused what no other error is about: a file, room, memory, a thread."""

    exit_code = 1


class OutputError(EtlError):
    """A result could not be written to stdout, such as on a full disk."""

    exit_code = 1


class Stopped(EtlError):
    """The process was asked to end; `exit_code` is 128 + the signal's number.

    `rest`: what becomes of the work, for people.
    """

    def __init__(
        self, signal_number: int, rest: str = "what was stored stays, and the next run continues"
    ) -> None:
        super().__init__(f"stopped by signal {signal_number}")
        self.rest = rest
        self.exit_code = 128 + signal_number
