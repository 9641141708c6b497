"""Databases for tests: a fresh DuckDB file, or a fresh database on a PostgreSQL server that lives as long as the run."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import shutil
import uuid
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import hypothesis
import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session
from sqlalchemy.util import LRUCache

from opencode_monitor.db.engine import DUCKDB_SETTINGS, create_database_engine
from opencode_monitor.db.migrate import upgrade
from opencode_monitor.pricing.book import seed_price_book
from opencode_monitor.testing import memory_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sqlalchemy.engine import Compiled

    FilledEngine = Callable[[str, Callable[[sa.Engine], None]], sa.Engine]


# A busy machine is no failure: how fast things are is measured in benchmarks/.
for profile in ("project", "full"):
    hypothesis.settings.register_profile(profile, deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])


NAMES_OF_DATABASES = {"database_url", "duckdb_url", "migrated_duckdb_url", "migrated_postgresql_url", "postgresql_url"}
"""Fixtures of a test that do not leave it to `engine` which database it has."""

AS_FILES = "STRATEGY FILE_COPY"
"""How PostgreSQL copies a template three times as fast: not by way of its log, which nobody will read."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--full`."""
    parser.addoption("--full", action="store_true", help="full sizes: 200,000 parts, fifty megabytes of text, all kills, all examples")


def pytest_configure(config: pytest.Config) -> None:
    """Choose how many examples `properties.on_database` gives, before the tests are read, and where the tests' files are."""
    is_full = config.getoption("full")
    hypothesis.settings.load_profile("full" if is_full else "project")
    memory = memory_directory()
    if memory and not is_full:
        # A quarter of the run was the file system's: thousands of small databases. At full size they would be large ones.
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(memory))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, or a worker would be left with it at the end."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


LATEST = datetime(2026, 12, 31, tzinfo=UTC)
"""After every time at which a test imports: the packaged prices are read once more, in 0.4 s, when one of them has come due since."""


# Two workers share two cores, and small queries on one thread cost a third less.
DUCKDB_SETTINGS["threads"] = 1

# What the tests leave lives as long as they do; looking through all of it for garbage again and again costs a tenth of the run.
gc.set_threshold(100_000, 50, 100)


class StatementCache:
    """Compiled statements by the name of their dialect; SQLAlchemy's own cache holds them by its instance, of which each engine has one."""

    def __init__(self) -> None:
        self._statements: LRUCache[tuple[Any, ...], Compiled] = LRUCache(2_000)

    def get(self, key: tuple[Any, ...]) -> Compiled | None:
        return self._statements.get((key[0].name, *key[1:]))

    def __setitem__(self, key: tuple[Any, ...], statement: Compiled) -> None:
        self._statements[key[0].name, *key[1:]] = statement


STATEMENTS = StatementCache()


@sa.event.listens_for(sa.Engine, "engine_connect")
def _share_compiled_statements(connection: sa.Connection) -> None:
    """Compile a statement once in a run, not once for each test's engine: that was a third of an import's time."""
    connection.execution_options(compiled_cache=STATEMENTS)


COMMITS = Counter[str]()


@sa.event.listens_for(sa.Engine, "commit")
def _count_commit(_connection: sa.Connection) -> None:
    COMMITS["all"] += 1


@dataclass(frozen=True, slots=True)
class Filling:
    """What a database is filled with.

    Attributes:
        name: What it is known by.
        write: Writes it.
    """

    name: str
    write: Callable[[sa.Engine], None] | None = field(compare=False)

    def into(self, url: str) -> None:
        """Fill a database."""
        engine = create_database_engine(url)
        if self.write is not None:
            with engine.connect():  # as in `Spares`
                self.write(engine)
        engine.dispose()


EMPTY = Filling("empty", None)


class Spares:
    """Open databases that one test after another gets, as long as none commits anything: to make one takes longer than most tests.

    They are at head, and empty or as a function has filled them, which is done once.
    """

    def __init__(self, make: Callable[[Filling], contextlib.AbstractContextManager[str]]) -> None:
        self._make = make
        self._open: dict[Filling, tuple[sa.Engine, contextlib.ExitStack]] = {}

    @contextlib.contextmanager
    def lend(self, request: pytest.FixtureRequest, filling: Filling = EMPTY) -> Iterator[sa.Engine]:
        """Have one for a test, and remove it afterwards where the test committed something, or failed and may still hold it."""
        before = (COMMITS["all"], request.session.testsfailed)
        if filling not in self._open:
            with contextlib.ExitStack() as stack:
                engine = create_database_engine(stack.enter_context(self._make(filling)), wait_seconds=5)
                stack.callback(engine.dispose)
                # DuckDB opens a file in 20 ms, and writes its log into it at the last close: kept open, it does both once.
                stack.enter_context(engine.connect())
                self._open[filling] = engine, stack.pop_all()
                before = (COMMITS["all"], before[1])
        # With options, even none, it is an engine of its own: what listens to it does not listen to the next test's.
        yield self._open[filling][0].execution_options()
        if before != (COMMITS["all"], request.session.testsfailed):
            self._open.pop(filling)[1].close()

    def close(self) -> None:
        """Remove all."""
        while self._open:
            self._open.popitem()[1][1].close()


@pytest.fixture(scope="session", autouse=True)
def cache_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keep every import of a test, also one that serves many tests, from the user's own cache."""
    directory = tmp_path_factory.mktemp("cache")
    os.environ["XDG_CACHE_HOME"] = str(directory)
    return directory


@pytest.fixture(scope="session")
def is_full(pytestconfig: pytest.Config) -> bool:
    """Tell whether the tests run at full size (`--full`)."""
    return bool(pytestconfig.getoption("full"))


@pytest.fixture(scope="session")
def postgres_server(ephemeral_postgres_server: str) -> str:
    """Name the server of the run (one for each worker of pytest-xdist) that the package's own plugin starts."""
    return ephemeral_postgres_server


@pytest.fixture
def duckdb_url(tmp_path: Path) -> str:
    """Name a DuckDB file that does not exist yet."""
    return f"duckdb:///{tmp_path / 'monitor.duckdb'}"


@pytest.fixture
def postgresql_url(postgres_server: str) -> Iterator[str]:
    """Make a PostgreSQL database for one test."""
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} {AS_FILES}")
        yield postgres_server.replace("/postgres?", f"/{name}?")
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["duckdb", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def empty_database_url(request: pytest.FixtureRequest) -> str:
    """Name an empty database, once on each engine."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def empty_engine(empty_database_url: str) -> Iterator[sa.Engine]:
    """Open an empty database, once on each engine."""
    engine = create_database_engine(empty_database_url, wait_seconds=5)
    yield engine
    engine.dispose()


@pytest.fixture
def duckdb_engine(duckdb_url: str) -> Iterator[sa.Engine]:
    """Open an empty DuckDB file."""
    engine = create_database_engine(duckdb_url, wait_seconds=5)
    yield engine
    engine.dispose()


@pytest.fixture(scope="session")
def make_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], None]], Path]:
    """Make a DuckDB file in a directory of its own once in a run, to be copied or read: workers of pytest-xdist make it for each other."""
    base = tmp_path_factory.getbasetemp()
    # A worker's directory is in that of the run, which goes when all have ended.
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "made-once"

    def make(name: str, write: Callable[[Path], None]) -> Path:
        directory = shared / name
        directory.mkdir(parents=True, exist_ok=True)
        made = directory / "monitor.duckdb"
        with (directory / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not made.exists():
                unfinished = directory / "unfinished.duckdb"
                unfinished.unlink(missing_ok=True)
                write(unfinished)
                unfinished.rename(made)
        return made

    return make


@pytest.fixture(scope="session")
def duckdb_at_head(make_once: Callable[[str, Callable[[Path], None]], Path]) -> Path:
    """Make a DuckDB file at head with the packaged prices, to be copied: the schema of every test comes from the migrations."""

    def write(file: Path) -> None:
        upgrade(f"duckdb:///{file}")
        _seed_prices(f"duckdb:///{file}")

    return make_once("head", write)


@pytest.fixture(scope="session")
def postgresql_at_head(postgres_server: str) -> str:
    """Make a PostgreSQL database at head with the packaged prices, to be copied, and return its name."""
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute("CREATE DATABASE head")
    upgrade(postgres_server.replace("/postgres?", "/head?"))
    _seed_prices(postgres_server.replace("/postgres?", "/head?"))
    return "head"


def _seed_prices(url: str) -> None:
    """Load the price book once, instead of in each test that prices something, and by a late date, so that no test has a price come due."""
    engine = create_database_engine(url)
    with engine.begin() as connection:
        seed_price_book(connection, now=max(datetime.now(UTC), LATEST))
    engine.dispose()


@pytest.fixture(scope="session")
def duckdb_spares(
    make_once: Callable[[str, Callable[[Path], None]], Path], duckdb_at_head: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Spares]:
    """Keep DuckDB files from test to test."""

    @contextlib.contextmanager
    def make(filling: Filling) -> Iterator[str]:
        def write(file: Path) -> None:
            shutil.copy(duckdb_at_head, file)
            filling.into(f"duckdb:///{file}")

        directory = tmp_path_factory.mktemp("spare")
        template = duckdb_at_head if filling == EMPTY else make_once(filling.name, write)
        yield f"duckdb:///{shutil.copy(template, directory / 'monitor.duckdb')}"
        shutil.rmtree(directory)

    spares = Spares(make)
    yield spares
    spares.close()


@pytest.fixture(scope="session")
def postgresql_spares(postgres_server: str, postgresql_at_head: str) -> Iterator[Spares]:
    """Keep PostgreSQL databases from test to test."""
    with contextlib.ExitStack() as stack:
        templates = {EMPTY: postgresql_at_head}

        def make(filling: Filling) -> contextlib.AbstractContextManager[str]:
            if filling not in templates:
                url = stack.enter_context(_copied(postgres_server, postgresql_at_head))
                filling.into(url)
                templates[filling] = str(sa.make_url(url).database)
            return _copied(postgres_server, templates[filling])

        spares = Spares(make)
        stack.callback(spares.close)
        yield spares


@contextlib.contextmanager
def _copied(server: str, template: str) -> Iterator[str]:
    """Have a copy of a PostgreSQL database."""
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} {AS_FILES}")
        yield server.replace("/postgres?", f"/{name}?")
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def migrated_duckdb_url(duckdb_at_head: Path, duckdb_url: str) -> str:
    """Name an empty DuckDB file at head, where one engine is enough."""
    shutil.copy(duckdb_at_head, duckdb_url.removeprefix("duckdb:///"))
    return duckdb_url


@pytest.fixture
def migrated_postgresql_url(postgres_server: str, postgresql_at_head: str) -> Iterator[str]:
    """Make a PostgreSQL database at head for one test."""
    with _copied(postgres_server, postgresql_at_head) as url:
        yield url


@pytest.fixture(params=["duckdb", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def database_kind(request: pytest.FixtureRequest) -> str:
    """Name the kind of database, once each."""
    name: str = request.param
    return name


@pytest.fixture
def database_url(database_kind: str, request: pytest.FixtureRequest) -> str:
    """Name an empty database at head, once on each engine."""
    url: str = request.getfixturevalue(f"migrated_{database_kind}_url")
    return url


@pytest.fixture
def engine(database_kind: str, request: pytest.FixtureRequest) -> Iterator[sa.Engine]:
    """Open an empty database at head, once on each engine."""
    is_elsewhere = request.node.get_closest_marker("opened_elsewhere") is not None
    # Who names the database may write to it by other means than an engine's commit.
    if not is_elsewhere and NAMES_OF_DATABASES.isdisjoint(request.fixturenames):
        spares: Spares = request.getfixturevalue(f"{database_kind}_spares")
        with spares.lend(request) as engine:
            yield engine
        return
    engine = create_database_engine(request.getfixturevalue("database_url"), wait_seconds=5)
    if is_elsewhere:
        yield engine
    else:
        with engine.connect():  # as in `Spares`
            yield engine
    engine.dispose()


@pytest.fixture
def filled_engine(database_kind: str, request: pytest.FixtureRequest) -> Iterator[FilledEngine]:
    """Return what opens a database that a function has filled, once in a run, on each engine; the name stands for what it wrote."""
    spares: Spares = request.getfixturevalue(f"{database_kind}_spares")
    with contextlib.ExitStack() as stack:
        yield lambda name, write: stack.enter_context(spares.lend(request, Filling(name, write)))


@pytest.fixture
def filled(
    filled_engine: FilledEngine,
) -> Iterator[Callable[[Callable[[Session], None]], Session]]:
    """Return what opens a session on a database that a function has filled, once in a run, on each engine."""

    def open_session(fill: Callable[[Session], None]) -> Session:
        def write(engine: sa.Engine) -> None:
            with Session(engine) as session:
                fill(session)
                session.commit()

        return stack.enter_context(Session(filled_engine(f"{fill.__module__}.{fill.__qualname__}", write)))

    with contextlib.ExitStack() as stack:
        yield open_session


@pytest.fixture
def session(engine: sa.Engine) -> Iterator[Session]:
    """Open a session on an empty database at head; what it writes goes with the database."""
    with Session(engine) as session:
        yield session
