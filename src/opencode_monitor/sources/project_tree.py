"""Read the JSON trees of OpenCode 0.0 to 0.5, one for each project.

```
project/<dir>/storage/session/info/<session>.json
project/<dir>/storage/session/message/<session>/<message>.json
project/<dir>/storage/session/part/<session>/<message>/<part>.json
```

`<dir>` is the project's path with `-` for its separators. Until 0.2.35 a message held its parts inside; of an upgraded tree, both forms can
be there. OpenCode 0.6 copied the trees into one and left them lying, but for projects whose directory was gone: those sessions are nowhere
else. Messages that OpenCode could not convert lie in `broken/`, and are not read: nothing is known of their shape.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from opencode_monitor.sources import shapes
from opencode_monitor.sources.json_tree import JsonTreeSource
from opencode_monitor.sources.metadata_style import flatten, inline_parts
from opencode_monitor.sources.records import (
    MessageRecord,
    PartRecord,
    ProjectRecord,
    Rank,
    SessionBundle,
    SessionRecord,
    SourceIssue,
)
from opencode_monitor.sources.tree_files import Entry, load_object, stem

if TYPE_CHECKING:
    from pathlib import Path

_SESSIONS, _PARTS = "session/info", "session/part"


class ProjectTreeSource(JsonTreeSource):
    """The `storage` directory of one project of OpenCode 0.0 to 0.5.

    Args:
        path: The `storage` directory.
    """

    kind = "json-project"
    _rank = Rank.PROJECT_TREE
    _sessions_at = _SESSIONS
    _messages_at = "session/message"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._project_id = path.resolve().parent.name.encode("utf-8", "replace").decode()

    def _projects(self, issues: list[SourceIssue]) -> list[ProjectRecord]:  # noqa: ARG002 - nothing here can be wrong
        """Make the project from its directory's name, and the path that its first answer tells."""
        return [ProjectRecord(self._project_id, self._worktree(), None, None, None, None)]

    def _worktree(self) -> str | None:
        for session_id in self._directories(self._messages_at, []):
            for entry in self._records(f"{self._messages_at}/{session_id}", []):
                root = _path(load_object(entry, []) or {}, "root")
                if root is not None:
                    return root
        return None

    def _session_files(self, issues: list[SourceIssue]) -> dict[str, list[tuple[str, Entry]]]:
        return {stem(entry): [(self._project_id, entry)] for entry in self._records(_SESSIONS, issues)}

    def _session_place(self, project_id: str, entry: Entry) -> str:  # noqa: ARG002 - there is one
        return f"{_SESSIONS}/{entry.name}"

    def _part_directory(self, session_id: str, message_id: str) -> str:
        return f"{_PARTS}/{session_id}/{message_id}"

    def _orphans(self, issues: list[SourceIssue]) -> dict[str, list[tuple[str, Entry]]]:
        orphans: dict[str, list[tuple[str, Entry]]] = {}
        for session_id in self._directories(_PARTS, issues):
            messages = {stem(entry) for entry in self._records(f"{self._messages_at}/{session_id}", [])}
            for message_id in self._directories(f"{_PARTS}/{session_id}", issues):
                if message_id not in messages:
                    entries = self._records(self._part_directory(session_id, message_id), issues)
                    orphans.setdefault(session_id, []).extend((message_id, entry) for entry in entries)
        return {session_id: entries for session_id, entries in orphans.items() if not self._hides_messages(session_id)}

    def _bundle(self, session_id: str, files: list[tuple[str, Entry]], orphans: list[tuple[str, Entry]]) -> SessionBundle | None:
        self._directory: str | None = None
        bundle = super()._bundle(session_id, files, orphans)
        if bundle is None or bundle.session.directory is not None:
            return bundle
        return msgspec.structs.replace(bundle, session=msgspec.structs.replace(bundle.session, directory=self._directory))

    def _message(
        self, data: dict[str, Any], message_id: str, session: SessionRecord, notes: list[str]
    ) -> tuple[MessageRecord, list[PartRecord] | None]:
        data = flatten(data, notes)
        self._directory = self._directory or _path(data, "cwd")
        parts = data.get("parts")
        own_parts = None
        if isinstance(parts, list):
            own_parts = inline_parts(parts, message_id=message_id, session_id=session.session_id, notes=notes)
        elif parts is not None:
            notes.append("parts is not a list")
        return shapes.message_record(data, message_id=message_id, session=session, notes=notes), own_parts


def _path(data: dict[str, Any], key: str) -> str | None:
    """Return where a message of a model was made: `root` is the project's directory, `cwd` the one it worked in."""
    path = flatten(data, []).get("path")
    value = path.get(key) if isinstance(path, dict) else None
    return value if isinstance(value, str) else None
