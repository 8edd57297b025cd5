"""Writes the features of images for TensorBoard's embedding projector."""

import math
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from cnn_jax.files import write_whole
from cnn_jax.text import printable

FOLDER = "projector"
_SPRITE = 8192  # pixels: the largest picture that the graphics of all browsers take
_THUMBNAIL = 64  # pixels: an image of this size is large enough to recognise


def write(
    run_dir: pathlib.Path,
    embeddings: np.ndarray,
    images: np.ndarray,
    columns: Mapping[str, Sequence[Any]],
) -> None:
    """Writes the files that the projector shows of a run, and replaces those written before.

    `projector_config.pbtxt` in the run directory names the files in `projector/`: `tensors.tsv`,
    `metadata.tsv` and `sprite.png`. The format is that of
    https://www.tensorflow.org/tensorboard/tensorboard_projector_plugin.

    Args:
        run_dir: the directory of the run's event files.
        embeddings: float [n, dimensions], the features of n images.
        images: uint8 [n, height, width, 1 or 3].
        columns: {name: n values}, two or more columns to colour and search by.
    """
    folder = run_dir / FOLDER
    folder.mkdir(exist_ok=True)
    write_whole(
        folder / "tensors.tsv",
        lambda file: np.savetxt(file, embeddings, fmt="%.5g", delimiter="\t"),
    )
    rows = [columns.keys(), *zip(*columns.values(), strict=True)]
    lines = ["\t".join(printable(re.sub(r"\s+", " ", str(v))) for v in r) + "\n" for r in rows]
    write_whole(folder / "metadata.tsv", lambda file: file.write("".join(lines).encode()))
    picture, (width, height) = sprite(images)
    write_whole(folder / "sprite.png", lambda file: picture.save(file, "PNG"))
    config = (
        "embeddings {\n"
        '  tensor_name: "validation features"\n'
        f'  tensor_path: "{FOLDER}/tensors.tsv"\n'
        f'  metadata_path: "{FOLDER}/metadata.tsv"\n'
        f'  sprite {{ image_path: "{FOLDER}/sprite.png" '
        f"single_image_dim: {width} single_image_dim: {height} }}\n"
        "}\n"
    )
    write_whole(run_dir / "projector_config.pbtxt", lambda file: file.write(config.encode()))


def sprite(images: np.ndarray) -> tuple[Image.Image, tuple[int, int]]:
    """Returns one picture of all images, row by row, and the (width, height) of each in it.

    Args:
        images: uint8 [n, height, width, 1 or 3].
    """
    # The grid is square, because the projector's shader confuses its rows and columns.
    side = math.ceil(math.sqrt(len(images)))
    height, width = images.shape[1:3]
    scale = min(1.0, min(_THUMBNAIL, _SPRITE // side) / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    picture = Image.new("RGB", (side * size[0], side * size[1]))
    for place, image in enumerate(images):
        pixels = image[..., 0] if image.shape[-1] == 1 else image
        thumbnail = Image.fromarray(np.ascontiguousarray(pixels)).resize(size)
        row, column = divmod(place, side)
        picture.paste(thumbnail.convert("RGB"), (column * size[0], row * size[1]))
    return picture, size
