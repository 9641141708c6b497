"""Which files a tool call read, wrote, edited or deleted. Pure: no input, no output.

OpenCode's tools name their files in ever other forms: `filePath` in 1.x, `path` in 2.x, a patch's text with several files in it, or what a
tool left in its metadata. What a shell command does to files is not in the data. Tools of other makers count where the user declares them.
"""

from __future__ import annotations

import ntpath
import posixpath
import re
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

OPERATIONS = ("read", "write", "edit", "delete")
"""What a tool can do to a file."""

_OPERATION_BY_TOOL = {
    "read": "read",
    "edit": "edit",
    "multiedit": "edit",
    "write": "write",
    "delete": "delete",
}
_PATCH_TOOLS = frozenset({"patch", "apply_patch"})
_PATH_KEYS = ("filePath", "path", "file_path", "filepath")
_PATHS_KEYS = ("filePaths", "paths", "file_paths", "files")
_PATCH_KEYS = ("patchText", "patch", "input")

# OpenCode's form of a patch: `packages/opencode/src/patch/index.ts`.
_SECTION = re.compile(r"^\*\*\* (Add|Update|Delete) File: (.+)$", re.MULTILINE)
_MOVE = re.compile(r"\s*^\*\*\* Move to: (.+)$", re.MULTILINE)
_OPERATION_BY_VERB = {"Add": "write", "Update": "edit", "Delete": "delete"}
# What a patch tool's metadata call the same: `type` in 1.x, `status` in 2.x.
_OPERATION_BY_KIND = {
    "add": "write",
    "added": "write",
    "update": "edit",
    "modified": "edit",
    "move": "edit",
    "delete": "delete",
    "deleted": "delete",
}
_FILE_OF_DIFF = re.compile(r"^(?=Index: )", re.MULTILINE)
_WINDOWS_ROOT = re.compile(r"[A-Za-z]:[\\/]|\\\\")
_NONE: Mapping[str, str] = {}


class TouchedFile(NamedTuple):
    """One file that a tool call touched.

    Attributes:
        diff: The change as a diff. Of a patch that does not say which part of it belongs to which file, the first file has the whole.
        size: How many bytes the file has after it was written, where the call says it.
    """

    path: str
    operation: str
    diff: str | None
    size: int | None


class _Change(NamedTuple):
    """One file of a patch."""

    path: str
    operation: str
    moved_to: str | None = None
    diff: str | None = None
    size: int | None = None


def touched_files(
    tool: str,
    tool_input: Mapping[str, Any],
    metadata: Mapping[str, Any],
    *,
    directory: str | None = None,
    declared: Mapping[str, str] = _NONE,
) -> list[TouchedFile]:
    """List the files that a tool call touched; of a failed call, those that it was to touch.

    Args:
        tool: The tool's name.
        tool_input: What the model passed to it.
        metadata: What the tool left about its work.
        directory: Where the session works: what its relative paths are relative to. Where it is unknown they stay as they are.
        declared: Other tools that work on files -> what they do to them.
    """
    operation = _OPERATION_BY_TOOL.get(tool) or declared.get(tool)
    if operation is not None:
        paths = _paths(tool_input)
        if not paths:
            return []
        diff, size = _written(metadata)
        if size is None and operation == "write":
            size = _size(tool_input.get("content"))
        first = TouchedFile(_absolute(paths[0], directory), operation, diff, size)
        return [first, *(TouchedFile(_absolute(path, directory), operation, None, None) for path in paths[1:])]
    if tool in _PATCH_TOOLS:
        return [file for change in _changes(tool_input, metadata) for file in _files_of(change, directory)]
    return []


def _paths(tool_input: Mapping[str, Any]) -> list[str]:
    for key in _PATH_KEYS:
        path = tool_input.get(key)
        if path:
            return [path] if isinstance(path, str) else []
    for key in _PATHS_KEYS:
        paths = tool_input.get(key)
        if isinstance(paths, list):
            return list(dict.fromkeys(path for path in paths if isinstance(path, str) and path))
    return []


def _written(metadata: Mapping[str, Any]) -> tuple[str | None, int | None]:
    """Return the diff of a change of one file and its size after it, where the tool left them."""
    results = metadata.get("results")
    if isinstance(results, list):  # of multiedit: one for each of its edits
        written = [_written(result) for result in results if isinstance(result, dict)]
        return "\n".join(diff for diff, _ in written if diff) or None, written[-1][1] if written else None
    files = metadata.get("files")
    file = metadata.get("filediff") or (files[0] if isinstance(files, list) and files else None)
    file = file if isinstance(file, dict) else {}
    return _text(metadata.get("diff")) or _text(file.get("patch")), _size(file.get("after"))


def _changes(tool_input: Mapping[str, Any], metadata: Mapping[str, Any]) -> list[_Change]:
    """List the files of a patch: what its text says is to be done, and with what the tool says was done."""
    text = next((value for key in _PATCH_KEYS if isinstance(value := tool_input.get(key), str)), "")
    asked = list(_sections(text))
    files = metadata.get("files")
    done = [change for file in files if isinstance(file, dict) and (change := _done(file))] if isinstance(files, list) else []
    if not asked:
        changes = done
    elif len(done) == len(asked):
        # In the same order. A file's size after an edit is only in the metadata of some versions.
        changes = [ask._replace(diff=do.diff, size=ask.size if do.size is None else do.size) for ask, do in zip(asked, done, strict=True)]
    else:
        changes = asked
    diff = _text(metadata.get("diff"))
    if not diff or any(change.diff for change in changes):
        return changes
    pieces = [piece for piece in _FILE_OF_DIFF.split(diff) if piece.strip()]
    if len(pieces) != len(changes):
        pieces = [diff]
    return [change._replace(diff=piece) for change, piece in zip(changes, pieces, strict=False)] + changes[len(pieces) :]


def _sections(text: str) -> Iterator[_Change]:
    headers = list(_SECTION.finditer(text))
    for number, header in enumerate(headers):
        verb, path = header.groups()
        end = headers[number + 1].start() if number + 1 < len(headers) else len(text)
        moved = _MOVE.match(text, header.end()) if verb == "Update" else None
        size = _size(_added(text[header.end() : end])) if verb == "Add" else None
        yield _Change(path.strip(), _OPERATION_BY_VERB[verb], moved.group(1).strip() if moved else None, None, size)


def _added(body: str) -> str:
    """Return the text of a file that a patch adds."""
    return "".join(f"{line[1:]}\n" for line in body.splitlines() if line.startswith("+"))


def _done(file: Mapping[str, Any]) -> _Change | None:
    path = _text(file.get("filePath")) or _text(file.get("file")) or _text(file.get("relativePath"))
    operation = _OPERATION_BY_KIND.get(_text(file.get("type")) or _text(file.get("status")) or "modified")
    if not path or operation is None:
        return None
    size = None if operation == "delete" else _size(file.get("after"))
    return _Change(path, operation, _text(file.get("movePath")), _text(file.get("patch")) or _text(file.get("diff")), size)


def _files_of(change: _Change, directory: str | None) -> list[TouchedFile]:
    """Return the file of a change; a move deletes one and writes another."""
    path = _absolute(change.path, directory)
    if change.moved_to is None:
        return [TouchedFile(path, change.operation, change.diff, change.size)]
    target = TouchedFile(_absolute(change.moved_to, directory), "write", change.diff, change.size)
    return [TouchedFile(path, "delete", None, None), target]


def _absolute(path: str, directory: str | None) -> str:
    """Return a path as OpenCode resolves it, so that the same file has the same path however a model wrote it."""
    if path.startswith(("/", "~")) or not directory or _WINDOWS_ROOT.match(path):
        return path
    if _WINDOWS_ROOT.match(directory):
        return ntpath.normpath(ntpath.join(directory, path))
    return posixpath.normpath(posixpath.join(directory, path))


def _size(content: object) -> int | None:
    return len(content.encode("utf-8", "surrogatepass")) if isinstance(content, str) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
