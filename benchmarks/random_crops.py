"""Measures how fast JPEGs become training images, beside tf.data: decode, random part, flip, 224.

    python benchmarks/random_crops.py --folder=PHOTOGRAPHS --scale=500x375

Every way takes turns in every round, on the same files, which are read from the page cache: in one
thread, and on all cores, tf.data in threads and ours in the processes that training uses. The table
has the medians of the rounds: images a second, which other work of the machine lowers, and the
processor time of an image, which it hardly does. It is printed, and written to
benchmarks/results/random_crops.json. Ways whose packages are absent are left out:
`pip install tensorflow-cpu torchvision PyTurboJPEG`.

The parts are drawn alike (area 0.08 to 1 of the image, aspect 3/4 to 4/3). tf.data decodes them
with decode_and_crop_jpeg and scales them bilinearly without antialiasing, as its own recipes do,
ours with it; both are measured the other way, too. How far a way is from Pillow's (full decode,
cut, antialiased bilinear) is measured on the same parts; of tf.data it is not, since it draws
others.
"""

import argparse
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
from cnn_jax.data import crops, images, libturbojpeg, loader, turbo  # noqa: E402
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
Timing = tuple[float, float]  # images a second, and processor seconds of an image
_MADE_BEFORE = 6  # batches, at most, that processes make while nobody takes any
_PAUSE = 1.0  # seconds in which they do
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
    cv2 = optional("cv2")
    if turbo.AVAILABLE:
        reader = Reader(Files.of([]), HOW, SMALLEST)

        def ours(path: pathlib.Path, part: crops.RandomPart) -> np.ndarray:
            out = np.empty((SIZE, SIZE, 3), np.uint8)
            reader.into(str(path), path, out, part)
            return out

        def bilinear(pixels: np.ndarray, target: tuple[int, int], out: np.ndarray) -> None:
            cv2.resize(pixels, target, dst=out, interpolation=cv2.INTER_LINEAR)

        def plain(path: pathlib.Path, part: crops.RandomPart) -> np.ndarray:
            usual, turbo.scale = turbo.scale, bilinear  # `mock` would take as long as decoding
            try:
                return ours(path, part)
            finally:
                turbo.scale = usual

        def whole(path: pathlib.Path, part: crops.RandomPart) -> np.ndarray:
            usual, libturbojpeg.library = libturbojpeg.library, lambda: None
            try:
                return ours(path, part)
            finally:
                libturbojpeg.library = usual

        found[f"cnn_jax ({turbo.decoder()})"] = ours
        found["cnn_jax, not antialiased"] = plain
        if libturbojpeg.library() is not None:
            found["cnn_jax, simplejpeg in place of libturbojpeg"] = whole
    decoders: dict[str, Callable[[bytes], np.ndarray]] = {}
    if simplejpeg := optional("simplejpeg"):
        decoders["simplejpeg"] = simplejpeg.decode_jpeg
    if cv2 is not None:
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


def timed(run: Callable[[], None], count: int) -> Timing:
    """Returns the images a second of a function that makes some, and their processor seconds."""
    cpu, wall = spent(), time.perf_counter()
    run()
    wall = time.perf_counter() - wall
    return count / wall, (spent() - cpu) / count


def in_one_thread(way: Way, paths: list[pathlib.Path]) -> Callable[[int], Timing]:
    """Returns a function that makes batches of training images by a way."""

    def one(i: int) -> np.ndarray:
        image = way(paths[i % len(paths)], crops.RandomPart(0, 0, i, 0, SMALLEST))
        return image[:, ::-1] if i % 2 else image

    def run(count: int) -> Timing:
        def batches() -> None:
            for start in range(0, count, BATCH):
                np.stack([one(i) for i in range(start, min(start + BATCH, count))])

        return timed(batches, count)

    return run


def processes(paths: list[pathlib.Path]) -> Callable[[int], Timing]:
    """Returns a function that makes them as training does, in processes that have started before.

    The flip is left out: it is made on the device. What they have made before they are timed is
    taken first; they make more of it before another way is timed.
    """
    order = TrainBatches(0, len(paths), BATCH)
    rows = np.arange(BATCH)
    chunks = Chunks(Reader(Files.of(paths), HOW, SMALLEST), np.arange(len(paths)), order, rows)
    given = loader.load(chunks, cores(), cores())

    def take(batches: int) -> None:
        for chunk in itertools.islice(given, batches * chunks.a_batch):
            chunk.images.copy()  # as for a batch

    def run(count: int) -> Timing:
        take(_MADE_BEFORE)
        found = timed(lambda: take(count // BATCH), count)
        time.sleep(_PAUSE)
        return found

    return run


def tensorflow(
    tf: Any, paths: list[pathlib.Path], threads: int, antialias: bool
) -> Callable[[int], Timing]:
    """Returns a function that makes them by tf.data, in some threads of its own."""

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
        image = tf.image.decode_and_crop_jpeg(data, box, channels=3)
        image = tf.image.resize(image, (SIZE, SIZE), antialias=antialias)
        return tf.cast(tf.image.stateless_random_flip_left_right(image, seed), tf.uint8)

    names = tf.data.Dataset.from_tensor_slices([str(path) for path in paths]).repeat()
    data = tf.data.Dataset.zip((names, tf.data.Dataset.range(1 << 40)))
    data = data.map(load, num_parallel_calls=threads).batch(BATCH).prefetch(2)
    options = tf.data.Options()
    options.threading.private_threadpool_size = threads
    data = data.with_options(options)

    def batches(count: int) -> None:
        for batch in data.take(count // BATCH):
            batch.numpy()

    return lambda count: timed(lambda: batches(count), count)


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
    runs: dict[str, Callable[[int], Timing]] = {}
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if tf := optional("tensorflow"):
        for threads in sorted({1, cores()}):
            name = f"tf.data, {threads} thread{'s' * (threads > 1)}"
            runs[name] = tensorflow(tf, paths, threads, False)
            runs[f"{name}, antialiased"] = tensorflow(tf, paths, threads, True)
    for name, way in found.items():
        runs[name] = in_one_thread(way, paths)
    if turbo.AVAILABLE and optional("grain"):
        runs[f"cnn_jax, {cores()} processes"] = processes(paths)
    timings: dict[str, list[Timing]] = {name: [] for name in runs}
    for run in runs.values():
        run(BATCH)  # compiled, and the files are in the page cache
    for _ in range(rounds):
        for name, run in runs.items():
            timings[name].append(run(count))
    parts = [crops.RandomPart(0, 1, i, 0, SMALLEST) for i in range(len(paths))]
    reference = next(iter(found.values()))  # Pillow's
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
    header = ["way", "images/s", "CPU ms", "levels off", "share > 2", "max"]
    cells = [[*map(str, row.values()), *[""] * (6 - len(row))] for row in rows]
    print(tables.table(cells, header))
    return rows


if __name__ == "__main__":
    sys.exit(main())
