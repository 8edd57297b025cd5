import numpy as np
import pytest
from PIL import Image
from tensorboard.plugins.projector import projector_plugin

from cnn_jax.reporting import projector


def written(tmp_path, images, dimensions=3):
    n = len(images)
    embeddings = np.linspace(-1, 1, n * dimensions, dtype=np.float32).reshape(n, dimensions)
    columns = {"label": [f"class\t{i}" for i in range(n)], "id": ["a\udcff\x1b.png"] * n}
    projector.write(tmp_path, embeddings, images, columns)
    return embeddings


def test_tensorboard_reads_tensors_metadata_and_sprite(tmp_path):
    images = np.arange(5 * 4 * 6, dtype=np.uint8).reshape(5, 4, 6, 1)
    embeddings = written(tmp_path, images)
    plugin = projector_plugin.ProjectorPlugin.__new__(projector_plugin.ProjectorPlugin)
    configs, _ = plugin._read_latest_config_files([("run", str(tmp_path))])
    (found,) = configs["run"].embeddings
    tensors = projector_plugin._read_tensor_tsv_file(str(tmp_path / found.tensor_path))
    np.testing.assert_allclose(tensors, embeddings, rtol=1e-4)
    lines = (tmp_path / found.metadata_path).read_text().splitlines()
    assert lines[:2] == ["label\tid", "class 0\ta\\udcff\\x1b.png"]
    assert len(lines) == 6
    assert list(found.sprite.single_image_dim) == [6, 4]
    with Image.open(tmp_path / found.sprite.image_path) as picture:
        assert picture.size == (3 * 6, 3 * 4)  # 3 rows of 3: the grid must be square
        np.testing.assert_array_equal(np.asarray(picture)[4:8, 6:12, 0], images[4, :, :, 0])


def test_a_second_writing_replaces_the_first(tmp_path):
    written(tmp_path, np.zeros((9, 2, 2, 3), np.uint8))
    written(tmp_path, np.zeros((4, 2, 2, 3), np.uint8))
    assert len((tmp_path / "projector" / "tensors.tsv").read_text().splitlines()) == 4
    assert (tmp_path / "projector_config.pbtxt").read_text().count("embeddings") == 1


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((2, 300, 150, 3), (32, 64)), ((1, 8, 8, 3), (8, 8)), ((3, 1, 500, 1), (64, 1))],
)
def test_large_images_become_thumbnails_of_the_same_proportions(shape, expected):
    assert projector.sprite(np.zeros(shape, np.uint8))[1] == expected


def test_a_sprite_of_many_images_is_not_too_large_for_browsers():
    picture, _ = projector.sprite(np.broadcast_to(np.uint8(0), (20_000, 64, 64, 1)))
    assert max(picture.size) <= 8192
