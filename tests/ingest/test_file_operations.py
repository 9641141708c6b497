from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opencode_monitor.ingest.file_operations import OPERATIONS, TouchedFile, touched_files

PATCH = "*** Begin Patch\n*** Add File: a.py\n+x = 1\n+é\n*** Update File: b c.py\n@@\n-a\n+b\n*** Delete File: d.py\n*** End Patch"
MOVE = "*** Begin Patch\n*** Update File: old.py\n*** Move to: new/name.py\n@@\n-a\n+b\n*** End Patch"
INDEX_A = "Index: /w/a.py\n===\n--- /w/a.py\n+++ /w/a.py\n@@ -0,0 +1,2 @@\n+x = 1\n+é\n\n"
INDEX_B = "Index: /w/b c.py\n===\n@@ -1 +1 @@\n-a\n+b\n\n"
INDEX_D = "Index: /w/d.py\n===\n@@ -1 +0,0 @@\n-gone\n"


def file(path: str, operation: str, diff: str | None = None, size: int | None = None) -> TouchedFile:
    return TouchedFile(path, operation, diff, size)


class TestTouchedFiles:
    @pytest.mark.parametrize(
        ("tool", "tool_input", "metadata", "expected"),
        [
            # 0.0 to 1.x
            ("read", {"filePath": "/a.py"}, {"preview": "x"}, [file("/a.py", "read")]),
            ("edit", {"filePath": "/a.py"}, {"diff": "@@"}, [file("/a.py", "edit", "@@")]),
            (
                "edit",
                {"filePath": "/a.py"},
                {"diff": "@@", "filediff": {"file": "/a.py", "before": "a", "after": "é", "additions": 1}},
                [file("/a.py", "edit", "@@", 2)],
            ),
            ("edit", {"filePath": "/a.py"}, {"filediff": {"patch": "@@ 1"}}, [file("/a.py", "edit", "@@ 1")]),
            ("write", {"filePath": "/a.py", "content": "é"}, {"filepath": "/a.py", "exists": False}, [file("/a.py", "write", None, 2)]),
            ("write", {"filePath": "/a.py", "content": ""}, {}, [file("/a.py", "write", None, 0)]),
            (
                "multiedit",
                {"filePath": "/a.py", "edits": [{"filePath": "/a.py"}]},
                {"results": [{"diff": "@@ 1"}, {"diff": "@@ 2", "filediff": {"after": "abc"}}]},
                [file("/a.py", "edit", "@@ 1\n@@ 2", 3)],
            ),
            ("multiedit", {"filePath": "/a.py"}, {"results": []}, [file("/a.py", "edit")]),
            # 2.x
            ("read", {"path": "src/a.py"}, {}, [file("/w/src/a.py", "read")]),
            (
                "edit",
                {"path": "../b.py"},
                {"files": [{"file": "b.py", "patch": "@@", "additions": 1, "deletions": 0, "status": "modified"}]},
                [file("/b.py", "edit", "@@")],
            ),
            ("write", {"path": "./a.py", "content": "ab"}, {}, [file("/w/a.py", "write", None, 2)]),
            # Other forms
            ("read", {"file_path": "/a.py"}, {}, [file("/a.py", "read")]),
            ("delete", {"path": "/a.py"}, {}, [file("/a.py", "delete")]),
            ("delete", {"paths": ["/a.py", "b.py", 7, "", "/a.py"]}, {}, [file("/a.py", "delete"), file("/w/b.py", "delete")]),
            ("read", {"filePath": "C:\\src\\a.py"}, {}, [file("C:\\src\\a.py", "read")]),
            ("read", {"filePath": "~/a.py"}, {}, [file("~/a.py", "read")]),
            # Nothing to be told
            ("read", {"filePath": 7}, {}, []),
            ("read", {"filePath": ""}, {}, []),
            ("read", {}, {}, []),
            ("read", {"paths": "/a"}, {}, []),
            ("edit", {"filePath": "/a"}, {"diff": 1, "filediff": 2}, [file("/a", "edit")]),
            ("edit", {"filePath": "/a"}, {"files": [3]}, [file("/a", "edit")]),
            ("grep", {"path": "/src"}, {}, []),
            ("bash", {"command": "rm /a.py"}, {}, []),
            ("filesystem_read_file", {"path": "/a.py"}, {}, []),
        ],
    )
    def test_touched_files_one_file_is_found_in_every_form(
        self, tool: str, tool_input: dict[str, Any], metadata: dict[str, Any], expected: list[TouchedFile]
    ) -> None:
        assert touched_files(tool, tool_input, metadata, directory="/w") == expected

    @pytest.mark.parametrize(
        ("tool_input", "metadata", "expected"),
        [
            # A call that failed says what it was to do.
            (
                {"patchText": PATCH},
                {},
                [file("/w/a.py", "write", None, 9), file("/w/b c.py", "edit"), file("/w/d.py", "delete")],
            ),
            # 1.0: one diff of all files
            (
                {"patchText": PATCH},
                {"diff": INDEX_A + INDEX_B + INDEX_D},
                [file("/w/a.py", "write", INDEX_A, 9), file("/w/b c.py", "edit", INDEX_B), file("/w/d.py", "delete", INDEX_D)],
            ),
            ({"patch": PATCH}, {"diff": "@@"}, [file("/w/a.py", "write", "@@", 9), file("/w/b c.py", "edit"), file("/w/d.py", "delete")]),
            # 1.1 and later: each file with its own
            (
                {"patchText": PATCH},
                {
                    "diff": "all",
                    "files": [
                        {"filePath": "/w/a.py", "relativePath": "a.py", "type": "add", "diff": "@@ a", "before": "", "after": "x = 1\né\n"},
                        {"filePath": "/w/b c.py", "relativePath": "b c.py", "type": "update", "patch": "@@ b", "before": "a", "after": "b"},
                        {"filePath": "/w/d.py", "relativePath": "d.py", "type": "delete", "patch": "@@ d", "before": "x", "after": ""},
                    ],
                },
                [file("/w/a.py", "write", "@@ a", 9), file("/w/b c.py", "edit", "@@ b", 1), file("/w/d.py", "delete", "@@ d")],
            ),
            # 2.x
            (
                {"patchText": PATCH},
                {"files": [{"file": name, "patch": f"@@ {name}", "status": "modified"} for name in ("a.py", "b c.py", "d.py")]},
                [file("/w/a.py", "write", "@@ a.py", 9), file("/w/b c.py", "edit", "@@ b c.py"), file("/w/d.py", "delete", "@@ d.py")],
            ),
            # A move deletes one file and writes another.
            ({"patchText": MOVE}, {"diff": "@@"}, [file("/w/old.py", "delete"), file("/w/new/name.py", "write", "@@")]),
            (
                {"patchText": MOVE},
                {"files": [{"filePath": "/w/old.py", "type": "move", "movePath": "/w/new/name.py", "patch": "@@ m", "after": "b\n"}]},
                [file("/w/old.py", "delete"), file("/w/new/name.py", "write", "@@ m", 2)],
            ),
            # The metadata alone
            (
                {},
                {
                    "files": [
                        {"filePath": "/w/old.py", "type": "move", "movePath": "/w/n.py", "patch": "@@"},
                        {"file": "x.py", "status": "added"},
                        {"file": "y.py", "status": "deleted", "after": ""},
                        {"file": "z.py", "status": "folded"},
                        {"status": "added"},
                        5,
                    ]
                },
                [file("/w/old.py", "delete"), file("/w/n.py", "write", "@@"), file("/w/x.py", "write"), file("/w/y.py", "delete")],
            ),
            ({"patchText": 7}, {"files": 7}, []),
            ({"patchText": "no patch"}, {"diff": "@@"}, []),
        ],
    )
    @pytest.mark.parametrize("tool", ["patch", "apply_patch"])
    def test_touched_files_patch_lists_each_file(
        self, tool: str, tool_input: dict[str, Any], metadata: dict[str, Any], expected: list[TouchedFile]
    ) -> None:
        assert touched_files(tool, tool_input, metadata, directory="/w") == expected

    @pytest.mark.parametrize(
        ("directory", "path", "expected"),
        [
            (None, "src/a.py", "src/a.py"),
            ("", "a.py", "a.py"),
            ("/w/", "./src//a.py", "/w/src/a.py"),
            ("C:\\work", "src/a.py", "C:\\work\\src\\a.py"),
            ("C:\\work", "D:/a.py", "D:/a.py"),
        ],
    )
    def test_touched_files_relative_path_is_that_of_the_session(self, directory: str | None, path: str, expected: str) -> None:
        assert touched_files("read", {"path": path}, {}, directory=directory) == [file(expected, "read")]

    def test_touched_files_tool_of_another_maker_counts_where_declared(self) -> None:
        declared = {"filesystem_read_multiple_files": "read", "filesystem_write_file": "write", "edit": "delete"}

        assert touched_files("filesystem_write_file", {"path": "a", "content": "ab"}, {}, declared=declared) == [
            file("a", "write", None, 2)
        ]
        assert touched_files("filesystem_read_multiple_files", {"paths": ["a", "b"]}, {}, declared=declared) == [
            file("a", "read"),
            file("b", "read"),
        ]
        assert touched_files("edit", {"path": "a"}, {}, declared=declared) == [file("a", "edit")]


KEYS = ["filePath", "path", "paths", "files", "diff", "filediff", "results", "patchText", "content", "type", "status", "after"]
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from([PATCH, MOVE]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner),
    max_leaves=8,
)
OBJECT = st.dictionaries(st.sampled_from(KEYS), ANYTHING)


@given(st.sampled_from(["read", "write", "edit", "multiedit", "patch", "apply_patch", "delete"]), OBJECT, OBJECT, st.none() | st.just("/w"))
def test_touched_files_of_anything_are_paths_with_an_operation(
    tool: str, tool_input: dict[str, Any], metadata: dict[str, Any], directory: str | None
) -> None:
    for touched in touched_files(tool, tool_input, metadata, directory=directory):
        assert touched.path
        assert touched.operation in OPERATIONS
        assert touched.size is None or touched.size >= 0
