"""The text forms of dates, times, moments and spans, the same on every Python.

``datetime.fromisoformat`` takes less on Python 3.10 than on later ones, and none of them names
zones; so the forms are read here.
"""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta, timezone, tzinfo

from kart_core.parameters.fault import fault, text_fault

_CLOCK = r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2})(:(?P<second>[0-9]{2})([.,](?P<fraction>[0-9]{1,6}))?)?"
_OFFSET = r"(?P<offset>[Zz]|[+-][0-9]{2}:?[0-9]{2}(:[0-9]{2})?)?"
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIME = re.compile(_CLOCK + _OFFSET)
_DATETIME = re.compile(rf"(?P<day>{_DATE.pattern})[Tt ]{_CLOCK}{_OFFSET}(\[(?P<zone>[^\[\]]+)\])?")

_MICROSECONDS = {
    "w": 604_800_000_000,
    "d": 86_400_000_000,
    "h": 3_600_000_000,
    "m": 60_000_000,
    "s": 1_000_000,
    "ms": 1_000,
    "us": 1,
}
_NUMBER = r"([0-9]+(?:\.[0-9]+)?)"
_SPAN = re.compile(rf"(?:{_NUMBER}\s*(?:w|d|h|ms|m|s|us|µs)\s*)+")
_SPAN_PART = re.compile(rf"{_NUMBER}\s*(w|d|h|ms|m|s|us|µs)")
_ISO_SPAN = re.compile(rf"P(?=[0-9T])((?:{_NUMBER}[WD])*)(?:T((?:{_NUMBER}[HMS])+))?")
_CLOCK_SPAN = re.compile(
    r"(?:(?P<days>-?[0-9]+) days?, )?(?P<hours>[0-9]+):(?P<minutes>[0-5][0-9]):(?P<seconds>[0-5][0-9](?:\.[0-9]{1,6})?)"
)


def parse_date(text: str) -> date:
    """``2024-12-31``."""
    if _DATE.fullmatch(text):
        try:
            return date.fromisoformat(text)
        except ValueError:
            pass
    raise text_fault("date (like 2024-12-31)", text)


def parse_time(text: str) -> time:
    """``23:59``, ``23:59:30.5``, with an offset if wished."""
    match = _TIME.fullmatch(text)
    if match:
        try:
            return _time(match, _offset(match["offset"]))
        except ValueError:
            pass
    raise text_fault("time (like 23:59:30)", text)


def parse_datetime(text: str) -> datetime:
    """``2024-12-31T23:59:30``, then an offset, ``Z``, or a zone's name in brackets, or an offset and a name."""
    match = _DATETIME.fullmatch(text)
    if match is None:
        raise text_fault("datetime (like 2024-12-31T23:59:30+01:00 or 2024-12-31T23:59:30[Europe/Berlin])", text)
    try:
        offset = _offset(match["offset"])
        moment = datetime.combine(date.fromisoformat(match["day"]), _time(match, offset))
    except ValueError as error:
        raise text_fault(f"datetime ({error})", text) from None
    return moment if match["zone"] is None else _in_zone(moment, match["zone"], text)


def _in_zone(moment: datetime, name: str, text: str) -> datetime:
    """The moment in a named zone; where it has an offset too, this tells which of two equal hours is meant."""
    import zoneinfo

    try:
        zone = zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise text_fault(f"datetime in a zone that this machine knows, which {name} is not", text) from None
    choices = [moment.replace(tzinfo=zone, fold=fold) for fold in (0, 1)]
    if moment.tzinfo is None:
        return choices[0]
    for choice in choices:
        if choice.utcoffset() == moment.utcoffset():
            return choice
    raise text_fault(f"datetime whose offset is one of {name}", text)


def _time(match: re.Match[str], zone: tzinfo | None) -> time:
    microsecond = int((match["fraction"] or "0").ljust(6, "0"))
    return time(int(match["hour"]), int(match["minute"]), int(match["second"] or 0), microsecond, zone)


def _offset(text: str | None) -> timezone | None:
    if text is None:
        return None
    if text in "Zz":
        return timezone.utc
    digits = text[1:].replace(":", "").ljust(6, "0")
    size = timedelta(hours=int(digits[:2]), minutes=int(digits[2:4]), seconds=int(digits[4:]))
    return timezone(-size if text[0] == "-" else size)


def write_datetime(value: datetime) -> str:
    """The text from which `parse_datetime` gives the moment back.

    Raises:
        ParameterFault: its zone is neither an offset nor a `zoneinfo.ZoneInfo` with a name.
    """
    zone = value.tzinfo
    if zone is None or type(zone) is timezone:
        return value.replace(fold=0).isoformat()
    key = getattr(zone, "key", None)
    if not isinstance(key, str):
        raise fault("a datetime whose zone is an offset or a ZoneInfo with a name", value)
    return f"{value.isoformat()}[{key}]"


def parse_timedelta(text: str) -> timedelta:
    """``90s``, ``1h30m``, ``1.5`` (seconds), ``1 day, 2:00:00``, ``PT1H30M``; a minus before it all is taken."""
    sign, content = (-1, text[1:]) if text[:1] == "-" else (1, text)
    try:
        microseconds = _plain_span(content)
        if microseconds is None:
            # As str(timedelta) writes it, only the days of a negative span carry the sign.
            sign, microseconds = 1, _clock_span(text)
        if microseconds is not None:
            return timedelta(microseconds=sign * microseconds)
    except OverflowError:
        raise text_fault("timedelta (of less than a thousand million days)", text) from None
    except ValueError as error:
        raise text_fault(f"timedelta ({error})", text) from None
    raise text_fault("timedelta (like 90s, 1h30m, 1.5 for seconds, '1 day, 2:00:00' or PT1H30M)", text)


def _plain_span(text: str) -> int | None:
    if re.fullmatch(_NUMBER, text):
        return _times(text, "s")
    if _SPAN.fullmatch(text):
        return sum(_times(number, unit.replace("µ", "u")) for number, unit in _SPAN_PART.findall(text))
    iso = _ISO_SPAN.fullmatch(text)
    if iso:
        parts = re.findall(rf"{_NUMBER}([A-Z])", f"{iso[1] or ''}{iso[3] or ''}")
        return sum(_times(number, unit.lower()) for number, unit in parts)
    return None


def _clock_span(text: str) -> int | None:
    match = _CLOCK_SPAN.fullmatch(text)
    if match is None:
        return None
    days = int(match["days"] or 0) * _MICROSECONDS["d"]
    return days + _times(match["hours"], "h") + _times(match["minutes"], "m") + _times(match["seconds"], "s")


def _times(number: str, unit: str) -> int:
    """A decimal number of units, in whole microseconds, without a float between."""
    whole, _, fraction = number.partition(".")
    scaled = int(whole + fraction) * _MICROSECONDS[unit]
    microseconds, rest = divmod(scaled, 10 ** len(fraction))
    if rest:
        raise ValueError("it goes by whole microseconds")
    return microseconds


def write_timedelta(value: timedelta) -> str:
    """The span as ``1d2h3m4.5s``, from which `parse_timedelta` gives it back.

    Example:
        >>> write_timedelta(timedelta(hours=1, seconds=90)), write_timedelta(-timedelta(microseconds=1))
        ('1h1m30s', '-0.000001s')
    """
    rest = value // timedelta(microseconds=1)
    text, rest = "-" if rest < 0 else "", abs(rest)
    for unit in "dhm":
        count, rest = divmod(rest, _MICROSECONDS[unit])
        text += f"{count}{unit}" if count else ""
    seconds, fraction = divmod(rest, _MICROSECONDS["s"])
    if fraction:
        return f"{text}{seconds}.{fraction:06d}".rstrip("0") + "s"
    return f"{text}{seconds}s" if seconds or text in ("", "-") else text
