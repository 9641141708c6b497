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
# A string, or what JSON with comments has beyond JSON: comments, and a comma before the end of a list or an object.
_BEYOND_JSON = re.compile(rb'("(?:[^"\\]|\\.)*+")|//[^\n]*|/\*.*?\*/|,(?=(?:\s|//[^\n]*|/\*.*?\*/)*[}\]])', re.DOTALL)


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
    data, _ = decode_object(_BEYOND_JSON.sub(lambda found: found.group(1) or b"", text))
    declared = (data or {}).get("mcp")
    if isinstance(declared, dict) and isinstance(declared.get("servers"), dict):
        declared = declared["servers"]  # 2.x
    return [name for name, server in declared.items() if isinstance(server, dict)] if isinstance(declared, dict) else []
