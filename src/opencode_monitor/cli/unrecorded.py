"""What the provider billed and OpenCode did not record: the estimates, and how reports tell of them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import click

from opencode_monitor.cli.context import State, now
from opencode_monitor.cli.options import Asked, Output, filter_options, output_options
from opencode_monitor.cli.output import Report, View, emit
from opencode_monitor.cli.pricing.common import price_book, show_exact
from opencode_monitor.cli.ranges import to_utc
from opencode_monitor.cli.render import as_json_value, count_of, envelope, plain, show_tokens, show_usd
from opencode_monitor.errors import UsageError
from opencode_monitor.pricing.tokens import BUCKETS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import tzinfo

    from opencode_monitor.models import StepEvent, UnrecordedCall
    from opencode_monitor.repositories import CostNumber, OrphanSpend, UnrecordedSpend

_CALLS_SHOWN = 30
_ID_CHARS = 16
_MODEL_CHARS = 32
_KINDS = {
    "title": "titles",
    "message_title": "titles of messages",
    "cut": "cut off",
    "failed": "failed after they had begun",
    "unmetered": "without usage from the provider",
    "lost_step": "steps of old versions",
}
_FIELDS = (
    "unrecorded_id",
    "session_id",
    "message_id",
    "kind",
    "model_id",
    "created_at",
    *BUCKETS,
    "estimated_cost_usd",
    "price_id",
    "method",
    "method_version",
)
_ORPHANS = "Recorded, and in no sum: the message that named the model is gone, or cannot be read"
_ORPHAN_FIELDS = (
    "step_id",
    "session_id",
    "message_id",
    "created_at",
    *BUCKETS,
    "reported_cost_usd",
)


@click.command()
@filter_options("model", "provider", "agent", "project", "session")
@click.option("--limit", type=click.IntRange(min=1), help=f"At most so many calls. Default: {_CALLS_SHOWN} in the table, else all.")
@click.option("--reprice", is_flag=True, help="Price all estimates anew by today's book, and show their total before and after.")
@output_options
@click.pass_obj
def unrecorded(state: State, asked: Asked, limit: int | None, reprice: bool, output: Output) -> None:
    """Show what OpenCode did not record and the provider bills: titles, and calls that were cut off. Estimates, in no other sum.

    Below them, the calls whose message is gone or cannot be read: recorded, and in no sum, as nothing says which model they were of.
    """
    if reprice:
        if limit is not None or asked != Asked(patterns=dict.fromkeys(asked.patterns, ())):
            raise UsageError("--reprice prices all estimates: leave out ranges, filters and --limit.")
        _reprice(state, as_json=output.format == "json")
        return
    from opencode_monitor.repositories import OrphanRepository, TimeRange, UnrecordedRepository  # noqa: PLC0415 - SQLAlchemy takes 0.5 s

    zone, report_range = state.zone, asked.resolve(state)
    shown = limit if limit is not None or not output.is_table else _CALLS_SHOWN
    with state.sessions()() as session:
        estimates, filters = UnrecordedRepository(session), asked.filters(session)
        time_range = TimeRange(to_utc(report_range.start), to_utc(report_range.end))
        total = estimates.total(time_range, filters=filters)
        kinds = estimates.by_kind(time_range, filters=filters)
        calls = estimates.calls(time_range, filters=filters)[:shown]
        rows = [{name: getattr(call, name) for name in _FIELDS} for call in calls]
        orphans = OrphanRepository(session)
        lost, steps = orphans.total(time_range, filters=filters), orphans.calls(time_range, filters=filters, limit=shown)
        without_message = [{name: as_json_value(getattr(step, name)) for name in _ORPHAN_FIELDS} for step in steps]
        view = _view(calls, kinds, zone) if calls else None
        after: list[str | View] = [_ORPHANS, _orphan_view(steps, lost, zone)] if steps else []
    of_kinds = {kind: {name: as_json_value(value) for name, value in dataclasses.asdict(spend).items()} for kind, spend in kinds.items()}
    all_calls = total.estimated_unrecorded_calls + lost.calls
    left_out = f"the latest {len(calls) + len(steps):,} of {all_calls:,} calls; all with --json"
    report = Report(
        schema="unrecorded",
        head=f"Estimated, not recorded · {report_range.describe()} · {report_range.tz}{plain(asked.describe())} · list prices, USD",
        view=view,
        empty=asked.describe_nothing("Nothing that OpenCode did not record", "matches", report_range),
        rows=rows,
        totals={
            **dataclasses.asdict(total),
            "kinds": of_kinds,
            "without_message": {name: as_json_value(value) for name, value in dataclasses.asdict(lost).items()},
        },
        after=after,
        report_range=report_range,
        warnings=[("", left_out)] if all_calls > len(calls) + len(steps) else [],
        more={"without_message": without_message},
    )
    emit(report, output, quiet=state.quiet)


def _view(calls: Sequence[UnrecordedCall], kinds: Mapping[str, UnrecordedSpend], zone: tzinfo) -> View:
    names, numbers = ("Session", "At", "Kind", "Model", "Method"), ("In", "Out", "≈ Cost")
    return View(
        [*((title, "left") for title in names), *((title, "right") for title in numbers)],
        [
            [
                plain(call.session_id[:_ID_CHARS]),
                call.created_at.astimezone(zone).strftime("%m-%d %H:%M") if call.created_at else "",
                plain(call.kind),
                plain(call.model_id, _MODEL_CHARS),
                plain(call.method),
                show_tokens(call.input_tokens + call.cache_read_tokens + call.cache_write_tokens),
                show_tokens(call.output_tokens),
                show_usd(call.estimated_cost_usd),
            ]
            for call in calls
        ],
        [
            [
                "Total",
                count_of(spend.estimated_unrecorded_calls, "call"),
                plain(kind),
                "",
                "",
                "",
                "",
                show_usd(spend.estimated_unrecorded_usd),
            ]
            for kind, spend in kinds.items()
        ],
    )


def _orphan_view(steps: Sequence[StepEvent], total: OrphanSpend, zone: tzinfo) -> View:
    """Return the table of the calls without a message: what they cost is OpenCode's own figure, as there is no other."""
    names, numbers = ("Session", "At", "Message"), ("In", "Out", "Reported")

    def sums(one: StepEvent | OrphanSpend) -> list[str]:
        prompt = (one.input_tokens, one.cache_read_tokens, one.cache_write_tokens)
        answer = (one.output_tokens, one.reasoning_tokens)
        return [*(show_tokens(sum(count or 0 for count in counts)) for counts in (prompt, answer)), show_usd(one.reported_cost_usd)]

    is_partly_known = total.reported_cost_usd is not None and total.unreported_calls
    *tokens, usd = sums(total)
    return View(
        [*((title, "left") for title in names), *((title, "right") for title in numbers)],
        [
            [
                plain(step.session_id[:_ID_CHARS]),
                step.created_at.astimezone(zone).strftime("%m-%d %H:%M") if step.created_at else "",
                plain(step.message_id),
                *sums(step),
            ]
            for step in steps
        ],
        [["Total", count_of(total.calls, "call"), "", *tokens, f"≥ {usd}" if is_partly_known else usd]],
    )


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
        click.echo(f"{name}: {usd} for {count_of(one.estimated_unrecorded_calls, 'call')}{unpriced}")


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
    text = (
        f"{usd} more{where} for {count_of(calls, 'call')} that OpenCode did not record ({shares}{unpriced}): an estimate, not in the cost"
    )
    return [("≈", text)]


def describe_orphans(total: OrphanSpend | None) -> list[tuple[str, str]]:
    """Return the remark of a report on the calls whose message is gone or cannot be read, with its mark; none where there are none.

    Args:
        total: Those of the report's range; None where it is not about calls.
    """
    if total is None or not total.calls:
        return []
    known = total.reported_cost_usd
    usd = "" if known is None else f" ({'at least ' if total.unreported_calls else ''}{show_usd(known)} by OpenCode)"
    one, many = "call whose message is gone or cannot be read is", "calls whose messages are gone or cannot be read are"
    return [("", f"{count_of(total.calls, one, many)} in no sum{usd}: opencode-monitor unrecorded --last all")]


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


def sum_kinds(calls: Sequence[UnrecordedCall]) -> dict[str, UnrecordedSpend]:
    """Return the sums of some estimates by kind."""
    return {kind: sum_estimates([call for call in calls if call.kind == kind]) for kind in sorted({call.kind for call in calls})}
