"""The names of the MCP servers in OpenCode's own configuration. Of the file nothing else is kept: it may hold keys and tokens."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from opencode_monitor.sources.decode import decode_object

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAMES = ("opencode.jsonc", "opencode.json", "config.json")
_MOST_BYTES = 1_000_000
# What JSON with comments has beyond JSON: comments, then a comma before the end of a list or an object. Strings are matched to be kept, and
# what is never closed goes to the end: nothing is tried twice, whatever the file holds.
_STRING = rb'("(?:[^"\\]|\\.)*+"?)'
_COMMENT = re.compile(_STRING + rb"|//[^\n]*|/\*(?:.*?\*/|.*)", re.DOTALL)
_LAST_COMMA = re.compile(_STRING + rb"|,(?=\s*+[}\]])", re.DOTALL)


def configured_servers(environ: Mapping[str, str]) -> frozenset[str]:
    """Return the names of the MCP servers that the user's configuration of OpenCode declares.

    Args:
        environ: The environment: `$OPENCODE_CONFIG`, and `$XDG_CONFIG_HOME` or `~/.config`, where `opencode/` lies.
    """
    stated, home = environ.get("OPENCODE_CONFIG"), environ.get("XDG_CONFIG_HOME")
    directory = (Path(home) if home else Path("~/.config").expanduser()) / "opencode"
    files = [*([Path(stated)] if stated else []), *(directory / name for name in _NAMES)]
    return frozenset(name for file in files for name in _servers(file))


def _servers(file: Path) -> list[str]:
    try:
        if not file.is_file() or file.stat().st_size > _MOST_BYTES:
            return []
        text = file.read_bytes()
    except OSError:
        return []
    for beyond in (_COMMENT, _LAST_COMMA):
        text = beyond.sub(lambda found: found.group(1) or b"", text)
    data, _ = decode_object(text)
    declared = (data or {}).get("mcp")
    if isinstance(declared, dict) and isinstance(declared.get("servers"), dict):
        declared = declared["servers"]  # 2.x
    return [name for name, server in declared.items() if isinstance(server, dict)] if isinstance(declared, dict) else []
