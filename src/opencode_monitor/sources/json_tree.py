"""Read the JSON tree of OpenCode 0.6 to 1.1.

```
storage/project/<project>.json
storage/session/<project>/<session>.json
storage/message/<session>/<message>.json
storage/part/<message>/<part>.json
```

A record's place gives its ids; those inside it may be stale. OpenCode 1.2 and later copied the tree into a database
and left it lying. Other folders of `storage/` hold file bodies, to-do lists and sharing secrets; they are not opened.
Source: OpenCode's `packages/opencode/src/storage/storage.ts`.
"""

from __future__ import annotations

import hashlib
import os
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import msgspec

from opencode_monitor.errors import SourceError
from opencode_monitor.sources import shapes
from opencode_monitor.sources.decode import is_storable_id
from opencode_monitor.sources.ids import message_id_time_ms, session_id_time_ms
from opencode_monitor.sources.issues import report
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
    SourceIssue,
)
from opencode_monitor.sources.tree_files import (
    SUFFIX,
    Entry,
    fingerprint,
    is_directory,
    load_object,
    printable,
    signature_of,
    states_in,
    status_of,
    stem,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

_DAY_MS = 86_400_000
_REST_MS = 600_000
"""A session is at rest when none of its files has changed for this long: an answer that is cut off can have been written to until then, and
the parts of a tree that is being copied can come so much later than their messages."""
_SETTLED_MS = 10_000
"""A directory is settled when no file has come into it for this long: one that was being written is whole by then."""
_LOOKERS = 2
_ORPHAN = "part of a session that is no longer stored; not loaded"


class TreeState(msgspec.Struct, frozen=True):
    """What a tree's reader wants to be reminded of.

    Attributes:
        at_ms: When the tree was looked at, in Unix milliseconds.
        owners: For parts whose message is gone, by its id: a signature of their files, and their session.
    """

    at_ms: int = 0
    owners: dict[str, tuple[str, str]] = {}

    @classmethod
    def parse(cls, text: str | None) -> TreeState:
        """Read what `as_text` wrote; nothing is known where it is something else."""
        try:
            return msgspec.json.decode(text or "{}", type=cls)
        except msgspec.MsgspecError:
            return cls()

    def as_text(self) -> str:
        """Write it down."""
        return msgspec.json.encode(self).decode()


class JsonTreeSource:
    """The `storage` directory of OpenCode 0.6 to 1.1.

    Args:
        path: The `storage` directory.
    """

    kind = "json"
    is_shareable = True
    _rank = Rank.JSON_TREE
    _sessions_at = "session"
    _messages_at = "message"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._root = str(path)
        self._looked_at_ms = 0
        self._owners: dict[str, tuple[str, str]] = {}
        self._orphans_found: tuple[dict[str, list[tuple[str, Entry]]], list[SourceIssue]] | None = None
        self._unlisted: dict[str, str] = {}  # each directory that cannot be listed, and why

    def stamps(self, remembered: Remembered = NOTHING_REMEMBERED) -> list[SessionStamp]:
        """List the sessions by the names, sizes and times of their files.

        OpenCode writes a part anew in its place while the part's message is being made, and then the message. So of a session that had been
        at rest when it was last looked at, the parts' files are looked at only if a message, the session or a name has changed; and on one
        day of the week all the same, in case something else has been at work. Of one that has only just come, but was made days before, as
        in a copy, the directories of the parts are looked at, and the files where one of these has changed.

        Args:
            remembered: What is known from then; of sessions that are stored in a better form, only parts without a message are looked at.

        Returns:
            One stamp for each session that has a file, or messages. `created_ms` is read from the session's id.

        Raises:
            SourceError: The tree itself cannot be listed.
        """
        self._require_root()
        looked = TreeState.parse(remembered.state)
        self._owners = dict(looked.owners)
        self._looked_at_ms = time.time_ns() // 1_000_000
        files = self._session_files([])
        session_ids = sorted({*files, *self._directories(self._messages_at, [])})
        orphans = self._known_orphans([])

        def stamp(session_id: str) -> SessionStamp | None:
            found = look_at(session_id)
            if found is None or session_id not in orphans:
                return found
            return msgspec.structs.replace(found, orphans=signature_of([entry for _, entry in orphans[session_id]]))

        def look_at(session_id: str) -> SessionStamp | None:
            known = remembered.stamps.get(session_id)
            if remembered.elsewhere.get(session_id, 0) > self._rank:
                return known or SessionStamp(session_id, "", 0, None, None, self._rank)
            if _is_turn_of(session_id, self._looked_at_ms):
                known = None
            return self._stamp(session_id, files.get(session_id, []), orphans.get(session_id, []), known, looked.at_ms)

        # Asking for the state of 200,000 files is the system's work, without Python's lock.
        with ThreadPoolExecutor(_LOOKERS) as pool:
            return [found for found in pool.map(stamp, session_ids) if found]

    def state(self) -> str | None:
        """Return when the tree was looked at, and whose the parts are whose message is gone: to tell it, they have to be read."""
        return TreeState(self._looked_at_ms, self._owners).as_text()

    def projects(self) -> list[ProjectRecord]:
        """Read all projects; those that cannot be read are among the loose issues.

        Returns:
            The projects by id.
        """
        return self._projects([])

    def read(self, session_ids: Iterable[str]) -> Iterator[SessionBundle]:
        """Read whole sessions.

        Args:
            session_ids: Which, in the order wanted. One that is no longer there is passed over.

        Yields:
            A bundle for each: messages by time and id, parts by message and id. Parts whose message was deleted are
            among them: they were billed.
        """
        files = self._session_files([])
        orphans = self._known_orphans([])
        for session_id in session_ids:
            bundle = self._bundle(session_id, files.get(session_id, []), orphans.get(session_id, []))
            if bundle is not None:
                yield bundle

    def leave_orphans(self) -> None:
        """Have `read` leave out the parts without a message: to find them, the whole tree has to be listed."""
        self._orphans_found = {}, []

    def orphans(self, session_id: str) -> tuple[list[PartRecord], list[SourceIssue]]:
        """Read the parts of a session whose message is gone, and what is wrong with them.

        Args:
            session_id: The session.
        """
        issues: list[SourceIssue] = []
        entries = self._known_orphans([]).get(session_id, [])
        parts = [part for message_id, entry in entries for part in self._parts(message_id, session_id, [entry], issues)]
        return parts, issues

    def loose_issues(self) -> list[SourceIssue]:
        """List what cannot be read and belongs to no session.

        Returns:
            Unreadable projects and directories, names that are no ids, and of the parts whose message is gone those that
            cannot be read or name no stored session.
        """
        issues: list[SourceIssue] = []
        self._projects(issues)
        sessions = self._session_files(issues).keys() | set(self._directories(self._messages_at, []))
        for session_id, entries in self._known_orphans(issues).items():
            if session_id not in sessions and not self._unlisted:
                issues += [
                    SourceIssue(f"{self._part_directory(session_id, message_id)}/{entry.name}", _ORPHAN) for message_id, entry in entries
                ]
        return issues

    def damage(self) -> str | None:
        """Tell of the directories that cannot be listed, in one line; None if all can."""
        if not self._unlisted:
            return None
        (directory, reason), *others = sorted(self._unlisted.items())
        more = f" and {len(others):,} more cannot be listed" if others else " cannot be listed"
        return f"{self._root}/{directory}{more} ({reason}); what can be read is loaded. Make it readable, and import again"

    def damaged_places(self) -> dict[str, str]:
        """Return the directories that cannot be listed, and why."""
        return dict(self._unlisted)

    def add_damage(self, places: Mapping[str, str]) -> None:
        """Take for met what another reader of the tree has met.

        Args:
            places: Its `damaged_places`.
        """
        self._unlisted |= places

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def _require_root(self) -> None:
        try:
            os.scandir(self._root).close()
        except OSError as error:
            raise SourceError(f"{self._root} cannot be listed: {error.strerror}. Import again when it can be read") from error

    def _hides_sessions(self) -> bool:
        """Tell whether a session can have a file in a directory that cannot be listed: then nothing is made of its messages alone."""
        return any(f"{directory}/".startswith(f"{self._sessions_at}/") for directory in self._unlisted)

    def _hides_messages(self, session_id: str) -> bool:
        """Tell whether messages of a session cannot be seen: then its parts may only seem to have none."""
        return not self._unlisted.keys().isdisjoint((self._messages_at, f"{self._messages_at}/{session_id}"))

    def _part_directory(self, session_id: str, message_id: str) -> str:  # noqa: ARG002 - in older trees the session is a part of it
        return f"part/{message_id}"

    def _projects(self, issues: list[SourceIssue]) -> list[ProjectRecord]:
        projects = []
        for entry in self._records("project", issues):
            notes: list[str] = []
            data = load_object(entry, notes)
            if data is not None:
                project_id = stem(entry)
                shapes.note_other_ids(data, {"id": project_id}, notes)
                projects.append(shapes.project_record(data, project_id=project_id, notes=notes))
            report(issues, f"project/{entry.name}", notes, loaded=data is not None)
        return projects

    def _known_orphans(self, issues: list[SourceIssue]) -> dict[str, list[tuple[str, Entry]]]:
        """Look for orphans once in the reader's life."""
        if self._orphans_found is None:
            found: list[SourceIssue] = []
            self._orphans_found = self._orphans(found), found
        issues += self._orphans_found[1]
        return self._orphans_found[0]

    def _orphans(self, issues: list[SourceIssue]) -> dict[str, list[tuple[str, Entry]]]:
        """Map each session to the parts, with their message ids, whose message is stored nowhere: only they say whose they are."""
        messages: set[str] = set()
        for session_id in self._directories("message", issues):
            # A directory that cannot be listed is an issue of its session.
            messages.update(entry.name for entry in self._entries(f"message/{session_id}", []))
        if self._messages_at in self._unlisted:
            return {}
        orphans: dict[str, list[tuple[str, Entry]]] = {}
        # Of 40,000 directories hardly one is asked for more than its name.
        left = [entry for entry in self._entries("part", issues) if entry.name + SUFFIX not in messages]
        for message_id in sorted(entry.name for entry in left if is_directory(entry)):
            entries = self._records(f"part/{message_id}", issues)
            signature = signature_of(entries)
            known = self._owners.get(message_id)
            if known is not None and known[0] == signature:
                orphans.setdefault(known[1], []).extend((message_id, entry) for entry in entries)
                continue
            owners = set()
            for entry in entries:
                notes: list[str] = []
                data = load_object(entry, notes)
                if data is None:
                    report(issues, f"part/{message_id}/{printable(entry.name)}", notes, loaded=False)
                else:
                    owner = data.get("sessionID")
                    owner = owner if isinstance(owner, str) else ""
                    orphans.setdefault(owner, []).append((message_id, entry))
                owners.add(None if data is None else owner)
            if len(owners) == 1 and (only := owners.pop()) is not None:
                self._owners[message_id] = (signature, only)
        return {session_id: entries for session_id, entries in orphans.items() if not self._hides_messages(session_id)}

    def _session_files(self, issues: list[SourceIssue]) -> dict[str, list[tuple[str, Entry]]]:
        """Map each session to its files, each with its project: more than one if it was moved between projects."""
        files: dict[str, list[tuple[str, Entry]]] = {}
        for project_id in self._directories("session", issues):
            for entry in self._records(f"session/{project_id}", issues):
                files.setdefault(stem(entry), []).append((project_id, entry))
        return files

    def _stamp(
        self,
        session_id: str,
        files: list[tuple[str, Entry]],
        orphans: list[tuple[str, Entry]],
        known: SessionStamp | None,
        known_at_ms: int,
    ) -> SessionStamp | None:
        """Make a session's stamp; its signature begins with what the session and its messages tell, as only that may be compared.

        Args:
            session_id: The session.
            files: Its own files.
            orphans: Parts of it without a message.
            known: Its stamp of the last time, which holds where nothing can have changed since.
            known_at_ms: When that was, in Unix milliseconds.
        """
        digest = hashlib.blake2b(digest_size=16)
        problems: list[SourceIssue] = []
        messages = self._records(f"{self._messages_at}/{session_id}", problems)
        if not files and ((not messages and not problems) or self._hides_sessions()):
            return None
        records = 1 if files else 0
        updated_ms = came_ms = 0
        for project_id, entry in files:
            digest.update(f"{project_id}\n".encode())
            updated_ms = max(updated_ms, fingerprint(digest, [entry])[0])
        created_ms = session_id_time_ms(session_id, updated_ms) if updated_ms else None
        for entries in (messages, [entry for _, entry in orphans]):
            records += len(entries)
            latest_ms, latest_came_ms = fingerprint(digest, entries)
            updated_ms, came_ms = max(updated_ms, latest_ms), max(came_ms, latest_came_ms)
        quick = digest.hexdigest()
        if known is not None and known.signature.startswith(quick):
            is_at_rest = max(known.updated_ms or known_at_ms, came_ms) < known_at_ms - _REST_MS
            if is_at_rest or all(self._is_settled(session_id, stem(message), known_at_ms) for message in messages):
                return known
        latest_ns = 0
        for message in messages:
            states = states_in(f"{self._root}/{self._part_directory(session_id, stem(message))}")
            digest.update(repr(states).encode("utf-8", "surrogateescape"))
            records += len(states)
            for _, changed_ns, _ in states:
                latest_ns = max(latest_ns, changed_ns)
        updated_ms = max(updated_ms, latest_ns // 1_000_000)
        return SessionStamp(session_id, quick + digest.hexdigest(), records, created_ms, updated_ms or None, self._rank)

    def _is_settled(self, session_id: str, message_id: str, at_ms: int) -> bool:
        """Tell whether a message was no more at work at a time, and no part has come or gone since: its parts are as they were."""
        made_ms = message_id_time_ms(message_id, at_ms)
        if made_ms is None or abs(at_ms - made_ms) < _DAY_MS:
            return False
        directory = f"{self._root}/{self._part_directory(session_id, message_id)}"
        for place in (directory, os.path.dirname(directory)):  # noqa: PTH120 - of 40,000 of them
            try:
                status = os.stat(place)  # noqa: PTH116 - as above
            except FileNotFoundError:
                continue  # if it was there, it went from the one above
            except OSError:
                return False
            return max(status.st_mtime_ns, status.st_ctime_ns) // 1_000_000 < at_ms - _SETTLED_MS
        return False

    def _bundle(self, session_id: str, files: list[tuple[str, Entry]], orphans: list[tuple[str, Entry]]) -> SessionBundle | None:
        issues: list[SourceIssue] = []
        entries = self._records(f"{self._messages_at}/{session_id}", issues)
        if not files and not entries and not issues:
            return None
        session = self._session(session_id, files, issues)
        messages: list[MessageRecord] = []
        parts: list[PartRecord] = []
        inline: set[str] = set()
        for entry in entries:
            message_id, notes = stem(entry), list[str]()
            part_entries = self._records(self._part_directory(session_id, message_id), issues)
            data = load_object(entry, notes)
            if data is not None:
                shapes.note_other_ids(data, {"id": message_id, "sessionID": session_id}, notes)
                message, own_parts = self._message(data, message_id, session, notes)
                messages.append(message)
                if own_parts is not None and not part_entries:
                    inline.add(message_id)
                    parts += own_parts
            report(issues, f"{self._messages_at}/{session_id}/{entry.name}", notes, loaded=data is not None)
            parts += self._parts(message_id, session_id, part_entries, issues)
        for message_id, entry in orphans:
            parts += self._parts(message_id, session_id, [entry], issues)
        messages.sort(key=lambda message: (message.created_ms or 0, message.message_id))
        return SessionBundle(session, messages, parts, issues, inline=frozenset(inline))

    def _message(
        self, data: dict[str, Any], message_id: str, session: SessionRecord, notes: list[str]
    ) -> tuple[MessageRecord, list[PartRecord] | None]:
        """Map a message, and the parts inside it where they lie there."""
        return shapes.message_record(data, message_id=message_id, session=session, notes=notes), None

    def _session(self, session_id: str, files: list[tuple[str, Entry]], issues: list[SourceIssue]) -> SessionRecord:
        if not files:
            issues.append(SourceIssue(f"{self._messages_at}/{session_id}", "its session file is missing", loaded=True))
            return shapes.session_stub(session_id, None)
        *older, (project_id, entry) = sorted(files, key=_age)
        for other_project, other in older:
            reason = f"the session is stored under project {project_id} too; the newer file is read"
            issues.append(SourceIssue(self._session_place(other_project, other), reason))
        notes: list[str] = []
        data = load_object(entry, notes)
        if data is None:
            session = shapes.session_stub(session_id, project_id)
        else:
            shapes.note_other_ids(data, {"id": session_id}, notes)
            session = shapes.session_record(data, session_id=session_id, project_id=project_id, notes=notes)
        report(issues, self._session_place(project_id, entry), notes, loaded=data is not None)
        return session

    def _session_place(self, project_id: str, entry: Entry) -> str:
        return f"session/{project_id}/{entry.name}"

    def _parts(self, message_id: str, session_id: str, entries: list[Entry], issues: list[SourceIssue]) -> list[PartRecord]:
        parts = []
        for entry in entries:
            part_id, notes = stem(entry), list[str]()
            part: PartRecord | None = None
            data = load_object(entry, notes)
            if data is not None:
                expected = {"id": part_id, "messageID": message_id, "sessionID": session_id}
                shapes.note_other_ids(data, expected, notes)
                part = shapes.part_record(data, part_id=part_id, message_id=message_id, session_id=session_id, notes=notes)
                if part is not None:
                    parts.append(part)
            report(issues, f"{self._part_directory(session_id, message_id)}/{entry.name}", notes, loaded=part is not None)
        return parts

    def _records(self, directory: str, issues: list[SourceIssue]) -> list[Entry]:
        """List the `.json` entries of a directory by id."""
        entries = [entry for entry in self._entries(directory, issues) if entry.name.endswith(SUFFIX)]
        if len(entries) > 1:
            entries.sort(key=stem)
        return entries

    def _directories(self, directory: str, issues: list[SourceIssue]) -> list[str]:
        """List the directories inside a directory."""
        return sorted(entry.name for entry in self._entries(directory, issues) if is_directory(entry))

    def _entries(self, directory: str, issues: list[SourceIssue]) -> list[Entry]:
        try:
            with os.scandir(f"{self._root}/{directory}") as scan:
                entries = list(scan)
        except FileNotFoundError:
            return []
        except OSError as error:
            self._unlisted[directory] = error.strerror or type(error).__name__
            issues.append(SourceIssue(directory, f"cannot be listed: {error.strerror}"))
            return []
        if not entries or is_storable_id("".join([entry.name for entry in entries])):
            return entries
        issues += [
            SourceIssue(f"{directory}/{printable(entry.name)}", "its name is not UTF-8; not loaded")
            for entry in entries
            if not is_storable_id(entry.name)
        ]
        return [entry for entry in entries if is_storable_id(entry.name)]


def _is_turn_of(session_id: str, at_ms: int) -> bool:
    """Tell whether it is the day of the week on which a session is looked at in any case."""
    return zlib.crc32(session_id.encode()) % 7 == at_ms // _DAY_MS % 7


def _age(file: tuple[str, Entry]) -> tuple[int, str]:
    project_id, entry = file
    status = status_of(entry)
    return (status.st_mtime_ns if status else 0), project_id
