"""What a run of revisions did to the tables: rows and checksums before and after, side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from opencode_monitor.db.revision import REVISIONS
from opencode_monitor.integrity.fingerprint import MOVED_TABLE, PARTS_LEGACY
from opencode_monitor.models import PART_SUBTYPES, Base, Part

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from opencode_monitor.db.migrate import TableProof
    from opencode_monitor.integrity.fingerprint import TableState

MOVED_FAMILY = frozenset({Part.__tablename__, PARTS_LEGACY, *(subtype.__tablename__ for subtype in PART_SUBTYPES)})
"""The tables between which `denormalize_parts` moves rows; they are read by its own proof."""

_MOVED_NAME = "parts (29 columns)"


@dataclass(frozen=True, slots=True)
class TableChange:
    """One table before and after.

    Attributes:
        table: Its name.
        rows_before: How many rows it held; None where it was not there.
        rows_after: How many it holds; None where it is gone.
        checksum_before: Of the columns that both have, and of the rows that were there; None where there is nothing to compare with.
        checksum_after: The same of now.
        equal: Whether both agree; None where there is nothing to compare.
        remark: What a reader has to know.
    """

    table: str
    rows_before: int | None
    rows_after: int | None
    checksum_before: str | None
    checksum_after: str | None
    equal: bool | None
    remark: str = ""


def moves_parts(start: str, end: str) -> bool:
    """Tell whether the revisions between two stations move the parts.

    Args:
        start: A revision, or base.
        end: Another.
    """
    history = ("base", *REVISIONS)
    move = history.index("denormalize_parts")
    return (history.index(start) < move) != (history.index(end) < move)


def compare(before: Mapping[str, TableState], after: Mapping[str, TableState], proofs: Sequence[TableProof]) -> list[TableChange]:
    """Return one line for each table that held rows before or holds some now.

    Args:
        before: What the tables held before the run.
        after: What they hold now.
        proofs: What the revisions proved about the rows that they moved.
    """
    moved = {proof.phase: proof for proof in proofs if proof.table == MOVED_TABLE and proof.phase in {"before", "after"}}
    changes = []
    for table in sorted({*before, *after}, key=_place):
        if table == MOVED_TABLE and moved and moved["before"].rows:
            changes.append(_moved(moved["before"], moved["after"]))
        old, new = before.get(table), after.get(table)
        if moved and table in MOVED_FAMILY:
            # The old and the new `parts` have no more in common than the name.
            is_old = table == MOVED_TABLE and moved["before"].direction == "upgrade"
            is_new = table == MOVED_TABLE and not is_old
            old, new = (None if is_old else old), (None if is_new else new)
        if (old is not None and old.rows) or (new is not None and new.rows):
            changes.append(_change(table, old, new))
    return changes


def _place(table: str) -> tuple[int, str]:
    """Sort as the models do: what others refer to first; tables that are not theirs last."""
    names = [known.name for known in Base.metadata.sorted_tables]
    return (names.index(table) if table in names else len(names), table)


def _moved(before: TableProof, after: TableProof) -> TableChange:
    digests = before.checksum.digest(), after.checksum.digest()
    # Before a downgrade they are read out of the ten tables in the same way.
    remark = "read back" if before.direction == "upgrade" else "rebuilt"
    return TableChange(_MOVED_NAME, before.rows, after.rows, *digests, digests[0] == digests[1], remark)


def _change(table: str, old: TableState | None, new: TableState | None) -> TableChange:
    if old is None or new is None:
        rows_before, rows_after = (None if state is None else state.rows for state in (old, new))
        remark = "dropped" if new is None else "kept" if table == PARTS_LEGACY else "made"
        return TableChange(table, rows_before, rows_after, None, None, None, remark)
    if old.checksum is None or new.checksum is None:
        # The same number of rows is no proof that they are equal; another number is one that they are not.
        return TableChange(table, old.rows, new.rows, None, None, None if old.rows == new.rows else False, "rows only")
    shared = old.checksum.columns.keys() & new.checksum.columns.keys()
    digests = old.checksum.over(shared).digest(), new.checksum.over(shared).digest()
    stubs = new.rows - new.checksum.rows - (old.rows - old.checksum.rows)
    remark = f"{stubs:+,} stub{'' if abs(stubs) == 1 else 's'}" if stubs else ""
    return TableChange(table, old.rows, new.rows, *digests, digests[0] == digests[1], remark)
