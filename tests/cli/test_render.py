from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from opencode_monitor.cli.render import as_json_value, envelope, plain, show_tokens, show_usd


class TestNumbers:
    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (None, "—"),
            (Decimal(0), "$0.00"),
            (Decimal("0.0099"), "$0.0099"),
            (Decimal("0.01"), "$0.01"),
            (Decimal("1234567.891"), "$1,234,567.89"),
            (Decimal("-3.5"), "$-3.50"),
        ],
    )
    def test_show_usd_unknown_is_never_zero(self, value: Decimal | None, expected: str) -> None:
        assert show_usd(value) == expected

    @pytest.mark.parametrize("value", [Decimal("0.000012"), Decimal("0.00004999")])
    def test_show_usd_tiny_amount_is_not_shown_as_nothing(self, value: Decimal) -> None:
        assert show_usd(value) not in {"$0.00", "$0.0000"}

    @pytest.mark.parametrize(
        ("count", "expected"),
        [
            (0, "0"),
            (999, "999"),
            (1_000, "1.0K"),
            (12_449, "12.4K"),
            (1_200_000, "1.2M"),
            (5_000_000_000, "5.0B"),
            (10**13, "10,000.0B"),
        ],
    )
    def test_show_tokens_takes_few_characters(self, count: int, expected: str) -> None:
        assert show_tokens(count) == expected


class TestPlain:
    @pytest.mark.parametrize("hostile", ["\x1b[31m", "\x9b31m", "\u202e", "\u2066", "\n", "\r", "\0", "\x07", "\x7f", "\u200b", "\ue000"])
    def test_plain_steering_character_is_replaced(self, hostile: str) -> None:
        shown = plain(f"a{hostile}b")

        assert hostile[0] not in shown
        assert shown.startswith("a�")
        assert shown.endswith("b")

    @pytest.mark.parametrize("text", ["日本語 😀", "[red]x[/red]", "=SUM(A1)", "é\u0301"])
    def test_plain_other_text_stays(self, text: str) -> None:
        assert plain(text) == text

    def test_plain_nothing_is_empty(self) -> None:
        assert plain(None) == ""

    def test_plain_long_text_is_cut(self) -> None:
        assert (plain("abcdef", 4), plain("abcd", 4)) == ("abc…", "abcd")


@dataclass(frozen=True)
class Line:
    period: date
    cost_usd: Decimal | None


class TestEnvelope:
    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (Decimal("12.345600000000"), "12.3456"),
            (Decimal("0E-12"), "0"),
            (Decimal("100.000000000000"), "100"),
            (Decimal("0.000000000001"), "0.000000000001"),
            (None, None),
            (3, 3),
            (date(2026, 10, 1), "2026-10-01"),
            (datetime(2026, 10, 1, 2, 3, tzinfo=UTC), "2026-10-01T02:03:00+00:00"),
        ],
    )
    def test_as_json_value_money_is_a_plain_decimal_text(self, value: object, expected: object) -> None:
        assert as_json_value(value) == expected

    def test_envelope_has_its_six_fields(self) -> None:
        text = envelope(
            "daily",
            rows=[Line(date(2026, 10, 1), Decimal("0.5")), {"period": None, "cost_usd": None}],
            totals=Line(date(2026, 10, 1), Decimal("0.5")),
            report_range={"since": None, "until": None},
            tz="UTC",
            warnings=["x"],
        )

        assert json.loads(text) == {
            "schema": "opencode-monitor/daily@1",
            "range": {"since": None, "until": None},
            "tz": "UTC",
            "rows": [{"period": "2026-10-01", "cost_usd": "0.5"}, {"period": None, "cost_usd": None}],
            "totals": {"period": "2026-10-01", "cost_usd": "0.5"},
            "warnings": ["x"],
        }
