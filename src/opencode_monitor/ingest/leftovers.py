"""Parts whose message is gone, where the reader of their session does not find them itself.

They lie in a tree beside the database which took it over, and belong to the session read from there; or in the session's own tree, of which
another process reads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opencode_monitor.sources.records import PartRecord, SessionBundle, SourceIssue

LeftParts = tuple[list["PartRecord"], list["SourceIssue"]]
"""The parts of a session that a source holds without their message, and what is wrong with them."""


def with_orphans(bundle: SessionBundle, orphans: LeftParts | None) -> SessionBundle:
    """Add to a session its source's own parts without a message, as the source itself does; one whose id comes twice is told of later.

    Args:
        bundle: The session, as its source has it without them.
        orphans: The parts, if there are any; by now, the message of one can be there.
    """
    if orphans is None:
        return bundle
    messages = {message.message_id for message in bundle.messages}
    parts, issues = orphans
    own = [part for part in parts if part.message_id not in messages]
    return msgspec.structs.replace(bundle, parts=[*bundle.parts, *own], issues=[*bundle.issues, *issues])


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
