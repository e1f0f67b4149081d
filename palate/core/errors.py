"""Errors that a user can correct: each message says what, where, and the remedy."""

from __future__ import annotations

import errno

OUT_OF_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Numbers of an OSError that mean a full disk, or a user's full share of it."""

WRONG_PATH = frozenset(
    {
        *(errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.ENOTEMPTY, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG),
        *(errno.EACCES, errno.EPERM, errno.EROFS),
    }
)
"""Numbers of an OSError that mean a path at which nothing can be read or written."""


class PalateError(Exception):
    """Base of every error that Palate raises on purpose; the command line prints it as one message."""

    exit_code = 1


class ConfigError(PalateError, ValueError):
    """A setting is unknown, malformed, or contradicts another one."""

    exit_code = 2


class DataError(PalateError, ValueError):
    """A file or a row cannot be used; the message names file and row."""

    exit_code = 3


class ModelError(PalateError, ValueError):
    """A model directory cannot be loaded, or does not fit the task."""

    exit_code = 3


class RunError(PalateError, RuntimeError):
    """A run directory cannot be used: other inputs, another version, or no space."""

    exit_code = 4


class TrainingError(PalateError, RuntimeError):
    """Training stopped itself because of a loss that is not finite, a guard, or a reward model near chance."""

    exit_code = 5


class Interrupted(PalateError):  # noqa: N818 (nobody made an error)
    """The user pressed Ctrl-C; the work is saved, and the same command continues it."""

    exit_code = 130
