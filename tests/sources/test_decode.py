from __future__ import annotations

import json
import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from opencode_monitor.sources.decode import REPLACED, clean, decode_object, is_storable_id

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def test_decode_object_plain_record_gives_it_unchanged() -> None:
    raw = '{"id": "prt_1", "text": "日本 \\ud83d\\ude00 \\n", "n": 1.5}'.encode()

    assert decode_object(raw) == ({"id": "prt_1", "text": "日本 😀 \n", "n": 1.5}, None)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "empty file"),
        (b"\xff\xfe{", "not UTF-8"),
        (b'{"text": "\xff"}', "not UTF-8"),
        (b'{"id": "prt_', "not valid JSON: Unterminated string starting at: line 1 column 8 (char 7)"),
        (b"\x00" * 40, "not valid JSON: Expecting value: line 1 column 1 (char 0)"),
        (b'{"id": 1} x', "not valid JSON: Extra data: line 1 column 11 (char 10)"),
        (b"[" * 100_000, "not valid JSON: nested too deeply"),
        (b"[]", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b"NaN", "not a JSON object"),
    ],
)
def test_decode_object_unreadable_record_gives_the_reason(raw: bytes, reason: str) -> None:
    assert decode_object(raw) == (None, reason)


def test_decode_object_deep_nesting_with_unstorable_text_gives_the_reason() -> None:
    raw = b'{"a": ' + b"[" * 700 + rb'"\u0000"' + b"]" * 700 + b"}"

    assert decode_object(raw) == (None, "not valid JSON: nested too deeply")


def test_decode_object_number_of_5000_digits_gives_one_line() -> None:
    value, reason = decode_object(b'{"n": ' + b"9" * 5000 + b"}")

    assert value is None
    assert reason is not None
    assert reason.startswith("not valid JSON: ")
    assert "\n" not in reason


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (rb'{"text": "a\u0000b"}', "a\ufffdb"),
        (b'{"text": "a\x00b"}', "a\ufffdb"),
        (rb'{"text": "a\ud800b"}', "a\ufffdb"),
        (rb'{"text": "a\uDFFF"}', "a\ufffd"),
        (rb'{"text": "\ude00\ud83d"}', "\ufffd\ufffd"),
    ],
)
def test_decode_object_unstorable_text_is_replaced_with_a_note(raw: bytes, text: str) -> None:
    assert decode_object(raw) == ({"text": text}, REPLACED)


def test_decode_object_unstorable_text_deep_inside_is_replaced_in_keys_too() -> None:
    raw = rb'{"state": [{"in\u0000put": "ok"}, 1, null], "nan": "\\u0000"}'

    assert decode_object(raw) == ({"state": [{"in\ufffdput": "ok"}, 1, None], "nan": "\\u0000"}, REPLACED)


def test_decode_object_nan_loads_without_a_note() -> None:
    value, note = decode_object(b'\xef\xbb\xbf{"cost": NaN, "tokens": -Infinity}')

    assert value is not None
    assert math.isnan(value["cost"])
    assert value["tokens"] == -math.inf
    assert note is None


@given(st.binary() | JSON_VALUES.map(lambda value: json.dumps(value).encode()))
@example(rb'{"\ud800": [{"\u0000": "\udfff"}]}')
def test_decode_object_any_bytes_gives_an_object_or_a_reason(raw: bytes) -> None:
    value, note = decode_object(raw)

    assert (value is None) <= bool(note)
    if value is not None:
        assert clean(value) == (value, False)
        assert note in {None, REPLACED}
    elif note is not None:
        assert "\n" not in note


@given(st.dictionaries(st.text(), JSON_VALUES))
def test_decode_object_storable_object_round_trips(value: dict[str, object]) -> None:
    expected, changed = clean(value)

    assert decode_object(json.dumps(value).encode()) == (expected, REPLACED if changed else None)


@pytest.mark.parametrize(
    ("value", "expected"),
    [("ses_1", True), ("sés", True), ("", False), (None, False), (7, False), ("a\x00", False), ("a\udc80", False)],
)
def test_is_storable_id_any_value_tells(value: object, expected: bool) -> None:
    assert is_storable_id(value) is expected
