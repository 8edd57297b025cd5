"""Errors that a user can mend: one clear line each, never a traceback on the command line."""

import re

# A setting within a message: --dataset.image_size, --seed.
_FLAG = re.compile(r"(?<![\w-])--(?=[a-z])")
_SETTING = re.compile(r"(?<![\w-])--([a-z_]+(?:\.[a-z_]+)*)")


class UserError(Exception):
    """The base of both kinds.

    A message names each setting as the command line does, `--dataset.image_size=32`. In Python,
    where a setting is a name, `str(error)` shows it without the dashes. Outside `cli/` a message
    names no other flag, since Python has none: where the two need different words, there are two
    messages.

    Args:
        message: what was wrong, where, and what to do.
        on_command_line: the message there, where it is another one.

    Attributes:
        exit_code: the exit code of the command line.
        for_command_line: the message with flags.
        setting: the first setting that the message names, such as "dataset.image_size", or None.
    """

    exit_code = 1

    def __init__(self, message: str, on_command_line: str | None = None):
        super().__init__(message)
        self.for_command_line = on_command_line or message
        found = _SETTING.search(message)
        self.setting = found[1] if found else None

    def __str__(self) -> str:
        return _FLAG.sub("", self.args[0])


class UsageError(UserError):
    """The request names something that does not exist or does not fit together (exit code 2)."""

    exit_code = 2


class RunError(UserError):
    """The request was right, but a file, the data or the training failed it (exit code 1)."""


class ContentError(ValueError):
    """A file that does not hold what it should; the message says so in words of our own."""


def plain_reason(error: BaseException) -> str:
    """Returns what is wrong with a file that another library could not read, in plain words.

    What libraries say of damaged files helps only their authors: "utf-8 codec can't decode byte".
    """
    if isinstance(error, ContentError | UserError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, KeyError) and error.args:
        return f"it has no {error.args[0]}"
    return "its content is not what such a file holds"
