from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from opencode_monitor.sources.opencode_config import configured_servers

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("opencode.json", '{"mcp": {"github": {"type": "remote", "headers": {"Authorization": "secret"}}, "odd": 7}}', {"github"}),
        ("config.json", '{"mcp": {"a": {}}}', {"a"}),
        (
            "opencode.jsonc",
            '{\n// "mcp": {"no": {}}\n"mcp": { /* "no": {} */ "a//b": {"url": "http://x/*y*/",}, "c": {}, // last\n },\n}',
            {"a//b", "c"},
        ),
        ("opencode.json", '{"mcp": {"timeout": 5, "servers": {"linear": {"type": "local"}}}}', {"linear"}),
        # Neither takes longer for what looks like several comments, or like none that ends.
        ("opencode.jsonc", '{"mcp": {"a": {}},\n' + "// https://example.org/ // and more\n" * 200 + '"b": 1}', {"a"}),
        ("opencode.jsonc", '{"mcp": {"a": {}},' + "/**/" * 200 + '"b": 1}', {"a"}),
        ("opencode.jsonc", "/*" * 400_000, set()),
        ("opencode.jsonc", '"' + '\\"' * 400_000, set()),
        ("opencode.jsonc", "," * 800_000, set()),
        ("opencode.json", '{"mcp": []}', set()),
        ("opencode.json", "{", set()),
        ("opencode.json", "", set()),
        ("other.json", '{"mcp": {"a": {}}}', set()),
        ("opencode.json", '{"mcp": {"a": {}}}' + " " * 1_000_000, set()),
    ],
)
def test_configured_servers_names_alone_are_read(tmp_path: Path, name: str, text: str, expected: set[str]) -> None:
    (tmp_path / "opencode").mkdir()
    (tmp_path / "opencode" / name).write_text(text)

    assert configured_servers({"XDG_CONFIG_HOME": str(tmp_path)}) == expected


def test_configured_servers_stated_file_counts_too(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text('{"mcp": {"a": {}}}')

    assert configured_servers({"OPENCODE_CONFIG": str(tmp_path / "mine.json"), "XDG_CONFIG_HOME": str(tmp_path)}) == {"a"}
    assert configured_servers({"OPENCODE_CONFIG": "/" + "x" * 5_000, "XDG_CONFIG_HOME": str(tmp_path)}) == frozenset()
    assert configured_servers({"OPENCODE_CONFIG": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}) == frozenset()
