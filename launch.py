"""The command line, from the repository: `python launch.py --help`."""

from cnn_jax.cli.main import entry, main

__all__ = ["main"]

if __name__ == "__main__":
    entry()
