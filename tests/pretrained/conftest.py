import os

import pytest


@pytest.fixture(scope="session")
def keras():
    """Keras on its JAX backend, the reference of these tests."""
    os.environ.setdefault("KERAS_BACKEND", "jax")
    return pytest.importorskip("keras", reason="Keras is a development dependency")
