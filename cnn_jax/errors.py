"""What goes wrong for a reason that a user can mend: one clear line, never a traceback."""


class UserError(Exception):
    """The base of both kinds; `launch.py` prints its message and exits with `exit_code`."""

    exit_code = 1


class UsageError(UserError):
    """The command asks for something that does not exist or does not fit together (exit code 2)."""

    exit_code = 2


class RunError(UserError):
    """The command was right, but a file, the data or the training failed it (exit code 1)."""
