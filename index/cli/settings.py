"""Defaults of options: from the environment, else from the nearest cas.toml, else built in."""

from __future__ import annotations

import os
from os.path import exists, isfile  # unlike pathlib's, it never raises
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click
from click.core import ParameterSource

from cas.redaction import shown_url
from index.api.location import CONFIG_NAME, DEFAULTS, TRACK, load_config
from index.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from index.cli.location import StoreLocation

__all__ = ["Setting", "iter_settings", "setting", "track_settings"]

_NAMES: Final = {"session": "default", "run": None, "phase": None, "agent": None}
"""What ``[defaults]`` may have, and what holds without it."""

_BUILT_IN: Final = "built in"

_FLAGS: Final = {"hidden": False, "default_ignores": True, "gitignore": False}
"""The same of ``[track]``, besides ``ignore``."""


class Setting(NamedTuple):
    """A default of an option, and where it comes from."""

    name: str
    value: Any
    source: str
    """An environment variable, a file, or ``built in``."""


def setting(name: str) -> Callable[[], str | None]:
    """Return a function that finds a default of ``[defaults]``, for click to call when it needs it.

    It raises ConfigError if the file can't be used.
    """

    def found() -> str | None:
        _, noted = _noted(DEFAULTS)
        value: str | None = noted.get(name, _NAMES[name])
        return value

    return found


def track_settings(*, ignore: tuple[str, ...], **flags: bool | None) -> dict[str, Any]:
    """Return the arguments of `Run.track` that the nearest cas.toml and the options set.

    Options take precedence over the file, and its patterns come before theirs. A flag that neither
    has is not in the result.
    """
    _, noted = _noted(TRACK)
    given = {name: value for name, value in flags.items() if value is not None}
    return {**noted, **given, "ignore": (*noted.get("ignore", ()), *ignore)}


def iter_settings(location: StoreLocation) -> Iterator[Setting]:
    """Yield where the store is and all defaults of options, each with its source.

    Passwords are not in it. Raises ConfigError.
    """
    yield from _places(location)
    for table, names in ((DEFAULTS, _NAMES), (TRACK, {"ignore": [], **_FLAGS})):
        file, noted = _noted(table)
        for name, built_in in names.items():
            variable = f"CAS_{name.upper()}"
            if os.environ.get(variable):
                yield Setting(name, os.environ[variable], variable)
            elif name in noted:
                yield Setting(name, noted[name], str(file))
            else:
                yield Setting(name, built_in, _BUILT_IN)


def _places(location: StoreLocation) -> Iterator[Setting]:
    found = location.resolve()
    file = _nearest_file()
    noted = _BUILT_IN if file is None else str(file)
    if isinstance(found, Path):
        places: dict[str, object] = {"store": found}
        noted = "nearest .cas" if exists(found) else _BUILT_IN
    else:
        places = {"index": shown_url(str(found.index)), "blobs": shown_url(str(found.blobs))}
        places |= {"cache": location.cache or found.cache}
        places |= {"cache_size": location.cache_size or found.cache_size}
    root = click.get_current_context().find_root()
    for name, value in places.items():
        source = root.get_parameter_source(name)
        if name == "cache" and not location.is_cached:
            yield Setting(name, None, "--no-cache")
            continue
        is_later = name == "store" and location.store != root.params["store"]
        if is_later or source is ParameterSource.COMMANDLINE:
            yield Setting(name, value, f"--{name.replace('_', '-')}")
        elif source is ParameterSource.ENVIRONMENT:
            yield Setting(name, value, f"CAS_{name.upper()}")
        else:
            yield Setting(name, value, noted if value is not None else _BUILT_IN)


def _nearest_file() -> Path | None:
    try:
        here = Path.cwd()
    except OSError:  # it was removed; what is needed may be given in full
        return None
    files = (folder / CONFIG_NAME for folder in (here, *here.parents))
    return next((file for file in files if isfile(file)), None)


def _noted(table: str) -> tuple[Path | None, dict[str, Any]]:
    """Return a table of the nearest cas.toml, and the file; an empty one if there is none."""
    file = _nearest_file()
    if file is None:
        return None, {}
    noted = load_config(file).get(table, {})
    if not isinstance(noted, dict):
        raise ConfigError(str(file), f"{table} is no table; write [{table}] on a line of its own")
    known = _NAMES if table == DEFAULTS else {"ignore": (), **_FLAGS}
    for name, value in noted.items():
        if name not in known:
            has = ", ".join(known)
            raise ConfigError(str(file), f"[{table}] has no setting {name!r}; it has {has}")
        if name == "ignore":
            if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
                raise ConfigError(str(file), "ignore in [track] is a list of patterns in quotes")
        elif name in _FLAGS and not isinstance(value, bool):
            raise ConfigError(str(file), f"{name} in [track] is true or false")
        elif name in _NAMES and not isinstance(value, str):
            raise ConfigError(str(file), f"{name} in [{DEFAULTS}] is text in quotes")
    return file, noted
