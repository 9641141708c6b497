"""Alembic's environment: one history for DuckDB and PostgreSQL.

The URL comes from the caller (`config.attributes["database_url"]`: the program, the tests), else from the settings. Each revision runs in a
transaction of its own, so that a revision that fails leaves the one before it.
"""

from __future__ import annotations

from alembic import context
from sqlalchemy import make_url

from opencode_monitor.db.autogenerate import compare_server_default, compare_type, include_object
from opencode_monitor.db.engine import create_database_engine
from opencode_monitor.models import Base
from opencode_monitor.settings import load_settings

database_url: str = context.config.attributes.get("database_url") or load_settings().database_url
wait_seconds: float = context.config.attributes.get("wait_seconds", 30.0)

if context.is_offline_mode():
    context.configure(
        dialect_name=make_url(database_url).get_backend_name(),
        target_metadata=Base.metadata,
        literal_binds=True,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()
else:
    engine = create_database_engine(database_url, wait_seconds=wait_seconds)
    try:
        with engine.connect() as connection:
            if connection.dialect.name == "duckdb" and "memory_limit" not in engine.url.query:
                # More than a report or an import may take: moving two million parts in one transaction failed with one gigabyte.
                connection.exec_driver_sql("SET memory_limit = '1500MB'")
                connection.commit()
            context.configure(
                connection=connection,
                target_metadata=Base.metadata,
                compare_type=compare_type,
                compare_server_default=compare_server_default,
                include_object=include_object,
                transaction_per_migration=True,
            )
            with context.begin_transaction():
                context.run_migrations()
            if connection.dialect.name == "duckdb":
                # A run without a revision to run still makes Alembic's own table.
                connection.commit()
                # Leaves no write-ahead log behind: a later reader may not be allowed to replay it.
                connection.exec_driver_sql("CHECKPOINT")
    finally:
        # After a failure too: the pool would keep the connection to PostgreSQL open for as long as the program lives.
        engine.dispose()
