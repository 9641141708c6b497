"""The price book as values: dated prices, and the cells that they come down to.

A `PricePeriod` is one row of the book, as a vendor or a user states it. Periods overlap: a price change does not end
the row before it, a long-context tier lies over the base price, a user's own price lies over both. `price_cells`
flattens the periods of one model into `PriceCell`s that do not overlap, so that pricing a call is a plain range
comparison, in SQL too.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time
from decimal import Decimal, InvalidOperation
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, TypeVar, get_args

from opencode_monitor.errors import PriceUsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

Mode = Literal["standard", "batch", "priority", "flex", "fast"]
Source = Literal["user", "plan", "vendor-notice", "genai-prices", "opencode-cache"]
Status = Literal["confirmed", "assumed", "provisional"]
MODES: tuple[Mode, ...] = get_args(Mode)

# Where several rows hold at once. A notice of ours stands over the catalogue, as it is there because the catalogue is
# wrong or lacks it; OpenCode's own list, undated and now and then wrong, stands under it and prices what it lacks; the
# plan's example rows stand under both, as they are older.
PRECEDENCE: dict[Source, int] = {"user": 100, "vendor-notice": 30, "genai-prices": 20, "opencode-cache": 15, "plan": 10}

BEGIN = datetime(1970, 1, 1, tzinfo=UTC)
END = datetime(9999, 12, 31, tzinfo=UTC)
NO_CONTEXT = -1
MAX_CONTEXT = 10**18
MINUTES_OF_DAY = 24 * 60

# Before these instants the vendor sold no tokens: GitHub Copilot counted premium requests until it moved to AI credits.
TOKENS_SOLD_SINCE = {"github-copilot": datetime(2026, 6, 1, tzinfo=UTC)}

MAX_USD_PER_MTOK = Decimal(10_000)
# USD per token are kept at 12 decimals; a million tokens make that 6.
PRICE_DECIMALS = 6

_Bound = TypeVar("_Bound")
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketPrices:
    """One price for each bucket, USD per million tokens; the buckets are those of `PricePeriod`."""

    input: Decimal | None
    output: Decimal | None
    reasoning: Decimal | None = None
    cache_read: Decimal | None = None
    cache_write_5m: Decimal | None = None
    cache_write_1h: Decimal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PricePeriod:
    """What one model costs under one condition, as its source states it.

    Prices are USD per million tokens; None means that the source names no such price, which is not a price of 0.

    Attributes:
        price_id: Unique, and the same whenever the row is made again.
        vendor: OpenCode's provider id.
        model: The book's own id of the model.
        mode: The processing mode that the prices are for.
        min_context_tokens: 0 for the base price; a tier's prices hold for prompts of strictly more tokens than this.
        effective_from: First instant at which the prices hold.
        effective_to: First instant at which they no longer hold; None if a later row simply takes over.
        daily_from_minute: Start of a daily window, in minutes of the UTC day; None for all day.
        daily_to_minute: End of that window, exclusive; smaller than its start where the window spans midnight.
        input_usd_per_mtok: Prompt tokens that no cache served.
        output_usd_per_mtok: Tokens of the answer.
        reasoning_usd_per_mtok: Tokens of thinking; None if they cost what the answer costs.
        cache_read_usd_per_mtok: Prompt tokens served from a cache.
        cache_write_5m_usd_per_mtok: Prompt tokens written to a cache that lives five minutes.
        cache_write_1h_usd_per_mtok: Prompt tokens written to a cache that lives an hour.
        source: Who says so.
        source_version: Which edition of the source.
        status: `provisional` rows were announced and not yet seen in force: they never price anything.
        precedence: Of the rows that hold at once, the highest wins.
        recorded_at: When the book got the row; None for a row outside of the book, or from before it kept that. Of rows
            that differ in nothing but prices and end, the one recorded last takes the place of the others.
    """

    price_id: str
    vendor: str
    model: str
    mode: Mode
    min_context_tokens: int
    effective_from: datetime
    effective_to: datetime | None
    daily_from_minute: int | None
    daily_to_minute: int | None
    input_usd_per_mtok: Decimal | None
    output_usd_per_mtok: Decimal | None
    reasoning_usd_per_mtok: Decimal | None
    cache_read_usd_per_mtok: Decimal | None
    cache_write_5m_usd_per_mtok: Decimal | None
    cache_write_1h_usd_per_mtok: Decimal | None
    source: Source
    source_version: str
    status: Status
    precedence: int
    recorded_at: datetime | None = None

    @property
    def place(self) -> tuple[str, str, str, int, datetime, int | None, str]:
        """What tells the row from every row but its own earlier and later editions."""
        return (
            self.vendor,
            self.model,
            self.mode,
            self.min_context_tokens,
            self.effective_from,
            self.daily_from_minute,
            self.source,
        )

    @property
    def charge(self) -> tuple[Decimal | datetime | int | None, ...]:
        """What the row charges, and until when: what never changes once the row is in the book."""
        return (
            self.input_usd_per_mtok,
            self.output_usd_per_mtok,
            self.reasoning_usd_per_mtok,
            self.cache_read_usd_per_mtok,
            self.cache_write_5m_usd_per_mtok,
            self.cache_write_1h_usd_per_mtok,
            self.daily_to_minute,
            self.effective_to,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceCell:
    """The one price of a model for a range of times, prompt sizes and minutes of the day.

    Holds where `valid_from <= time < valid_to`, `min_context_tokens < context <= max_context_tokens` and
    `from_minute <= minute of the UTC day < to_minute`. No bound is ever empty: SQL needs no case for an open end.
    Prices are USD per token; None means that the winning row names no price for that bucket.

    Attributes:
        vendor: The winning row's vendor.
        model: The winning row's model.
        price_id: The row of the book that wins here.
        valid_from: Inclusive, UTC.
        valid_to: Exclusive, UTC.
        min_context_tokens: Exclusive; -1 for the lowest cell, as a prompt of 0 tokens has a price too.
        max_context_tokens: Inclusive.
        from_minute: Inclusive.
        to_minute: Exclusive.
        input_usd_per_token: Prompt tokens that no cache served.
        cache_read_usd_per_token: Prompt tokens served from a cache.
        cache_write_usd_per_token: Prompt tokens written to a five-minute cache: OpenCode's default, and it stores no
            split by lifetime.
        output_usd_per_token: Tokens of the answer.
        reasoning_usd_per_token: Tokens of thinking, at the answer's price where the row names none.
    """

    vendor: str
    model: str
    price_id: str
    valid_from: datetime
    valid_to: datetime
    min_context_tokens: int
    max_context_tokens: int
    from_minute: int
    to_minute: int
    input_usd_per_token: Decimal | None
    cache_read_usd_per_token: Decimal | None
    cache_write_usd_per_token: Decimal | None
    output_usd_per_token: Decimal | None
    reasoning_usd_per_token: Decimal | None


def make_period(
    vendor: str,
    model: str,
    prices: BucketPrices,
    *,
    source: Source,
    source_version: str,
    mode: Mode = "standard",
    min_context_tokens: int = 0,
    effective_from: datetime = BEGIN,
    effective_to: datetime | None = None,
    daily: tuple[int, int] | None = None,
    status: Status = "confirmed",
) -> PricePeriod:
    """Make one row of the book.

    Its id is made of what tells the row from every other row, so that seeding twice makes the same rows.

    Args:
        vendor: OpenCode's provider id.
        model: The book's own id of the model.
        prices: USD per million tokens.
        source: Who says so; decides the precedence.
        source_version: Which edition of the source.
        mode: The processing mode that the prices are for.
        min_context_tokens: The tier's threshold, 0 for the base price.
        effective_from: First instant at which the prices hold; aware.
        effective_to: First instant at which they no longer hold.
        daily: The daily window in minutes of the UTC day, if there is one.
        status: How sure it is.
    """
    since = effective_from.astimezone(UTC)
    day = f"{since:%Y-%m-%d}" if since.time() == time() else f"{since:%Y-%m-%dT%H:%M:%SZ}"
    window = "" if daily is None else f"|{_clock(daily[0])}-{_clock(daily[1])}"
    return PricePeriod(
        price_id=f"{vendor}/{model}|{mode}|{min_context_tokens}|{day}{window}|{source}",
        vendor=vendor,
        model=model,
        mode=mode,
        min_context_tokens=min_context_tokens,
        effective_from=since,
        effective_to=None if effective_to is None else effective_to.astimezone(UTC),
        daily_from_minute=None if daily is None else daily[0],
        daily_to_minute=None if daily is None else daily[1],
        input_usd_per_mtok=prices.input,
        output_usd_per_mtok=prices.output,
        reasoning_usd_per_mtok=prices.reasoning,
        cache_read_usd_per_mtok=prices.cache_read,
        cache_write_5m_usd_per_mtok=prices.cache_write_5m,
        cache_write_1h_usd_per_mtok=prices.cache_write_1h,
        source=source,
        source_version=source_version,
        status=status,
        precedence=PRECEDENCE[source],
    )


def user_period(
    vendor: str,
    model: str,
    *,
    input: Decimal | int | str,  # noqa: A002 - the bucket's name, and the word on the command line
    output: Decimal | int | str,
    cache_read: Decimal | int | str | None = None,
    cache_write: Decimal | int | str | None = None,
    cache_write_1h: Decimal | int | str | None = None,
    reasoning: Decimal | int | str | None = None,
    mode: str = "standard",
    min_context_tokens: int = 0,
    effective_from: datetime | None = None,
    effective_to: datetime | None = None,
) -> PricePeriod:
    """Make a price row of the user's own, which wins over every other source for any prompt size.

    Args:
        vendor: OpenCode's provider id.
        model: The model's id.
        input: USD per million tokens, as all prices here.
        output: The answer's price.
        cache_read: Price of prompt tokens served from a cache; None leaves calls with such tokens unpriced.
        cache_write: Price of prompt tokens written to a five-minute cache; None likewise.
        cache_write_1h: Price of prompt tokens written to a one-hour cache.
        reasoning: Price of thinking; None for the answer's price.
        mode: The processing mode that it is for.
        min_context_tokens: 0, or the threshold of a tier of the user's own.
        effective_from: First instant; None for as far back as there is usage.
        effective_to: First instant no longer covered.

    Raises:
        PriceUsageError: For a price that is negative, no number, above 10,000 USD, or finer than can be stored exactly; for an
            unknown mode, and times that make no period.
    """
    if not vendor or not model:
        raise PriceUsageError(f"{vendor}/{model} names no model: write vendor/model as OpenCode does")
    if not 0 <= min_context_tokens < MAX_CONTEXT:
        raise PriceUsageError(f"{vendor}/{model}: a tier cannot start at {min_context_tokens} tokens")
    known_mode = next((known for known in MODES if known == mode), None)
    if known_mode is None:
        raise PriceUsageError(f"{vendor}/{model}: there is no mode {mode!r}.", hint=f"Use one of {', '.join(MODES)}")
    since = BEGIN if effective_from is None else effective_from
    for instant in (since, effective_to):
        if instant is not None and instant.tzinfo is None:
            raise PriceUsageError(f"{vendor}/{model}: {instant.isoformat()} has no time zone")
    if effective_to is not None and effective_to <= since:
        raise PriceUsageError(f"{vendor}/{model}: the price would end at {effective_to.isoformat()}, before it begins")
    what = f"{vendor}/{model}: the"
    return make_period(
        vendor,
        model,
        BucketPrices(
            input=checked_price(input, f"{what} input price"),
            output=checked_price(output, f"{what} output price"),
            reasoning=checked_price(reasoning, f"{what} reasoning price"),
            cache_read=checked_price(cache_read, f"{what} cache read price"),
            cache_write_5m=checked_price(cache_write, f"{what} cache write price"),
            cache_write_1h=checked_price(cache_write_1h, f"{what} one-hour cache write price"),
        ),
        source="user",
        source_version="user",
        mode=known_mode,
        min_context_tokens=min_context_tokens,
        effective_from=since,
        effective_to=effective_to,
    )


def current_rows(periods: Iterable[PricePeriod]) -> list[PricePeriod]:
    """Return the rows that no later edition replaced, in a fixed order; the others are in the book for the calls that they priced."""
    latest: dict[tuple[object, ...], PricePeriod] = {}
    for row in sorted(periods, key=lambda row: (row.recorded_at or BEGIN, row.price_id)):
        latest[row.place] = row
    return sorted(latest.values(), key=lambda row: row.price_id)


def price_cells(periods: Iterable[PricePeriod], *, mode: Mode | None = "standard") -> list[PriceCell]:
    """Flatten the prices of one model into cells that do not overlap.

    A row that was recorded again with another price is passed over for its last edition. Of the rows that hold at some
    point, the one with the highest precedence wins; then the latest `effective_from`, as a change of price replaces all
    tiers of the old one; then a daily window over an all-day price; then the highest tier. A point that no row covers
    lies in no cell.

    Args:
        periods: What prices one model of OpenCode's: the rows of the entry that it resolves to, and rows under its own
            name. Provisional rows are passed over.
        mode: Rows of other modes are passed over; None where the caller chose the rows.
    """
    rows = current_rows(row for row in periods if mode in (None, row.mode) and row.status != "provisional")
    ends = {row.effective_to for row in rows if row.effective_to is not None}
    times = sorted({BEGIN, END, *(row.effective_from for row in rows), *ends})
    contexts = sorted({NO_CONTEXT, MAX_CONTEXT, *(_above(row) for row in rows)})
    windows = {minute for row in rows for minute in (row.daily_from_minute, row.daily_to_minute) if minute is not None}
    minutes = sorted({0, MINUTES_OF_DAY, *windows})

    # Between two bounds nothing changes, so one point of each box stands for all of it; equal neighbours become one.
    def by_minute(at: datetime, context: int) -> tuple[tuple[int, int, PricePeriod | None], ...]:
        return _runs(minutes, lambda minute: _winner(rows, at, context, minute))

    def by_context(at: datetime) -> tuple[tuple[int, int, tuple[tuple[int, int, PricePeriod | None], ...]], ...]:
        return _runs(contexts, lambda above: by_minute(at, above + 1))

    return [
        _cell(row, times=(valid_from, valid_to), contexts=(above, up_to), minutes=(from_minute, to_minute))
        for valid_from, valid_to, tiers in _runs(times, by_context)
        for above, up_to, day in tiers
        for from_minute, to_minute, row in day
        if row is not None
    ]


def rows_in_force(periods: Iterable[PricePeriod], at: datetime) -> list[PricePeriod]:
    """Return the rows that price a call made at some time: for each mode of each model one, or one for each tier and window.

    Args:
        periods: Rows of any models.
        at: The time; aware.
    """
    by_model: dict[tuple[str, str, str], list[PricePeriod]] = {}
    for row in periods:
        by_model.setdefault((row.vendor, row.model, row.mode), []).append(row)
    return [
        row
        for rows in by_model.values()
        for row in rows
        if row.price_id in {cell.price_id for cell in price_cells(rows, mode=None) if cell.valid_from <= at < cell.valid_to}
    ]


def find_cell(cells: Iterable[PriceCell], at: datetime, context_tokens: int) -> PriceCell | None:
    """Find the cell that prices one call.

    Args:
        cells: Cells of one model.
        at: When the call was made; aware.
        context_tokens: The whole prompt, cached tokens included: what tiers are chosen by.
    """
    minute = _minute_of_day(at)
    for cell in cells:
        if (
            cell.valid_from <= at < cell.valid_to
            and cell.min_context_tokens < context_tokens <= cell.max_context_tokens
            and cell.from_minute <= minute < cell.to_minute
        ):
            return cell
    return None


def _winner(rows: Iterable[PricePeriod], at: datetime, context: int, minute: int) -> PricePeriod | None:
    holding = (row for row in rows if _holds(row, at, context, minute))
    # The id last, so that the answer never depends on the order of the rows.
    return max(
        holding,
        key=lambda row: (
            row.precedence,
            row.effective_from,
            row.daily_from_minute is not None,
            row.min_context_tokens,
            row.price_id,
        ),
        default=None,
    )


def _holds(row: PricePeriod, at: datetime, context: int, minute: int) -> bool:
    if at < row.effective_from or (row.effective_to is not None and at >= row.effective_to):
        return False
    if context <= _above(row):
        return False
    start, end = row.daily_from_minute, row.daily_to_minute
    if start is None or end is None:
        return True
    return start <= minute < end if start <= end else minute >= start or minute < end


def _above(row: PricePeriod) -> int:
    """The number of tokens that a prompt must exceed: none at all for a base price."""
    return row.min_context_tokens if row.min_context_tokens > 0 else NO_CONTEXT


def _runs(bounds: Sequence[_Bound], value_at: Callable[[_Bound], _Value]) -> tuple[tuple[_Bound, _Bound, _Value], ...]:
    """Cut a range at its bounds, and join neighbours of one value again."""
    runs: list[tuple[_Bound, _Bound, _Value]] = []
    for low, high in pairwise(bounds):
        value = value_at(low)
        if runs and runs[-1][2] == value:
            runs[-1] = (runs[-1][0], high, value)
        else:
            runs.append((low, high, value))
    return tuple(runs)


def _cell(row: PricePeriod, *, times: tuple[datetime, datetime], contexts: tuple[int, int], minutes: tuple[int, int]) -> PriceCell:
    output = _per_token(row.output_usd_per_mtok)
    reasoning = _per_token(row.reasoning_usd_per_mtok)
    return PriceCell(
        vendor=row.vendor,
        model=row.model,
        price_id=row.price_id,
        valid_from=times[0],
        valid_to=times[1],
        min_context_tokens=contexts[0],
        max_context_tokens=contexts[1],
        from_minute=minutes[0],
        to_minute=minutes[1],
        input_usd_per_token=_per_token(row.input_usd_per_mtok),
        cache_read_usd_per_token=_per_token(row.cache_read_usd_per_mtok),
        cache_write_usd_per_token=_per_token(row.cache_write_5m_usd_per_mtok),
        output_usd_per_token=output,
        reasoning_usd_per_token=output if reasoning is None else reasoning,
    )


def _per_token(usd_per_mtok: Decimal | None) -> Decimal | None:
    """Move the decimal point by six places, which is exact where a division need not be."""
    return None if usd_per_mtok is None else usd_per_mtok.scaleb(-6)


def checked_price(value: Decimal | int | str | None, what: str) -> Decimal | None:
    """Read a price that a user states, USD per million tokens; None stays None.

    Args:
        value: The price.
        what: What it is the price of, as an error names it.

    Raises:
        PriceUsageError: It is negative, no number, above 10,000 USD, or finer than can be stored exactly.
    """
    if value is None:
        return None
    try:
        price = Decimal(value)
    except InvalidOperation:
        raise PriceUsageError(f"{what} {value!r} is not a number") from None
    if not price.is_finite():
        raise PriceUsageError(f"{what} {value} is not a finite number")
    if price < 0:
        raise PriceUsageError(f"{what} {value} is negative")
    if price > MAX_USD_PER_MTOK:
        raise PriceUsageError(f"{what} {value} is above {MAX_USD_PER_MTOK} USD per million tokens: is it per token?")
    if price != round(price, PRICE_DECIMALS):
        raise PriceUsageError(f"{what} {value} has more than {PRICE_DECIMALS} decimals, which cannot be stored exactly")
    return price


def _minute_of_day(at: datetime) -> int:
    utc = at.astimezone(UTC)
    return utc.hour * 60 + utc.minute


def _clock(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"
