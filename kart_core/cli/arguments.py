"""The words of a command line, told apart: tasks, options of tasks, and options of the command itself.

Which word is a value depends on the options of the tasks, and which options there are depends on the tasks
that the words name. So the words are read twice: first for the tasks that are certain, then with their options.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import click

from kart_core.cli.options import BOOLEANS, Meaning, Options, Unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from kart_core.cli.classes import TaskClass
    from kart_core.cli.pluginoptions import PluginOption


class Given(NamedTuple):
    """An option of a task, as it was given."""

    option: str
    """As written, without its value: ``--Numbers-n``."""
    text: str
    meanings: Sequence[Meaning]


class Arguments(NamedTuple):
    """What a command line says."""

    tasks: Sequence[str]
    """The tasks as they were written."""
    roots: Sequence[TaskClass]
    """Their classes."""
    given: Sequence[Given]
    own: Sequence[str]
    """The words of the command's own options, each ``--name`` or ``--name=value``; of plugins, as ``--set``."""


class _Word(NamedTuple):
    kind: str  # "task", "own" or "option"
    text: str  # the task, or the option without its value
    value: str | None


def read(
    words: Sequence[str],
    own: Mapping[str, bool],
    load: Callable[[str], TaskClass],
    may_be_task: Callable[[str], bool],
) -> Arguments:
    """Reads the words of a command line.

    Args:
        words: the command line after the command's name.
        own: the command's own options (``--config``), and whether each takes a value.
        load: gives the class of a task as it is named, or raises `click.UsageError`.
        may_be_task: whether a word has the form of a task's name.

    Raises:
        click.UsageError: an option that does not exist, is given twice, or lacks its value.
    """
    tasks = [word.text for word in _split(words, own, None, may_be_task) if word.kind == "task"]
    if not tasks:  # perhaps `--flag pipeline:Total`: only the task itself can say that --flag takes no value
        tasks = [word for word in words if not word.startswith("-") and may_be_task(word)][:1]
    classes: dict[str, TaskClass] = {name: load(name) for name in tasks}

    def options_of(names: Sequence[str]) -> Options:
        return Options(list(dict.fromkeys(classes[name] for name in names)), [name for name in own if len(name) > 2])

    while True:
        options = options_of(tasks)
        found = list(_split(words, own, options, may_be_task))
        named = [word.text for word in found if word.kind == "task"]
        if set(named) <= set(classes):
            break
        try:
            classes.update({name: load(name) for name in named if name not in classes})
        except click.UsageError:
            list(_given(found, options))  # an option that does not exist is the likelier mistake
            raise
        tasks = named
    return Arguments(
        named,
        [classes[name] for name in named],
        list(_given(found, options_of(named))),
        [word.text if word.value is None else f"{word.text}={word.value}" for word in found if word.kind == "own"],
    )


def _split(
    words: Sequence[str], own: Mapping[str, bool], options: Options | None, may_be_task: Callable[[str], bool]
) -> Iterator[_Word]:
    """Tells the words apart; without `options`, a word after an option of a task is taken for its value."""
    waiting = list(reversed(words))
    while waiting:
        word = waiting.pop()
        if word == "--":
            yield from (_Word("task", rest, None) for rest in reversed(waiting))
            return
        if not word.startswith("-") or word == "-":
            yield _Word("task", word, None)
            continue
        option, equals, value = word.partition("=")
        command_option = option.replace("_", "-") if option.startswith("--") else option
        if command_option in own:
            if own[command_option] and not equals and waiting and not waiting[-1].startswith("--"):
                value, equals = waiting.pop(), "="
            yield _Word("own", command_option, value if equals else None)
        elif "--set" in own and (setting := _setting(option, options)) is not None:
            if not equals:
                following = waiting[-1] if waiting else "--"
                takes = following.lower() in BOOLEANS if setting.flag else not following.startswith("--")
                if not takes and not setting.flag:
                    raise click.UsageError(_without_value(option))
                value = waiting.pop() if takes else "true"
            yield _Word("own", "--set", f"{setting.place}={value}")
        elif equals:
            yield _Word("option", option, value)
        elif waiting and _takes(option, waiting[-1], options, may_be_task):
            yield _Word("option", option, waiting.pop())
        else:
            yield _Word("option", option, None)


def _setting(option: str, options: Options | None) -> PluginOption | None:
    """The setting of a plugin that an option means, where it is none of a task."""
    if options is None:
        return None
    try:
        options.meanings(option)
    except Unknown:
        from kart_core.cli.pluginoptions import plugin_option

        return plugin_option(option)
    return None


def _without_value(option: str) -> str:
    return f"{option} needs a value (a value that begins with -- is given as {option}=VALUE)"


def _takes(option: str, following: str, options: Options | None, may_be_task: Callable[[str], bool]) -> bool:
    """Whether the word after an option is its value."""
    if following.startswith("--"):
        return False
    if options is None:
        return True
    try:
        meanings = options.meanings(option)
    except Unknown:
        return not following.startswith("-") and not may_be_task(following)
    if all(meaning.flag for meaning in meanings):
        optional = any(meaning.annotation is not bool for meaning in meanings)
        return following.lower() in BOOLEANS or (optional and following.lower() in ("none", "null"))
    return True


def _given(found: Sequence[_Word], options: Options) -> Iterator[Given]:
    seen: dict[tuple[type, str, bool], str] = {}
    for word in found:
        if word.kind != "option":
            continue
        try:
            meanings = options.meanings(word.text)
        except Unknown:
            from kart_core.cli.pluginoptions import lacking

            if (why := lacking(word.text)) is not None:
                raise Unknown(why) from None
            raise
        for meaning in meanings:
            key = (meaning.cls, meaning.name, meaning.root)
            if key in seen:
                raise click.UsageError(f"{word.text} is given twice; give it once")
            seen[key] = word.text
        text = word.value
        if text is None:
            if not all(meaning.flag for meaning in meanings):
                raise click.UsageError(_without_value(word.text))
            text = "true"
        yield Given(word.text, text, meanings)
