"""Every error that this package raises on purpose.

```
OpencodeMonitorError            exit code 1
├── UsageError                  exit code 2   the request itself makes no sense
├── SourceError                               OpenCode's data cannot be read
│   └── SourceNotFoundError                   nothing where OpenCode keeps its data
├── DatabaseError
│   ├── DatabaseBusyError       exit code 4   another process holds the file
│   └── SchemaError             exit code 5   missing, behind or ahead of this program
├── NotFoundError                             no such session, or several that match
├── PriceError                                a price that cannot be stored
└── MissingExtraError                         an optional package is not installed; an ImportError too
```

Each is told in one line: what happened, where, and what to do next, which is the hint.
"""

from __future__ import annotations


class OpencodeMonitorError(Exception):
    """Base of every error raised on purpose.

    Args:
        message: What happened, and where.
        hint: What to do next; `str()` of the error says both.

    Attributes:
        exit_code: What the command line exits with.
        code: A stable name of the error, printed with `--json`.
    """

    exit_code = 1
    code = "failed"

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message if hint is None else f"{message} {hint}")
        self.message = message
        self.hint = hint


class UsageError(OpencodeMonitorError):
    """The request itself makes no sense: an unknown date, zone or range."""

    exit_code = 2
    code = "usage"


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


class NotFoundError(OpencodeMonitorError):
    """Nothing, or more than one thing, has the given id."""

    code = "not_found"


class PriceError(OpencodeMonitorError):
    """A price that cannot be stored: negative, absurd, or for an unknown bucket."""

    code = "price_refused"


class MissingExtraError(OpencodeMonitorError, ImportError):
    """A package is not installed that one of the extras brings; the hint says which."""

    code = "extra_missing"
