"""Trains a registered network on arrays, without a directory, and looks at the result."""

import numpy as np
from sklearn.datasets import load_digits

import cnn_jax

pixels, labels = load_digits(return_X_y=True)
images = np.round(pixels.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)  # grey

data = cnn_jax.from_arrays(images, labels, test=0.2)
run = cnn_jax.train(data, model="mlp", epochs=5, batch_size=64, progress=True)

print(run.history[-1])
print(run.evaluate("test"))
print(run.predict(images[:3]).top(2))
