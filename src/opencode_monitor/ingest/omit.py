"""What `import --no-content` leaves out of a session's rows: texts. Names, paths, titles, times, tokens and sizes stay. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from opencode_monitor.ingest.rows import OmittedTextRow
from opencode_monitor.ingest.values import as_json, as_object

if TYPE_CHECKING:
    from opencode_monitor.ingest.mapping import SessionRows

TEXT_COLUMNS = {
    "parts": frozenset({"content"}),
    "text_messages": frozenset({"content"}),
    "tool_calls": frozenset({"tool_args", "tool_result"}),
    "file_operations": frozenset({"git_diff"}),
    "errors": frozenset({"error_data", "error_message"}),
}
"""The columns that hold texts, by table: an import without content leaves them as they are in rows that are stored already."""

_EXTRA_WITHOUT_TEXT = ("synthetic", "ignored", "pruned_at_ms", "exit_code")
_ERROR_FACTS = ("statusCode", "isRetryable")  # what the estimates of unrecorded calls, and readers, tell errors apart by


def leave_out_texts(session: SessionRows) -> None:
    """Take the texts out of a session's rows, and note how long they were: carried costs are shared by that.

    A text that may not be NULL becomes empty. Of an error its name and status stay, of what belongs to no table what is known to be no
    text; a tool's own title of a call may be its command, and goes.

    Args:
        session: Its rows, which are changed.
    """
    rows: dict[str, list[Any]] = session.rows
    written: dict[str, int] = {row.part_id: len(row.content) for row in rows["text_messages"]}
    output: dict[str, int] = {}
    failed = {row.part_id: len(row.error_message or "") for row in rows["errors"]}
    for row in rows["parts"]:
        if row.content:
            written[row.part_id] = len(row.content)
    for row in rows["tool_calls"]:
        written[row.part_id] = len(row.tool_args or "")
        output[row.part_id] = failed.get(row.part_id, 0) if row.tool_result is None else len(row.tool_result)
    # A part with only an error is among them too, so that all tell that something was left out.
    omitted = {**written, **output, **failed}
    session.rows["omitted_texts"] = [
        OmittedTextRow(part_id, session.session_id, written.get(part_id, 0), output.get(part_id, 0)) for part_id in omitted
    ]
    session.rows["parts"] = [
        row if row.content is None and row.extra is None else row._replace(content=None, extra=_without_text(row.extra))
        for row in rows["parts"]
    ]
    session.rows["text_messages"] = [row._replace(content="") for row in rows["text_messages"]]
    session.rows["tool_calls"] = [row._replace(tool_args=None, tool_result=None) for row in rows["tool_calls"]]
    session.rows["file_operations"] = [row if row.git_diff is None else row._replace(git_diff=None) for row in rows["file_operations"]]
    session.rows["errors"] = [row._replace(error_data=_facts_of(row.error_data), error_message=None) for row in rows["errors"]]


def _without_text(extra: str | None) -> str | None:
    # Most hold a title only: decoding all of them to find that out took a fiftieth of an import.
    if extra is None or not any(key in extra for key in _EXTRA_WITHOUT_TEXT):
        return None
    values = msgspec.json.decode(extra)
    kept = {key: values[key] for key in _EXTRA_WITHOUT_TEXT if isinstance(values.get(key), bool | int)}
    return as_json(kept) if kept else None


def _facts_of(error: str) -> str:
    stored = as_object(msgspec.json.decode(error))
    name = stored.get("name")
    data = as_object(stored.get("data"))
    facts = {key: data[key] for key in _ERROR_FACTS if isinstance(data.get(key), bool | int)}
    return as_json(({"name": name} if isinstance(name, str) else {}) | ({"data": facts} if facts else {}))
