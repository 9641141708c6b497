"""The proof of the costs."""

from __future__ import annotations

import click

from opencode_monitor.cli.context import FOUND_SOMETHING, State, json_option
from opencode_monitor.cli.render import as_json_value, count_of, envelope, note, plain


@click.group()
def cost() -> None:
    """Prove what things cost."""


@cost.command()
@json_option
@click.pass_obj
def check(state: State, as_json: bool) -> int:
    """Compute every cost once more, by other means, and compare; exit 3 if one differs."""
    from opencode_monitor.integrity.cost_check import SHOWN_ROWS, check_costs  # noqa: PLC0415 - SQLAlchemy takes 0.5 s

    with state.sessions()() as session:
        result = check_costs(session.connection())
    wrong_sums = [one for one in result.sums if not one.agrees]
    if as_json:
        rows = [{"table": table, "rows": count, "differing": result.differing.get(table, 0)} for table, count in result.rows.items()]
        more = {
            "differences": [{"table": one.table, "key": one.key, "detail": one.detail} for one in result.differences],
            "sums": [
                {"sum": one.name, "stored_usd": as_json_value(one.stored), "recomputed_usd": as_json_value(one.recomputed)}
                for one in result.sums
            ],
        }
        totals = {"findings": result.found, "remarks": result.remark_count}
        click.echo(envelope("cost-check", rows=rows, totals=totals, more=more, warnings=result.remarks))
    else:
        for table, count in result.rows.items():
            differing = result.differing.get(table, 0)
            click.echo(f"{'FAIL' if differing else 'ok':5} {table:26} {count:>12,} rows recomputed, {differing:,} differ")
        click.echo(f"{'FAIL' if wrong_sums else 'ok':5} {'sums':26} {len(result.sums):>12,} sums recomputed, {len(wrong_sums):,} differ")
        for one in result.differences:
            click.echo(f"        {one.table} {plain(one.key)}: {plain(one.detail)}")
        hidden = sum(result.differing.values()) - len(result.differences)
        if hidden:
            click.echo(f"        … and {hidden:,} more rows")
        for wrong in wrong_sums[:SHOWN_ROWS]:
            click.echo(f"        {plain(wrong.name)}: {as_json_value(wrong.stored)} USD, should be {as_json_value(wrong.recomputed)}")
        if result.remark_count:
            said = ("call keeps the price of its own time", "calls keep the price of their own time")
            note(f"{count_of(result.remark_count, *said)}; the book of today would choose another row for them.", quiet=state.quiet)
    return FOUND_SOMETHING if result.found else 0
