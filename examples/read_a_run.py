"""Reads a finished run: its history, what it predicts, and the features that it sees.

python launch.py --config=digits_lenet --workdir=runs/digits_lenet
python examples/read_a_run.py runs/digits_lenet
"""

import sys

import numpy as np

import cnn_jax

run = cnn_jax.load(sys.argv[1])
print(run)
print("best validation accuracy", max(r["validation_accuracy"] for r in run.history))

test = run.split()
found = run.evaluate()
print("test accuracy", found.accuracy, "on", found.examples)

wrong = np.flatnonzero(found.probabilities.argmax(axis=1) != test.labels)[:5]
for i, top in zip(wrong, run.predict(test.images[wrong]).top(2), strict=True):
    print(test.ids[i], "is", run.class_names[test.labels[i]], "and was taken for", top)

features = run.features(test.images[:100])
print("features", features.shape, "of", type(run.model).__name__)
