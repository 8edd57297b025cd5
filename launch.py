"""Train, evaluate, predict and describe: `python launch.py --help`."""

import os
import sys

from cnn_jax import flags
from cnn_jax.errors import UserError


def main(argv: list[str]) -> int:
    """Runs one command and returns its exit code: 0, 1 for a failure, 2 for wrong usage."""
    debug = "--debug" in argv
    try:
        invocation = flags.parse(argv)
        if invocation.command == "help":
            print(flags.help_text(), end="")
            return 0
        from cnn_jax import commands  # after the flags: importing JAX takes a second

        return commands.run_command(invocation)
    except UserError as error:
        if debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:  # no space left, no permission, ...
        if debug:
            raise
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror or error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
