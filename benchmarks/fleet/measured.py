"""What one machine can measure: photographs to decode, and states that processes save together."""

import json
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from cnn_jax import distributed
from cnn_jax.data import images
from cnn_jax.processes import star
from cnn_jax.processes.clusters import Place

MAIN = pathlib.Path(__file__).resolve().parent.parent / "hosts.py"
STATES = ("resnet20", "resnet50", "vgg16", "convnext_small")


def photographs(folder: pathlib.Path, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns (bytes of each file, processor seconds to decode each to 224 px) of photographs.

    Args:
        folder: a data set that TFDS has prepared, such as .../cats_vs_dogs/4.0.1.
        count: photographs, evenly taken.
    """
    import tensorflow_datasets as tfds

    builder: Any = tfds.builder_from_directory(folder)
    decoders = {"image": tfds.decode.SkipDecoding()}
    source = builder.as_data_source("train", decoders=decoders)
    chosen = np.linspace(0, len(source) - 1, count).astype(int).tolist()
    files = [example["image"] for example in source.__getitems__(chosen)]
    how, seconds = images.Decoding(224), []
    for file in [*files[:10], *files]:  # the first warm up
        began = time.thread_time()
        images.decode(file, how)
        seconds.append(time.thread_time() - began)
    return np.array([len(file) for file in files]), np.array(seconds[10:])


def states() -> list[dict[str, Any]]:
    """Returns {model, parameters, bytes of a checkpoint with one momentum} of some networks."""
    import jax

    import cnn_jax

    found = []
    for name in STATES:
        size = 32 if name == "resnet20" else 224
        model = cnn_jax.create_model(name, 1000)
        image = jax.ShapeDtypeStruct((1, size, size, 3), np.float32)
        shapes = jax.eval_shape(model.init, jax.random.key(0), image)
        sizes = {name: _bytes(tree) for name, tree in shapes.items()}
        whole = sum(sizes.values()) + sizes["params"]
        found.append({"model": name, "parameters": sizes["params"] // 4, "bytes": whole})
    return found


def _bytes(tree: Any) -> int:
    import jax

    return sum(int(np.prod(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def written(processes: int, mebibytes: int) -> dict[str, Any]:
    """Saves and restores one replicated state with real processes, through the code of a run.

    Returns:
        {bytes that each process wrote, processor seconds of each to save and to restore}.
    """
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
        free.close()
        words = [sys.executable, str(MAIN), f"--save={folder},{port},{processes},{mebibytes}"]
        started = [
            subprocess.Popen([*words, f"--index={i}"], stdout=subprocess.PIPE, text=True)
            for i in range(processes)
        ]
        said = [process.communicate(timeout=600)[0] for process in started]
        if any(process.returncode for process in started):
            raise RuntimeError("a process that saves has failed; its error is above")
        seconds = [json.loads(text.splitlines()[-1]) for text in said]
        state = pathlib.Path(folder, "checkpoints", "1", "state")
        sizes = [_size(state / f"ocdbt.process_{i}") for i in range(processes)]
    return {
        "processes": processes,
        "bytes": sizes,
        "save": [one["save"] for one in seconds],
        "restore": [one["restore"] for one in seconds],
    }


def _size(folder: pathlib.Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def save_and_restore(folder: str, port: int, processes: int, mebibytes: int, index: int) -> None:
    """Saves a state as one of several processes, restores it, and prints the seconds."""
    import jax

    jax.config.update("jax_platforms", "cpu")
    if processes > 1:
        jax.distributed.initialize(f"127.0.0.1:{port}", processes, index)
    from cnn_jax.runs.checkpoints import Checkpoints

    mesh = distributed.make_mesh()
    generator = np.random.default_rng(0)
    host = {f"w{i}": generator.normal(size=1 << 18).astype(np.float32) for i in range(mebibytes)}
    state = distributed.put(host, distributed.replicated(mesh))
    began = time.process_time()
    with Checkpoints(pathlib.Path(folder, "checkpoints"), keep=1) as checkpoints:
        checkpoints.save(1, state, {"history": []})
    saved = time.process_time()
    with Checkpoints(pathlib.Path(folder, "checkpoints"), keep=1) as checkpoints:
        found = checkpoints.restore_latest(lambda meta: host, distributed.replicated(mesh))
    assert found is not None
    assert all(np.array_equal(found[0][name], host[name]) for name in host)
    print(json.dumps({"save": saved - began, "restore": time.process_time() - saved}))


def met(count: int) -> dict[str, Any]:
    """Lets threads meet at process 0, over real connections, as so many processes would.

    Returns:
        {hosts, the processor seconds that it took all of them}.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    places = [Place("127.0.0.1", port, count, index) for index in range(count)]
    began = time.process_time()
    with ThreadPoolExecutor(count) as pool:
        joined = list(pool.map(lambda place: star.meet(place, 300, lambda line: None), places))
    seconds = time.process_time() - began
    for links, _ in joined:
        for link in links:
            link.close()
    assert [len(links) for links, _ in joined] == [count - 1] + [1] * (count - 1)
    return {"hosts": count, "seconds": seconds}
