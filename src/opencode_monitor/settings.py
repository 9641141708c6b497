"""Where things are: settings from the environment (prefix `OPENCODE_MONITOR_`), defaults that need none, and the configuration file."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import quote

import platformdirs
from pydantic import AliasChoices, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from opencode_monitor.errors import ConfigError, UsageError

APPLICATION = "opencode-monitor"


def default_database_path() -> Path:
    """Return the database file in the user's data directory (`$XDG_DATA_HOME` is respected)."""
    return platformdirs.user_data_path(APPLICATION) / "monitor.duckdb"


def default_config_path() -> Path:
    """Return the configuration file in the user's configuration directory (`$XDG_CONFIG_HOME` is respected)."""
    return platformdirs.user_config_path(APPLICATION) / "config.toml"


def demo_directory() -> Path:
    """Return where the demo keeps its own store and database, apart from the user's."""
    return platformdirs.user_cache_path(APPLICATION) / "demo"


class Settings(BaseSettings):
    """Settings of one run.

    Attributes:
        database_url: `duckdb:///FILE` or `postgresql+psycopg://...`; from `OPENCODE_MONITOR_DATABASE_URL` or `OPENCODE_MONITOR_DB`, where
            a plain path is also understood.
        tz: The time zone of days in reports, an IANA name; the system's where absent.
        cost: Which of the three numbers the reports show: list, reported or paid.
        no_content: Whether imports leave prompts, answers, tool arguments and output out.
        working_trees: Whether an import looks into the `.git` of the sessions' directories for what was checked out.
        mcp_servers: Names of MCP servers beyond those in OpenCode's configuration, separated by commas.
        file_tools: Tools of MCP servers or plugins that work on files, as `tool=read`, separated by commas.
        config: The configuration file; `config.toml` in the user's configuration directory where absent.
    """

    model_config = SettingsConfigDict(env_prefix="OPENCODE_MONITOR_", env_ignore_empty=True, extra="ignore")

    database_url: str = Field(
        default_factory=lambda: database_url_of(default_database_path()),
        validation_alias=AliasChoices("OPENCODE_MONITOR_DATABASE_URL", "OPENCODE_MONITOR_DB"),
    )
    tz: str | None = None
    cost: str = "list"
    no_content: bool = False
    working_trees: bool = True
    mcp_servers: str = ""
    file_tools: str = ""
    config: str = ""


def database_url_of(database: str | Path) -> str:
    """Return the database URL of a URL or a path.

    Args:
        database: A URL with a scheme, or the path of a DuckDB file.
    """
    text = str(database)
    if "://" in text:
        return text
    # Quoted, as a "?" or "%" in a file name means something else in a URL.
    return f"duckdb:///{quote(str(Path(text).expanduser().absolute()))}"


def load_settings() -> Settings:
    """Read the settings from the environment; an empty variable is as good as none.

    Raises:
        UsageError: A variable that is yes or no says neither.
    """
    try:
        settings = Settings()
    except ValidationError as error:
        name, value = error.errors()[0]["loc"][0], error.errors()[0]["input"]
        raise UsageError(f"$OPENCODE_MONITOR_{str(name).upper()} is {value!r}.", hint="Use true or false.") from None
    return settings.model_copy(update={"database_url": database_url_of(settings.database_url)})


def config_path(given: str | Path | None = None) -> Path:
    """Return the configuration file that holds: the one given, else that of the environment, else the user's own.

    Args:
        given: What somebody named.
    """
    return Path(given or load_settings().config or default_config_path()).expanduser().absolute()


def read_config(path: Path) -> dict[str, Any]:
    """Read a configuration file; one that nobody named and that is not there says nothing.

    Args:
        path: As `config_path` has it.

    Raises:
        ConfigError: It cannot be read, is not TOML, or was named and is not there.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if path == default_config_path():
            return {}
        raise ConfigError(f"no configuration file at {path}. Write it, or name another with --config.") from None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
