"""``${VARIABLE}`` in the values of configuration files."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast

from kart_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

_PATTERN = re.compile(r"\$\$\{|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}|\$\{[^}]*\}?")


def interpolate(value: Any, environment: Mapping[str, str], where: str) -> Any:
    """The value with the variables in its text replaced, in lists and tables too.

    ``${NAME}`` becomes the variable's value, ``${NAME:-default}`` the default where the variable
    is not set or empty, ``$${`` a plain ``${``.

    Args:
        value: a string, list, table, or anything else, which is given back as it is.
        environment: the variables.
        where: the file, section and key, for messages.

    Raises:
        ConfigError: a variable is not set and has no default, or ``${…}`` holds no variable's name.

    Example:
        >>> interpolate("${BUCKET}/${STAGE:-test}", {"BUCKET": "s3://a"}, "kart.toml [Train] path")
        's3://a/test'
    """
    if isinstance(value, str):
        return _PATTERN.sub(lambda match: _replaced(match, environment, where), value) if "${" in value else value
    if isinstance(value, list):
        return [interpolate(item, environment, where) for item in cast("list[Any]", value)]
    if isinstance(value, dict):
        table = cast("dict[str, Any]", value)
        return {key: interpolate(item, environment, where) for key, item in table.items()}
    return value


def _replaced(match: re.Match[str], environment: Mapping[str, str], where: str) -> str:
    if match[0] == "$${":
        return "${"
    name, default = match["name"], match["default"]
    if name is None:
        raise ConfigError(
            f"{where}: {match[0]} is no variable; write ${{NAME}}, ${{NAME:-default}}, or $${{ for a plain ${{"
        )
    found = environment.get(name)
    if default is not None:
        return found or default
    if found is None:
        raise ConfigError(
            f"{where}: the environment variable {name} is not set; set it, or write ${{{name}:-a default}}"
        )
    return found
