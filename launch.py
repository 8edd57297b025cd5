"""The command line, from the repository: `python launch.py --help`."""

from cnn_jax.__main__ import entry


def main(argv: list[str]) -> int:
    """Runs one command and returns its exit code."""
    from cnn_jax.cli.main import main

    return main(argv)


if __name__ == "__main__":
    entry()
