"""DuckDB's reflection and compilation, and Alembic's comparison on both engines."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from opencode_monitor.db.autogenerate import compare_server_default, compare_type, include_object
from opencode_monitor.db.base import NAMING_CONVENTION
from opencode_monitor.db.dialect import _DUCKDBS_OWN, DuckDBDialect, integer_division
from opencode_monitor.db.engine import DUCKDB_SETTINGS, LOADING_SETTINGS, create_database_engine
from opencode_monitor.db.types import Json, Money, UtcDateTime
from opencode_monitor.errors import DatabaseBusyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def build_metadata() -> sa.MetaData:
    """Build a schema with everything that the project's own uses."""
    metadata = sa.MetaData(naming_convention=NAMING_CONVENTION)
    sa.Table(
        "sessions",
        metadata,
        sa.Column("session_id", sa.Text, primary_key=True),
        sa.Column("created_at", UtcDateTime, nullable=False, server_default=sa.func.now(), index=True),
        sa.Column("total_cost_usd", Money, nullable=False, server_default=sa.text("0")),
        sa.Column("archived", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("title", sa.String(200), comment="as OpenCode has it"),
        comment="one conversation",
    )
    sa.Table(
        "messages",
        metadata,
        sa.Column("message_id", sa.Text, primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True),
        sa.Column("session_id", sa.Text, sa.ForeignKey("sessions.session_id"), nullable=False),
        sa.Column("tokens", sa.BigInteger, sa.CheckConstraint("tokens >= 0", name="tokens_positive")),
        sa.Column("share", sa.Double),
        sa.Column("day", sa.Date),
        sa.Column("extra", Json),
        sa.Column("call_id", sa.Text),
        sa.Index(None, "session_id", "position"),
        sa.UniqueConstraint("session_id", "call_id"),
    )
    return metadata


@pytest.fixture
def inspected(duckdb_engine: sa.Engine) -> Iterator[sa.Inspector]:
    with duckdb_engine.connect() as connection:
        build_metadata().create_all(connection)
        yield sa.inspect(connection)


def test_get_columns_every_type_comes_back_with_its_arguments(inspected: sa.Inspector) -> None:
    columns = {column["name"]: column for column in inspected.get_columns("messages")}
    money = inspected.get_columns("sessions")[2]

    assert list(columns) == ["message_id", "position", "session_id", "tokens", "share", "day", "extra", "call_id"]
    assert {name: type(column["type"]) for name, column in columns.items()} == {
        "message_id": sa.VARCHAR,
        "position": sa.INTEGER,
        "session_id": sa.VARCHAR,
        "tokens": sa.BIGINT,
        "share": sa.DOUBLE,
        "day": sa.DATE,
        "extra": sa.JSON,
        "call_id": sa.VARCHAR,
    }
    assert isinstance(money["type"], sa.NUMERIC)
    assert (money["type"].precision, money["type"].scale) == (38, 12)
    assert [column["nullable"] for column in columns.values()] == [False, False, False, True, True, True, True, True]


def test_get_columns_server_defaults_come_back_as_duckdb_writes_them(inspected: sa.Inspector) -> None:
    columns = {column["name"]: column for column in inspected.get_columns("sessions")}

    assert columns["created_at"]["default"] == "now()"
    assert columns["total_cost_usd"]["default"] == "0"
    assert columns["archived"]["default"] == "false"
    assert columns["title"]["default"] is None
    assert columns["title"]["comment"] == "as OpenCode has it"


def test_get_columns_rare_types_are_not_mistaken(duckdb_engine: sa.Engine) -> None:
    with duckdb_engine.connect() as connection:
        connection.exec_driver_sql(
            "CREATE TABLE rare (moment TIMESTAMPTZ, words VARCHAR[], huge HUGEINT, n BIGINT, twice BIGINT GENERATED ALWAYS AS (n * 2))"
        )

        columns = {column["name"]: column for column in sa.inspect(connection).get_columns("rare")}

    assert isinstance(columns["moment"]["type"], sa.TIMESTAMP)
    assert columns["moment"]["type"].timezone is True
    assert isinstance(columns["words"]["type"], sa.ARRAY)
    assert isinstance(columns["words"]["type"].item_type, sa.VARCHAR)
    assert isinstance(columns["huge"]["type"], sa.types.NullType)
    assert columns["twice"]["computed"] == {"sqltext": "CAST((n * 2) AS BIGINT)", "persisted": False}


def test_get_pk_constraint_composite_key_keeps_its_order(inspected: sa.Inspector) -> None:
    assert inspected.get_pk_constraint("messages")["constrained_columns"] == ["message_id", "position"]


def test_get_pk_constraint_table_without_key_answers_with_no_columns(inspected: sa.Inspector) -> None:
    inspected.bind.exec_driver_sql("CREATE TABLE keyless (n INTEGER)")  # type: ignore[union-attr] # a connection

    assert inspected.get_pk_constraint("keyless") == {"constrained_columns": [], "name": None}


def test_get_foreign_keys_child_names_parent_and_columns(inspected: sa.Inspector) -> None:
    (key,) = inspected.get_foreign_keys("messages")

    assert key["constrained_columns"] == ["session_id"]
    assert key["referred_table"] == "sessions"
    assert key["referred_columns"] == ["session_id"]
    assert key["referred_schema"] is None
    assert inspected.get_foreign_keys("sessions") == []


def test_get_indexes_columns_expressions_and_quoted_names_are_split(inspected: sa.Inspector) -> None:
    connection = inspected.bind
    assert isinstance(connection, sa.Connection)
    connection.exec_driver_sql('CREATE TABLE odd ("select" VARCHAR, "a ""b" VARCHAR, n INTEGER)')
    connection.exec_driver_sql('CREATE UNIQUE INDEX odd_columns ON odd ("select", "a ""b", n)')
    connection.exec_driver_sql("CREATE INDEX odd_lower ON odd (lower(\"select\" || ', '), n)")

    messages = inspected.get_indexes("messages")
    odd_columns, odd_lower = inspected.get_indexes("odd")

    assert messages == [{"name": "ix_messages__session_id_position", "column_names": ["session_id", "position"], "unique": False}]
    assert odd_columns == {"name": "odd_columns", "column_names": ["select", 'a "b', "n"], "unique": True}
    assert odd_lower["column_names"] == [None, "n"]
    assert odd_lower["expressions"] == ["(lower((\"select\" || ', ')))", "n"]


def test_get_unique_constraints_columns_are_found(inspected: sa.Inspector) -> None:
    (constraint,) = inspected.get_unique_constraints("messages")

    assert constraint["column_names"] == ["session_id", "call_id"]


def test_get_check_constraints_expression_is_found(inspected: sa.Inspector) -> None:
    (constraint,) = inspected.get_check_constraints("messages")

    assert constraint["sqltext"] == "(tokens >= 0)"


def test_get_table_comment_with_and_without_comment(inspected: sa.Inspector) -> None:
    assert inspected.get_table_comment("sessions") == {"text": "one conversation"}
    assert inspected.get_table_comment("messages") == {"text": None}
    assert inspected.get_table_options("messages") == {}


def test_get_table_names_temporary_and_attached_tables_are_left_out(inspected: sa.Inspector, tmp_path: Path) -> None:
    connection = inspected.bind
    assert isinstance(connection, sa.Connection)
    connection.exec_driver_sql("CREATE VIEW recent AS SELECT * FROM sessions")
    connection.exec_driver_sql("CREATE TEMPORARY TABLE scratch (n INTEGER)")
    connection.commit()
    connection.exec_driver_sql(f"ATTACH '{tmp_path / 'other.duckdb'}' AS other")
    connection.exec_driver_sql("CREATE TABLE other.sessions (n INTEGER)")

    assert sorted(inspected.get_table_names()) == ["messages", "sessions"]
    assert inspected.get_view_names() == ["recent"]
    assert inspected.get_table_comment("recent") == {"text": None}
    assert len(inspected.get_columns("sessions")) == 5
    assert [inspected.has_table(name) for name in ("sessions", "recent", "scratch", "nothing")] == [
        True,
        True,
        False,
        False,
    ]


def test_get_columns_schema_is_looked_into_when_named(inspected: sa.Inspector) -> None:
    connection = inspected.bind
    assert isinstance(connection, sa.Connection)
    connection.exec_driver_sql("CREATE SCHEMA archive")
    connection.exec_driver_sql("CREATE TABLE archive.sessions (n INTEGER PRIMARY KEY)")

    assert [column["name"] for column in inspected.get_columns("sessions", schema="archive")] == ["n"]
    assert inspected.get_table_names(schema="archive") == ["sessions"]


@pytest.mark.parametrize(
    "method",
    [
        "get_columns",
        "get_pk_constraint",
        "get_foreign_keys",
        "get_indexes",
        "get_unique_constraints",
        "get_check_constraints",
        "get_table_comment",
    ],
)
def test_reflection_unknown_table_raises(inspected: sa.Inspector, method: str) -> None:
    with pytest.raises(sa.exc.NoSuchTableError, match="nothing"):
        getattr(inspected, method)("nothing")


def test_reflect_whole_metadata_can_be_created_elsewhere(inspected: sa.Inspector, tmp_path: Path) -> None:
    reflected = sa.MetaData()
    reflected.reflect(inspected.bind)
    other = create_database_engine(f"duckdb:///{tmp_path / 'other.duckdb'}")

    reflected.create_all(other)

    messages = reflected.tables["messages"]
    assert sorted(sa.inspect(other).get_table_names()) == ["messages", "sessions"]
    assert [column.name for column in messages.primary_key] == ["message_id", "position"]
    assert next(iter(messages.c.session_id.foreign_keys)).target_fullname == "sessions.session_id"


def test_statement_cache_same_shape_different_values_is_compiled_once_and_right(duckdb_engine: sa.Engine) -> None:
    numbers = sa.table("numbers", sa.column("n", sa.Integer))
    cache: dict[Any, Any] = {}

    def ask(values: list[int], limit: int, literal: str) -> list[tuple[int, str]]:
        statement = sa.select(numbers.c.n, sa.literal(literal)).where(numbers.c.n.in_(values)).order_by(numbers.c.n).limit(limit)
        return [(n, text) for n, text in connection.execute(statement)]

    with duckdb_engine.connect().execution_options(compiled_cache=cache) as connection:
        connection.exec_driver_sql("CREATE TABLE numbers AS SELECT range AS n FROM range(10)")

        answers = [ask([1, 2, 3], 2, "a"), ask([7], 5, "b"), ask([], 5, "c"), ask([4, 5, 6, 7, 8], 4, "d")]

    assert answers == [
        [(1, "a"), (2, "a")],
        [(7, "b")],
        [],
        [(4, "d"), (5, "d"), (6, "d"), (7, "d")],
    ]
    assert len(cache) == 1


def test_reserved_words_are_all_that_duckdb_reserves(duckdb_engine: sa.Engine) -> None:
    statement = sa.text("SELECT keyword_name FROM duckdb_keywords() WHERE keyword_category = 'reserved'")

    with duckdb_engine.connect() as connection:
        reserved = set(connection.scalars(statement).all())

    assert {"qualify", "select"} <= reserved
    assert reserved <= duckdb_engine.dialect.identifier_preparer.reserved_words


def test_has_table_of_another_schema_is_not_found(inspected: sa.Inspector) -> None:
    assert inspected.has_table("messages")
    assert not inspected.has_table("messages", schema="elsewhere")


def test_connect_time_zone_is_utc(duckdb_engine: sa.Engine) -> None:
    with duckdb_engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT current_setting('TimeZone')")) == "UTC"


@pytest.mark.parametrize("loading", [False, True])
@pytest.mark.parametrize("umask", [0o000, 0o022])
def test_connect_new_files_belong_to_their_owner_alone(duckdb_url: str, tmp_path: Path, umask: int, loading: bool) -> None:
    engine = create_database_engine(duckdb_url.replace("monitor.duckdb", "new/monitor.duckdb"), loading=loading)
    before = os.umask(umask)
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql("CREATE TABLE t (n INTEGER)")
            connection.commit()
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "new").iterdir()}
        directory_mode = stat.S_IMODE((tmp_path / "new").stat().st_mode)
        left = [path.name for path in (tmp_path / "new").iterdir()]
        umask_after = os.umask(umask)
    finally:
        os.umask(before)

    assert modes == {"monitor.duckdb": 0o600, "monitor.duckdb.wal": 0o600, "monitor.duckdb.tmp": 0o700}
    assert directory_mode == 0o700
    assert left == ["monitor.duckdb"]
    assert umask_after == umask


def test_connect_many_threads_leave_the_umask_as_it_was(duckdb_engine: sa.Engine) -> None:
    def work() -> None:
        for _ in range(10):
            with duckdb_engine.begin() as connection:
                connection.exec_driver_sql("SELECT 1")

    before = os.umask(0o027)
    try:
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        after = os.umask(0o027)
    finally:
        os.umask(before)

    assert after == 0o027


@pytest.mark.parametrize("loading", [False, True])
def test_close_after_a_spill_removes_the_spill_directory(tmp_path: Path, loading: bool) -> None:
    engine = create_database_engine(f"duckdb:///{tmp_path / 'monitor.duckdb'}?memory_limit=60MB&threads=1", loading=loading)
    spill = tmp_path / "monitor.duckdb.tmp"

    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE TEMPORARY TABLE sorted AS SELECT md5(range::VARCHAR) AS s FROM range(2000000) ORDER BY s")
        spilled = [path.name for path in spill.iterdir()]
        mode = stat.S_IMODE(spill.stat().st_mode)

    assert spilled != []
    assert mode == 0o700
    assert not spill.exists()


@pytest.mark.parametrize("loading", [False, True])
def test_connect_in_vain_leaves_the_spill_directory_of_who_has_the_file(tmp_path: Path, loading: bool) -> None:
    file, spill = tmp_path / "monitor.duckdb", tmp_path / "monitor.duckdb.tmp"
    hold = "import duckdb, sys; connection = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", hold, file], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        spill.mkdir(mode=0o700)

        with pytest.raises(DatabaseBusyError):
            create_database_engine(f"duckdb:///{file}", wait_seconds=0, loading=loading).connect()
        kept = spill.is_dir()
        holder.communicate()

    assert kept


def test_connect_refused_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "junk").write_text("junk")

    with pytest.raises(Exception, match="not a DuckDB database"):
        create_database_engine(f"duckdb:///{tmp_path / 'junk'}").connect()

    assert [path.name for path in tmp_path.iterdir()] == ["junk"]


def test_create_engine_plain_url_uses_this_dialect() -> None:
    assert isinstance(sa.create_engine("duckdb:///:memory:").dialect, DuckDBDialect)
    assert isinstance(sa.create_engine("duckdb+duckdb_engine:///:memory:").dialect, DuckDBDialect)


@pytest.mark.parametrize(
    ("dividend", "divisor", "expected"),
    [
        (7, 2, 3),
        (0, 5, 0),
        (9_007_199_254_740_993, 1, 9_007_199_254_740_993),  # 2**53 + 1: not a double
        (2**63 - 1, 2, 2**62 - 1),
        (5, 0, None),
        (None, 5, None),
    ],
)
def test_integer_division_is_exact(empty_engine: sa.Engine, dividend: int | None, divisor: int, expected: int | None) -> None:
    with empty_engine.connect() as connection:
        assert connection.scalar(sa.select(integer_division(dividend, divisor))) == expected


def test_integer_division_takes_sums_and_stands_in_larger_expressions(empty_engine: sa.Engine) -> None:
    numbers = sa.values(sa.column("n", sa.BigInteger), name="numbers").data([(3,), (4,), (10,)])

    with empty_engine.connect() as connection:
        result = connection.scalar(sa.select(100 - integer_division(sa.func.sum(numbers.c.n), 3) * 2))

    assert result == 90


@pytest.mark.parametrize("text", ["12345678901234567890.000000000028", "0.000000000001", "-0.1", "1000"])
def test_money_round_trip_is_exact(empty_engine: sa.Engine, text: str) -> None:
    amounts = sa.Table("amounts", sa.MetaData(), sa.Column("amount", Money))

    with empty_engine.connect() as connection:
        amounts.create(connection)
        connection.execute(sa.insert(amounts).values(amount=Decimal(text)))
        stored = connection.scalar(sa.select(amounts.c.amount))
        found = connection.scalar(sa.select(sa.func.count()).where(amounts.c.amount == Decimal(text)))

    assert stored == Decimal(text)
    assert found == 1


def test_money_average_is_a_decimal_on_both_engines(empty_engine: sa.Engine) -> None:
    amounts = sa.values(sa.column("amount", Money), name="amounts").data([(Decimal("0.1"),), (Decimal("0.1"),)])

    with empty_engine.connect() as connection:
        average = connection.scalar(sa.select(sa.type_coerce(sa.func.avg(amounts.c.amount), Money)))

    assert isinstance(average, Decimal)
    assert average == Decimal("0.1")


def compare(connection: sa.Connection, metadata: sa.MetaData) -> list[Any]:
    """Compare as `alembic check` does with the project's env.py."""
    context = MigrationContext.configure(
        connection,
        opts={
            "compare_type": compare_type,
            "compare_server_default": compare_server_default,
            "include_object": include_object,
        },
    )
    differences: list[Any] = compare_metadata(context, metadata)
    return differences


def test_migration_context_ddl_is_transactional(empty_engine: sa.Engine) -> None:
    with empty_engine.connect() as connection:
        assert MigrationContext.configure(connection).impl.transactional_ddl is True


def test_compare_metadata_same_schema_is_empty(empty_engine: sa.Engine) -> None:
    with empty_engine.connect() as connection:
        build_metadata().create_all(connection)

        assert compare(connection, build_metadata()) == []


def test_compare_metadata_legacy_table_is_ignored(empty_engine: sa.Engine) -> None:
    with empty_engine.connect() as connection:
        build_metadata().create_all(connection)
        connection.execute(sa.text("CREATE TABLE parts_legacy (n INTEGER)"))

        assert compare(connection, build_metadata()) == []


def change_column(name: str, **attributes: Any) -> Callable[[sa.MetaData], None]:
    def change(metadata: sa.MetaData) -> None:
        column = metadata.tables["messages"].c[name]
        for attribute, value in attributes.items():
            setattr(column, attribute, value)

    return change


def remove_constraint(kind: type[sa.Constraint]) -> Callable[[sa.MetaData], None]:
    def change(metadata: sa.MetaData) -> None:
        table = metadata.tables["messages"]
        table.constraints -= {constraint for constraint in table.constraints if isinstance(constraint, kind)}

    return change


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        pytest.param(lambda metadata: sa.Table("extra", metadata, sa.Column("n", sa.Text)), "add_table", id="table"),
        pytest.param(lambda metadata: metadata.remove(metadata.tables["messages"]), "remove_table", id="no table"),
        pytest.param(lambda metadata: metadata.tables["messages"].append_column(sa.Column("n", sa.Text)), "add_column", id="column"),
        pytest.param(lambda metadata: metadata.tables["messages"].indexes.clear(), "remove_index", id="no index"),
        pytest.param(lambda metadata: sa.Index("ix_new", metadata.tables["messages"].c.day), "add_index", id="index"),
        pytest.param(remove_constraint(sa.UniqueConstraint), "remove_constraint", id="no unique"),
        pytest.param(
            lambda metadata: metadata.tables["messages"].append_constraint(sa.UniqueConstraint("day")),
            "add_constraint",
            id="unique",
        ),
        pytest.param(remove_constraint(sa.ForeignKeyConstraint), "remove_fk", id="no foreign key"),
        pytest.param(change_column("tokens", type=sa.Integer()), "modify_type", id="type"),
        pytest.param(change_column("tokens", nullable=False), "modify_nullable", id="nullability"),
        pytest.param(change_column("tokens", server_default=sa.DefaultClause("1")), "modify_default", id="server default"),
    ],
)
def test_compare_metadata_difference_is_found(empty_engine: sa.Engine, change: Callable[[sa.MetaData], None], difference: str) -> None:
    metadata = build_metadata()
    change(metadata)
    with empty_engine.connect() as connection:
        build_metadata().create_all(connection)

        found = compare(connection, metadata)

    names = [(entry[0] if isinstance(entry, list) else entry)[0] for entry in found]
    assert difference in names


@pytest.mark.parametrize(
    ("default", "other", "differs"),
    [
        (sa.text("0"), "0", False),
        (sa.text("0"), "1", True),
        (sa.text("'0'"), "0", False),
        (sa.false(), "CAST('f' AS BOOLEAN)", False),
        (sa.true(), "CAST('f' AS BOOLEAN)", True),
        (sa.func.current_timestamp(), "now()", False),
        (sa.text("'A'"), "'a'", True),
        (None, "0", True),
    ],
)
def test_compare_server_default_spelling_does_not_matter(duckdb_engine: sa.Engine, default: Any, other: str, differs: bool) -> None:
    column = sa.Column("c", sa.Text, server_default=default)
    rendered = None if default is None else str(default.compile(dialect=duckdb_engine.dialect))
    with duckdb_engine.connect() as connection:
        context = MigrationContext.configure(connection)

        assert compare_server_default(context, column, column, other, None, rendered) is differs


def test_connect_takes_for_duckdbs_own_what_the_engine_sets_and_duckdb_knows(duckdb_engine: sa.Engine) -> None:
    with duckdb_engine.connect() as connection:
        known = set(connection.exec_driver_sql("SELECT name FROM duckdb_settings()").scalars())

    assert DUCKDB_SETTINGS.keys() | LOADING_SETTINGS.keys() <= _DUCKDBS_OWN
    assert known >= _DUCKDBS_OWN


def test_connect_setting_in_the_url_is_the_databases(tmp_path: Path) -> None:
    engine = create_database_engine(f"duckdb:///{tmp_path / 'monitor.duckdb'}?memory_limit=3GB&Calendar=japanese")

    with engine.connect() as connection:
        found = connection.exec_driver_sql("SELECT current_setting('memory_limit'), current_setting('Calendar')").one()

    assert tuple(found) == ("2.7 GiB", "japanese")


def test_execute_that_is_interrupted_is_told_as_such(duckdb_engine: sa.Engine) -> None:
    second = sa.text("SELECT sum(one.range * other.range) FROM range(10000000) AS one, range(20) AS other")
    interrupt = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))

    with duckdb_engine.connect() as connection:
        interrupt.start()
        with pytest.raises(KeyboardInterrupt):
            connection.execute(second)

    with duckdb_engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT 1")) == 1
