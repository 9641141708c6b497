from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from opencode_monitor.sources import shapes
from opencode_monitor.sources.records import MessageRecord, SessionRecord

CREATED_MS = 1_795_400_872_004
SESSION = SessionRecord("ses_1", "prj", None, "Title", "/home/dev", "1.1.65", CREATED_MS, CREATED_MS)
MESSAGE_ID = f"msg_{(CREATED_MS * 4096 + 1) % 2**48:012x}mw8IBr38le1l4S"


def read_message(data: dict[str, Any], **kwargs: Any) -> tuple[MessageRecord, list[str]]:
    notes: list[str] = []
    record = shapes.message_record(data, message_id=kwargs.pop("message_id", MESSAGE_ID), session=SESSION, notes=notes, **kwargs)
    return record, notes


def test_message_record_assistant_takes_every_field() -> None:
    data = {
        "role": "assistant",
        "time": {"created": CREATED_MS, "completed": CREATED_MS + 900},
        "modelID": "claude-sonnet-4-5",
        "providerID": "anthropic",
        "mode": "plan",
        "agent": "build",
        "parentID": "msg_0",
        "cost": "odd",
        "tokens": ["odd"],
        "finish": "stop",
        "error": {"name": "APIError", "data": {"statusCode": 529}},
    }

    record, notes = read_message(data)

    assert record == MessageRecord(
        message_id=MESSAGE_ID,
        session_id="ses_1",
        parent_message_id="msg_0",
        role="assistant",
        agent="build",
        provider_id="anthropic",
        model_id="claude-sonnet-4-5",
        created_ms=CREATED_MS,
        completed_ms=CREATED_MS + 900,
        finish="stop",
        reported_cost="odd",
        tokens=["odd"],
        error={"name": "APIError", "data": {"statusCode": 529}},
    )
    assert notes == []


def test_message_record_user_takes_the_model_asked_for() -> None:
    data = {"role": "user", "time": {"created": CREATED_MS}, "model": {"providerID": "openai", "modelID": "gpt-5"}}

    record, notes = read_message(data)

    assert (record.provider_id, record.model_id, record.agent) == ("openai", "gpt-5", None)
    assert notes == []


def test_message_record_old_assistant_takes_its_mode_as_agent() -> None:
    record, _ = read_message({"role": "assistant", "time": {"created": CREATED_MS}, "mode": "plan"})

    assert record.agent == "plan"


@pytest.mark.parametrize("role", [None, "tool", 7, {}])
def test_message_record_odd_role_is_kept_as_unknown(role: object) -> None:
    record, notes = read_message({"role": role, "time": {"created": CREATED_MS}})

    assert record.role == "unknown"
    assert notes == [f"role {role!r} is not known; kept as 'unknown'"]


def test_message_record_fields_of_other_types_are_none_with_notes() -> None:
    data = {
        "role": "assistant",
        "time": {"created": CREATED_MS, "completed": "soon"},
        "modelID": 7,
        "providerID": ["anthropic"],
        "agent": {},
        "model": "gpt-5",
        "finish": False,
        "error": "boom",
    }

    record, notes = read_message(data)

    assert (record.agent, record.provider_id, record.model_id, record.finish) == (None, None, None, None)
    assert (record.completed_ms, record.error) == (None, None)
    assert sorted(notes) == [
        "agent is not text",
        "error is not an object",
        "finish is not text",
        "model is not an object",
        "modelID is not text",
        "providerID is not text",
        "time.completed is not a number",
    ]


def test_message_record_no_time_takes_the_stored_column_silently() -> None:
    record, notes = read_message({"role": "user"}, stored_created=CREATED_MS + 5)

    assert record.created_ms == CREATED_MS + 5
    assert notes == []


def test_message_record_no_time_at_all_takes_it_from_the_id() -> None:
    record, notes = read_message({"role": "user", "time": []})

    assert record.created_ms == CREATED_MS
    assert notes == ["time is not an object", "time.created is missing; taken from the id"]


def test_message_record_no_time_in_the_id_either_is_none() -> None:
    record, notes = read_message({"role": "user"}, message_id="msg_x")

    assert record.created_ms is None
    assert notes == ["time.created is missing"]


def test_message_record_session_without_start_takes_the_wrap_nearest_now() -> None:
    notes: list[str] = []
    stub = shapes.session_stub("ses_1", None)

    record = shapes.message_record({"role": "user"}, message_id="msg_000000000001", session=stub, notes=notes)

    assert record.created_ms is not None
    assert record.created_ms % 2**36 == 0
    assert record.created_ms > 1_600_000_000_000


@pytest.mark.parametrize(
    ("value", "expected", "note"),
    [
        (None, None, None),
        (CREATED_MS, CREATED_MS, None),
        (float(CREATED_MS), CREATED_MS, None),
        (1_795_400_872, 1_795_400_872_000, "t is in seconds"),
        (1_795_400_872.004, CREATED_MS, "t is in seconds"),
        (CREATED_MS + 0.5, None, "t is not a whole number"),
        (-5, None, "t is not a time"),
        (0, None, "t is not a time"),
        (float("nan"), None, "t is not a time"),
        (float("inf"), None, "t is not a time"),
        (10**14, None, "t is later than the year 2200"),
        (10**400, None, "t is later than the year 2200"),
        (True, None, "t is not a number"),
        ("2026-11-23", None, "t is not a number"),
        ({}, None, "t is not a number"),
    ],
)
def test_time_ms_any_value_gives_milliseconds_or_none(value: object, expected: int | None, note: str | None) -> None:
    notes: list[str] = []

    assert shapes.time_ms(value, "t", notes) == expected
    assert notes == ([note] if note else [])


@pytest.mark.parametrize("part_type", sorted(shapes.PART_TYPES))
def test_part_record_known_type_is_kept_without_a_note(part_type: str) -> None:
    notes: list[str] = []
    data = {"type": part_type, "extra": 1}

    record = shapes.part_record(data, part_id="prt_1", message_id="msg_1", session_id="ses_1", notes=notes)

    assert record is not None
    assert (record.part_id, record.message_id, record.session_id) == ("prt_1", "msg_1", "ses_1")
    assert (record.part_type, record.data) == (part_type, data)
    assert notes == []


def test_part_record_unknown_type_is_kept_under_its_own_name() -> None:
    notes: list[str] = []

    record = shapes.part_record({"type": "hologram"}, part_id="prt_1", message_id="msg_1", session_id="ses_1", notes=notes)

    assert record is not None
    assert record.part_type == "hologram"
    assert notes == ["unknown part type 'hologram'; kept under its own name"]


@pytest.mark.parametrize("data", [{}, {"type": None}, {"type": ""}, {"type": 7}, {"type": {}}])
def test_part_record_no_type_is_not_loaded(data: dict[str, Any]) -> None:
    notes: list[str] = []

    record = shapes.part_record(data, part_id="prt_1", message_id="msg_1", session_id="ses_1", notes=notes)

    assert record is None
    assert notes == ["part has no type; not loaded"]


def test_session_record_odd_fields_are_none_with_notes() -> None:
    notes: list[str] = []
    data: dict[str, Any] = {
        "title": 5,
        "directory": None,
        "version": "1.1.65",
        "parentID": [],
        "time": {"created": "x"},
    }

    record = shapes.session_record(data, session_id="ses_1", project_id="global", notes=notes)

    assert record == SessionRecord("ses_1", "global", None, None, None, "1.1.65", None, None)
    assert notes == ["parentID is not text", "title is not text", "time.created is not a number"]


NUMBERS = st.floats() | st.integers()
FIELDS = st.sampled_from(["role", "time", "model", "modelID", "providerID", "agent", "mode", "error", "finish"])
INNER_FIELDS = st.sampled_from(["created", "completed", "modelID"])


VALUES: st.SearchStrategy[object] = st.one_of(
    st.none(), NUMBERS, st.text(), st.lists(NUMBERS), st.dictionaries(INNER_FIELDS, NUMBERS | st.text())
)


@given(st.dictionaries(FIELDS, VALUES))
@example({"time": {"created": 5e-324}})
def test_message_record_any_object_gives_typed_fields(data: dict[str, Any]) -> None:
    record, _ = read_message(data)

    assert record.role in {"user", "assistant", "system", "unknown"}
    for text in (record.agent, record.provider_id, record.model_id, record.finish):
        assert text is None or isinstance(text, str)
    for moment in (record.created_ms, record.completed_ms):
        assert moment is None or 0 < moment < 7_258_118_400_001


@pytest.mark.parametrize(
    ("data", "title", "notes"),
    [
        ({"role": "user", "summary": {"title": "Fix", "diffs": []}}, "Fix", []),
        ({"role": "user", "summary": {"diffs": []}}, None, []),
        ({"role": "user", "summary": {"title": 7}}, None, ["title is not text"]),
        ({"role": "user", "summary": True}, None, []),
        ({"role": "user"}, None, []),
        ({"role": "assistant", "summary": True}, None, []),
        ({"role": "assistant", "summary": {"title": "Fix"}}, None, []),
    ],
)
def test_message_record_title_of_a_user_s_message(data: dict[str, object], title: str | None, notes: list[str]) -> None:
    found: list[str] = []

    record = shapes.message_record({**data, "time": {"created": 1_795_400_846_732}}, message_id=MESSAGE_ID, session=SESSION, notes=found)

    assert (record.summary_title, found) == (title, notes)
