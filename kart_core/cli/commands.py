"""The commands of ``kart-core``, and the one command of a pipeline's own script.

Only click is imported here: whoever asks for help waits for nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from kart_core._version import __version__
from kart_core.cli.storage import storage_commands
from kart_core.cli.taskcommand import TaskCommand

if TYPE_CHECKING:
    from types import ModuleType

    from kart_core.cli.arguments import Arguments

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}

_config = click.option(
    "--config", "files", multiple=True, metavar="FILE", help="Read this .toml or .ini file too; it wins over others."
)
_set = click.option(
    "--set",
    "plugin_settings",
    multiple=True,
    metavar="plugins.NAME.KEY=VALUE",
    help="Set a plugin's setting; beside a task, --NAME-KEY VALUE does the same.",
)
_no_plugin = click.option(
    "--no-plugin", "disabled", multiple=True, metavar="NAME", help="Do without an installed plugin."
)
_rerun_from = click.option(
    "--rerun-from", multiple=True, metavar="TASK", help="Run this task again, and all that depends on it."
)
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
_print = click.option("--print", "printing", is_flag=True, help="Print the values of the results, after the summary.")
_log_level = click.option(
    "--log-level",
    metavar="LEVEL",
    help="Show log lines of this level and above on stderr: debug, info, warning, error.",
)


def _number_of_workers(ctx: click.Context, param: click.Parameter, text: str | None) -> int | None:
    """The number that ``--workers`` gives, refused in the words in which `kart_core.build` refuses one."""
    del ctx, param
    if text is None:
        return None
    from kart_core.config.runs import check_workers
    from kart_core.errors import ParameterError

    try:
        number = int(text)
    except ValueError:
        number = None
    try:
        check_workers(text if number is None else number)
    except ParameterError as error:
        raise click.UsageError(f"--{error}") from None
    return number


_workers = click.option(
    "--workers",
    callback=_number_of_workers,
    metavar="N",
    help="How many tasks run at the same time, each in a process of its own.",
)
_executor = click.option(
    "--executor", metavar="NAME", help="Where tasks run: inline, processes, or an executor of a plugin."
)
_local_scheduler = click.option("--local-scheduler", is_flag=True, help="Accepted for old scripts; it has no effect.")


class Commands(click.Group):
    """The commands in the order in which one comes to need them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names."""
        del ctx
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the first word names; where it names none, what was probably meant."""
        word = args[0]
        if self.get_command(ctx, word) is None and not word.startswith("-"):
            from kart_core.cli import classes
            from kart_core.config import nearest

            task = word if classes.is_reference(word) else classes.with_colon(word)
            close = nearest(word, self.commands)
            hint = f"did you mean {ctx.command_path} run {task}?" if task else f"did you mean {close}?" if close else ""
            raise click.UsageError(f"there is no command {word}; {hint or f'{ctx.command_path} --help lists them'}")
        return super().resolve_command(ctx, args)


@click.group("kart-core", cls=Commands, context_settings=_CONTEXT, invoke_without_command=True)
@click.version_option(__version__, "-V", "--version", prog_name="kart-core", message="%(prog)s %(version)s")
@click.pass_context
def kart_core(ctx: click.Context) -> int | None:
    """Runs pipelines of kart, and shows what will run, what ran, and how a result came to be.

    \b
    Examples:
      kart-core run pipeline:Total --Numbers-n 5   run what is missing for a task's result
      kart-core plan pipeline:Total                show what would run, and why; run nothing
      kart-core show pipeline:Total                show how its stored result was made
      kart-core COMMAND --help                     explain a command
    """  # noqa: D301 - click reads the backspace
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        return 2
    return None


@kart_core.result_callback()
def _exit_code(code: int | None) -> int | None:
    return code


@kart_core.command(
    "run", short_help="Run what is missing for the results of tasks.", cls=TaskCommand, context_settings=_CONTEXT
)
@_print
@_config
@_rerun_from
@_set
@_no_plugin
@_workers
@_executor
@_log_level
@_local_scheduler
@click.pass_context
def run_command(ctx: click.Context, **options: Any) -> int:
    """Runs what is missing for the results of the named tasks.

    A task is named as MODULE:TASK, or FILE.py:TASK. Its parameters are options; so are those of the tasks
    that it requires, with the class before the parameter, and the settings. Lists, mappings and tasks are
    given as JSON. `kart-core run MODULE:TASK --help` shows the options of a task.

    \b
    Examples:
      kart-core run pipeline:Total
      kart-core run pipeline:Total --Numbers-n 20 --print
      kart-core run pipeline:Total --workspace-directory s3://bucket/results --rerun
      kart-core run pipeline:Train pipeline:Report --Train-layers '[64, 32]'
      kart-core run pipeline:Report --workers 4

    \b
    Exit codes: 0 done, 2 usage or configuration, 20 external data missing, 40 a task failed,
    50 the graph could not be made, 70 storage or plugin failure, 130 interrupted.
    """  # noqa: D301 - click reads the backspace
    from kart_core.cli import actions

    return actions.run(_named(ctx), **options)


@kart_core.command(
    "plan", short_help="Show what would run, and why; change nothing.", cls=TaskCommand, context_settings=_CONTEXT
)
@_config
@_rerun_from
@_set
@_no_plugin
@_workers
@_executor
@_json
@click.pass_context
def plan_command(ctx: click.Context, **options: Any) -> int:
    """Shows the tasks behind a result: which would run, which are reused, and why. It changes nothing.

    It takes the tasks and the options of `kart-core run`. With --workers or --executor it also makes sure that
    what would run can run there.

    \b
    Examples:
      kart-core plan pipeline:Total
      kart-core plan pipeline:Total --Numbers-n 20 --json
    """  # noqa: D301 - click reads the backspace
    from kart_core.cli import actions

    return actions.plan(_named(ctx), **options)


@kart_core.command(
    "show", short_help="Show how a stored result came to be.", cls=TaskCommand, by_id=True, context_settings=_CONTEXT
)
@click.option("--print", "printing", is_flag=True, help="Print the value of the result instead, and nothing else.")
@_config
@_set
@_no_plugin
@_json
@click.pass_context
def show_command(ctx: click.Context, **options: Any) -> int:
    """Shows how a stored result came to be, which is its record; or, with --print, its value.

    The result is named by its unique id, or by the task and the options with which it was run.

    \b
    Examples:
      kart-core show 3f5c0e6d4b2a19788f0c1d2e3a4b5c6d
      kart-core show pipeline:Total --Numbers-n 5 --print
      kart-core show pipeline:Total --workspace-directory s3://bucket/results --json
    """  # noqa: D301 - click reads the backspace
    from kart_core.cli import actions

    return actions.show(_named(ctx), **options)


@kart_core.command("plugins", short_help="List the plugins, or show one and its settings.", context_settings=_CONTEXT)
@click.argument("name", required=False)
@click.option("--check", is_flag=True, help="Import each plugin, in a process of its own, and say whether it is ready.")
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    default=30.0,
    show_default=True,
    help="Seconds for each check.",
)
@_config
@_set
@_no_plugin
@_json
def plugins_command(name: str | None, **options: Any) -> int:
    """Lists the plugins that are installed or loaded by the project, and what they provide.

    Listing imports none of them. With a NAME it shows one plugin and its settings: each with its type, value
    and where the value comes from.

    \b
    Examples:
      kart-core plugins
      kart-core plugins --check
      kart-core plugins s3
    """  # noqa: D301 - click reads the backspace
    from kart_core.cli.plugins import show_plugins

    return show_plugins(name, **options)


@kart_core.command("leases", short_help="List who works on what, or release a lease.", context_settings=_CONTEXT)
@click.argument("workspace", required=False)
@click.option("--release", "unique_id", metavar="ID", help="Take this task's lease away from who holds it.")
@click.option("--yes", is_flag=True, help="Release without asking.")
@click.option("--release-expired", "expired", is_flag=True, help="Wait, and release what nobody renews.")
@_config
@_set
@_no_plugin
@_json
def leases_command(workspace: str | None, **options: Any) -> int:
    """Lists the tasks that run under a lease: who holds it, since when, and when it was last renewed.

    WORKSPACE is a folder or URL; by default it is the one that is configured. A lease whose process was killed ends by
    itself when it has not been renewed for its expiry (a minute, if nothing else is configured); --release does not
    wait for that. The first digits of an ID will do. --release-expired does wait, and clears what was left behind.

    \b
    Examples:
      kart-core leases
      kart-core leases s3://bucket/results
      kart-core leases --release 3f5c0e6d
    """  # noqa: D301 - click reads the backspace
    from kart_core.cli.leases import show_leases

    return show_leases(workspace, **options)


@kart_core.command(
    "config",
    short_help="Show each configured value and where it comes from.",
    cls=TaskCommand,
    context_settings=_CONTEXT,
)
@_config
@_set
@_json
@click.pass_context
def config_command(ctx: click.Context, **options: Any) -> int:
    """Shows every effective value of the configuration, and where it comes from.

    With tasks, it shows the values that these tasks would have. Values of secrets are not shown.

    \b
    Examples:
      kart-core config
      kart-core config pipeline:Total --Numbers-n 20
      kart-core config --config production.toml --json
    """  # noqa: D301 - click reads the backspace
    from kart_core.cli.configuration import show_configuration

    arguments: Arguments = ctx.obj
    return show_configuration(arguments, **options)


kart_core.add_command(storage_commands)


def script_command(script: ModuleType) -> click.Command:
    """The command that a pipeline's own script is: `kart-core run`, with tasks named by their class.

    Args:
        script: the module whose tasks can be named.
    """

    def run(ctx: click.Context, **options: Any) -> int:
        from kart_core.cli import actions

        arguments: Arguments = ctx.obj
        if not arguments.roots:
            click.echo(ctx.get_help(), err=True)
            return 2
        return actions.run(arguments, **options)

    run.__doc__ = "Runs what is missing for the results of the named tasks of this script."
    for decorate in (_local_scheduler, _log_level, _executor, _workers, _no_plugin, _set, _rerun_from, _config, _print):
        run = decorate(run)
    return click.command(cls=TaskCommand, script=script, context_settings=_CONTEXT)(click.pass_context(run))


def _named(ctx: click.Context) -> Arguments:
    arguments: Arguments = ctx.obj
    if not arguments.roots and not arguments.tasks:
        raise click.UsageError(
            f"name a task, as MODULE:TASK: {ctx.command_path} pipeline:Total ({ctx.command_path} --help has examples)"
        )
    return arguments
