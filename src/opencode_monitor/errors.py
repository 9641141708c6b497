"""Every error that this package raises on purpose.

```
OpencodeMonitorError            exit code 1
├── UsageError                  exit code 2   the request itself makes no sense
│   └── ConfigError                           the configuration file says what makes no sense
├── SourceError                               OpenCode's data cannot be read
│   └── SourceNotFoundError                   nothing where OpenCode keeps its data
├── DatabaseError
│   ├── DatabaseBusyError       exit code 4   another process holds the file
│   └── SchemaError             exit code 5   missing, behind or ahead of this program
├── DeliveryError                             a message that a channel did not take
│   └── RefusedError                          this one message, or this address: another may be taken
├── NotFoundError                             no such session, or several that match
├── PriceError                                a price that cannot be stored
│   └── PriceUsageError         exit code 2   it makes no sense whatever is stored; a UsageError too
├── DeclinedError                             a question was not answered with yes
└── MissingExtraError                         an optional package is not installed; an ImportError too
```

Each is told in one line: what happened, where, and what to do next, which is the hint; in several, where several things happened.
"""

from __future__ import annotations

INTERRUPTED = 130
"""What the command line exits with after Ctrl-C, as shells have it."""


class OpencodeMonitorError(Exception):
    """Base of every error raised on purpose.

    Args:
        lines: What happened, and where; several texts where several things did.
        hint: What to do next; `str()` of the error says all of it.

    Attributes:
        exit_code: What the command line exits with.
        code: A stable name of the error, printed with `--json`.
    """

    exit_code = 1
    code = "failed"

    def __init__(self, *lines: str, hint: str | None = None) -> None:
        text = "; ".join(lines)
        super().__init__(text if hint is None else f"{text} {hint}")
        self.lines = lines
        self.hint = hint


class UsageError(OpencodeMonitorError):
    """The request itself makes no sense: an unknown date, zone or range."""

    exit_code = 2
    code = "usage"


class ConfigError(UsageError):
    """The configuration file says what makes no sense, or cannot be read: a line for each mistake."""

    code = "config"


class SourceError(OpencodeMonitorError):
    """OpenCode's data cannot be read."""

    code = "source_unreadable"


class SourceNotFoundError(SourceError):
    """There is no OpenCode data where it was looked for."""

    code = "source_not_found"


class DatabaseError(OpencodeMonitorError):
    """The monitor's own database cannot be used."""

    code = "database_failed"


class DatabaseBusyError(DatabaseError):
    """Another process holds the database file."""

    exit_code = 4
    code = "database_busy"


class SchemaError(DatabaseError):
    """The database is missing, or its revision is not the one that this program needs."""

    exit_code = 5
    code = "schema_out_of_date"


class DeliveryError(OpencodeMonitorError):
    """Messages that a channel did not take: a line for each."""

    code = "delivery_failed"


class RefusedError(DeliveryError):
    """The receiver answered, and does not take this message or has no such address: another message may be taken."""


class NotFoundError(OpencodeMonitorError):
    """Nothing, or more than one thing, has the given id."""

    code = "not_found"


class PriceError(OpencodeMonitorError):
    """A price, or a word on the bill, that cannot be stored: it makes no sense, or contradicts what is there."""

    code = "price_refused"


class PriceUsageError(PriceError, UsageError):
    """A price, or a word on the bill, that makes no sense whatever is stored: negative, absurd, or for an unknown bucket."""


class DeclinedError(OpencodeMonitorError):
    """A question was not answered with yes: nothing was changed.

    Args:
        hint: What to do next.
        is_interrupted: Whether Ctrl-C was the answer, which has an exit code of its own.
    """

    code = "declined"

    def __init__(self, *, hint: str | None = None, is_interrupted: bool = False) -> None:
        super().__init__("Nothing was changed.", hint=hint)
        if is_interrupted:
            self.exit_code = INTERRUPTED


class MissingExtraError(OpencodeMonitorError, ImportError):
    """A package is not installed that one of the extras brings; the hint says which."""

    code = "extra_missing"
