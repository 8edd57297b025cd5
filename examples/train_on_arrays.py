"""Trains a registered network on arrays, without a directory, and looks at the result."""

import numpy as np
from sklearn.datasets import load_digits

import cnn_jax

digits = load_digits()
images = np.round(digits.images * (255 / 16)).astype(np.uint8)  # [1797, 8, 8], grey

data = cnn_jax.from_arrays(images, digits.target, test=0.2)
run = cnn_jax.train(data, model="mlp", epochs=5, batch_size=64, progress=True)

print(run.history[-1])
print("test accuracy", run.evaluate("test").accuracy)
print(run.predict(images[:3]).top(2))
