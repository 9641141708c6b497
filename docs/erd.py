"""Draw the tables: the Mermaid block of docs/schema.md, and docs/schema.svg. Both follow from the models.

    python docs/erd.py            write both
    python docs/erd.py --check    write nothing, and exit with 1 when one is stale

The picture has a layout of its own, so that drawing needs no Graphviz and no browser: a table stands one column to the right of the table
that it refers to, and one without a foreign key stands with its relatives where there is room.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import defaultdict
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy.dialects import postgresql

from opencode_monitor.models import Base

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import sqlalchemy as sa

_FOLDER = Path(__file__).parent
_BEGIN, _END = "<!-- erd:begin -->", "<!-- erd:end -->"

_ROW = 17
_HEAD = 26
_PADDING = 10
_BOX = 306
_LANE = 84
_GAP = 20
_MARGIN = 24
_LEGEND = 46
# The groups' colours read on white and on black; what differs between the two stands in the style sheet.
_COLOURS = {"usage": "#2563eb", "parts": "#0f766e", "metrics": "#7c3aed", "pricing": "#b45309", "ingest": "#64748b"}
_OTHER_COLOUR = "#9f1239"
_STYLE = """
    svg { font: 12px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
    .page { fill: #ffffff; } .box { fill: #f8fafc; stroke: #94a3b8; } .line { fill: none; stroke: #64748b; stroke-width: 1.3; }
    .dot { fill: #64748b; } .name { fill: #0f172a; } .key { font-weight: 700; } .type, .mark { fill: #64748b; }
    .head { fill: #ffffff; font-weight: 700; }
    @media (prefers-color-scheme: dark) {
      .page { fill: #0d1117; } .box { fill: #161b22; stroke: #475569; } .line { stroke: #94a3b8; } .dot { fill: #94a3b8; }
      .name { fill: #e6edf3; } .type, .mark { fill: #94a3b8; }
    }
"""


@dataclass(frozen=True)
class _Box:
    """A table's place in the picture."""

    table: sa.Table
    x: int
    y: int

    def row(self, column: sa.Column[object]) -> int:
        """Return the middle of a column's row."""
        return self.y + _HEAD + _ROW * list(self.table.columns).index(column) + _ROW // 2


def _height(table: sa.Table) -> int:
    return _HEAD + _ROW * len(table.columns) + 4


def _type_name(column: sa.Column[object]) -> str:
    """Return the first word of a column's type, such as `numeric`."""
    compiled: str = column.type.compile(postgresql.dialect())  # type: ignore[no-untyped-call] # SQLAlchemy leaves its dialects untyped
    return re.split(r"[ (]", compiled)[0].lower()


def _marks(column: sa.Column[object]) -> list[str]:
    return [mark for mark, holds in (("PK", column.primary_key), ("FK", column.foreign_keys)) if holds]


def _tables() -> list[sa.Table]:
    """Return all tables, the ones that others refer to first, and their names in the order of the alphabet."""
    return list(Base.metadata.sorted_tables)


def draw_mermaid(tables: Sequence[sa.Table]) -> str:
    """Return the diagram as Mermaid source."""
    lines = ["```mermaid", "erDiagram"]
    for table in tables:
        for key in sorted(table.foreign_keys, key=lambda key: key.parent.name):
            one = "|o" if key.parent.nullable else "||"
            many = "o|" if key.parent.primary_key else "o{"
            lines.append(f'    {key.column.table.name} {one}--{many} {table.name} : "{key.parent.name}"')
    for table in tables:
        columns = (f"        {_type_name(column)} {column.name} {', '.join(_marks(column))}".rstrip() for column in table.columns)
        lines += [f"    {table.name} {{", *columns, "    }"]
    return "\n".join([*lines, "```"])


def draw_svg(tables: Sequence[sa.Table]) -> str:
    """Return the diagram as a picture."""
    groups = _groups()
    boxes = _place(tables, groups)
    width = max(box.x for box in boxes.values()) + _BOX + _MARGIN
    height = max(box.y + _height(box.table) for box in boxes.values()) + _MARGIN
    body = [*_legend(groups, boxes), *_lines(boxes), *(line for box in boxes.values() for line in _box(box, groups))]
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">',
            "  <title>The tables of opencode-monitor and their foreign keys</title>",
            f"  <style>{_STYLE}  </style>",
            f'  <rect class="page" width="{width}" height="{height}"/>',
            *(f"  {line}" for line in body),
            "</svg>\n",
        )
    )


def _groups() -> dict[str, str]:
    """Return for each table the module that its model stands in."""
    return {mapper.local_table.name: mapper.class_.__module__.rpartition(".")[2] for mapper in Base.registry.mappers}  # type: ignore[attr-defined] # a mapped class has a Table


def _place(tables: Sequence[sa.Table], groups: dict[str, str]) -> dict[str, _Box]:
    """Give each table its column and its place in it."""
    layers: dict[str, int] = {}
    for table in tables:
        layers[table.name] = max((layers[key.column.table.name] + 1 for key in table.foreign_keys), default=0)
    linked = {name for table in tables for key in table.foreign_keys for name in (table.name, key.column.table.name)}
    bottoms = [_LEGEND] * (max(layers.values()) + 1)
    boxes: dict[str, _Box] = {}

    def put(stack: Iterable[sa.Table], layer: int) -> None:
        for table in stack:
            boxes[table.name] = _Box(table, _MARGIN + layer * (_BOX + _LANE), bottoms[layer])
            bottoms[layer] += _height(table) + _GAP

    for layer in range(len(bottoms)):
        put((table for table in tables if table.name in linked and layers[table.name] == layer), layer)
    single: dict[str, list[sa.Table]] = defaultdict(list)
    for table in tables:
        if table.name not in linked:
            single[groups[table.name]].append(table)
    for stack in sorted(single.values(), key=lambda stack: -sum(map(_height, stack))):
        put(stack, bottoms.index(min(bottoms)))
    return boxes


def _lines(boxes: dict[str, _Box]) -> list[str]:
    """Draw each foreign key from its column to the key that it refers to; those of one target share a lane."""
    drawn = []
    targets = sorted({key.column.table.name for box in boxes.values() for key in box.table.foreign_keys})
    for box in boxes.values():
        for key in box.table.foreign_keys:
            target = boxes[key.column.table.name]
            start, end = box.row(key.parent), target.row(key.column)
            left = target.x + _BOX
            lane = left + _LANE * (targets.index(target.table.name) + 1) // (len(targets) + 1)
            drawn.append(f'<path class="line" d="M{box.x} {start} H{lane} V{end} H{left}"/>')
            drawn.append(f'<circle class="dot" cx="{left}" cy="{end}" r="4"/>')
    return list(dict.fromkeys(drawn))


def _box(box: _Box, groups: dict[str, str]) -> list[str]:
    """Draw a table with its columns."""
    colour = _COLOURS.get(groups[box.table.name], _OTHER_COLOUR)
    x, right = box.x + _PADDING, box.x + _BOX - _PADDING
    drawn = [
        f'<rect class="box" x="{box.x}" y="{box.y}" width="{_BOX}" height="{_height(box.table)}" rx="4"/>',
        f'<rect fill="{colour}" x="{box.x}" y="{box.y}" width="{_BOX}" height="{_HEAD - 4}" rx="4"/>',
        f'<text class="head" x="{x}" y="{box.y + 15}">{escape(box.table.name)}</text>',
    ]
    for column in box.table.columns:
        baseline = box.row(column) + 4
        css = "name key" if column.primary_key else "name"
        optional = "?" if column.nullable else ""
        drawn += [
            f'<text class="mark" x="{x}" y="{baseline}">{"".join(_marks(column)[-1:])}</text>',
            f'<text class="{css}" x="{x + 22}" y="{baseline}">{escape(column.name)}</text>',
            f'<text class="type" x="{right}" y="{baseline}" text-anchor="end">{_type_name(column)}{optional}</text>',
        ]
    return drawn


def _legend(groups: dict[str, str], boxes: dict[str, _Box]) -> list[str]:
    drawn = []
    x = _MARGIN
    for group in dict.fromkeys(groups[name] for name in boxes):
        drawn.append(f'<rect fill="{_COLOURS.get(group, _OTHER_COLOUR)}" x="{x}" y="14" width="12" height="12" rx="2"/>')
        drawn.append(f'<text class="type" x="{x + 18}" y="24">{escape(group)}</text>')
        x += 18 + 8 * len(group) + 24
    return [*drawn, f'<text class="type" x="{x}" y="24">PK and bold: primary key, FK: foreign key, ?: may be NULL</text>']


def main() -> None:
    """Write both, or say which one is stale."""
    parser = argparse.ArgumentParser(description="Draw the tables into docs/schema.md and docs/schema.svg.")
    parser.add_argument("--check", action="store_true", help="write nothing, and exit with 1 when one is stale")
    options = parser.parse_args()
    tables = _tables()
    document, picture = _FOLDER / "schema.md", _FOLDER / "schema.svg"
    before, _, rest = document.read_text(encoding="utf-8").partition(_BEGIN)
    _, _, after = rest.partition(_END)
    wanted = {document: f"{before}{_BEGIN}\n{draw_mermaid(tables)}\n{_END}{after}", picture: draw_svg(tables)}
    stale = [file for file, text in wanted.items() if not file.exists() or file.read_text(encoding="utf-8") != text]
    if options.check and stale:
        sys.exit(f"stale: {', '.join(file.name for file in stale)}. Run: make docs")
    for file in stale:
        file.write_text(wanted[file], encoding="utf-8")


if __name__ == "__main__":
    main()
