"""The settings that every task has: where to store, whether to rerun, how to seed.

Two kinds. *Id-forming* settings decide the result or its id and are fixed when a task is
made; the others say where and how, are resolved when they are used, and enter no id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import attrs

DEFAULT_SEED_METHODS: Final = ("random.seed", "numpy.random.seed")


@attrs.frozen
class SettingInfo:
    """What is known of one setting."""

    name: str
    annotation: Any
    default: Any
    description: str
    id_forming: bool = False


SETTINGS: Final[Mapping[str, SettingInfo]] = {
    info.name: info
    for info in (
        SettingInfo("workspace_directory", str, "./resources/", "the folder or URL under which results are stored"),
        SettingInfo(
            "local_temporary_directory",
            str,
            "",
            "the folder for files on their way to or from a remote workspace (empty: the system's)",
        ),
        SettingInfo("rerun", bool, False, "run again even if a result is stored"),
        SettingInfo("strict_check", bool, False, "complete only if everything upstream is complete too"),
        SettingInfo(
            "modification_time_check",
            bool,
            False,
            "not complete if an input is not the one that this task's record says it read",
        ),
        SettingInfo("fail_on_empty_dump", bool, False, "fail if an empty value is dumped"),
        SettingInfo(
            "should_lock_run",
            bool | Literal["auto"],
            "auto",
            "take a lease, so that of all processes one runs the task (auto: where several work, or on a bucket)",
        ),
        SettingInfo(
            "fix_random_seed_value",
            int | None,
            None,
            "the seed, 0 to 2**32 - 1 (none: one made from the unique id)",
            id_forming=True,
        ),
        SettingInfo(
            "fix_random_seed_methods",
            Sequence[str],
            DEFAULT_SEED_METHODS,
            "the functions that are called with the seed before each run",
            id_forming=True,
        ),
        SettingInfo(
            "serialized_task_definition_check",
            bool,
            False,
            "let the task's code take part in its unique id",
            id_forming=True,
        ),
        SettingInfo(
            "significant",
            bool,
            True,
            "whether the task takes part in the ids of the tasks that require it",
            id_forming=True,
        ),
    )
}
"""Every setting by its name, in the order in which it is shown."""


def check_seed(value: object) -> str | None:
    """Why `value` is no seed, or None where it is one."""
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**32):
        return None
    return f"fix_random_seed_value is {value!r}; expected a whole number from 0 to 2**32 - 1"
