"""INI files, read with their line numbers, all faults at once.

The language is that of `configparser` (sections in brackets, ``key = value`` or ``key: value``,
comments from ``#`` or ``;`` on a line of their own, indented lines that continue a value),
except that names keep their case and nothing is interpolated while reading.
"""

from __future__ import annotations

import re

Sections = dict[str, dict[str, str]]

_SECTION = re.compile(r"\[(?P<name>[^\]]*)\]\s*(?:[#;].*)?$")
_OPTION = re.compile(r"(?P<key>[^=:]*?)\s*[=:]\s*(?P<value>.*)$")


def read_ini(text: str) -> tuple[Sections, list[str]]:
    r"""Reads the text of an INI file.

    Returns:
        the values by section and key, and the faults, each a sentence that begins with the line.

    Example:
        >>> read_ini("[Train]\nn = 3\nwhat")
        ({'Train': {'n': '3'}}, ['line 3: neither a section nor "key = value": what'])
    """
    sections: Sections = {}
    faults: list[str] = []
    section: dict[str, str] | None = None
    key: str | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        content = line.strip()
        if not content or content[0] in "#;":
            continue
        if line[0].isspace() and section is not None and key is not None:
            section[key] = f"{section[key]}\n{content}".lstrip("\n")
            continue
        key = None
        header = _SECTION.match(content)
        if header is not None:
            section, wrong = _opened(sections, header["name"].strip())
        else:
            key, wrong = _set(section, content)
        if wrong:
            faults.append(f"line {number}: {wrong}")
    return sections, faults


def _opened(sections: Sections, name: str) -> tuple[dict[str, str], str | None]:
    if not name:
        return {}, "a section without a name"
    if name == "DEFAULT":
        return {}, "the section [DEFAULT] has no meaning here; what holds for every task stands in [TaskOnKart]"
    if name in sections:
        return sections[name], f"the section [{name}] stands there a second time"
    return sections.setdefault(name, {}), None


def _set(section: dict[str, str] | None, content: str) -> tuple[str | None, str | None]:
    option = _OPTION.match(content)
    if option is None or not option["key"]:
        return None, f'neither a section nor "key = value": {content[:40]}'
    if section is None:
        return None, f"{option['key']} stands before the first section; write [TaskOnKart] above it"
    key = option["key"]
    if key in section:
        return None, f"{key} stands there a second time"
    section[key] = option["value"]
    return key, None
