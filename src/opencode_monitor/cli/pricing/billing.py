"""What you say of the bill: discounts and mark-ups, and how each provider charges."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import click

from opencode_monitor.cli.context import State, json_option, now
from opencode_monitor.cli.ranges import parse_when, to_utc
from opencode_monitor.cli.render import UNKNOWN, as_json_value, count_of, envelope, plain
from opencode_monitor.cli.statusline import renew_sums
from opencode_monitor.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from opencode_monitor.pricing.adjustments import Adjustment, Billing
    from opencode_monitor.repositories import BillingRepository, Usage


# Without it, "-1" would be an unknown option and not a multiplier that makes no sense.
@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("target", metavar="PROVIDER[/MODEL-GLOB]", required=False)
@click.argument("multiplier", required=False)
@click.option("--bucket", metavar="BUCKET", help="Only input, output, reasoning, cache-read or cache-write tokens; default: all.")
@click.option("--from", "start", metavar="WHEN", help="The first day on which it applies; default: for all time.")
@click.option("--to", "end", metavar="WHEN", help="The last day on which it applies.")
@click.option("--note", metavar="TEXT", help="Why, in your words.")
@click.option("--list", "listing", is_flag=True, help="List what there is.")
@click.option("--remove", metavar="ID", help="Remove one by its id.")
@json_option
@click.pass_obj
def adjust(
    state: State,
    target: str | None,
    multiplier: str | None,
    bucket: str | None,
    start: str | None,
    end: str | None,
    note: str | None,
    listing: bool,
    remove: str | None,
    as_json: bool,
) -> None:
    """Multiply list prices by MULTIPLIER for what you pay: 0.9 is a discount of ten per cent, 1.1 a mark-up of as much.

    All that apply to a call are multiplied. List prices and OpenCode's own figures stay as they are.
    """
    from opencode_monitor.pricing.adjustments import make_adjustment  # noqa: PLC0415 - SQLAlchemy takes 0.5 s

    if remove is not None:
        _change(state, f"Removed {remove}", lambda bills: bills.remove_adjustment(remove), None, as_json=as_json)
        return
    if listing or target is None:
        _list_adjustments(state, as_json=as_json)
        return
    if multiplier is None:
        raise UsageError(f"{target} by how much? Write: pricing adjust {target} 0.9")
    first, last = _period(state, start, end)
    adjustment = make_adjustment(target, multiplier, bucket=bucket, effective_from=first, effective_to=last, note=note)
    said = f"{target} x {adjustment.multiplier} (id {adjustment.adjustment_id})"
    _change(state, said, lambda bills: bills.add(adjustment, now=now()), adjustment, as_json=as_json)


@click.command()
@click.argument("provider", required=False)
@click.argument("kind", metavar="metered|subscription|free|local", required=False)
@click.option("--monthly-fee", metavar="USD", help="A flat fee per calendar month; shown beside the usage, never spread over calls.")
@click.option("--from", "start", metavar="WHEN", help="The first day of the period; default: for all time.")
@click.option("--to", "end", metavar="WHEN", help="The last day of the period.")
@click.option("--note", metavar="TEXT", help="Why, in your words.")
@click.option("--list", "listing", is_flag=True, help="List what there is.")
@click.option("--remove", metavar="ID", help="Remove one by its id.")
@json_option
@click.pass_obj
def billing(
    state: State,
    provider: str | None,
    kind: str | None,
    monthly_fee: str | None,
    start: str | None,
    end: str | None,
    note: str | None,
    listing: bool,
    remove: str | None,
    as_json: bool,
) -> None:
    """Say how PROVIDER (the first part of a model's id) charges: by use, by a flat fee, or nothing.

    Without a word of yours, calls are metered. Periods of one provider cannot overlap; one with the same first day takes the place of
    the old one.
    """
    from opencode_monitor.pricing.adjustments import make_billing  # noqa: PLC0415 - SQLAlchemy takes 0.5 s

    if remove is not None:
        _change(state, f"Removed {remove}", lambda bills: bills.remove_billing(remove), None, as_json=as_json)
        return
    if listing or provider is None:
        _list_billings(state, as_json=as_json)
        return
    if kind is None:
        raise UsageError(f"{provider} charges how? Write: pricing billing {provider} subscription --monthly-fee 20")
    first, last = _period(state, start, end)
    period = make_billing(provider, kind, monthly_fee=monthly_fee, effective_from=first, effective_to=last, note=note)
    said = f"{provider} is {kind} (id {period.billing_id})"
    _change(state, said, lambda bills: bills.add(period, now=now()), period, as_json=as_json)


def _period(state: State, start: str | None, end: str | None) -> tuple[datetime | None, datetime | None]:
    moment = now()
    first = None if start is None else to_utc(parse_when(start, tz=state.zone, now=moment))
    last = None if end is None else to_utc(parse_when(end, tz=state.zone, now=moment, is_end=True))
    return first, last


def _change(
    state: State,
    said: str,
    change: Callable[[BillingRepository], None],
    statement: Adjustment | Billing | None,
    *,
    as_json: bool,
) -> None:
    """Change the statements, bring what is paid up to date, and say the total before and after.

    Args:
        state: The command's.
        said: What was done, for people.
        change: Does it.
        statement: What holds now; None where one was removed.
        as_json: For programs.
    """
    from opencode_monitor.cli.importing import writing_sessions  # noqa: PLC0415 - SQLAlchemy takes 0.5 s
    from opencode_monitor.ingest.settle import recharge  # noqa: PLC0415 - as above
    from opencode_monitor.repositories import BillingRepository, CostRepository  # noqa: PLC0415 - as above

    with writing_sessions(state).begin() as session:
        before = CostRepository(session).total()
        change(BillingRepository(session))
        recharge(session.connection(), now=now())
        after = CostRepository(session).total()
    renew_sums(state)
    if as_json:
        totals = {
            "paid_cost_usd_before": before.paid_cost_usd,
            "paid_unknown_calls_before": before.paid_unknown_calls,
            "paid_cost_usd": after.paid_cost_usd,
            "paid_unknown_calls": after.paid_unknown_calls,
        }
        click.echo(envelope("pricing-bill", rows=[] if statement is None else [statement], totals=totals))
        return
    click.echo(f"{plain(said)}. Total paid {_show(before)} before, {_show(after)} now.")


def _show(usage: Usage) -> str:
    paid = UNKNOWN if usage.paid_cost_usd is None else f"${usage.paid_cost_usd.quantize(Decimal('0.000001')):f}"
    return f"{paid} ({count_of(usage.paid_unknown_calls, 'call')} unknown)"


def _list_adjustments(state: State, *, as_json: bool) -> None:
    from opencode_monitor.pricing.adjustments import BUCKET_OF_WORD, describe_period  # noqa: PLC0415 - SQLAlchemy takes 0.5 s
    from opencode_monitor.repositories import BillingRepository  # noqa: PLC0415 - as above

    with state.sessions()() as session:
        rows = BillingRepository(session).adjustments()
    if as_json:
        click.echo(envelope("price-adjustments", rows=rows))
        return
    words = {column: word for word, column in BUCKET_OF_WORD.items()}
    for row in rows:
        target = plain(row.provider + (f"/{row.model_glob}" if row.model_glob else ""))
        period = describe_period(row.effective_from, row.effective_to)
        bucket = words[row.bucket] if row.bucket else "all buckets"
        click.echo(f"{row.adjustment_id}  x {as_json_value(row.multiplier):8} {target:30} {bucket}, {period}{_note(row.note)}")
    if not rows:
        click.echo("No adjustments: you pay list prices. Add one: opencode-monitor pricing adjust PROVIDER 0.9")


def _list_billings(state: State, *, as_json: bool) -> None:
    from opencode_monitor.pricing.adjustments import describe_period  # noqa: PLC0415 - SQLAlchemy takes 0.5 s
    from opencode_monitor.repositories import BillingRepository  # noqa: PLC0415 - as above

    with state.sessions()() as session:
        rows = BillingRepository(session).billings()
    if as_json:
        click.echo(envelope("provider-billing", rows=rows))
        return
    for row in rows:
        fee = "" if row.monthly_fee_usd is None else f", ${as_json_value(row.monthly_fee_usd)} a month"
        period = describe_period(row.effective_from, row.effective_to)
        click.echo(f"{row.billing_id}  {plain(row.provider_id):20} {row.kind}{fee}, {period}{_note(row.note)}")
    if not rows:
        click.echo("Every provider is metered. Say otherwise: opencode-monitor pricing billing PROVIDER subscription --monthly-fee 20")


def _note(note: str | None) -> str:
    return f"  ({plain(note)})" if note else ""
