"""The version of the package, where neither JAX nor anything else has to be imported."""

__version__ = "0.1.0"
