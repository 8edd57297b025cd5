"""Prepares TFDS directories without TensorFlow: MNIST and its like, CIFAR, cats_vs_dogs.

The registered builders of TFDS do it, with `_split_generators` replaced: theirs decode and encode
through TensorFlow, ours hands over encoded images under the same keys and ids, so the files are
those that TFDS writes. Other data sets are left to TFDS with TensorFlow, if it is installed.
"""

import contextlib
import functools
import io
import itertools
import re
import socket
import sys
import threading
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from absl import logging
from PIL import Image
from tensorflow_datasets.core.download import resource

from cnn_jax import extras, runtime
from cnn_jax.data import prepared, raw
from cnn_jax.data.cache import cores
from cnn_jax.data.digits import png
from cnn_jax.errors import RunError, UsageError
from cnn_jax.sections import PUBLISHED

_CONNECT_SECONDS = 5.0
_ANSWER_SECONDS = 8.0  # a name server that does not answer can take longer than a connection
_CAT_OR_DOG = re.compile(r"PetImages/(Cat|Dog)/\d+\.jpg")
_BLOCK = 256

_IDX = raw.IDX_FILES.values()

Examples = Iterator[tuple[Any, dict[str, Any]]]


def prepare(name: str, place: Path, others: Sequence[Path] = ()) -> Path:
    """Downloads and prepares a data set as array_record.

    Args:
        name: a name as TFDS takes it: `name`, `name/config`, each with `:version` or without.
        place: the directory of all data sets.
        others: where it may be prepared already.

    Returns:
        The directory of this one.

    Raises:
        UsageError: TFDS does not have this configuration or version, or it is not image
            classification.
        RunError: it cannot be downloaded or prepared.
    """
    builder = _builder(name, place)
    path = Path(builder.data_path)
    with _quiet():
        if builder.is_prepared():
            return path
    for other in others:  # the builder knows its default configuration, which no name tells
        found = prepared.find(other, *_parts(builder))
        if found is not None and prepared.file_format(found) == "array_record":
            return found
    dropped: list[str] = []
    ours: dict[str, Callable[[Any], dict[str, Any]]] = {
        **dict.fromkeys(("mnist", "fashion_mnist", "kmnist"), functools.partial(_mnist, builder)),
        **dict.fromkeys(("cifar10", "cifar100"), functools.partial(_cifar, builder)),
        "cats_vs_dogs": functools.partial(_cats_vs_dogs, builder, dropped),
    }
    if builder.name in ours:
        builder._split_generators = ours[builder.name]  # of this instance only
    elif not extras.has("tensorflow"):
        raise RunError(
            f"{name} is not prepared in {path}, and preparing it needs TensorFlow: "
            f"{extras.install('tf')}, or put a directory prepared as array_record there"
        )
    for url, info in (builder.url_infos or {}).items():
        _preflight(name, url, info, path, place / "downloads")
    if place == runtime.cache_dir() / "tensorflow_datasets":
        with contextlib.suppress(OSError):  # the builder says it better
            runtime.make_cache_folder("tensorflow_datasets")
    logging.info("preparing %s in %s", name, path)
    config = tfds.download.DownloadConfig(
        compute_stats=tfds.download.ComputeStatsMode.SKIP, try_download_gcs=False
    )
    try:
        with _quiet():
            builder.download_and_prepare(download_config=config)
    except Exception as error:  # of the network, the disk, the archive, TFDS and its builders
        if prepared.find(place, *_parts(builder)) is None:  # else another process prepared it
            reason = " ".join(str(error).split())[:400]
            raise RunError(f"{name} could not be prepared in {path}: {reason}") from error
    if dropped:
        (path / "dropped.txt").write_text("\n".join(dropped) + "\n")
        logging.warning("%s: %d images dropped, see %s", name, len(dropped), path / "dropped.txt")
    return path


def _parts(builder: tfds.core.DatasetBuilder) -> tuple[str, str | None, str]:
    config = builder.builder_config
    return builder.name, config.name if config else None, str(builder.version)


def _builder(name: str, place: Path) -> Any:
    """Returns the builder of a name, after checking that it is of image classification."""
    dataset = re.split("[/:]", name)[0]
    try:
        with _quiet():
            builder = tfds.builder(name, data_dir=place, file_format="array_record")
            features = builder.info.features
            described: Any = features.to_json() if features is not None else {}
    except ImportError as error:
        reason = str(error).rpartition(": ")[2]
        raise RunError(f"--dataset.name={name} needs a package: {reason}") from error
    except Exception as error:  # an unknown configuration or version
        reason = str(error).splitlines()[0].rpartition('}": ')[2].partition(". Here")[0]
        configs = list(getattr(tfds.builder_cls(dataset), "builder_configs", {}))
        known = f"; its configurations are {', '.join(configs[:20])}" if configs else ""
        raise UsageError(f"--dataset.name={name}: {reason[:300]}{known}") from error
    prepared.classification_features(name, described.get("content", {}).get("features", {}))
    return builder


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps TFDS from printing to standard output and from warning of its coming changes."""
    verbosity = logging.get_verbosity()
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    try:
        logging.set_verbosity(logging.ERROR)
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(verbosity)


def _preflight(name: str, url: str, info: Any, path: Path, downloads: Path) -> None:
    """Checks that a download can begin, because TFDS tries for minutes before it gives up.

    Raises:
        RunError: the file is not there yet and its host does not answer within ten seconds.
    """
    manual = downloads / "manual" / (info.filename or Path(urllib.parse.urlsplit(url).path).name)
    cached = resource.get_dl_fname(url, info.checksum)
    if manual.exists() or any(downloads.glob(f"**/{cached}")):
        return
    address = urllib.parse.urlsplit(url)
    proxy = urllib.request.getproxies().get(address.scheme)
    if proxy and not urllib.request.proxy_bypass(address.hostname or ""):
        address = urllib.parse.urlsplit(proxy if "//" in proxy else f"//{proxy}")
    port = address.port or {"http": 80, "ftp": 21}.get(address.scheme, 443)
    failure = ["no answer"]

    def connect() -> None:
        try:
            socket.create_connection((address.hostname, port), _CONNECT_SECONDS).close()
            failure.clear()
        except OSError as error:
            failure[:] = [error.strerror or str(error)]

    # In a thread, because looking a name up takes no timeout.
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(_ANSWER_SECONDS)
    if failure:
        own = "or give --dataset.path=FOLDER that has the files, " if name in PUBLISHED else ""
        raise RunError(
            f"{name} is not prepared in {path}, and cannot be downloaded: "
            f"{address.hostname}:{port} cannot be reached ({failure[0]}); fetch {url} elsewhere "
            f"and put it at {manual}, {own}or give --dataset.data_dir=DIR (or TFDS_DATA_DIR) where "
            "the data is prepared, or train on --dataset.name=digits, which needs no network"
        )


def _url(builder: Any) -> str:
    return next(iter(builder.url_infos))


def _mnist(builder: Any, downloads: Any) -> dict[str, Examples]:
    urls = {urllib.parse.urlsplit(url).path.rpartition("/")[2]: url for url in builder.url_infos}
    paths = downloads.download({stem: urls[f"{stem}.gz"] for stem in itertools.chain(*_IDX)})

    def examples(stems: tuple[str, str]) -> Examples:
        images, labels = (raw.idx(Path(paths[stem]).read_bytes(), stem) for stem in stems)
        raw.check_pair(images, labels, stems[0])
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            yield i, {"image": png(image), "label": int(label)}

    return {split: examples(stems) for split, stems in raw.IDX_FILES.items()}


def _cifar(builder: Any, downloads: Any) -> dict[str, Examples]:
    archive = Path(downloads.download(_url(builder)))
    files = raw.tar_files(archive)
    names, splits = raw.cifar(builder.name, files, archive.name)
    builder.info.features["label"].names = list(names)
    if coarse := builder.name == "cifar100":
        lines = files("coarse_label_names.txt").decode().split("\n")
        builder.info.features["coarse_label"].names = [line for line in lines if line]

    def examples(split: str) -> Examples:
        for i, (image, label) in enumerate(zip(*splits[split], strict=True)):
            example = {"id": f"{split}_{i:05d}", "image": png(image), "label": int(label[-1])}
            yield i, {**example, **({"coarse_label": int(label[0])} if coarse else {})}

    return {split: examples(split) for split in splits}


def _cats_vs_dogs(builder: Any, dropped: list[str], downloads: Any) -> dict[str, Examples]:
    archive = downloads.download(_url(builder))

    def examples() -> Examples:
        with zipfile.ZipFile(archive) as file, ThreadPoolExecutor(cores()) as pool:
            names = [name for name in file.namelist() if _CAT_OR_DOG.fullmatch(name)]
            for start in range(0, len(names), _BLOCK):
                block = names[start : start + _BLOCK]
                results = pool.map(_recode, [file.read(name) for name in block])
                for name, (jpeg, reason) in zip(block, results, strict=True):
                    if jpeg is None:
                        dropped.append(f"{name}: {reason}")
                        continue
                    label = name.split("/")[1].lower()
                    yield name, {"image": jpeg, "image/filename": name, "label": label}

    return {"train": examples()}


def _recode(data: bytes) -> tuple[bytes | None, str]:
    """Returns (the image as a sound JPEG, ""), or (None, why it is dropped).

    It does as the TFDS builder: files without `JFIF` in the first ten bytes are the ones known to
    be corrupt, and the others are encoded again, in quality 95, because some hold stray bytes.
    """
    if b"JFIF" not in data[:10]:
        return None, "no JFIF header"
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            buffer = io.BytesIO()
            image = image if image.mode in ("L", "RGB") else image.convert("RGB")
            image.save(buffer, "JPEG", quality=95)
            return buffer.getvalue(), ""
    except Exception as error:  # damaged files make Pillow raise nearly anything
        return None, f"cannot be decoded: {' '.join(str(error).split())}"
