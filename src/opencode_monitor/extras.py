"""Packages that only an extra brings: what needs one says so in a line, and what does not starts without it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from opencode_monitor.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def imports_of(extra: str, *, needed_by: str, packages: str) -> Iterator[None]:
    """Say which extra to install where an import within fails.

    Args:
        extra: The extra's name in this package's metadata.
        needed_by: What cannot be done without it, such as `to_polars()`.
        packages: What the extra brings, in words.

    Raises:
        MissingExtraError: An import failed.
    """
    try:
        yield
    except ImportError as error:
        hint = f"Run: pip install 'opencode-monitor-analytics[{extra}]'"
        raise MissingExtraError(f"{needed_by} needs {packages}.", hint=hint) from error
