"""Measures how fast JPEGs are decoded and resized, and the difference from the full decode.

    python benchmarks/decode.py --folder=PHOTOGRAPHS --size=224

Compares cnn_jax.data's read_image with other ways to the same array: bilinear with antialiasing.
Those whose packages are absent are left out: `pip install simplejpeg opencv-python-headless
cykooz-resizer`. The decoders take turns in every round, so that other work of the machine slows all
of them alike; the table has the medians of the rounds. It is printed, and written to
benchmarks/results/decode.json. The time to read the files is not measured.

Why read_image uses Pillow: simplejpeg and OpenCV decode to the same bits (all three are
libjpeg-turbo) and gain a few per cent, less if they would respect the EXIF orientation, as only the
rows of Pillow and read_image do; the resize takes the larger part of the time. cykooz-resizer
halves the whole time, but has no wheels for Linux on ARM and rounds some values differently, so
that arrays would depend on the machine.
"""

import argparse
import concurrent.futures
import datetime
import importlib
import io
import json
import pathlib
import platform
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image, ImageOps

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from cnn_jax import runtime  # noqa: E402
from cnn_jax.data import images  # noqa: E402
from cnn_jax.data.cache import cores  # noqa: E402
from cnn_jax.reporting import tables  # noqa: E402
from cnn_jax.runs import environment  # noqa: E402

RESULT = ROOT / "benchmarks" / "results" / "decode.json"
PACKAGES = ("pillow", "simplejpeg", "opencv-python-headless", "cykooz-resizer", "numpy")
Decoder = Callable[[bytes], np.ndarray]


def optional(name: str) -> Any:
    """Returns a module, or None if it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def decoders(size: int) -> dict[str, Decoder]:
    """Returns {name in the table: function of an encoded image to uint8 [size, size, 3]}."""
    simplejpeg, cv2, cykooz = map(optional, ("simplejpeg", "cv2", "cykooz_resizer"))

    def resized(image: Image.Image) -> np.ndarray:
        return np.array(image.resize((size, size), Image.Resampling.BILINEAR))

    def pillow(data: bytes) -> np.ndarray:
        with Image.open(io.BytesIO(data)) as image:
            return resized(ImageOps.exif_transpose(image).convert("RGB"))

    found: dict[str, Decoder] = {
        "Pillow, full decode": pillow,
        "read_image": lambda data: images.read_image(data, size),
    }
    if simplejpeg:
        full = simplejpeg.decode_jpeg
        found["simplejpeg, full decode"] = lambda data: resized(Image.fromarray(full(data)))

        def reduced(data: bytes) -> np.ndarray:
            pixels = full(data, min_height=2 * size, min_width=2 * size, min_factor=2)
            return resized(Image.fromarray(pixels))

        found["simplejpeg, reduced decode"] = reduced
    if simplejpeg and cykooz:
        bilinear = cykooz.ResizeAlg.convolution(cykooz.FilterType.bilinear)
        options = cykooz.ResizeOptions(resize_alg=bilinear, use_alpha=False)

        def vectorized(data: bytes) -> np.ndarray:
            image = Image.new("RGB", (size, size))
            cykooz.Resizer().resize_pil(
                Image.fromarray(simplejpeg.decode_jpeg(data)), image, options
            )
            return np.array(image)

        found["simplejpeg, cykooz-resizer"] = vectorized
    if cv2:
        cv2.setNumThreads(1)

        def opencv(data: bytes) -> np.ndarray:
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
            return resized(Image.fromarray(pixels))

        found["OpenCV, full decode"] = opencv
    return found


def measure(decoder: Decoder, encoded: list[bytes], threads: int) -> tuple[float, float]:
    """Measures (images a second, seconds of processor time for an image)."""
    parts = [encoded[i : i + 8] for i in range(0, len(encoded), 8)]
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        cpu, wall = time.process_time(), time.perf_counter()
        list(pool.map(lambda part: [decoder(data).shape for data in part], parts))
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return len(encoded) / wall, cpu / len(encoded)


def main() -> int:
    """Measures, prints and writes; returns 0."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--folder", type=pathlib.Path, required=True, help="has *.jpg at any depth")
    parser.add_argument("--size", type=int, nargs="+", default=[64, 150, 224])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=200, help="how many, spread over the folder")
    parser.add_argument("--note", default="", help="what a reader of the result should know")
    options = parser.parse_args()
    paths = sorted(options.folder.expanduser().rglob("*.jpg"))
    if not paths:
        parser.error(f"{options.folder} has no *.jpg")
    paths = paths[:: max(1, len(paths) // options.images)][: options.images]
    encoded = [path.read_bytes() for path in paths]
    shapes = [Image.open(io.BytesIO(data)).size for data in encoded]

    rows = []
    for size in options.size:
        found = decoders(size)
        reference = [next(iter(found.values()))(data).astype(int) for data in encoded]
        timings: dict[str, list[tuple[float, float, float]]] = {name: [] for name in found}
        for _ in range(options.rounds):
            for name, decoder in found.items():
                one, cpu = measure(decoder, encoded, 1)
                timings[name].append((one, measure(decoder, encoded, cores())[0], cpu))
        for name, decoder in found.items():
            errors = [abs(decoder(x) - y) for x, y in zip(encoded, reference, strict=True)]
            one, every, cpu = (statistics.median(x) for x in zip(*timings[name], strict=True))
            rows.append(
                {
                    "size": size,
                    "decoder": name,
                    "images_per_second_one_core": round(one, 1),
                    "images_per_second_all_cores": round(every, 1),
                    "processor_milliseconds_per_image": round(1e3 * cpu, 3),
                    "deviation_mean": round(float(np.mean([e.mean() for e in errors])), 3),
                    "deviation_max": int(max(e.max() for e in errors)),
                }
            )
    header = ["size", "decoder", "images/s", f"on {cores()} cores", "CPU ms", "mean off by", "max"]
    print(tables.table([[str(x) for x in row.values()] for row in rows], header))

    result = {
        "date": datetime.date.today().isoformat(),
        "processor": runtime.processor(),
        "cores": cores(),
        "python": platform.python_version(),
        "packages": environment.versions(PACKAGES),
        "decoder": images.DECODER,
        "images": len(encoded),
        "mean_width_and_height": np.mean(shapes, axis=0).round().tolist(),
        "rounds": options.rounds,
        "note": options.note,
        "rows": rows,
    }
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written    {RESULT}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
