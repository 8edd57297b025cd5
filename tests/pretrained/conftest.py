import os

import numpy as np
import pytest


@pytest.fixture(scope="session")
def keras():
    """Keras on its JAX backend, the reference of these tests."""
    os.environ.setdefault("KERAS_BACKEND", "jax")
    keras = pytest.importorskip("keras", reason="Keras is a development dependency")
    rng = np.random.default_rng(1)

    def draw(self, shape, dtype=None):
        scale = (2 / (np.prod(shape[:-1]) + np.prod(shape[:-2]) * shape[-1])) ** 0.5
        return scale * rng.standard_normal(shape, np.float32)

    with pytest.MonkeyPatch.context() as patch:
        # Because JAX would compile Keras' own for every shape of a kernel, for minutes.
        patch.setattr(keras.initializers.VarianceScaling, "__call__", draw)
        yield keras
