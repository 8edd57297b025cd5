"""Two processes: what they decide, read and compute together is what one process does alone."""

import itertools
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image

from cnn_jax import models, processes, runtime
from cnn_jax.data import load
from cnn_jax.data.array_file import ArrayFile
from cnn_jax.data.batches import TrainBatches
from cnn_jax.data.feeding import Feed
from cnn_jax.distributed import make_mesh
from cnn_jax.experiment import Dataset
from cnn_jax.training.parts import prepare
from tests import tiny
from tests.training.test_training_features import experiment_with, made_data

ROOT = Path(__file__).resolve().parent.parent
BATCHES = 6  # of the fourth on in the second epoch


def section(photos: Path, streaming: Literal["auto", "true"]) -> Dataset:
    return Dataset(
        name="folder",
        path=str(photos),
        streaming=streaming,
        image_size=16,
        random_crop=0.3,
        workers=1,
    )


def batches(photos: Path, streaming: Literal["auto", "true"]) -> dict[str, np.ndarray]:
    """Returns the rows of batches that this process decodes."""
    mesh = make_mesh()
    with processes.team().first():
        train = load(section(photos, streaming), quiet=True).train
    given = Feed(train, mesh, 2.0).batches(TrainBatches(5, len(train), 20))
    found: dict[str, np.ndarray] = {}
    for i, batch in enumerate(itertools.islice(given, BATCHES)):
        for name, value in batch._asdict().items():
            found[f"{i} {name}"] = np.asarray(value.addressable_data(0))
    given.close()  # type: ignore[attr-defined]
    return found


def frozen_features() -> dict[str, np.ndarray]:
    """Returns the features of stages that stay frozen."""
    models.REGISTRY["tiny"] = tiny.ENTRY
    parts = prepare(experiment_with(), made_data())
    found = parts.cache_features(parts.first_state().variables(), quiet=True, say=None)
    return {name: np.array(split.images) for name, split in found.items()}


def main(spec: str, photos: str) -> None:
    """The work of one of two processes; the second says that it has little memory."""
    writes: list[int] = []
    write = ArrayFile.write

    def counted(self: ArrayFile, first: int, rows: np.ndarray) -> None:
        writes.append(first)
        write(self, first, rows)

    with processes.joined(spec, 60) as team, pytest.MonkeyPatch.context() as patch:
        if team.index == 1:
            patch.setattr(runtime, "host_memory", lambda: 1000)
        runtime.start()
        found = batches(Path(photos), "auto")
        patch.setattr(ArrayFile, "write", counted)
        np.savez(f"{team.index}.npz", allow_pickle=False, **found, **frozen_features())
        print(json.dumps(writes))


def test_two_processes_stream_and_compute_features_as_one_does(places, tmp_path, monkeypatch):
    photos, random = tmp_path / "photos", np.random.default_rng(0)
    for i in range(90):
        place = photos / f"class{i % 3}"
        place.mkdir(parents=True, exist_ok=True)
        noise = Image.fromarray(random.integers(0, 256, (6, 5, 3), np.uint8))
        noise.resize((60 + i % 7, 50), Image.Resampling.BICUBIC).save(place / f"{i}.jpg")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    cache = {**places, "CNN_JAX_CACHE": str(tmp_path / "cache")}
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.test_processes_data", f"127.0.0.1:{port},2,{i}", photos],
            cwd=tmp_path,
            env={**os.environ, **cache, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    monkeypatch.setenv("CNN_JAX_CACHE", str(tmp_path / "own"))
    alone = batches(photos, "true") | frozen_features()
    outputs = [process.communicate(timeout=100) for process in started]
    assert [process.returncode for process in started] == [0, 0], outputs
    # Of 150 and 40 images in pieces of 64 each process has computed some, and none twice.
    writes = [json.loads(out) for out, _ in outputs]
    assert writes == [[0, 128, 0], [64]]
    assert not list((tmp_path / "cache").glob("features/*/pieces.*.json"))
    two = [np.load(tmp_path / f"{i}.npz") for i in range(2)]
    for name, whole in alone.items():
        if name in ("train", "validation"):
            np.testing.assert_array_equal(two[0][name], two[1][name])
            np.testing.assert_allclose(two[0][name], whole, atol=1e-5)
        else:
            np.testing.assert_array_equal(np.concatenate([x[name] for x in two]), whole)


if __name__ == "__main__":
    main(*sys.argv[1:])
