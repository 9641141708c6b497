"""The types of the rows that sums come in, and of rows by dimensions that no class of its own is written for."""

from __future__ import annotations

from dataclasses import dataclass, fields, make_dataclass
from datetime import date, datetime
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING, Any

from opencode_monitor.metrics.dimensions import DIMENSIONS
from opencode_monitor.metrics.measures import CostNumber

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens and cost of some calls; money in USD.

    Attributes:
        sessions: Sessions with a call of their own among them.
        calls: Model calls with recorded usage; copies made by a fork are left out here and in every sum.
        input_tokens: Uncached prompt tokens.
        cache_read_tokens: Prompt tokens read from the provider's cache.
        cache_write_tokens: Prompt tokens written to it.
        output_tokens: Visible output.
        reasoning_tokens: Reasoning, beside the output.
        cost_usd: At list price; None where there are calls and none has a price, "at least" where some have none.
        reported_cost_usd: As OpenCode stored it; None where there are calls and it stored a cost for none of them.
        paid_cost_usd: Out of pocket, flat fees left out; None where there are calls and it is known for none of them.
        unpriced_calls: Calls without a price.
        unreported_calls: Calls for which OpenCode stored no cost.
        paid_unknown_calls: Calls of which nobody can say what was paid: metered ones without a price.
        copied_calls: Calls that a fork copied.
        unrecorded_calls: Calls stored without usage: failed, cut off, or still running.
    """

    sessions: int
    calls: int
    input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    reasoning_tokens: int
    cost_usd: Decimal | None
    reported_cost_usd: Decimal | None
    paid_cost_usd: Decimal | None
    unpriced_calls: int
    unreported_calls: int
    paid_unknown_calls: int
    copied_calls: int
    unrecorded_calls: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PartUsage:
    """Tokens and cost of what some parts were made with; money in USD.

    Attributes:
        parts: How many parts of assistant messages; those that a fork copied are left out here and in every sum.
        input_tokens: Their share of the uncached prompt tokens of their calls.
        cache_read_tokens: Of the prompt tokens read from the provider's cache.
        cache_write_tokens: Of the prompt tokens written to it.
        output_tokens: Of the visible output.
        reasoning_tokens: Of the reasoning.
        cost_usd: At list price; None where none of the parts has a known cost, "at least" where some have none.
        reported_cost_usd: Of what OpenCode stored; None and "at least" as above.
        paid_cost_usd: Out of pocket, flat fees left out; None and "at least" as above.
        unpriced_parts: Parts of calls without a price.
        unreported_parts: Parts of calls for which OpenCode stored no cost.
        paid_unknown_parts: Parts of calls of which nobody can say what was paid.
    """

    parts: int
    input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    reasoning_tokens: int
    cost_usd: Decimal | None
    reported_cost_usd: Decimal | None
    paid_cost_usd: Decimal | None
    unpriced_parts: int
    unreported_parts: int
    paid_unknown_parts: int


def nothing(sums: type[Any]) -> dict[str, Any]:
    """Return the sums over nothing: each field of a class of sums with 0, of money in Decimal."""
    return {field.name: Decimal(0) if field.name.endswith("_usd") else 0 for field in fields(sums)}


NO_USAGE = Usage(**nothing(Usage))
"""The sums over no calls."""

NO_PART_USAGE = PartUsage(**nothing(PartUsage))
"""The sums over no parts."""

_COSTS = tuple((number.field, number.unknown_field) for number in CostNumber)
_COUNTS = tuple(field.name for field in fields(Usage) if field.name not in {name for name, _ in _COSTS})


def sum_usage(rows: Iterable[Usage]) -> Usage:
    """Return the sum over rows that have no call in common; `sessions` of it is right if they have no session in common either.

    A cost is the sum of what is known of it: None only where there are calls and it is known for none.

    Args:
        rows: The rows; of a class below `Usage` only its sums are looked at.
    """
    added = list(rows)
    sums: dict[str, Any] = {name: sum(getattr(row, name) for row in added) for name in _COUNTS}
    for name, unknown in _COSTS:
        is_unknown = 0 < sums[unknown] == sums["calls"]
        known = (usd for row in added if (usd := getattr(row, name)) is not None)
        sums[name] = None if is_unknown else sum(known, Decimal(0))
    return Usage(**sums)


def with_sums(totals: Usage | PartUsage, sums: Mapping[str, Any]) -> Usage | PartUsage:
    """Return totals with further sums: beside their own, or in the place of one of the same name.

    Args:
        totals: The totals.
        sums: The further sums, by name.
    """
    own = {field.name: getattr(totals, field.name) for field in fields(totals)}
    made: Usage | PartUsage = _summed_type(type(totals), tuple(sums))(**own | dict(sums))  # type: ignore[arg-type] # as for `row_type`
    return made


@cache
def _summed_type(totals: type[Any], names: tuple[str, ...]) -> type[Any]:
    added = [(name, Any) for name in names]
    return make_dataclass(f"Summed{totals.__name__}", added, bases=(totals,), frozen=True, slots=True, kw_only=True)


_VALUES: dict[str, Any] = {"text": str, "day": date | None, "instant": datetime | None}


def row_type(sums: type[Any], *dimensions: str) -> type[Any]:
    """Return the class of the rows by some dimensions.

    Args:
        sums: `Usage` or `PartUsage`.
        dimensions: Their names.

    Returns:
        A frozen dataclass with the fields of the sums and one for each dimension, named by its `key`.
    """
    made: type[Any] = _row_type(sums, dimensions)  # type: ignore[arg-type] # mypy takes a class for something without a hash
    return made


@cache
def _row_type(sums: type[Any], dimensions: tuple[str, ...]) -> type[Any]:
    keys = [(DIMENSIONS[name].key, _VALUES[DIMENSIONS[name].kind]) for name in dimensions]
    words = "And".join(name.title().replace("-", "") for name in dimensions)
    return make_dataclass(f"{sums.__name__}By{words}", keys, bases=(sums,), frozen=True, slots=True, kw_only=True)
