"""Which rows of the price book price a model: those of an alias of the user's, or what a rule finds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import sqlalchemy as sa

from opencode_monitor.models import Model, ModelAlias, PricePeriodRow
from opencode_monitor.pricing.book import PERIOD_COLUMNS, as_period, stored_periods
from opencode_monitor.pricing.catalog import PriceCell, PricePeriod, price_cells
from opencode_monitor.pricing.current import MAKERS
from opencode_monitor.pricing.seeds import Entry, is_other_list, resolve_model, seed_periods

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import date, datetime


def load_cells(connection: sa.Connection) -> list[tuple[str, PriceCell]]:
    """Return the prices of all models in use, as (model_id, cell); the cells of a model do not overlap."""
    own = sa.and_(PricePeriodRow.vendor == Model.vendor, PricePeriodRow.model == Model.model_name)
    target = sa.and_(PricePeriodRow.vendor == ModelAlias.price_vendor, PricePeriodRow.model == ModelAlias.price_model)
    rows = connection.execute(
        sa.select(
            Model.vendor,
            Model.model_name,
            ModelAlias.price_vendor,
            ModelAlias.price_model,
            ModelAlias.mode,
            ModelAlias.source,
            *(getattr(PricePeriodRow, column) for column in PERIOD_COLUMNS),
        )
        .select_from(Model)
        .join(ModelAlias, ModelAlias.model_id == Model.model_id, isouter=True)
        .join(PricePeriodRow, sa.or_(own, target))
    ).all()
    periods: dict[Match, list[PricePeriod]] = {}
    for vendor, name, price_vendor, price_model, mode, alias_source, *values in rows:
        entry = None if price_vendor is None else Entry(price_vendor, price_model, mode or "standard")
        match = Match(vendor, name, entry, is_users=alias_source == "user")
        periods.setdefault(match, []).append(as_period(values))
    return [
        (f"{match.vendor}/{match.model}", cell) for match, found in periods.items() for cell in price_cells(match.choose(found), mode=None)
    ]


@dataclass(frozen=True, slots=True)
class Match:
    """What prices a model as OpenCode names it.

    Attributes:
        vendor: Its vendor.
        model: Its name.
        entry: The entry of the book that an alias or a rule found for it.
        is_users: Whether the alias is the user's.
    """

    vendor: str
    model: str
    entry: Entry | None
    is_users: bool

    @property
    def names(self) -> frozenset[tuple[str, str]]:
        """The vendor and name of each entry of the book whose rows `choose` looks at."""
        own = (self.vendor, self.model)
        return frozenset((own, own if self.entry is None else self.entry[:2]))

    def choose(self, rows: Sequence[PricePeriod]) -> list[PricePeriod]:
        """Choose the rows that price the model, out of those under its own name and those of the entry.

        The user's own rows for the name stand beside whatever was found. Other rows for the name do unless a user's alias
        leads away from them; where a rule leads to another provider's list, they come instead of it.
        """
        own = (self.vendor, self.model)
        if self.entry is None or self.entry[:2] == own:
            mode = "standard" if self.entry is None else self.entry.mode
            of_mode = [row for row in rows if (row.vendor, row.model) == own and row.mode == mode]
            if mode == "standard" or any(row.source == "user" for row in of_mode):
                return of_mode
            # The user's own price for the name comes before the list's price of the mode.
            return of_mode + [row for row in rows if (row.vendor, row.model, row.mode, row.source) == (*own, "standard", "user")]
        named = [row for row in rows if (row.vendor, row.model) == own and row.mode == "standard"]
        found = [row for row in rows if (row.vendor, row.model) != own and row.mode == self.entry.mode]
        users = [row for row in named if row.source == "user"]
        if self.is_users:
            return users + found
        if is_other_list(self.vendor, self.entry.vendor) and len(named) > len(users):
            return named
        # A mode written into the name has the list's own rows of it; those under the name are what OpenCode adds up itself.
        return named + found


def find_periods(model: str, *, at: datetime, connection: sa.Connection | None = None) -> list[PricePeriod]:
    """Return the rows that price one model, all of the mode that its calls are made in; those that were replaced are among them.

    Args:
        model: "vendor/model" as OpenCode writes it; without a vendor, the name of a model at its maker.
        at: The time that "announced" is judged by, for the packaged prices.
        connection: Where to look; the packaged prices where absent.
    """
    vendor, name = _split(model)
    if connection is None:
        entry = resolve_model(vendor, name)
        return [row for row in _packaged(at.date()) if (row.vendor, row.model, row.mode) == entry]
    return find_all_periods(connection, [model])[model]


def find_all_periods(connection: sa.Connection, models: Collection[str]) -> dict[str, list[PricePeriod]]:
    """Return, by model, what `find_periods` does for each of some models; two questions ask for all of them.

    Args:
        connection: Any connection to the book.
        models: As for `find_periods`.
    """
    matches = find_matches(connection, [_split(model) for model in models])
    vendors = {vendor for match in matches for vendor, _ in match.names}
    names = {name for match in matches for _, name in match.names}
    # Of each vendor that is asked for, the rows of all the names: which ones are meant is told below.
    rows = stored_periods(connection, PricePeriodRow.vendor.in_(vendors), PricePeriodRow.model.in_(names))
    return {
        model: match.choose([row for row in rows if (row.vendor, row.model) in match.names])
        for model, match in zip(models, matches, strict=True)
    }


def _split(model: str) -> tuple[str, str]:
    """Return the vendor and the name of a model; without a vendor, its maker."""
    vendor, slash, name = model.partition("/")
    return (vendor, name) if slash else next(((maker, model) for maker in MAKERS if resolve_model(maker, model)), ("", model))


def find_matches(connection: sa.Connection, models: Collection[tuple[str, str]]) -> list[Match]:
    """Find what prices each of some models, in their order.

    Args:
        connection: Any connection to the book.
        models: OpenCode's provider id and model id of each.
    """
    statement = sa.select(ModelAlias.model_id, ModelAlias.price_vendor, ModelAlias.price_model, ModelAlias.mode, ModelAlias.source).where(
        ModelAlias.model_id.in_([f"{vendor}/{model}" for vendor, model in models])
    )
    aliases = {row.model_id: row for row in connection.execute(statement).all()}
    matches = []
    for vendor, model in models:
        alias = aliases.get(f"{vendor}/{model}")
        if alias is None:
            matches.append(Match(vendor, model, resolve_model(vendor, model), is_users=False))
        else:
            entry = Entry(alias.price_vendor, alias.price_model, alias.mode or "standard")
            matches.append(Match(vendor, model, entry, is_users=alias.source == "user"))
    return matches


def find_cells(model: str, *, at: datetime, connection: sa.Connection | None = None) -> list[PriceCell]:
    """Return the cells that price one model; arguments as for `find_periods`."""
    return price_cells(find_periods(model, at=at, connection=connection), mode=None)


@lru_cache(maxsize=4)
def _packaged(day: date) -> tuple[PricePeriod, ...]:
    return tuple(seed_periods(day))
