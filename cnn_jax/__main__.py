"""The command line as `python -m cnn_jax`."""

from cnn_jax.cli.main import entry

if __name__ == "__main__":
    entry()
