"""Whether the data of a run are those that it was started on."""

import numpy as np
import pytest
from PIL import Image

from cnn_jax import data
from cnn_jax.errors import RunError
from cnn_jax.experiment import Dataset
from cnn_jax.runs import changes
from cnn_jax.runs.directory import RunDirectory


@pytest.fixture
def section(tmp_path):
    """Forty images of one class and three of another."""
    generator = np.random.default_rng(0)
    for name, count in (("healthy", 40), ("ill", 3)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(count):
            pixels = generator.integers(256, size=(4, 4, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{i}.png")
    return Dataset(name="folder", path=str(tmp_path / "photos"))


def test_a_run_whose_validation_lacked_a_class_keeps_its_split(section, tmp_path, caplog):
    directory = RunDirectory(tmp_path / "run")
    before = data.load(section, quiet=True, every_class=False)
    assert before.info.class_counts["validation"] == (4, 0)
    now = changes.load_data(directory, section, quiet=True)
    assert now.info.class_counts["validation"] == (3, 1)

    directory.create()
    directory.write("config", {})
    directory.write("data", before.info.to_dict())
    caplog.clear()
    found = changes.load_data(directory, section, quiet=True)
    assert "validation has no example of 'ill', as when the run was started" in caplog.text
    assert found.info.digest == before.info.digest != now.info.digest
    directory.write("data", now.info.to_dict())
    assert changes.load_data(directory, section, quiet=True).info.digest == now.info.digest
    directory.write("data", {**now.info.to_dict(), "digest": "0" * 64})
    caplog.clear()
    with pytest.raises(RunError, match="not those that the run"):
        changes.load_data(directory, section, quiet=True)
    assert "has no example" not in caplog.text
