"""What does a network lose if all images have their pixels scrambled by one permutation?

    python -m benchmarks.permuted_pixels [--config=digits_lenet] [--seeds=3] [--epochs=12]
    python -m benchmarks.permuted_pixels --config=cifar10_cnn --examples=5000 --epochs=5 --seeds=1

It trains the preset's network and a dense one on the preset's images, as they are and scrambled,
adds a row to docs/results/permuted_pixels.json and prints a table.

Source of the question: Ivan 2019, arXiv:1907.10935.
"""

import argparse
import dataclasses
import json
import pathlib
import statistics

import numpy as np

import cnn_jax
from cnn_jax.data import Data

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULT = ROOT / "docs" / "results" / "permuted_pixels.json"


def scrambled(data: Data) -> Data:
    """Returns the same data with the pixels of every image in one other order."""
    height, width, channels = data.info.image_shape
    order = np.random.default_rng(0).permutation(height * width)

    def move(images: np.ndarray) -> np.ndarray:
        rows = np.asarray(images).reshape(len(images), height * width, channels)
        return np.ascontiguousarray(rows[:, order].reshape(images.shape))

    splits = {
        name: dataclasses.replace(split, images=move(split.images))
        for name, split in data.splits.items()
    }
    return Data(data.info, splits)


def main() -> None:
    """Trains, writes the results and prints them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="digits_lenet")
    parser.add_argument("--examples", type=int)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=12)
    given = parser.parse_args()
    preset = cnn_jax.preset(given.config)
    whole = cnn_jax.from_experiment(preset.replace({"dataset.train_examples": given.examples}))
    versions = {"as they are": Data(whole.info, whole.splits), "scrambled": scrambled(whole)}
    found: dict[str, dict[str, list[float]]] = {}
    for model in (preset.model.name, "mlp"):
        found[model] = {name: [] for name in versions}
        for name, data in versions.items():
            test = data.splits["test"]
            for seed in range(given.seeds):
                run = cnn_jax.train(
                    data, model=model, epochs=given.epochs, batch_size=64, seed=seed
                )
                found[model][name].append(run.evaluate((test.images, test.labels)).accuracy)
            each = found[model][name]
            mean = f"{statistics.mean(each):.3f} ({min(each):.3f} to {max(each):.3f})"
            print(f"{model:10} {name:12} {mean}", flush=True)
    results = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    results[given.config] = {
        "train_examples": whole.info.sizes["train"],
        "epochs": given.epochs,
        "test_accuracy": found,
    }
    RESULT.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
