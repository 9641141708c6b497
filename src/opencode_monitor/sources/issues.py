"""How a record's notes become an issue."""

from __future__ import annotations

from opencode_monitor.sources.records import SourceIssue


def report(issues: list[SourceIssue], record: str, notes: list[str], *, loaded: bool) -> None:
    """Make one issue of a record's notes, if there are any."""
    if notes:
        issues.append(SourceIssue(record, "; ".join(notes), loaded))
