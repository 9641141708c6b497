from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opencode_monitor.sources.ids import message_id_time_ms, part_id_time_ms, session_id_time_ms

if TYPE_CHECKING:
    from pathlib import Path

HALF_A_WRAP_MS = 1 << 35
MOMENTS = st.integers(min_value=1_600_000_000_000, max_value=4_000_000_000_000)


@given(MOMENTS, st.integers(1, 4095), st.integers(-HALF_A_WRAP_MS + 1, HALF_A_WRAP_MS - 1))
def test_part_id_time_ms_any_time_round_trips_from_within_half_a_wrap(ms: int, counter: int, off: int) -> None:
    part_id = f"prt_{(ms * 4096 + counter) % 2**48:012x}UDttgzyuEzIvt9"

    assert part_id_time_ms(part_id, ms + off) == ms


@given(MOMENTS, st.integers(1, 4095))
def test_session_id_time_ms_inverted_digits_round_trip(ms: int, counter: int) -> None:
    session_id = f"ses_{(ms * 4096 + counter) % 2**48 ^ (2**48 - 1):012x}Dsi7Tj1ouCWvJt"

    assert session_id_time_ms(session_id, ms + 86_400_000) == ms


@pytest.mark.parametrize("part_id", ["prt_corrupt0001", "msg_2063b5612001mw8IBr38le1l4S", "", "prt_2063"])
def test_part_id_time_ms_other_form_gives_none(part_id: str) -> None:
    assert part_id_time_ms(part_id, 1_795_400_000_000) is None


def test_part_id_time_ms_near_the_epoch_is_not_negative() -> None:
    assert part_id_time_ms("prt_fffffffff001", 0) == (1 << 36) - 1


def test_id_times_real_store_agree_with_its_records(real: Path) -> None:
    storage = real / "json-1.1.65" / "storage"
    sessions = [json.loads(file.read_bytes()) for file in storage.glob("session/*/*.json")]
    messages = [json.loads(file.read_bytes()) for file in storage.glob("message/*/*.json")]

    session_times = [(session_id_time_ms(one["id"], 1_790_000_000_000), one["time"]["created"]) for one in sessions]
    message_times = [(message_id_time_ms(one["id"], 1_790_000_000_000), one["time"]["created"]) for one in messages]

    assert len(session_times) == 11
    for from_id, created in session_times + message_times:
        assert from_id == pytest.approx(created, abs=50)
