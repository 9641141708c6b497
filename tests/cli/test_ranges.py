from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from opencode_monitor.cli.ranges import ReportRange, parse_duration, parse_when, parse_zone, resolve_range, to_utc
from opencode_monitor.errors import UsageError

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 10, 28, 23, 30, tzinfo=UTC)  # Thursday the 29th in Berlin


def berlin(*numbers: int) -> datetime:
    return datetime(*numbers, tzinfo=BERLIN)  # type: ignore[misc,arg-type] # year, month, day, ...


class TestParseWhen:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("2026-10-01", berlin(2026, 10, 1)),
            ("20261001", berlin(2026, 10, 1)),
            ("2026-10-01T14:00", berlin(2026, 10, 1, 14)),
            ("2026-10-01 14:00:30", berlin(2026, 10, 1, 14, 0, 30)),
            ("2026-10-01T14:00+00:00", datetime(2026, 10, 1, 14, tzinfo=UTC)),
            ("2026-10-01T14:00Z", datetime(2026, 10, 1, 14, tzinfo=UTC)),
            ("today", berlin(2026, 10, 29)),
            (" Yesterday ", berlin(2026, 10, 28)),
            ("thursday", berlin(2026, 10, 29)),
            ("friday", berlin(2026, 10, 23)),
            ("monday", berlin(2026, 10, 26)),
            ("0d", berlin(2026, 10, 29)),
            ("7d", berlin(2026, 10, 22)),
            ("2w", berlin(2026, 10, 15)),
            ("1m", berlin(2026, 9, 29)),
            ("8m", berlin(2026, 2, 28)),
            ("1y", berlin(2025, 10, 29)),
        ],
    )
    def test_parse_when_known_words_are_instants(self, text: str, expected: datetime) -> None:
        assert parse_when(text, tz=BERLIN, now=NOW) == expected

    @pytest.mark.parametrize(
        ("text", "expected"),
        [("2026-10-25", berlin(2026, 10, 26)), ("today", berlin(2026, 10, 30)), ("2026-10-25T06:00", berlin(2026, 10, 25, 6))],
    )
    def test_parse_when_as_an_end_includes_the_day(self, text: str, expected: datetime) -> None:
        assert parse_when(text, tz=BERLIN, now=NOW, is_end=True) == expected

    @pytest.mark.parametrize("text", ["2026-13-01", "01.10.2026", "", "soon", "7", "-7d", "7h", "10:00"])
    def test_parse_when_anything_else_says_what_is_understood(self, text: str) -> None:
        with pytest.raises(UsageError) as raised:
            parse_when(text, tz=BERLIN, now=NOW)

        assert str(raised.value) == f"{text!r} is not a date. Use 2026-10-01, 7d, today, or monday."

    @pytest.mark.parametrize("text", ["9999-12-31", "0001-01-01", "3000y", "99999w", "0001-01-01T00:00"])
    @pytest.mark.parametrize("is_end", [True, False])
    def test_parse_when_at_the_end_of_time_is_refused_or_representable(self, text: str, is_end: bool) -> None:
        try:
            moment = parse_when(text, tz=BERLIN, now=NOW, is_end=is_end)
        except UsageError as error:
            assert "\n" not in str(error)  # noqa: PT017 - both outcomes are fine
        else:
            assert to_utc(moment) == moment


class TestResolveRange:
    @pytest.mark.parametrize(
        ("last", "start", "end"),
        [
            ("1d", berlin(2026, 10, 29), berlin(2026, 10, 30)),
            ("7d", berlin(2026, 10, 23), berlin(2026, 10, 30)),
            ("2w", berlin(2026, 10, 16), berlin(2026, 10, 30)),
            ("1m", berlin(2026, 9, 30), berlin(2026, 10, 30)),
            ("1y", berlin(2025, 10, 30), berlin(2026, 10, 30)),
            ("mtd", berlin(2026, 10, 1), berlin(2026, 10, 30)),
            ("YTD", berlin(2026, 1, 1), berlin(2026, 10, 30)),
            ("all", None, None),
            (None, berlin(2026, 9, 30), berlin(2026, 10, 30)),
        ],
    )
    def test_resolve_range_last_ends_with_today(self, last: str | None, start: datetime | None, end: datetime | None) -> None:
        resolved = resolve_range(since=None, until=None, last=last, tz=BERLIN, now=NOW)

        assert resolved == ReportRange(start, end, "Europe/Berlin")

    def test_resolve_range_since_and_until_are_whole_days(self) -> None:
        resolved = resolve_range(since="2026-10-25", until="2026-10-25", last=None, tz=BERLIN, now=NOW)

        assert (to_utc(resolved.start), to_utc(resolved.end)) == (
            datetime(2026, 10, 24, 22, tzinfo=UTC),
            datetime(2026, 10, 25, 23, tzinfo=UTC),  # 25 hours: the clocks go back
        )
        assert resolved.describe() == "2026-10-25 … 2026-10-25"
        assert resolved.as_json() == {"since": "2026-10-25T00:00:00+02:00", "until": "2026-10-26T00:00:00+01:00"}

    @pytest.mark.parametrize(
        ("since", "until", "expected"),
        [("2026-10-01", None, "since 2026-10-01"), (None, "2026-10-01", "until 2026-10-01")],
    )
    def test_resolve_range_one_end_leaves_the_other_open(self, since: str | None, until: str | None, expected: str) -> None:
        assert resolve_range(since=since, until=until, last=None, tz=BERLIN, now=NOW).describe() == expected

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (("2026-10-05", "2026-10-01", None), "--since 2026-10-05 is after --until 2026-10-01."),
            (("7d", None, "7d"), "--last cannot be combined with --since or --until. Use one or the other."),
            ((None, "today", "7d"), "--last cannot be combined with --since or --until. Use one or the other."),
            ((None, None, "0d"), "'0d' is not a length of time. Use 30d, 12w, 3m, 1y, mtd, ytd, or all."),
            ((None, None, "week"), "'week' is not a length of time. Use 30d, 12w, 3m, 1y, mtd, ytd, or all."),
        ],
    )
    def test_resolve_range_contradiction_is_refused(self, options: tuple[str | None, str | None, str | None], message: str) -> None:
        since, until, last = options

        with pytest.raises(UsageError) as raised:
            resolve_range(since=since, until=until, last=last, tz=BERLIN, now=NOW)

        assert str(raised.value) == message


class TestZonesAndDurations:
    @pytest.mark.parametrize(
        ("name", "hint"),
        [
            ("Berlin", "Did you mean 'Europe/Berlin'?"),
            ("kathmandu", "Did you mean 'Asia/Kathmandu'?"),
            ("Europe/Berln", "Did you mean 'Europe/Berlin'?"),
            ("xyz123", "Use an IANA name such as Europe/Berlin."),
            ("localtime", "Use an IANA name such as Europe/Berlin."),
            ("../etc/passwd", "Use an IANA name such as Europe/Berlin."),
        ],
    )
    def test_parse_zone_unknown_name_is_refused_with_a_hint(self, name: str, hint: str) -> None:
        with pytest.raises(UsageError) as raised:
            parse_zone(name)

        assert str(raised.value) == f"unknown time zone {name!r}. {hint}"

    def test_parse_zone_known_name_is_the_zone(self) -> None:
        assert parse_zone("Asia/Kathmandu").key == "Asia/Kathmandu"

    @pytest.mark.parametrize(
        ("text", "seconds"), [("30s", 30), ("500ms", 0.5), ("5m", 300), ("1h", 3600), ("12", 12), ("0.5s", 0.5), (" 2s ", 2), ("0s", 0)]
    )
    def test_parse_duration_known_text_is_seconds(self, text: str, seconds: float) -> None:
        assert parse_duration(text) == seconds

    @pytest.mark.parametrize("text", ["", "-1s", "1d", "soon", "nan", "1e3"])
    def test_parse_duration_anything_else_is_refused(self, text: str) -> None:
        with pytest.raises(UsageError) as raised:
            parse_duration(text)

        assert str(raised.value) == f"{text!r} is not a duration. Use 30s, 5m, or 1h."
