"""The terms of leases: how long one lives."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final, cast

import attrs

from kart_core import config
from kart_core.errors import ConfigError
from kart_core.parameters import ParameterFault

SECTION: Final = "leases"


@attrs.frozen
class Terms:
    """How long a lease lives."""

    renew_every: float = 10.0
    """Seconds between the renewals of a lease."""
    expiry: float = 60.0
    """Seconds without a renewal after which another may take a lease over."""

    @classmethod
    def configured(cls) -> Terms:
        """The terms of the configuration's section ``[leases]``.

        Raises:
            ConfigError: an unknown key, no duration, or an expiry that leaves no room for a late renewal.

        Example:
            >>> with config.using(config.Config().with_options({("leases", "expiry"): "5m"}, origin="command line")):
            ...     Terms.configured()
            Terms(renew_every=10.0, expiry=300.0)
        """
        known = attrs.fields_dict(cls)
        for key, found in config.current().section(SECTION).items():
            if key not in known:
                near = config.nearest(key, known)
                hint = f"did you mean {near}?" if near else f"there are {' and '.join(known)}"
                raise ConfigError(f"{found.source}: [{SECTION}] has no {key}; {hint}")
        terms = cls(**{name: seconds for name in known if (seconds := _seconds(name)) is not None})
        if terms.expiry < 2 * terms.renew_every:
            raise ConfigError(
                f"[{SECTION}] expiry is {terms.expiry:g} s and renew_every {terms.renew_every:g} s; an expiry of twice "
                "that at least leaves room for a renewal that is late"
            )
        return terms


def _seconds(name: str) -> float | None:
    found = config.current().find((SECTION,), name)
    if found is None:
        return None
    value: Any = found.value
    try:
        if isinstance(value, str):
            from kart_core.parameters import parse_text

            value = parse_text(value, cast("Any", float | timedelta))
    except ParameterFault:
        value = None
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds < float("inf"):
        raise ConfigError(f'{found.source}: given {found.value!r}, but it takes seconds, or a duration such as "2m"')
    return float(seconds)
