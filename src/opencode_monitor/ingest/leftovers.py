"""Parts whose message is gone, in a tree that lies beside the database which took it over: they belong to the session read from there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opencode_monitor.sources.records import PartRecord, SessionBundle, SourceIssue

LeftParts = tuple[list["PartRecord"], list["SourceIssue"]]
"""The parts of a session that a source holds without their message, and what is wrong with them."""


def with_leftovers(bundle: SessionBundle, leftovers: Sequence[LeftParts]) -> SessionBundle:
    """Add to a session the parts that only other sources hold.

    Args:
        bundle: The session, as its source has it.
        leftovers: What each of the others holds.
    """
    if not leftovers:
        return bundle
    parts, issues = list(bundle.parts), list(bundle.issues)
    known = {part.part_id for part in parts}
    messages = {message.message_id for message in bundle.messages}
    for orphans, of_orphans in leftovers:
        parts += [part for part in orphans if part.part_id not in known and part.message_id not in messages]
        known.update(part.part_id for part in orphans)
        issues += of_orphans
    return msgspec.structs.replace(bundle, parts=parts, issues=issues)
