"""Tries that damage the files that a user gives: images and weights."""

import functools
import io
import re
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.harm import damages
from benchmarks.harm.bench import Bench, check_same, copy, figures
from benchmarks.harm.ends import Ended, Fault
from benchmarks.harm.world import RUNS, World, train

_BATCH = 40
_WHOLE = "as it was"  # the first of a batch, which shows that the others could succeed


def images_predicted(bench: Bench, world: World) -> None:
    """Forty mutated images, in four formats and of several modes, are classified one by one."""
    run, draw = copy(world.evaluated("photos"), bench.folder / "run"), bench.draw
    bench.about = f"{_BATCH} images"
    folder = bench.folder / "images"
    folder.mkdir()
    originals = [_image(draw) for _ in range(8)]
    calls = {}
    for number in range(_BATCH):
        ending, data = draw.choice(originals)
        what, harmed = damages.harm_bytes(draw, data, draw.choice(originals)[1])
        if number == 0:
            what, harmed = _WHOLE, data
        path = folder / f"{number}.{ending}"
        path.write_bytes(harmed)
        calls[f"{path.name} {what}"] = ["predict", f"--workdir={run}", str(path)]
    found = bench.many(calls)
    _check_whole(found)
    for name, ended in found.items():
        if ended.code and name.split()[0] not in ended.stderr:
            raise Fault(f"the error does not name the file {name}: {ended.stderr}")


def _check_whole(found: dict[str, Ended]) -> None:
    """Raises Fault where what is not damaged is refused."""
    for name, ended in found.items():
        if name.endswith(_WHOLE) and ended.code:
            raise Fault(f"{name} is refused: {ended.stderr}")


def _image(draw: damages.Draw) -> tuple[str, bytes]:
    mode = draw.choice(("RGB", "L", "RGBA", "P", "I;16", "1", "CMYK", "LA"))
    ending = draw.choice(("png", "jpg", "webp"))
    legal = {"jpg": ("RGB", "L", "CMYK"), "webp": ("RGB", "L", "RGBA")}.get(ending)
    mode = mode if mode != "CMYK" or ending == "jpg" else "RGB"
    if legal and mode not in legal:
        mode = draw.choice(legal)
    size = draw.choice((1, 8, 33))
    rng = np.random.default_rng(draw.randrange(2**32))
    if mode == "I;16":
        image = Image.fromarray(rng.integers(0, 4096, (size, size)).astype(np.uint16))
    else:
        pixels = rng.integers(0, 256, (size, size, 3)).astype(np.uint8)
        image = Image.fromarray(pixels).convert(mode)
    file = io.BytesIO()
    options: dict[str, Any] = {}
    if draw.random() < 0.5 and ending != "png":
        exif = Image.Exif()
        exif[0x0112] = draw.randrange(10)
        options["exif"] = exif.tobytes()
    image.save(file, {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}[ending], **options)
    return ending, file.getvalue()


def images_trained(bench: Bench, world: World) -> None:
    """Images of a data folder are damaged; with them as they were, the same command is the same."""
    draw = bench.draw
    photos = copy(world.photos(), bench.folder / "photos")
    flags = [f"--dataset.on_error={draw.choice(('refuse', 'skip'))}"]
    done = []
    paths = damages.files_below(photos)
    for path in draw.sample(paths, draw.choice((1, 2, 12))):
        done.append(damages.harm_file(draw, path, draw.choice(paths)))
    bench.about = f"{', '.join(done[:2])}, {flags[0]}"
    wanted = world.wanted("photos")
    if bench.run([*train("photos", "harmed"), *flags]).code == 0:
        figures(bench.folder / "harmed")
    damages.put_back(world.photos(), photos)
    bench.succeed(train("photos"))
    check_same(figures(bench.folder / "run"), wanted, "with the images put back")


def tables(bench: Bench, world: World) -> None:
    """Twenty mutated tables of images, and .npz files, are described, with their data read."""
    draw = bench.draw
    photos = copy(world.photos(), bench.folder / "photos")
    bench.about = "20 tables and .npz files"
    rows = ["path,label,split,patient"]
    arrays: dict[str, list[Any]] = {"train": [], "validation": []}
    for path in damages.files_below(photos):
        split, label = path.relative_to(photos).parts[:2]
        rows.append(f"{path.relative_to(photos)},{label},{split},{split}{len(rows) // 3}")
        arrays.setdefault(split, []).append((np.array(Image.open(path)), "cdo".index(label[0])))
    memory = io.BytesIO()
    images, labels = zip(*arrays["train"], strict=True)
    np.savez_compressed(memory, images=np.array(images), labels=np.array(labels))
    originals = {"csv": "\n".join(rows).encode(), "npz": memory.getvalue()}
    originals["tsv"] = originals["csv"].replace(b",", b"\t")
    calls = {}
    for number in range(20):
        ending = draw.choice(list(originals))
        other = originals[draw.choice(list(originals))]
        if number == 0:
            what, data = _WHOLE, originals[ending]
        elif ending != "npz" and draw.random() < 0.6:
            what, data = _other_cells(draw, originals[ending])
        else:
            what, data = damages.harm_bytes(draw, originals[ending], other)
        path = photos / f"{number}.{ending}"
        path.write_bytes(data)
        name = "npz" if ending == "npz" else "table"
        flags = [f"--dataset.name={name}", f"--dataset.path={path}", "--dataset.image_size=8"]
        calls[f"{path.name} {what}"] = ["describe", "--model.name=mlp", *flags]
    _check_whole(bench.many(calls))


def _other_cells(draw: damages.Draw, table: bytes) -> tuple[str, bytes]:
    """Returns (what was done, a table with a few other cells)."""
    cell = re.compile(rb"[^,\t\n]+")
    new = (b"", b'"', b"'", b"../x.png", b"/dev/null", b"photos", b"nan", b"\xff", b"\0", b"train")
    for _ in range(draw.choice((1, 3))):
        found = draw.choice(list(cell.finditer(table)))
        value = draw.choice((*new, b"1e999", b"\r", b",", b"\t", b"a" * 200_000))
        table = table[: found.start()] + value + table[found.end() :]
    return "with other cells", table


def weights(bench: Bench, world: World) -> None:
    """Forty mutated files of weights are read and fitted to their model."""
    from cnn_jax.runs import weights as of_files

    del world
    draw = bench.draw
    bench.about = f"{_BATCH} files of weights"
    originals = {name: make() for name, make in _WEIGHTS.items()}
    calls: dict[str, Callable[[], int]] = {}
    for number in range(_BATCH):
        name, other = draw.choice(list(originals)), draw.choice(list(originals))
        what, harmed = damages.harm_bytes(draw, originals[name], originals[other])
        if number == 0:
            name, what = "keras.weights.h5", _WHOLE
            harmed = originals[name]
        path = bench.folder / f"{number}-{name}"
        path.write_bytes(harmed)
        load = functools.partial(of_files.load, str(path), "vgg16")
        calls[f"{path.name} {what}"] = functools.partial(_zero, load)
    _check_whole(bench.many(calls))


def _zero(call: Callable[[], Any]) -> int:
    call()
    return 0


def _arrays(rng: np.random.Generator) -> dict[str, np.ndarray]:
    found = {}
    for block, count in enumerate((2, 2, 3, 3, 3), 1):
        for number in range(1, count + 1):
            found[f"block{block}_conv{number}"] = rng.normal(size=(3, 3, 2, 2))
    return found | {name: rng.normal(size=(2, 2)) for name in ("fc1", "fc2", "predictions")}


def _legacy() -> bytes:
    import h5py

    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        arrays = _arrays(np.random.default_rng(0))
        file.attrs["layer_names"] = [name.encode() for name in arrays]
        for layer, kernel in arrays.items():
            group = file.create_group(layer)
            group.attrs["weight_names"] = [f"{layer}/{leaf}:0".encode() for leaf in ("k", "b")]
            group[f"{layer}/k:0"], group[f"{layer}/b:0"] = kernel.astype("f4"), np.zeros(2, "f4")
    return memory.getvalue()


def _keras() -> bytes:
    import h5py

    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        for layer, kernel in _arrays(np.random.default_rng(1)).items():
            group = file.create_group(f"layers/{layer}/vars")
            options = {"compression": "gzip", "chunks": True} if layer == "fc1" else {}
            group.create_dataset("0", data=kernel.astype("f4"), **options)
            group.create_dataset("1", data=np.zeros(2, "f4"))
    return memory.getvalue()


def _torch() -> bytes:
    import safetensors.numpy

    from cnn_jax.pretrained import layouts

    rng = np.random.default_rng(2)
    tensors = {}
    for layer in layouts.find("vgg16").layers:
        shape = (2, 2, 3, 3) if layer.kind == "conv" else (2, 2)
        tensors[f"{layer.torch}.weight"] = rng.normal(size=shape).astype("f4")
        tensors[f"{layer.torch}.bias"] = np.zeros(2, "f4")
    return safetensors.numpy.save(tensors)


def _pickle() -> bytes:
    import pickle

    return pickle.dumps({name: value.tolist() for name, value in _arrays(_RNG).items()})


_RNG = np.random.default_rng(3)
_WEIGHTS: dict[str, Callable[[], bytes]] = {
    "legacy.h5": _legacy,
    "keras.weights.h5": _keras,
    "torch.safetensors": _torch,
    "torch.pth": _pickle,
}


def run_as_weights(bench: Bench, world: World) -> None:
    """A run directory with a damaged file serves as weights of another run."""
    start = copy(world.run("frozen"), bench.folder / "start")
    path = bench.draw.choice(damages.files_below(start))
    bench.about = damages.harm_file(bench.draw, path, world.run("digits") / path.name)
    flags = [*RUNS["frozen"], "--transfer.weights=start", "--transfer.include=.*"]
    ended = bench.run(["train", "--workdir=run", *flags])
    damages.put_back(world.run("frozen"), start)
    bench.succeed(["train", "--workdir=again", *flags])
    if ended.code == 0 and "warning" not in ended.stderr:
        wanted = figures(bench.folder / "again")
        check_same(figures(bench.folder / "run"), wanted, "trained without a warning")
