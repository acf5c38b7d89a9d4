"""The command line: ``kart-core``, and `run` for a script of one's own."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import click

__all__ = ["main", "run"]

_busy = False  # whether a command line is being obeyed in this process


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """The command ``kart-core``.

    Args:
        argv: the words after the command's name; those of the process where it is None.

    Raises:
        SystemExit: always, with the exit code.
    """
    from kart_core.cli.commands import kart_core

    _obey(kart_core, sys.argv[1:] if argv is None else argv, "kart-core")


def run(argv: Sequence[str] | None = None) -> NoReturn:
    """Runs the tasks that the command line names: the last line of a pipeline's own script.

    Tasks are named by their class, and take the options that ``kart-core run`` takes::

        python main.py Total --Numbers-n 5 --workspace-directory ./elsewhere

    Without a task, or with ``--help``, it lists the tasks of the script. It belongs under
    ``if __name__ == "__main__":``, so that the module can also be imported.

    Args:
        argv: the words after the script's name; those of the process where it is None.

    Raises:
        SystemExit: always, with the exit code of ``kart-core run``.
        ConfigError: it is called while a module is imported for a command that is under way.
    """
    frame = sys._getframe(1)
    if _busy:
        from kart_core.errors import ConfigError

        raise ConfigError(
            f"{frame.f_globals.get('__name__')} calls kart_core.run() when it is imported;"
            ' put the call under if __name__ == "__main__":'
        )
    import os

    from kart_core.cli.commands import script_command
    from kart_core.naming import adopt_main

    adopt_main()
    name = os.path.basename(sys.argv[0]) if sys.argv and sys.argv[0] else "kart"
    name = f"python {name}" if name.endswith(".py") else name
    script = sys.modules.get(str(frame.f_globals.get("__name__"))) or sys.modules["__main__"]
    _obey(script_command(script), sys.argv[1:] if argv is None else argv, name)


def _obey(command: click.Command, argv: Sequence[str], name: str) -> NoReturn:
    """Runs a command and ends the process: what a user did wrong is one sentence, without a traceback."""
    global _busy
    _busy = True
    for stream in (sys.stdout, sys.stderr):
        # A path or a word of the command line may hold what the output cannot show: it is shown escaped.
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _guarded(lambda: command.main(list(argv), prog_name=name, standalone_mode=False))
    finally:
        _busy = False
    sys.exit(code)


def _guarded(action: Callable[[], object]) -> int:
    import click

    from kart_core.errors import GraphError, KartError
    from kart_core.report.say import complain

    try:
        code = action()
    except click.ClickException as error:
        _show_cause(error)
        complain(f"error: {error.format_message()}")
        return error.exit_code
    except KartError as error:
        _show_cause(error)
        complain(f"error: {error}")
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        complain("interrupted")
        return 130
    except BrokenPipeError:
        return _close_output()
    except Exception as error:
        from kart_core.report.failures import raised_in, trimmed

        place = raised_in(error)
        if place is None:
            raise
        complain(trimmed(error))
        complain(f"error: {place} raised {type(error).__name__} outside of a task's run()")
        return GraphError.exit_code
    return code if isinstance(code, int) else 0


def _show_cause(error: BaseException) -> None:
    """Shows what the user's own code raised where that is why kart cannot go on."""
    from kart_core.cli.errors import BrokenModule
    from kart_core.errors import GraphError, KartError
    from kart_core.report.failures import trimmed

    cause = error.__cause__
    if (
        isinstance(error, (BrokenModule, GraphError))
        and cause is not None
        and not isinstance(cause, (KartError, SystemExit))
    ):
        from kart_core.report.say import complain

        complain(trimmed(cause))


def _close_output() -> int:
    """The reader of our output has gone, as `head` does: nothing is wrong, but Python must not write any more."""
    import os

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
