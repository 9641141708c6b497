"""Charts as they arrive: the SVG is parsed, the PNG's head is read. Without the packages that draw, drawing is skipped, and said."""

from __future__ import annotations

import struct
import subprocess
import sys
from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from opencode_monitor.errors import MissingExtraError, UsageError
from opencode_monitor.exports.bands import MAX_NAMES, bands_of
from opencode_monitor.exports.charts import Chart, ChartPoint, write_chart
from opencode_monitor.repositories import Interval

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SVG = "{http://www.w3.org/2000/svg}"
MONDAY = date(2026, 6, 1)
TITLE, SUBTITLE, AXIS = "Cost per day", "June 2026, UTC", "USD at list price"


def periods(points: Sequence[ChartPoint], interval: Interval = Interval.DAY) -> Chart:
    return Chart(TITLE, SUBTITLE, "periods", AXIS, points, interval)


def names(*points: ChartPoint) -> Chart:
    return Chart(TITLE, SUBTITLE, "names", AXIS, points)


def point(
    key: date | str | None, usd: str | None, series: str | None = None, *, is_complete: bool = True, is_least: bool = False
) -> ChartPoint:
    return ChartPoint(key, series, None if usd is None else Decimal(usd), is_complete, is_least)


def days(count: int, usd: str = "1.5") -> list[ChartPoint]:
    return [point(MONDAY + timedelta(number), usd) for number in range(count)]


def drawn(chart: Chart, directory: Path) -> ET.Element:
    """Draw a chart, and read the SVG."""
    for package in ("altair", "vl_convert"):
        pytest.importorskip(package)
    file = directory / "chart.svg"
    write_chart(chart, file)
    return ET.parse(file).getroot()  # noqa: S314 - written here


def bars(svg: ET.Element) -> list[ET.Element]:
    return [path for group in svg.iter(f"{SVG}g") if "layer_0_marks" in group.get("class", "") for path in group.iter(f"{SVG}path")]


def texts(svg: ET.Element, kind: str | None = None) -> list[str]:
    """Return the texts of a kind of mark, or all."""
    groups = [svg] if kind is None else [group for group in svg.iter(f"{SVG}g") if kind in group.get("class", "").split()]
    return ["".join(text.itertext()) for group in groups for text in group.iter(f"{SVG}text")]


class TestBands:
    def test_bands_of_periods_without_spend_keep_their_place(self) -> None:
        chart = periods([point(MONDAY + timedelta(3), "2"), point(MONDAY, "1"), point(None, "5")])

        bands = bands_of(chart).shown

        assert [band.label for band in bands] == ["2026-06-01", "2026-06-02", "2026-06-03", "2026-06-04", "(no date)"]
        assert [band.known for band in bands] == [1, 0, 0, 2, 5]
        assert [len(band.segments) for band in bands] == [1, 0, 0, 1, 1]

    @pytest.mark.parametrize(
        ("interval", "last", "expected"),
        [
            (Interval.WEEK, date(2026, 6, 22), ["2026-06-01", "2026-06-08", "2026-06-15", "2026-06-22"]),
            (Interval.MONTH, date(2026, 8, 1), ["2026-06-01", "2026-07-01", "2026-08-01"]),
        ],
    )
    def test_bands_of_weeks_and_months_are_filled_by_their_length(self, interval: Interval, last: date, expected: list[str]) -> None:
        chart = periods([point(MONDAY, "1"), point(last, "1")], interval)

        bands = bands_of(chart).shown

        assert [band.label for band in bands] == expected

    def test_bands_of_months_pass_the_end_of_a_year(self) -> None:
        chart = periods([point(date(2026, 11, 1), "1"), point(date(2027, 2, 1), "1")], Interval.MONTH)

        bands = bands_of(chart).shown

        assert [band.label for band in bands] == ["2026-11-01", "2026-12-01", "2027-01-01", "2027-02-01"]

    def test_bands_of_a_wrong_clock_are_not_filled(self) -> None:
        bands = bands_of(periods([point(date(1970, 1, 1), "1"), point(date.max, "1")])).shown

        assert [band.label for band in bands] == ["1970-01-01", "9999-12-31"]

    @pytest.mark.parametrize(
        ("points", "known", "amount"),
        [
            ([point("a", None)], None, "no price"),
            ([point("a", "0.1"), point("a", "0.2")], "0.3", "$0.30"),
            ([point("a", "0.3"), point("a", None)], "0.3", "≥ $0.30"),
            ([point("a", "0.3", is_least=True)], "0.3", "≥ $0.30"),
            ([point("a", "0"), point("a", None)], None, "no price"),
            ([point("a", "0")], "0", "$0.00"),
        ],
    )
    def test_bands_of_unknown_cost_is_never_0(self, points: list[ChartPoint], known: str | None, amount: str) -> None:
        (band,) = bands_of(names(*points)).shown

        assert band.known == (None if known is None else Decimal(known))
        assert band.amount == amount
        assert len(band.segments) == (1 if known not in {None, "0"} else 0)

    def test_bands_of_names_come_by_cost_and_the_unknown_last(self) -> None:
        chart = names(point("b", "1"), point("x", None), point("a", "1"), point(None, "3"), point("c", "2"))

        found = bands_of(chart)

        assert [band.label for band in found.shown] == ["(none)", "c", "a", "b", "x"]
        assert found.rest is None
        assert found.series == []

    def test_bands_of_more_names_than_fit_sum_the_rest(self) -> None:
        chart = names(*(point(f"name {number:02d}", str(number)) for number in range(MAX_NAMES + 5)), point("unknown", None))

        found = bands_of(chart)

        assert len(found.shown) == MAX_NAMES
        assert found.shown[0].label == f"name {MAX_NAMES + 4}"
        assert found.rest is not None
        assert (found.rest.label, found.rest.amount) == ("6 more", f"≥ ${0 + 1 + 2 + 3 + 4}.00")

    def test_bands_of_more_than_8_series_end_with_other(self) -> None:
        chart = periods([point(MONDAY, str(20 - number), f"model {number}") for number in range(10)])

        found = bands_of(chart)

        assert found.series == [*(f"model {number}" for number in range(8)), "other"]
        (band,) = found.shown
        assert [segment.series for segment in band.segments] == found.series
        assert band.segments[-1].end - band.segments[-1].start == 12 + 11
        assert band.known == band.segments[-1].end == sum(range(11, 21))

    def test_bands_of_8_series_need_no_other(self) -> None:
        chart = periods([point(MONDAY, "1", None if number == 0 else f"model {number}") for number in range(8)])

        assert bands_of(chart).series == ["(none)", *(f"model {number}" for number in range(1, 8))]

    def test_bands_of_a_series_named_other_is_told_apart(self) -> None:
        chart = periods([point(MONDAY, "20", "other"), *(point(MONDAY, "1", f"model {number}") for number in range(9))])

        series = bands_of(chart).series

        assert (series[0], series[-1]) == ("other", "other (2)")

    def test_bands_of_names_that_look_alike_stay_apart(self) -> None:
        chart = names(
            point("a\x1b", "9"),
            point("a\u202e", "8"),
            point("", "7"),
            point("  ", "6"),
            point("/home/" + "x" * 10_000 + "/a.py", "5"),
            point("/home/" + "x" * 10_001 + "/a.py", "4"),
        )

        labels = [band.label for band in bands_of(chart).shown]

        cut = f"/home/{'x' * 10}…{'x' * 26}/a.py"
        assert labels == ["a�", "a� (2)", "(empty)", "(empty) (2)", cut, f"{cut} (2)"]


def test_write_chart_days_are_bars_with_words(tmp_path: Path) -> None:
    points = [*days(29), point(MONDAY + timedelta(29), "0.5", is_complete=False)]

    svg = drawn(periods(points), tmp_path)

    found = bars(svg)
    assert len(found) == 30
    assert found[0].get("aria-label") == "2026-06-01, $1.50"
    assert found[-1].get("aria-label") == "2026-06-30, $0.50, not complete"
    assert [bar.get("opacity") for bar in found] == ["1"] * 29 + ["0.45"]
    assert texts(svg, "role-title-text") == [TITLE]
    assert texts(svg, "role-title-subtitle") == [SUBTITLE + "lighter: not complete"]
    assert AXIS in texts(svg)
    assert {"$0.00", "$0.50", "$1.00", "$1.50", "1 Jun2026", "4 Jun"} <= set(texts(svg, "role-axis-label"))
    assert texts(svg, "layer_1_marks") == []
    assert (svg.get("width"), svg.get("role"), svg.get("aria-label")) == ("900", "graphics-document", f"{TITLE}. {SUBTITLE}")


def test_write_chart_series_lie_upon_each_other_and_are_named(tmp_path: Path) -> None:
    points = [point(MONDAY + timedelta(day), str(9 - number), f"model {number}") for day in range(3) for number in range(9)]

    svg = drawn(periods(points), tmp_path)

    found = bars(svg)
    assert len(found) == 3 * 9
    assert [bar.get("aria-label") for bar in found[:2]] == ["2026-06-01, model 0, $9.00", "2026-06-01, model 1, $8.00"]
    assert len({bar.get("fill") for bar in found}) == 9
    assert texts(svg, "role-legend-label") == ["other", *(f"model {number}" for number in reversed(range(8)))]
    assert texts(svg, "layer_1_marks") == ["$45.00"] * 3


def test_write_chart_names_are_bars_by_cost_with_their_amount(tmp_path: Path) -> None:
    svg = drawn(names(point("api", "377.1", is_least=True), point("shop", "812.4"), point("local", None)), tmp_path)

    assert [bar.get("aria-label") for bar in bars(svg)] == ["shop, $812.40", "api, ≥ $377.10"]
    assert texts(svg, "layer_1_marks") == ["$812.40", "≥ $377.10", "no price"]
    assert [text for text in texts(svg, "role-axis-label") if not text.startswith("$")] == ["shop", "api", "local"]
    assert "no price: the cost is not known, and not 0 · ≥ at least: some of it is not known" in texts(svg, "role-title-subtitle")[0]


def test_write_chart_names_past_the_last_are_summed_in_a_note(tmp_path: Path) -> None:
    svg = drawn(names(*(point(f"name {number}", "2") for number in range(MAX_NAMES + 3))), tmp_path)

    assert len(bars(svg)) == MAX_NAMES
    assert texts(svg, "role-title-subtitle") == [SUBTITLE + "3 more: $6.00 together"]


@pytest.mark.parametrize(("count", "marks"), [(3, ["$1.50", "$1.50", "≥ $2.00", "no price"]), (30, ["≥", "×"])])  # noqa: RUF001 - the mark
def test_write_chart_unknown_cost_is_a_mark_and_no_bar(count: int, marks: list[str], tmp_path: Path) -> None:
    least, unknown = MONDAY + timedelta(count - 1), MONDAY + timedelta(count)
    chart = periods([*days(count - 1), point(least, "2", is_least=True), point(unknown, None)])

    svg = drawn(chart, tmp_path)

    assert len(bars(svg)) == count
    assert texts(svg, "layer_1_marks") == marks
    assert f"{unknown}, no price" in [text.get("aria-label") for text in svg.iter(f"{SVG}text")]
    assert "no price: the cost is not known, and not 0" in texts(svg, "role-title-subtitle")[0]


@pytest.mark.parametrize("kind", ["periods", "names"])
def test_write_chart_nothing_says_so(kind: str, tmp_path: Path) -> None:
    svg = drawn(periods([]) if kind == "periods" else names(), tmp_path)

    assert bars(svg) == []
    assert texts(svg, "role-title-subtitle") == [SUBTITLE + "nothing to show"]


HOSTILE = '<script>alert("1")</script>&amp;&\x1b[31m\0\u202e{{datum}} ${x}'
HARMLESS = '<script>alert("1")</script>&amp;&�[31m��{{datum}} ${x}'


@pytest.mark.parametrize("kind", ["periods", "names"])
def test_write_chart_hostile_text_is_text(kind: str, tmp_path: Path) -> None:
    points = [ChartPoint("shop", "model", Decimal(3)), ChartPoint(HOSTILE[:25], HOSTILE[:20], Decimal(1))]
    chart = Chart(HOSTILE, HOSTILE, kind, HOSTILE, points)  # type: ignore[arg-type] # one of the two

    svg = drawn(chart, tmp_path)

    assert {element.tag.removeprefix(SVG) for element in svg.iter()} <= {"svg", "g", "path", "line", "rect", "text", "tspan"}
    assert sorted(text for text in texts(svg) if "script" in text) == [HARMLESS[:20], HARMLESS[:25], HARMLESS, HARMLESS, HARMLESS]


@pytest.mark.parametrize("kind", ["periods", "names"])
@pytest.mark.parametrize("word", ["constructor", "__proto__", "toString"])
def test_write_chart_word_of_javascript_is_text(word: str, kind: str, tmp_path: Path) -> None:
    points = [ChartPoint(word, word, Decimal(1)), ChartPoint("shop", "model", Decimal(2))]
    chart = Chart(word, word, kind, word, points)  # type: ignore[arg-type] # one of the two

    svg = drawn(chart, tmp_path)

    assert len(bars(svg)) == 2
    assert [text.strip() for text in texts(svg) if word in text] == [word] * 5


def test_write_chart_long_texts_are_cut(tmp_path: Path) -> None:
    long = "x" * 10_000
    points = [ChartPoint(f"{long}{number}", f"{long}{number}", Decimal(1)) for number in range(20)]

    svg = drawn(Chart(long, long, "names", long, points), tmp_path)

    assert max(map(len, texts(svg))) <= 140
    assert len(bars(svg)) == 20


def test_write_chart_asks_nobody_for_anything(tmp_path: Path) -> None:
    svg = drawn(periods([point(MONDAY, "1", "http://evil.example/a.png")]), tmp_path)

    values = [value for element in svg.iter() for name, value in element.attrib.items() if name != "aria-label"]
    assert [value for value in values if "//" in value or "url(" in value or "data:" in value] == []
    assert [name for element in svg.iter() for name in element.attrib if "href" in name or name.startswith("on")] == []


def test_write_chart_png_is_twice_the_size(tmp_path: Path) -> None:
    pytest.importorskip("vl_convert")

    write_chart(periods(days(30)), tmp_path / "chart.PNG")

    head = (tmp_path / "chart.PNG").read_bytes()[:24]
    assert head[:16] == b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
    assert struct.unpack(">II", head[16:]) == (1800, 840)


def test_write_chart_file_is_the_owners_and_takes_the_place_of_another(tmp_path: Path) -> None:
    file = tmp_path / "chart.svg"
    file.write_text("old")
    file.chmod(0o644)

    drawn(periods(days(1)), tmp_path)

    assert file.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in tmp_path.iterdir()] == ["chart.svg"]


@pytest.mark.parametrize("name", ["chart.pdf", "chart", "svg"])
def test_write_chart_other_ending_says_which_there_are(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=rf"{name}: the name of a chart must end in \.svg or \.png\."):
        write_chart(periods(days(1)), tmp_path / name)

    assert list(tmp_path.iterdir()) == []


def test_write_chart_directory_is_not_there_says_so(tmp_path: Path) -> None:
    pytest.importorskip("vl_convert")

    with pytest.raises(UsageError, match="there is no directory"):
        write_chart(periods(days(1)), tmp_path / "gone" / "chart.svg")


@pytest.mark.parametrize("package", ["altair", "vl_convert"])
def test_write_chart_packages_are_not_installed_names_the_extra(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(MissingExtraError) as raised:
        write_chart(periods(days(1)), tmp_path / "chart.svg")

    assert str(raised.value) == "a chart needs altair and vl-convert-python. Run: pip install 'opencode-monitor-analytics[charts]'"
    assert list(tmp_path.iterdir()) == []


def test_charts_import_no_package_before_one_is_drawn() -> None:
    program = "import sys, opencode_monitor.exports.charts; print({'altair', 'vl_convert'} & {*sys.modules})"

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout == "set()\n"
