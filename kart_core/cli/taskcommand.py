"""A command whose options come from the tasks that its words name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from types import ModuleType

    from kart_core.cli.arguments import Arguments
    from kart_core.cli.classes import TaskClass


class TaskCommand(click.Command):
    """A command that takes tasks and, beside its own options, every option of those tasks.

    What the words say is in the context's ``obj``, as `kart_core.cli.arguments.Arguments`.

    Args:
        script: the module whose task classes are named without a module; None for ``MODULE:TASK`` alone.
        by_id: whether a unique id may stand instead of a task.
        keywords: as `click.Command` takes them.
    """

    def __init__(self, *, script: ModuleType | None = None, by_id: bool = False, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.script = script
        self.by_id = by_id

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Takes the tasks and their options out of the words, and leaves the command's own to click."""
        from kart_core.cli.arguments import read
        from kart_core.cli.roots import check

        own = {
            name: isinstance(param, click.Option) and not param.is_flag
            for param in self.get_params(ctx)
            for name in param.opts
        }
        id_at = self._place_of_id(args, own)
        words = [word for place, word in enumerate(args) if place != id_at]
        arguments = read(words, own, self._load, self._may_be_task)
        ctx.obj = arguments if id_at is None else arguments._replace(tasks=[args[id_at], *arguments.tasks])
        rest = super().parse_args(ctx, list(arguments.own))
        check(arguments.given)
        return rest

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """What follows the command's name in the line of its usage."""
        arguments: Arguments | None = ctx.obj
        if arguments is not None and arguments.roots:
            return [*arguments.tasks, "[OPTIONS]"]
        what = "TASK..." if self.script is not None else "MODULE:TASK..."
        return [f"UNIQUE_ID | {what}" if self.by_id else what, "[OPTIONS]"]

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes what the named tasks are, or what the command does."""
        arguments: Arguments | None = ctx.obj
        if arguments is None or not arguments.roots:
            super().format_help_text(ctx, formatter)
            return
        from kart_core.cli.taskhelp import summary

        for about in dict.fromkeys(summary(cls) for cls in arguments.roots):
            if about:
                formatter.write_paragraph()
                with formatter.indentation():
                    formatter.write_text(about)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the options of the named tasks, or the tasks that can be named, and the command's own."""
        from kart_core.cli import classes, taskhelp

        arguments: Arguments | None = ctx.obj
        if arguments is not None and arguments.roots:
            from kart_core.cli.pluginoptions import write_plugins

            taskhelp.write_tasks(formatter, list(dict.fromkeys(arguments.roots)))
            write_plugins(formatter)
        elif self.script is not None:
            tasks = [(cls.__name__, taskhelp.summary(cls)) for cls in classes.listed(self.script)]
            with formatter.section("Tasks (TASK --help shows a task's options)"):
                formatter.write_dl(tasks) if tasks else formatter.write_text("This script has none.")
        super().format_options(ctx, formatter)

    def _place_of_id(self, words: list[str], own: dict[str, bool]) -> int | None:
        for place, word in enumerate(words if self.by_id else ()):
            before = words[place - 1] if place else ""
            is_value = before.startswith("-") and "=" not in before and own.get(before, True)
            if not is_value and is_unique_id(word):
                return place
        return None

    def _load(self, word: str) -> TaskClass:
        from kart_core.cli import classes

        return classes.load(word) if self.script is None else classes.of_script(self.script, word)

    def _may_be_task(self, word: str) -> bool:
        from kart_core.cli import classes

        if classes.is_reference(word):
            return True
        return self.script is not None and word in [cls.__name__ for cls in classes.listed(self.script)]


def is_unique_id(word: str) -> bool:
    """Whether the word may be a unique id, or the first digits of one."""
    return 4 <= len(word) <= 32 and all(letter in "0123456789abcdef" for letter in word)
