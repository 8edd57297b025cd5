"""Trains a registered network on arrays, without a directory, and looks at the result."""

import cnn_jax

digits = cnn_jax.from_experiment(cnn_jax.Dataset(name="digits")).train
images, labels = digits.images, digits.labels  # uint8 [n, 8, 8, 1] and int [n], or any of yours

data = cnn_jax.from_arrays(images, labels, test=0.2)
run = cnn_jax.train(data, model="mlp", epochs=5, batch_size=64, progress=True)

print(run.history[-1])
print(run.evaluate("test"))
print(run.predict(images[:3]).top(2))
