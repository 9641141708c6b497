from __future__ import annotations

import contextlib
import shutil
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import stores
from ingest.test_pipeline import dump, load, stored_sums
from opencode_monitor.ingest.carried import compute_carried
from opencode_monitor.ingest.mapping import SessionRows
from opencode_monitor.ingest.omit import TEXT_COLUMNS, leave_out_texts
from opencode_monitor.ingest.rows import ErrorRow, PartRow, TextRow, ToolCallRow
from opencode_monitor.models import Base

if TYPE_CHECKING:
    import sqlalchemy as sa

REAL = Path(__file__).parent.parent / "fixtures" / "opencode"
PROMPT = "plan a surprise"


def part(part_id: str, part_type: str, *, content: str | None = None, extra: str | None = None) -> PartRow:
    return PartRow(part_id, "ses_1", "msg_1", part_type, 1, None, None, content, None, extra)


def call(part_id: str, arguments: str | None, result: str | None) -> ToolCallRow:
    return ToolCallRow(part_id, part_id, "ses_1", None, "bash", arguments, result, 1.0, "success", "call_1", None, None, None)


def without_texts(engine: sa.Engine) -> dict[str, list[tuple[Any, ...]]]:
    """Read what an import without texts has to store like any other."""
    rows = dump(engine, without=("omitted_texts", "sources"))
    for table, left_out in {**TEXT_COLUMNS, "parts": {"content", "extra"}}.items():
        names = [column.name for column in Base.metadata.tables[table].columns]
        rows[table] = [tuple(value for name, value in zip(names, row, strict=True) if name not in left_out) for row in rows[table]]
    return rows


class TestLeaveOutTexts:
    def test_leave_out_texts_keeps_lengths_and_facts(self) -> None:
        session = SessionRows("ses_1", 1)
        session.rows["parts"] = [
            part("prt_text", "text", extra='{"synthetic":true}'),
            part("prt_think", "thinking", content=PROMPT),
            part("prt_call", "tool_call", extra=f'{{"title":"{PROMPT}","pruned_at_ms":7,"exit_code":1}}'),
        ]
        session.rows["text_messages"] = [TextRow("prt_text", "prt_text", "ses_1", None, "user", PROMPT + "é")]
        session.rows["tool_calls"] = [call("prt_call", f'{{"a":"{PROMPT}"}}', PROMPT)]
        session.rows["errors"] = [
            ErrorRow(
                "prt_err",
                "prt_err",
                "ses_1",
                None,
                f'{{"name":"APIError","data":{{"statusCode":529,"isRetryable":true,"message":"{PROMPT}"}}}}',
                PROMPT,
                "server_error",
                "medium",
                True,
            )
        ]

        leave_out_texts(session)

        assert [(row[0], *row[2:]) for row in session.rows["omitted_texts"]] == [
            ("prt_text", 16, 0),
            ("prt_think", 15, 0),
            ("prt_call", 23, 15),
            ("prt_err", 0, 0),
        ]
        assert [row[-1] for row in session.rows["parts"]] == ['{"synthetic":true}', None, '{"pruned_at_ms":7,"exit_code":1}']
        assert session.rows["errors"][0][4] == '{"name":"APIError","data":{"statusCode":529,"isRetryable":true}}'
        assert PROMPT not in str(session.rows)

    @pytest.mark.parametrize(("result", "message", "output"), [(None, "failed", 6), ("", "failed", 0), (None, None, 0)])
    def test_leave_out_texts_failed_call_answered_with_its_error(self, result: str | None, message: str | None, output: int) -> None:
        session = SessionRows("ses_1", 1)
        session.rows["tool_calls"] = [call("prt_call", None, result)]
        session.rows["errors"] = [ErrorRow("prt_call", "prt_call", "ses_1", None, "{}", message, "unknown", "low", False)]

        leave_out_texts(session)

        assert session.rows["omitted_texts"] == [("prt_call", "ses_1", 0, output)]


class TestImportWithoutTexts:
    def test_import_sources_without_texts_stores_all_else_alike(self, engine: sa.Engine, other_engine: sa.Engine, tmp_path: Path) -> None:
        store = stores.sample()
        stores.write_sqlite(store, tmp_path)

        load(engine, tmp_path, with_texts=False)
        load(other_engine, tmp_path)
        for each in (engine, other_engine):
            compute_carried(each)

        assert stored_sums(engine) == store.truth
        assert len(dump(engine)["carried_costs"]) > 10
        assert without_texts(engine) == without_texts(other_engine)

    def test_import_sources_without_texts_stores_no_text(self, engine: sa.Engine, tmp_path: Path) -> None:
        store = stores.sample()
        texts = {part["text"] for part in store.parts if len(part.get("text", "")) > 20}
        texts |= {part["state"]["output"] for part in store.parts if len(part.get("state", {}).get("output", "")) > 20}
        stores.write_json(store, tmp_path)

        load(engine, tmp_path, with_texts=False)

        stored = str(dump(engine))
        assert len(texts) > 1
        assert [text for text in texts if text in stored] == []

    def test_import_sources_with_texts_fills_in_what_was_left_out(self, engine: sa.Engine, other_engine: sa.Engine, tmp_path: Path) -> None:
        stores.write_sqlite(stores.sample(), tmp_path)
        load(engine, tmp_path, with_texts=False)

        filled = load(engine, tmp_path)
        again = load(engine, tmp_path)
        load(other_engine, tmp_path)

        assert filled.counts.changed > 0
        assert again.read == 0
        assert dump(engine) == dump(other_engine)

    def test_import_sources_without_texts_keeps_what_is_stored(self, engine: sa.Engine, tmp_path: Path) -> None:
        stores.write_sqlite(stores.sample(), tmp_path)
        load(engine, tmp_path)
        before = dump(engine)

        unread = load(engine, tmp_path, with_texts=False)
        load(engine, tmp_path, with_texts=False, full=True)

        after = dump(engine)
        assert unread.read == 0
        assert all(after[table] == before[table] for table in TEXT_COLUMNS if table != "parts")
        assert [row[7] for row in after["parts"]] == [row[7] for row in before["parts"]]

    @pytest.mark.parametrize("with_texts", [True, False])
    def test_import_sources_message_gone_at_its_source_keeps_its_lengths(
        self, engine: sa.Engine, tmp_path: Path, *, with_texts: bool
    ) -> None:
        store = stores.sample()
        path = stores.write_sqlite(store, tmp_path)
        load(engine, tmp_path, with_texts=False)
        gone = store.messages[1]
        lengths = [row for row in dump(engine)["omitted_texts"] if row[0] in {p["id"] for p in store.parts if p["messageID"] == gone["id"]}]
        with contextlib.closing(sqlite3.connect(path)) as connection, connection:
            for table, column in (("message", "id"), ("part", "message_id")):
                connection.execute(f"DELETE FROM {table} WHERE {column} = ?", (gone["id"],))

        load(engine, tmp_path, with_texts=with_texts)
        again = load(engine, tmp_path, with_texts=with_texts)

        omitted = dump(engine)["omitted_texts"]
        assert lengths != []
        assert [row for row in omitted if row in lengths] == lengths
        assert (omitted == lengths) is with_texts
        assert again.read == 0

    @pytest.mark.parametrize("name", ["json-1.1.65", "sqlite-1.18.33"])
    def test_import_sources_real_store_without_texts_carries_alike(
        self, engine: sa.Engine, other_engine: sa.Engine, tmp_path: Path, name: str
    ) -> None:
        shutil.copytree(REAL / name, tmp_path / name)

        load(engine, tmp_path / name, with_texts=False)
        load(other_engine, tmp_path / name)
        for each in (engine, other_engine):
            compute_carried(each)

        assert without_texts(engine) == without_texts(other_engine)
