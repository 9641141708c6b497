"""One message, and one part: how the cost of each came about. No text of theirs is shown."""

from __future__ import annotations

import dataclasses
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click

from opencode_monitor.cli.context import COST_TITLES, State, cost_option
from opencode_monitor.cli.costliest import part_object, share, show_file
from opencode_monitor.cli.options import Output, output_options
from opencode_monitor.cli.output import Report, View, emit
from opencode_monitor.cli.render import UNKNOWN, as_json_value, plain
from opencode_monitor.cli.unrecorded import describe_estimates, sum_estimates, sum_kinds
from opencode_monitor.cli.usage_report import describe_calls, describe_unknown

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import tzinfo

    from sqlalchemy.orm import Session as DatabaseSession

    from opencode_monitor.models import Message, Part
    from opencode_monitor.repositories import CostNumber, PartShare, StepPrice, StepUsage, Usage

_ID_CHARS = 16
_NAME_CHARS = 20
_PRICES = {
    "input_tokens": ("Input", "input_usd_per_mtok"),
    "cache_read_tokens": ("Cache rd", "cache_read_usd_per_mtok"),
    "cache_write_tokens": ("Cache wr", "cache_write_usd_per_mtok"),
    "output_tokens": ("Output", "output_usd_per_mtok"),
    "reasoning_tokens": ("Reason", "reasoning_usd_per_mtok"),
}
_BLANK = [""] * (len(_PRICES) + 2)
_WORDS = {"list": "list price", "reported": "as OpenCode stored it", "paid": "out of pocket"}
_MESSAGE_FIELDS = ("message_id", "session_id", "role", "agent", "model_id", "created_at", "cost_basis", "copied_from", "error_name")
_COPY = "a copy made by a fork: it was paid with its original"


@click.command()
@click.argument("message_id")
@cost_option
@output_options
@click.pass_obj
def message(state: State, message_id: str, cost: str | None, output: Output) -> None:
    """Show one message by its id or the beginning of it: its calls with the price of each, and its parts, which sum to it exactly."""
    from opencode_monitor.repositories import BreakdownRepository, MessageRepository  # noqa: PLC0415 - SQLAlchemy takes 0.5 s

    number = state.cost_number(cost)
    with state.sessions()() as database:
        found = MessageRepository(database).find(message_id)
        steps, parts = BreakdownRepository(database).steps(found.message_id), BreakdownRepository(database).parts(found.message_id)
        whole = _cost_of(found, number)
        report = Report(
            schema="message",
            head=f"Message {_describe(found, state.zone)} · {COST_TITLES[number]}",
            view=_message_view(found, steps, parts, number) if parts else None,
            empty="No part of it is stored.",
            rows=[part_object(part, share(getattr(part, number.field), whole)) for part in parts],
            totals=_message_object(found),
            warnings=_warnings(database, found, number),
            more={"cost": number.value, "steps": [_step_object(step) for step in steps]},
        )
    emit(report, output, quiet=state.quiet)


@click.command()
@click.argument("part_id")
@cost_option
@output_options
@click.pass_obj
def part(state: State, part_id: str, cost: str | None, output: Output) -> None:
    """Show one part by its id or the beginning of it, and how its cost came about: its step's, shared by what the model wrote."""
    from opencode_monitor.repositories import BreakdownRepository, MessageRepository, PartRepository  # noqa: PLC0415 - SQLAlchemy takes 0.5 s

    number = state.cost_number(cost)
    with state.sessions()() as database:
        found = PartRepository(database).find(part_id)
        breakdown = BreakdownRepository(database)
        of_message = breakdown.parts(found.message_id) if found.message_id else []
        own = next((one for one in of_message if one.part_id == found.part_id), None)
        steps = breakdown.steps(found.message_id) if found.message_id else []
        step = next((one for one in steps if own is not None and one.step_number == own.step_number), None)
        above = MessageRepository(database).get(found.message_id or "")
        where = f"of message {_describe(above, state.zone)}" if above else "of no stored message"
        whole = None if step is None else _cost_of(step, number)
        report = Report(
            schema="part",
            head=f"Part {plain(found.part_id)} · {_name(found, own)} · {where} · {COST_TITLES[number]}",
            view=_part_view(own, step, len(steps), number) if own is not None and own.is_of_call and step is not None else None,
            empty=_why_nothing(above, own),
            rows=[] if own is None else [part_object(own, share(_cost_of(own, number), whole))],
            totals=None if above is None else _message_object(above),
            warnings=[] if above is None else _warnings(database, above, number),
            more={"cost": number.value, "step": None if step is None else _step_object(step)},
        )
    emit(report, output, quiet=state.quiet)


def _cost_of(one: Message | StepUsage | PartShare, number: CostNumber) -> Decimal | None:
    """Return one of the three numbers of a message, a step or a part."""
    name = "message_cost_usd" if number == "list" and hasattr(one, "message_cost_usd") else number.field
    cost: Decimal | None = getattr(one, name)
    return cost


def _describe(found: Message, zone: tzinfo) -> str:
    at = f"{found.created_at.astimezone(zone):%Y-%m-%d %H:%M:%S %Z}" if found.created_at else None
    said = (found.message_id, found.role, found.agent, found.model_id, at, f"session {found.session_id}")
    return " · ".join(plain(text) for text in said if text)


def _name(found: Part, own: PartShare | None) -> str:
    """Name a part by what it is; never by what it says."""
    said = (found.part_type, own.tool if own else None, show_file(own.files) if own else None, own.status if own else None)
    return " ".join(plain(text) for text in said if text)


def _why_nothing(above: Message | None, own: PartShare | None) -> str:
    if above is not None and above.copied_from:
        return f"It is {_COPY}."
    if above is None or own is None or not own.is_of_call:
        return "No call made it, so it has no cost of its own; what sending it cost: opencode-monitor carried"
    return "Its message has no step whose cost could be shared."


def _message_object(found: Message) -> dict[str, Any]:
    return {
        **{name: getattr(found, name) for name in _MESSAGE_FIELDS},
        **{name: getattr(found, name) for name in _PRICES},
        "calls": found.call_count or 0,
        "cost_usd": found.message_cost_usd,
        "reported_cost_usd": found.reported_cost_usd,
        "paid_cost_usd": found.paid_cost_usd,
    }


def _step_object(step: StepUsage) -> dict[str, Any]:
    values = dataclasses.asdict(step)
    price = None if step.price is None else {name: as_json_value(value) for name, value in values["price"].items()}
    return {**{name: as_json_value(value) for name, value in values.items()}, "price": price}


def _warnings(database: DatabaseSession, found: Message, number: CostNumber) -> list[tuple[str, str]]:
    from opencode_monitor.repositories import NO_USAGE, CostRepository, UnrecordedRepository  # noqa: PLC0415 - SQLAlchemy takes 0.5 s

    usage: dict[str, Usage] = {row.message_id: row for row in CostRepository(database).by_message([found.session_id])}
    own = usage.get(found.message_id, NO_USAGE)
    nameless = 0 if found.model_id else own.unpriced_calls
    calls = [call for call in UnrecordedRepository(database).of_sessions([found.session_id]) if call.message_id == found.message_id]
    return [
        *(("≥", text) for text in describe_unknown(own, number, nameless)),
        *describe_calls(own),
        *describe_estimates(sum_estimates(calls), sum_kinds(calls), number),
    ]


def _exact(usd: Decimal | None) -> str:
    """Show USD to its last digit, as the parts of a sum have to be; unknown is a dash."""
    return UNKNOWN if usd is None else f"${as_json_value(usd)}"


def _tokens(one: Any) -> list[str]:
    return ["" if getattr(one, name) is None else f"{getattr(one, name):,}" for name in _PRICES]


def _message_view(found: Message, steps: Sequence[StepUsage], parts: Sequence[PartShare], number: CostNumber) -> View:
    whole = _cost_of(found, number)

    def cost(one: StepUsage | PartShare) -> list[str]:
        usd = _cost_of(one, number)
        percent = share(usd, whole)
        return [_exact(usd), "" if percent is None else f"{percent:.1f}%"]

    def of_part(one: PartShare) -> list[str]:
        return [_part_name(one), *([*_tokens(one), *cost(one)] if one.is_of_call else _BLANK)]

    rows: list[list[str]] = []
    for step in steps:
        rows.append([f"step {step.step_number} of {len(steps)}", *_tokens(step), *cost(step)])
        rows += _price_rows(step.price, is_copy=found.copied_from is not None)
        rows += [of_part(one) for one in parts if one.step_number == step.step_number]
    rows += [of_part(one) for one in parts if one.step_number is None]
    headers = [("", "left"), *((title, "right") for title in (*(title for title, _ in _PRICES.values()), "Cost", "Share"))]
    return View(headers, rows, [["Message", *_tokens(found), _exact(whole) if found.call_count or whole else "", ""]])


def _part_name(one: PartShare) -> str:
    """Name a part by its id and what it is; never by what it says."""
    if one.part_id is None:
        return "  (no part)"
    said = (one.part_id[:_ID_CHARS], one.tool or one.part_type, show_file(one.files, _NAME_CHARS))
    return "  " + " ".join(plain(text, _NAME_CHARS) for text in said if text)


def _price_rows(price: StepPrice | None, *, is_copy: bool) -> list[list[str]]:
    """Say which row of the price book priced a call, and what that charges."""
    if price is None:
        return [[f"  {_COPY}" if is_copy else "  no price", *_BLANK]]
    found = [getattr(price, name) for _, name in _PRICES.values()]
    mode = "" if price.mode == "standard" else f" {price.mode}"
    tier = f" above {price.min_context_tokens:,} tokens" if price.min_context_tokens else ""
    # A price without a beginning holds from the first instant that the book knows.
    since = f" from {price.effective_from:%Y-%m-%d}" if price.effective_from.timestamp() else ""
    return [
        [plain(f"  price of {price.vendor}/{price.model}{mode}{tier}"), *_BLANK],
        [plain(f"  USD per million, {price.source}{since}"), *(UNKNOWN if usd is None else as_json_value(usd) for usd in found), "", ""],
    ]


def _part_view(own: PartShare, step: StepUsage, steps: int, number: CostNumber) -> View:
    """Return how a part's cost came about: tokens of its step times their price, and the part's share of that."""
    rows = []
    for name, (title, price_name) in _PRICES.items():
        tokens = getattr(step, name) or 0
        usd = None if step.price is None else getattr(step.price, price_name)
        cost = Decimal(0) if not tokens else None if usd is None else tokens * usd.scaleb(-6)
        rows.append([title, f"{tokens:,}", UNKNOWN if usd is None else as_json_value(usd), _exact(cost), f"{getattr(own, name):,}"])
    name = f"Step {step.step_number} of {steps}"
    totals = [[f"{name}, list price", "", "", _exact(step.cost_usd), ""]]
    if number != "list":
        totals.append([f"{name}, {_WORDS[number]}", "", "", _exact(_cost_of(step, number)), ""])
    weight = "what the others leave" if own.is_step else f"{own.written_chars:,} of {own.step_chars:,} characters"
    totals.append([f"This part, {weight}", "", "", _exact(_cost_of(own, number)), ""])
    headers = (
        ("", "left"),
        ("Tokens of the step", "right"),
        ("USD per million", "right"),
        ("Cost", "right"),
        ("Tokens of the part", "right"),
    )
    return View(headers, rows, totals)
