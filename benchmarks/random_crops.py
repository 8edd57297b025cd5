"""Measures how fast JPEGs become training images, beside tf.data: decode, random part, flip, 224.

    python benchmarks/random_crops.py --folder=PHOTOGRAPHS --scale=500x375

Every way takes turns in every round, on the same files, which are read from the page cache. The
table has the medians of the rounds: images a second, which other work of the machine lowers, and
the processor time of an image, which it hardly does. It is printed, and written to
benchmarks/results/random_crops.json. Ways whose packages are absent are left out:
`pip install tensorflow-cpu torchvision PyTurboJPEG`.

The parts are drawn alike (area 0.08 to 1 of the image, aspect 3/4 to 4/3). tf.data decodes them
with decode_and_crop_jpeg and scales them bilinearly without antialiasing, as its own recipes do,
the others with it. How far a way is from Pillow's (full decode, cut, antialiased bilinear) is
measured on the same parts; of tf.data it is not, since it draws others.
"""

import argparse
import concurrent.futures
import datetime
import importlib
import io
import itertools
import json
import os
import pathlib
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import psutil
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from cnn_jax import runtime  # noqa: E402
from cnn_jax.data import crops, images, loader, turbo  # noqa: E402
from cnn_jax.data.batches import TrainBatches  # noqa: E402
from cnn_jax.data.cache import cores  # noqa: E402
from cnn_jax.data.records import Files  # noqa: E402
from cnn_jax.data.streamed import Chunks, Reader  # noqa: E402
from cnn_jax.reporting import tables  # noqa: E402
from cnn_jax.runs import environment  # noqa: E402

RESULT = ROOT / "benchmarks" / "results" / "random_crops.json"
SIZE, SMALLEST, BATCH = 224, 0.08, 128
PACKAGES = ("pillow", "simplejpeg", "opencv-python-headless", "grain", "tensorflow-cpu", "numpy")
HOW = images.Decoding(SIZE)
Way = Callable[[pathlib.Path, crops.RandomPart], np.ndarray]


def optional(name: str) -> Any:
    """Returns a module, or None if it is not installed."""
    try:
        return importlib.import_module(name)
    except (ImportError, OSError, RuntimeError):
        return None


def resized(pixels: np.ndarray, part: crops.RandomPart) -> np.ndarray:
    """Returns a part of a decoded image, scaled by Pillow."""
    left, top, wide, tall = part(pixels.shape[1], pixels.shape[0])
    image = Image.fromarray(pixels[top : top + tall, left : left + wide])
    return np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BILINEAR))


def ways() -> dict[str, Way]:
    """Returns {name in the table: function of a file and a part to uint8 [224, 224, 3]}."""
    found: dict[str, Way] = {
        "Pillow (the reference)": lambda path, part: images.decode(path, HOW, None, part).pixels
    }
    if turbo.AVAILABLE:
        reader = Reader(Files.of([]), HOW, SMALLEST)

        def ours(path: pathlib.Path, part: crops.RandomPart) -> np.ndarray:
            out = np.empty((SIZE, SIZE, 3), np.uint8)
            reader.into(str(path), path, out, part)
            return out

        found["cnn_jax (jpeg extra)"] = ours
    decoders: dict[str, Callable[[bytes], np.ndarray]] = {}
    if simplejpeg := optional("simplejpeg"):
        decoders["simplejpeg"] = simplejpeg.decode_jpeg
    if cv2 := optional("cv2"):
        decoders["OpenCV"] = lambda data: cv2.imdecode(
            np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB
        )
    if (turbojpeg := optional("turbojpeg")) and hasattr(turbojpeg, "TurboJPEG"):
        try:
            jpeg = turbojpeg.TurboJPEG()
            decoders["PyTurboJPEG"] = lambda data: jpeg.decode(data, turbojpeg.TJPF_RGB)
        except (OSError, RuntimeError):  # its wheel has no library
            print("PyTurboJPEG is installed, and libturbojpeg 3 is not")
    if (torchvision := optional("torchvision.io")) and (torch := optional("torch")):
        torch.set_num_threads(1)
        decoders["torchvision"] = lambda data: (
            torchvision.decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8))
            .permute(1, 2, 0)
            .contiguous()
            .numpy()
        )
    for name, decode in decoders.items():
        found[f"{name}, scaled by Pillow"] = lambda path, part, decode=decode: resized(
            decode(path.read_bytes()), part
        )
    return found


def in_threads(way: Way, paths: list[pathlib.Path], count: int) -> None:
    """Makes batches of training images by a way, in a thread a core."""

    def one(i: int) -> np.ndarray:
        image = way(paths[i % len(paths)], crops.RandomPart(0, 0, i, 0, SMALLEST))
        return image[:, ::-1] if i % 2 else image

    with concurrent.futures.ThreadPoolExecutor(cores()) as pool:
        for start in range(0, count, BATCH):
            part = range(start, min(start + BATCH, count))
            np.stack(list(pool.map(one, part, chunksize=16)))


def processes(paths: list[pathlib.Path]) -> Callable[[int], None]:
    """Returns a function that makes them as training does, in processes that have started before.

    The flip is left out: it is made on the device.
    """
    order = TrainBatches(0, len(paths), BATCH)
    rows = np.arange(BATCH)
    chunks = Chunks(Reader(Files.of(paths), HOW, SMALLEST), np.arange(len(paths)), order, rows)
    given = loader.load(chunks, cores(), cores())

    def run(count: int) -> None:
        for _ in itertools.islice(given, count // BATCH * chunks.a_batch):
            pass

    return run


def tensorflow(tf: Any, paths: list[pathlib.Path]) -> Callable[[int], None]:
    """Returns a function that makes them by tf.data, with a thread of its own for each core."""

    def load(path: Any, number: Any) -> Any:
        data, seed = tf.io.read_file(path), tf.stack([number, number])
        begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
            tf.image.extract_jpeg_shape(data),
            tf.zeros([1, 0, 4]),
            seed,
            area_range=(SMALLEST, 1.0),
            aspect_ratio_range=(3 / 4, 4 / 3),
            max_attempts=10,
            min_object_covered=0.0,
            use_image_if_no_bounding_boxes=True,
        )
        box = tf.concat([begin[:2], size[:2]], 0)
        image = tf.image.resize(tf.image.decode_and_crop_jpeg(data, box, channels=3), (SIZE, SIZE))
        return tf.cast(tf.image.stateless_random_flip_left_right(image, seed), tf.uint8)

    names = tf.data.Dataset.from_tensor_slices([str(path) for path in paths]).repeat()
    data = tf.data.Dataset.zip((names, tf.data.Dataset.range(1 << 40)))
    data = data.map(load, num_parallel_calls=cores()).batch(BATCH).prefetch(2)
    options = tf.data.Options()
    options.threading.private_threadpool_size = cores()
    data = data.with_options(options)

    def run(count: int) -> None:
        for batch in data.take(count // BATCH):
            batch.numpy()

    return run


def spent() -> float:
    """Returns the processor seconds of this process and of its children, which run on."""
    own = psutil.Process()
    times = [each.cpu_times() for each in (own, *own.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def main() -> int:
    """Measures, prints and writes; returns 0."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--folder", type=pathlib.Path, required=True, help="has *.jpg at any depth")
    parser.add_argument("--scale", default="500x375", help="images are first made this large")
    parser.add_argument("--files", type=int, default=400)
    parser.add_argument("--images", type=int, default=2048, help="in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--note", default="", help="what a reader of the result should know")
    options = parser.parse_args()
    paths = sorted(options.folder.expanduser().rglob("*.jpg"))
    if not paths:
        parser.error(f"{options.folder} has no *.jpg")
    paths = paths[:: max(1, len(paths) // options.files)][: options.files]
    width, height = map(int, options.scale.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        made = []
        for number, path in enumerate(paths):
            buffer = io.BytesIO()
            image = (
                Image.open(path).convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
            )
            image.save(buffer, "JPEG", quality=85)
            made.append(pathlib.Path(folder) / f"{number}.jpg")
            made[-1].write_bytes(buffer.getvalue())
        size = sum(path.stat().st_size for path in made) / len(made)
        result = measure(made, options.images, options.rounds)
    result = {
        "date": datetime.date.today().isoformat(),
        "processor": runtime.processor(),
        "cores": cores(),
        "python": platform.python_version(),
        "packages": environment.versions(PACKAGES),
        "images": options.scale,
        "bytes_of_a_file": round(size),
        "rounds": options.rounds,
        "images_in_a_round": options.images,
        "note": options.note,
        "rows": result,
    }
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written    {RESULT}")
    return 0


def measure(paths: list[pathlib.Path], count: int, rounds: int) -> list[dict[str, Any]]:
    """Returns the rows of the table, and prints it."""
    found = ways()
    runs: dict[str, Callable[[int], None]] = {}
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if tf := optional("tensorflow"):
        runs["tf.data"] = tensorflow(tf, paths)
    for name, way in found.items():
        runs[name] = lambda n, way=way: in_threads(way, paths, n)
    if turbo.AVAILABLE and optional("grain"):
        runs["cnn_jax (jpeg extra), in Grain's processes"] = processes(paths)
    timings: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for run in runs.values():
        run(BATCH)  # compiled, and the files are in the page cache
    for _ in range(rounds):
        for name, run in runs.items():
            cpu, wall = spent(), time.perf_counter()
            run(count)
            wall = time.perf_counter() - wall
            timings[name].append((count / wall, (spent() - cpu) / count))
    parts = [crops.RandomPart(0, 1, i, 0, SMALLEST) for i in range(len(paths))]
    reference = next(iter(found.values()))
    rows = []
    for name, times in timings.items():
        rate, cpu = (statistics.median(x) for x in zip(*times, strict=True))
        row: dict[str, Any] = {
            "way": name,
            "images_per_second": round(rate),
            "processor_milliseconds_per_image": round(1e3 * cpu, 3),
        }
        if name in found:
            pairs = zip(paths, parts, strict=True)
            off = np.stack(
                [
                    abs(found[name](path, part).astype(int) - reference(path, part))
                    for path, part in pairs
                ]
            )
            row |= {
                "levels_off_mean": round(float(off.mean()), 3),
                "share_off_by_more_than_2": round(float((off > 2).mean()), 4),
                "levels_off_max": int(off.max()),
            }
        rows.append(row)
    header = ["way", f"images/s, {cores()} cores", "CPU ms", "levels off", "share > 2", "max"]
    cells = [[*map(str, row.values()), *[""] * (6 - len(row))] for row in rows]
    print(tables.table(cells, header))
    return rows


if __name__ == "__main__":
    sys.exit(main())
