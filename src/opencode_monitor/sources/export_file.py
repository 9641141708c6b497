"""Read what `opencode export` printed: one session as one JSON object, `{info, messages}`.

Versions 0.6 to 1.18 print `{info, parts}` for each message, 2.x the message itself with a `type` in place of a role. `--sanitize` takes the
texts out and keeps ids, times, tokens and costs. Sub-agents' sessions are not in it. A terminal's log may have a line before the object.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from opencode_monitor.errors import SourceError
from opencode_monitor.sources import shapes, shapes_v2
from opencode_monitor.sources.decode import decode_object, is_storable_id
from opencode_monitor.sources.issues import report
from opencode_monitor.sources.metadata_style import flatten, inline_parts
from opencode_monitor.sources.records import (
    NOTHING_REMEMBERED,
    MessageRecord,
    PartRecord,
    ProjectRecord,
    Rank,
    Remembered,
    SessionBundle,
    SessionRecord,
    SessionStamp,
    SessionTotals,
    SourceIssue,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

_REDACTED = b'"[redacted:'


class ExportSource:
    """A file with one exported session.

    Args:
        path: The file.

    Raises:
        SourceError: It cannot be read, or is no export.
    """

    kind = "export"
    is_shareable = False

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            raw = path.read_bytes()
        except OSError as error:
            raise SourceError(f"{path} cannot be read: {error.strerror}") from error
        data, note = decode_object(raw[max(raw.find(b"{"), 0) :])
        info = data.get("info") if data else None
        if data is None or not isinstance(info, dict) or not is_storable_id(info.get("id")) or not isinstance(data.get("messages"), list):
            reason = note if data is None else "it has no info.id and messages"
            raise SourceError(f"{path} is neither a database nor an export of OpenCode: {reason}")
        self._issues = [] if note is None else [SourceIssue(path.name, note, loaded=True)]
        self._info: dict[str, Any] = info
        self._messages: list[Any] = data["messages"]
        self._session_id: str = info["id"]
        self._signature = hashlib.blake2b(raw, digest_size=16).hexdigest()
        self._rank = Rank.SANITIZED_EXPORT if _REDACTED in raw else Rank.EXPORT

    def stamps(self, remembered: Remembered = NOTHING_REMEMBERED) -> list[SessionStamp]:  # noqa: ARG002 - the file is read by now
        """List the one session.

        Args:
            remembered: Not looked at.

        Returns:
            Its stamp.
        """
        session = self._session([])
        own_parts = (item["parts"] for item in self._messages if isinstance(item, dict) and isinstance(item.get("parts"), list))
        records = 1 + len(self._messages) + sum(len(parts) for parts in own_parts)
        return [SessionStamp(self._session_id, self._signature, records, session.created_ms, session.updated_ms, self._rank)]

    def state(self) -> str | None:
        """Return nothing: the signature of its session says it all."""
        return None

    def projects(self) -> list[ProjectRecord]:
        """Return nothing: an export names its project by id only."""
        return []

    def read(self, session_ids: Iterable[str]) -> Iterator[SessionBundle]:
        """Read the session.

        Args:
            session_ids: Which; any other is passed over.

        Yields:
            Its bundle.
        """
        for session_id in session_ids:
            if session_id == self._session_id:
                yield self._bundle()

    def loose_issues(self) -> list[SourceIssue]:
        """Return what is wrong with the file as a whole."""
        return list(self._issues)

    def damage(self) -> str | None:
        """Return nothing: a file that cannot be read whole is not opened."""
        return None

    def damaged_places(self) -> dict[str, str]:
        """Return nothing, likewise."""
        return {}

    def add_damage(self, places: Mapping[str, str]) -> None:
        """Do nothing: no other reader meets any either.

        Args:
            places: Its `damaged_places`.
        """

    def close(self) -> None:
        """Do nothing: the file is closed."""

    def _session(self, notes: list[str]) -> SessionRecord:
        info = self._info
        location = info.get("location")
        if "directory" not in info and isinstance(location, dict):
            info = {**info, "directory": location.get("directory")}
        project_id = info.get("projectID")
        if project_id is not None and not is_storable_id(project_id):
            notes.append("projectID is not text")
            project_id = None
        return shapes.session_record(info, session_id=self._session_id, project_id=project_id, notes=notes)

    def _bundle(self) -> SessionBundle:
        issues: list[SourceIssue] = []
        notes: list[str] = []
        session = self._session(notes)
        report(issues, "info", notes, loaded=True)
        messages: list[MessageRecord] = []
        parts: list[PartRecord] = []
        inline: set[str] = set()
        is_v2 = False
        for number, item in enumerate(self._messages):
            notes = []
            data = item.get("info", item) if isinstance(item, dict) else item
            loaded = isinstance(data, dict) and is_storable_id(data.get("id"))
            if not loaded:
                notes.append("no message, or without an id; not loaded")
            elif isinstance(data.get("type"), str) and "role" not in data:
                is_v2 = True
                mapped = shapes_v2.message_record(data, message_type=data["type"], message_id=data["id"], session=session, notes=notes)
                if mapped is not None:
                    messages.append(mapped[0])
                    parts += mapped[1]
                    inline.add(data["id"])
            else:
                data = flatten(data, notes)
                messages.append(shapes.message_record(data, message_id=data["id"], session=session, notes=notes))
                parts += self._parts(item, data, inline, notes, issues, number)
            report(issues, f"messages[{number}]", notes, loaded=loaded)
        return SessionBundle(session, messages, parts, issues, self._totals(session) if is_v2 else None, frozenset(inline))

    def _parts(
        self,
        item: dict[str, Any],
        data: dict[str, Any],
        inline: set[str],
        notes: list[str],
        issues: list[SourceIssue],
        number: int,
    ) -> list[PartRecord]:
        listed = item.get("parts", data.get("parts"))
        if not isinstance(listed, list):
            return []
        if listed and not any(isinstance(part, dict) and "messageID" in part for part in listed):
            inline.add(data["id"])
            return inline_parts(listed, message_id=data["id"], session_id=self._session_id, notes=notes)
        parts = []
        for place, part in enumerate(listed):
            of_part: list[str] = []
            record = None
            if isinstance(part, dict) and is_storable_id(part.get("id")):
                record = shapes.part_record(part, part_id=part["id"], message_id=data["id"], session_id=self._session_id, notes=of_part)
            else:
                of_part.append("no part, or without an id; not loaded")
            if record is not None:
                parts.append(record)
            report(issues, f"messages[{number}].parts[{place}]", of_part, loaded=record is not None)
        return parts

    def _totals(self, session: SessionRecord) -> SessionTotals | None:
        tokens = self._info.get("tokens")
        if self._info.get("cost") is None or not isinstance(tokens, dict):
            return None
        is_fork = any(self._info.get(key) is not None for key in ("fork", "forkSessionID", "fork_session_id"))
        return SessionTotals(self._info["cost"], tokens, session.created_ms if is_fork else None)
