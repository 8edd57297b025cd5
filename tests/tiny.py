"""A small run and a network with VGG's parts and names, which keep tests of training quick."""

import random
from typing import Any

import jax.numpy as jnp

from cnn_jax.models import Classifier, Entry
from cnn_jax.models.classifier import Stages
from cnn_jax.models.heads import PooledHead
from cnn_jax.models.vgg import VGGBlock

# A run with all that a resume could get wrong: augmentation, dropout, a moving average and a
# schedule. It makes 60 steps, 20 in an epoch.
SETTINGS = (
    "--model.name=mlp",
    "--model.dropout_rate=0.2",
    "--dataset.image_size=none",
    "--dataset.train_examples=316",
    "--dataset.batch_size=16",
    "--dataset.flip",
    "--dataset.crop_padding=1",
    "--dataset.cutout=2",
    "--dataset.normalize=standardize",
    "--optimizer.ema_decay=0.9",
    "--optimizer.schedule=cosine",
    "--optimizer.warmup_epochs=0.5",
    "--train.epochs=3",
    "--seed=7",
)
STEPS = 60
# Of `jax.jit`: half the time to compile what runs once, and is looked at for its values.
UNOPTIMISED: Any = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def data_json(**changes: Any) -> dict[str, Any]:
    """Returns what a run's data.json holds, of data that nobody has."""
    return {
        "name": "made",
        "version": "1",
        "class_names": ["cat", "dog"],
        "image_shape": [8, 8, 1],
        "mean": [0.5],
        "std": [0.25],
        "sizes": {"train": 10, "validation": 5},
        "class_counts": {"train": [5, 5], "validation": [2, 3]},
        "notes": [],
        "digest": "0" * 64,
        **changes,
    }


class TinyVGG(Stages):
    """Five blocks of one convolution with four filters."""

    dtype: Any = jnp.float32

    @property
    def stage_names(self):
        return ("block1", "block2", "block3", "block4", "block5")

    def stage(self, name):
        return VGGBlock(4, 1, dtype=self.dtype, name=name)


def build(num_outputs, dtype=jnp.float32, dropout_rate=0.0):
    return Classifier(TinyVGG(dtype), PooledHead(num_outputs, dropout_rate=dropout_rate))


ENTRY = Entry(
    builder=build,
    input_shape=(32, 32, 3),
    smallest=(32, 32),
    source="made for tests",
    outputs=1,
    options={"dropout_rate": 0.0},
)


def mutated(whole: bytes, chance: random.Random, torn: float) -> bytes:
    """Returns a file with one to four other bytes, and with the chance `torn` without its end."""
    found = bytearray(whole)
    for _ in range(chance.randrange(1, 5)):
        found[chance.randrange(len(found))] = chance.randrange(256)
    return bytes(found[: chance.randrange(1, len(found)) if chance.random() < torn else None])
