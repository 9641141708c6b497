"""Which days and sessions cost more than usual, and why."""

from __future__ import annotations

import dataclasses
from datetime import datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

import click

from opencode_monitor.cli.context import COST_TITLES, FOUND_SOMETHING, State, cost_option, now
from opencode_monitor.cli.options import Asked, Output, filter_options, output_options
from opencode_monitor.cli.output import Report, View, emit
from opencode_monitor.cli.ranges import ReportRange
from opencode_monitor.cli.render import as_json_value, console, count_of, end_of, plain, show_usd
from opencode_monitor.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from zoneinfo import ZoneInfo

    from opencode_monitor.reports.anomalies import Finding, Judgement, Scope

_SCOPES = ("total", "project", "model", "agent", "session")
_DEFAULT_MIN_USD = "1"
_DRIVERS = 3
_NAME_CHARS = 36
_WIDE = 100
_TITLE_CHARS = 22
_ID_CHARS = 16  # as in `sessions`: enough for `session` to find it


@click.command()
@filter_options("model", "provider", "agent", "project")
@click.option(
    "--by",
    "by",
    type=click.Choice([*_SCOPES, "all"]),
    multiple=True,
    help="Judge the total, each project, model or agent for itself, or sessions among each other; repeatable. Default: total.",
)
@click.option(
    "--detector",
    type=click.Choice(["robust", "sigma", "ratio"]),
    default="robust",
    show_default=True,
    help="The rule: median and its spread by weekdays and weekends, mean + 2 standard deviations, or twice the median.",
)
@click.option(
    "--sensitivity",
    type=click.Choice(["low", "medium", "high"]),
    default="medium",
    show_default=True,
    help="How strict the rule is.",
)
@click.option("--min-usd", metavar="USD", default=_DEFAULT_MIN_USD, show_default=True, help="Leave out what is less above the expected.")
@click.option(
    "--drivers",
    type=click.IntRange(min=0),
    default=_DRIVERS,
    show_default=True,
    help="How many projects, models, agents and sessions to name for each.",
)
@cost_option
@click.option("--exit-code", is_flag=True, help="Exit with 3 when something is found.")
@output_options
@click.pass_obj
def anomalies(
    state: State,
    asked: Asked,
    by: tuple[str, ...],
    detector: str,
    sensitivity: str,
    min_usd: str,
    drivers: int,
    cost: str | None,
    exit_code: bool,
    output: Output,
) -> None:
    """Show the days that cost more than usual, and what made the difference. See docs/reports.md.

    Whole days are judged, in your time zone; today is marked: its cost can only grow.
    """
    from opencode_monitor.reports.anomalies import Scope  # noqa: PLC0415 - SQLAlchemy takes 0.5 s
    from opencode_monitor.reports.detectors import Detector, Sensitivity, Settings  # noqa: PLC0415 - as above
    from opencode_monitor.reports.reading import find_anomalies  # noqa: PLC0415 - as above
    from opencode_monitor.repositories import SpendRepository  # noqa: PLC0415 - as above

    zone, moment, number = state.zone, now(), state.cost_number(cost)
    settings = Settings(detector=Detector(detector), sensitivity=Sensitivity(sensitivity), min_usd=read_usd("--min-usd", min_usd))
    scopes = [Scope(one) for one in (_SCOPES if "all" in by else dict.fromkeys(by or ("total",)))]
    report_range = whole_days(asked.resolve(state), zone)
    end = report_range.end.date() if report_range.end else moment.astimezone(zone).date() + timedelta(days=1)
    with state.sessions()() as session:
        found = find_anomalies(
            session,
            scopes=scopes,
            first=report_range.start.date() if report_range.start else None,
            end=end,
            now=moment,
            tz=zone,
            settings=settings,
            cost_number=number,
            filters=asked.filters(session),
            limit=drivers,
        )
        repository = SpendRepository(session)
        titles = repository.titles(sessions_of(found))
        warnings = judgement_warnings(found, scopes, repository.calls_without_time(), number.value)
    about = f"Anomalies · {report_range.describe()} · {report_range.tz}{plain(asked.describe())} · {COST_TITLES[number]}"
    rule = f"Rule: {detector}, {sensitivity}, at least {show_usd(settings.min_usd)} above the expected"
    report = Report(
        schema="anomalies",
        head=f"{about}\n{rule}",
        view=_view(found, titles, output) if found.findings else None,
        empty="Nothing unusual in this range." if found.judged else "Nothing to judge in this range: no spend, or not enough history.",
        rows=[finding_object(finding, titles) for finding in found.findings],
        totals={"findings": len(found.findings), "judged": found.judged},
        report_range=report_range,
        warnings=warnings,
        more={
            "cost": number.value,
            "by": [scope.value for scope in scopes],
            "detector": detector,
            "sensitivity": sensitivity,
            "min_usd": as_json_value(settings.min_usd),
            "unjudged": [dataclasses.asdict(one) for one in found.unjudged],
        },
    )
    emit(report, output, quiet=state.quiet)
    if exit_code and found.findings:
        raise SystemExit(FOUND_SOMETHING)


def read_usd(option: str, text: str) -> Decimal:
    """Return an amount that somebody gave.

    Args:
        option: Its option, for the message.
        text: What was given.

    Raises:
        UsageError: It is no amount of 0 or more.
    """
    try:
        usd = Decimal(text.strip().removeprefix("$").replace(",", ""))
    except InvalidOperation:
        usd = Decimal(-1)
    if not usd.is_finite() or usd < 0:
        raise UsageError(f"{option} {text!r} is not an amount in USD.", hint="Use 5 or 0.50.")
    return usd


def whole_days(report_range: ReportRange, zone: ZoneInfo) -> ReportRange:
    """Widen a range to whole days of the zone; its ends may have been given in another one."""
    start, end = report_range.start, report_range.end
    first = start.astimezone(zone).date() if start else None
    last = (end.astimezone(zone) - timedelta(microseconds=1)).date() if end else None
    return ReportRange(
        datetime.combine(first, time(), tzinfo=zone) if first else None,
        datetime.combine(last + timedelta(days=1), time(), tzinfo=zone) if last else None,
        report_range.tz,
    )


def sessions_of(found: Judgement) -> set[str]:
    """Return the ids of all sessions that findings and their drivers name."""
    keys = {finding.key for finding in found.findings if finding.scope == "session" and finding.key is not None}
    return keys | {row.key for finding in found.findings for drivers in finding.drivers if drivers.by == "session" for row in drivers.rows}


def finding_object(finding: Finding, titles: Mapping[str, str]) -> dict[str, Any]:
    """Return a finding as JSON has it, its drivers by dimension."""

    def with_title(by: str, key: str | None) -> dict[str, Any]:
        return {"title": titles.get(key or "")} if by == "session" else {}

    drivers = {
        one.by.value: {
            "rows": [
                {**{name: as_json_value(value) for name, value in dataclasses.asdict(row).items()}, **with_title(one.by, row.key)}
                for row in one.rows
            ],
            "other_usd": as_json_value(one.other_usd),
        }
        for one in finding.drivers
    }
    return {**dataclasses.asdict(finding), **with_title(finding.scope, finding.key), "drivers": drivers}


def _view(found: Judgement, titles: Mapping[str, str], output: Output) -> View:
    is_wide = console(to_file=output.file is not None).width >= _WIDE
    headers = ("", "Actual", "Expected", "Usual" if is_wide else "Usual to", "Impact", "Score")
    rows = [row for finding in found.findings for row in _rows(finding, titles, is_wide=is_wide)]
    return View(
        [(title, "right" if number else "left") for number, title in enumerate(headers)],
        rows,
        leaders=frozenset(number for number, (name, *_) in enumerate(rows) if not name.startswith(" ")),
    )


def _rows(finding: Finding, titles: Mapping[str, str], *, is_wide: bool) -> Iterator[tuple[str, ...]]:
    """Yield a finding, and below it its drivers, whose differences sum to its impact in each dimension."""
    is_least = finding.unknown_calls > 0
    mark = "≈ " if finding.baseline_unknown_calls else "≥ " if is_least else ""
    upper = show_usd(finding.upper_usd)
    yield (
        f"{finding.day}{'' if finding.is_complete else ' *'} {_name(finding.scope.value, finding.key, titles)}",
        ("≥ " if is_least else "") + show_usd(finding.actual_usd),
        ("≥ " if finding.baseline_unknown_calls else "") + show_usd(finding.expected_usd),
        f"{show_usd(finding.lower_usd)}-{upper}" if is_wide else upper,
        mark + _signed(finding.impact_usd),
        "" if finding.score is None else f"{finding.score:,.1f}",
    )
    for drivers in finding.drivers:
        for row in drivers.rows:
            at_least = "≥ " if row.unknown_calls and row.actual_usd is not None else ""
            impact = show_usd(None) if row.impact_usd is None else at_least + _signed(row.impact_usd)
            name = f"  {_name(drivers.by.value, row.key, titles)}"
            yield name, at_least + show_usd(row.actual_usd), show_usd(row.usual_usd), "", impact, ""
        if drivers.rows and drivers.other_usd:
            yield f"  {drivers.by}: all others", "", "", "", _signed(drivers.other_usd), ""


def _name(by: str, key: str | None, titles: Mapping[str, str]) -> str:
    if key is None:
        return by
    if by == "session":
        return f"{plain(key[:_ID_CHARS])} {plain(titles.get(key), _TITLE_CHARS)}".rstrip()
    return f"{by} {end_of(plain(key), _NAME_CHARS)}"


def _signed(usd: Decimal) -> str:
    return f"{'-' if usd < 0 else '+'}{show_usd(abs(usd))}"


def judgement_warnings(found: Judgement, scopes: Sequence[Scope], without_time: int, number: str) -> list[tuple[str, str]]:
    """Return what a reader must know, each with the mark that points to it from the table."""
    said = list(_unjudged(found, scopes))
    unknown = sum(finding.unknown_calls for finding in found.findings)
    baseline = sum(finding.baseline_unknown_calls for finding in found.findings)
    missing = "OpenCode stored no cost for them" if number == "reported" else "no price: opencode-monitor pricing missing"
    if any(not finding.is_complete for finding in found.findings):
        said.insert(0, ("*", "today, incomplete"))
    if unknown:
        said.append(("≥", f"at least: the cost of {count_of(unknown, 'call')} is not known ({missing})"))
    if baseline:
        not_known = f"the cost of {count_of(baseline, 'call')} is not known ({missing})"
        said.append(("≈", f"the expected is at least so much, and the impact may be less: {not_known}"))
    if without_time:
        said.append(("", f"{count_of(without_time, 'call')} of unknown time: in no day"))
    return said


def _unjudged(found: Judgement, scopes: Sequence[Scope]) -> Iterator[tuple[str, str]]:
    """Say what was not judged, the many projects, models or agents of one kind in one line."""
    from opencode_monitor.reports.detectors import MIN_ACTIVE_DAYS, MIN_PEERS  # noqa: PLC0415 - as in the command

    for scope in scopes:
        for reason in dict.fromkeys(one.reason for one in found.unjudged):
            rows = [one for one in found.unjudged if (one.scope, one.reason) == (scope, reason)]
            count, most = sum(one.count for one in rows), max((one.history for one in rows), default=0)
            if not rows:
                continue
            what = count_of(count, "session" if scope == "session" else "day")
            if scope not in ("session", "total"):
                what += f" of {count_of(len(rows), scope)}"
            if reason == "unknown cost":
                yield "", f"{scope}: {what} not judged: the cost of none of the calls is known, which is not 0"
                continue
            needs = f"{MIN_ACTIVE_DAYS} days with spend" if scope != "session" else f"{MIN_PEERS} sessions on {MIN_ACTIVE_DAYS} days"
            yield "", f"{scope}: not enough history for {what} (needs {needs} before, has {most:,} at most)"
