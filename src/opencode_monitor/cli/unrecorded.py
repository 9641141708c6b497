"""What the provider billed and OpenCode did not record: the estimates, and how reports tell of them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from opencode_monitor.cli.context import State, json_option, now, range_options
from opencode_monitor.cli.pricing.common import price_book, show_exact
from opencode_monitor.cli.ranges import resolve_range, to_utc
from opencode_monitor.cli.render import as_json_value, console, envelope, note, plain, show_tokens, show_usd, table
from opencode_monitor.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from opencode_monitor.models import UnrecordedCall
    from opencode_monitor.repositories import CostNumber, UnrecordedSpend, Usage

_CALLS_SHOWN = 30
_ID_CHARS = 16
_MODEL_CHARS = 32
_KINDS = {
    "title": "titles",
    "message_title": "titles of messages",
    "cut": "cut off",
    "failed": "failed after they had begun",
    "unmetered": "without usage from the provider",
}
_FIELDS = (
    "unrecorded_id",
    "session_id",
    "message_id",
    "kind",
    "model_id",
    "created_at",
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "estimated_cost_usd",
    "price_id",
    "method",
    "method_version",
)


@click.command()
@range_options
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    help=f"At most so many rows. Default: {_CALLS_SHOWN} in the table, all with --json.",
)
@click.option("--reprice", is_flag=True, help="Price all estimates anew by today's book, and show their total before and after.")
@json_option
@click.pass_obj
def unrecorded(
    state: State, since: str | None, until: str | None, last: str | None, limit: int | None, reprice: bool, as_json: bool
) -> None:
    """Show what OpenCode did not record and the provider bills: titles, and calls that were cut off. Estimates, in no other sum."""
    if reprice:
        if (since, until, last, limit) != (None, None, None, None):
            raise UsageError("--reprice prices all estimates: leave out --since, --until, --last and --limit.")
        _reprice(state, as_json=as_json)
        return
    from opencode_monitor.repositories import TimeRange, UnrecordedRepository  # noqa: PLC0415 - SQLAlchemy takes 0.5 s

    zone = state.zone
    report_range = resolve_range(since=since, until=until, last=last, tz=zone, now=now())
    if limit is None and not as_json:
        limit = _CALLS_SHOWN
    with state.sessions()() as session:
        estimates = UnrecordedRepository(session)
        time_range = TimeRange(to_utc(report_range.start), to_utc(report_range.end))
        total = estimates.total(time_range)
        kinds = estimates.by_kind(time_range)
        calls = estimates.calls(time_range)[:limit]
        rows = [{name: getattr(call, name) for name in _FIELDS} for call in calls]
    if as_json:
        of_kinds = {
            kind: {name: as_json_value(value) for name, value in dataclasses.asdict(spend).items()} for kind, spend in kinds.items()
        }
        totals = {**dataclasses.asdict(total), "kinds": of_kinds}
        click.echo(envelope("unrecorded", rows=rows, totals=totals, report_range=report_range.as_json(), tz=report_range.tz))
        return
    output = console()
    output.print(f"Estimated, not recorded · {report_range.describe()} · {report_range.tz} · list prices, USD")
    if not calls:
        output.print("Nothing that OpenCode did not record in this range. Look further back with --last all")
        return
    shown = table(
        [
            ("Session", "left"),
            ("At", "left"),
            ("Kind", "left"),
            ("Model", "left"),
            ("Method", "left"),
            ("In", "right"),
            ("Out", "right"),
            ("≈ Cost", "right"),
        ]
    )
    for call in calls:
        shown.add_row(
            plain(call.session_id[:_ID_CHARS]),
            call.created_at.astimezone(zone).strftime("%m-%d %H:%M") if call.created_at else "",
            plain(call.kind),
            plain(call.model_id, _MODEL_CHARS),
            plain(call.method),
            show_tokens(call.input_tokens + call.cache_read_tokens + call.cache_write_tokens),
            show_tokens(call.output_tokens),
            show_usd(call.estimated_cost_usd),
        )
    shown.add_section()
    for kind, spend in kinds.items():
        usd = show_usd(spend.estimated_unrecorded_usd)
        shown.add_row("Total", _count(spend.estimated_unrecorded_calls), plain(kind), "", "", "", "", usd, style="bold")
    output.print(shown)
    if total.estimated_unrecorded_calls > len(calls):
        note(f"the latest {len(calls):,} of {total.estimated_unrecorded_calls:,} calls; all with --json", quiet=state.quiet)


def _reprice(state: State, *, as_json: bool) -> None:
    from opencode_monitor.ingest.unrecorded import estimate_sessions  # noqa: PLC0415 - SQLAlchemy takes 0.5 s
    from opencode_monitor.repositories import TimeRange, UnrecordedRepository  # noqa: PLC0415 - as above

    with price_book(state) as session:
        estimates = UnrecordedRepository(session)
        before = estimates.total(TimeRange())
        estimate_sessions(session.connection(), None, now=now(), with_usual=True, again=True)
        after = estimates.total(TimeRange())
    if as_json:
        totals = {"before": before, "after": after}
        shown = {name: {key: as_json_value(value) for key, value in dataclasses.asdict(one).items()} for name, one in totals.items()}
        click.echo(envelope("unrecorded-reprice", rows=[], totals=shown))
        return
    for name, one in (("Before", before), ("After", after)):
        unpriced = f", {one.unpriced_estimates:,} without a price" if one.unpriced_estimates else ""
        usd = show_exact(one.estimated_unrecorded_usd)
        click.echo(f"{name}: {usd} for {_count(one.estimated_unrecorded_calls)}{unpriced}")


def describe_estimates(total: UnrecordedSpend, kinds: Mapping[str, UnrecordedSpend], number: CostNumber) -> list[tuple[str, str]]:
    """Return the remark of a report on what is beside its cost, with its mark; none where there is nothing.

    Args:
        total: What was estimated in the report's range.
        kinds: The same by kind.
        number: What the report's own cost is: estimates are at list price whatever it is.
    """
    calls = total.estimated_unrecorded_calls
    if not calls:
        return []
    shares = ", ".join(f"{_KINDS.get(kind, plain(kind))} {spend.estimated_unrecorded_calls:,}" for kind, spend in kinds.items())
    unpriced = f"; {total.unpriced_estimates:,} without a price" if total.unpriced_estimates else ""
    usd = show_usd(total.estimated_unrecorded_usd)
    where = "" if number == "list" else " at list price"
    text = f"{usd} more{where} for {_count(calls)} that OpenCode did not record ({shares}{unpriced}): an estimate, not in the cost"
    return [("≈", text)]


def _count(calls: int) -> str:
    return f"{calls:,} call" if calls == 1 else f"{calls:,} calls"


def add_estimates(
    rows: Sequence[Usage], key: str, estimates: Mapping[Any, UnrecordedSpend], empty: type[Usage] | None
) -> list[dict[str, Any]]:
    """Return the rows of a report as objects with the estimates of the same group beside the cost.

    Args:
        rows: The report's.
        key: The name of what each row is the sum of: its day, model, agent, project or session.
        estimates: By the same keys.
        empty: The type of the row that a group gets which has estimates and no recorded call; None where there is none to add.
    """
    from opencode_monitor.repositories import NO_USAGE, NOTHING_UNRECORDED  # noqa: PLC0415 - SQLAlchemy takes 0.5 s

    shown = {getattr(row, key) for row in rows}
    groups = sorted((group for group in estimates if group not in shown), key=lambda group: (group is None, str(group)))
    nothing = dataclasses.asdict(NO_USAGE)
    added = [] if empty is None else [empty(**{**nothing, key: group}) for group in groups]
    return [
        {**dataclasses.asdict(row), **dataclasses.asdict(estimates.get(getattr(row, key), NOTHING_UNRECORDED))} for row in (*rows, *added)
    ]


def sum_estimates(calls: Sequence[UnrecordedCall]) -> UnrecordedSpend:
    """Return the sum of some estimates."""
    from opencode_monitor.repositories import NOTHING_UNRECORDED, UnrecordedSpend  # noqa: PLC0415 - SQLAlchemy takes 0.5 s

    if not calls:
        return NOTHING_UNRECORDED
    known = [call.estimated_cost_usd for call in calls if call.estimated_cost_usd is not None]
    return UnrecordedSpend(
        estimated_unrecorded_usd=sum(known[1:], known[0]) if known else None,
        estimated_unrecorded_calls=len(calls),
        unpriced_estimates=len(calls) - len(known),
    )
