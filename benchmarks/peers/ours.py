"""cnn_jax, measured through its public door: the train step and the eval step of `create`."""

import itertools
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import cnn_jax
from benchmarks.peers import worker
from benchmarks.peers.worker import Result, Run

_EPOCHS = 1_000_000  # passes over a workload's images, more than are ever run


def make(
    work: dict[str, Any], pixels: np.ndarray | None = None, labels: np.ndarray | None = None
) -> tuple[Any, Any, cnn_jax.Data]:
    """Returns the first state, the step and the data of a workload; without pixels, of a few."""
    shape = (work["size"], work["size"], work["channels"])
    names = [str(i) for i in range(work["outputs"])]
    if len(names) == 1:  # one logit
        names = ["0", "1"]
    if pixels is None or labels is None:
        pixels = np.zeros((len(names), *shape), np.uint8)
        labels = np.arange(len(names), dtype=np.int32)
    pair = (pixels.reshape(-1, *shape), labels.reshape(-1))
    data = cnn_jax.from_arrays(*pair, validation=pair, class_names=names)
    settings: dict[str, Any] = {
        "dataset.eval_batch_size": work["batch"],
        "dataset.normalize": "unit",
        "model.head": "pooled" if work["model"] == "vgg16" else "default",
        "transfer.freeze": work["frozen"] or "none",
        "transfer.cache_features": work["variant"] == "cached",
        "train.precision": work["mode"].get("precision", "float32"),
    }
    if work["model"] == "vgg16":
        settings["model.dropout_rate"] = 0.0
    state, step = cnn_jax.create(
        data,
        model=work["model"],
        optimizer=work["optimizer"],
        learning_rate=work["learning_rate"],
        batch_size=work["batch"],
        settings=settings,
    )
    return state, step, data


def step_flops(work: dict[str, Any]) -> int:
    """Returns the FLOPs of one step for one image, those that a cache saves not counted."""
    _, step, _ = make(work)
    return step.forward_flops if work["kind"] == "forward" else step.flops


def draw_parameters(work: dict[str, Any], generator: np.random.Generator) -> dict[str, np.ndarray]:
    """Returns parameters by path: He-normal kernels, small biases, scales of one."""
    state, _, _ = make(work)
    drawn = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(state.params):
        name = "/".join(entry.key for entry in path)
        if name.endswith("/scale"):
            drawn[name] = np.ones(leaf.shape, np.float32)
        else:
            fan_in = np.prod(leaf.shape[:-1])
            deviation = np.sqrt(2 / fan_in) if name.endswith("/kernel") else 0.01
            drawn[name] = (deviation * generator.standard_normal(leaf.shape)).astype(np.float32)
    return drawn


def replace_parameters(params: Any, drawn: dict[str, np.ndarray]) -> Any:
    """Returns parameters with those drawn in their places."""

    def take(path: Any, leaf: jax.Array) -> jax.Array:
        return jax.device_put(drawn["/".join(entry.key for entry in path)], leaf.sharding)

    return jax.tree_util.tree_map_with_path(take, params)


def prepare(work: dict[str, Any]) -> Run:
    """Returns the run of a workload; see `worker`."""
    if work["kind"] == "jpeg":
        return _decode(work["photographs"], work["size"])
    if work["kind"] == "product":
        return _product(work["size"])
    with _convolutions(work):
        return _network(work)


def _convolutions(work: dict[str, Any]) -> Any:
    """Returns the context of who convolves."""
    return cnn_jax.cpu.using(work["mode"].get("cpu_convolutions", "winograd"))


def _network(work: dict[str, Any]) -> Run:
    """Returns the run of a network's train step, or of its eval step."""
    pixels, labels, parameters = worker.load(work)
    state, step, _ = make(work, pixels, labels)
    if parameters:
        state = state.replace(params=replace_parameters(state.params, parameters))
    split = step.prepare(state)["train"]
    batches = cnn_jax.batches(split, work["batch"], seed=None, epochs=_EPOCHS)

    def train(number: int, each: bool) -> Result:
        nonlocal state
        sums = [jax.device_get(state.interval)] if each else []
        with _convolutions(work):
            began = time.perf_counter()
            for batch in itertools.islice(batches, number):
                state = step(state, batch)
                if each:
                    sums.append(jax.device_get(state.interval))
            jax.block_until_ready(state)
            seconds = time.perf_counter() - began
        losses = [
            _mean(jax.tree.map(np.subtract, after, before))
            for before, after in itertools.pairwise(sums)
        ]
        return Result(seconds, number * work["batch"], losses)

    def forward(number: int, each: bool) -> Result:
        found = []
        with _convolutions(work):
            began = time.perf_counter()
            for batch in itertools.islice(batches, number):
                found.append(step.evaluate_batch(state, batch))
            jax.block_until_ready(found)
            seconds = time.perf_counter() - began
        losses = [_mean(jax.device_get(sums)) for sums, _ in found] if each else []
        return Result(seconds, number * work["batch"], losses)

    return train if work["kind"] == "train" else forward


def _mean(sums: Any) -> float:
    return float(sums.loss / sums.examples)


def _decode(paths: list[str], size: int) -> Run:
    """Returns a run of which a step is one photograph, read as data sets are."""
    taken = itertools.cycle(paths)

    def run(number: int, each: bool) -> Result:
        del each
        some = list(itertools.islice(taken, number))
        began = time.perf_counter()
        cnn_jax.read_images(some, size)
        return Result(time.perf_counter() - began, number, [])

    return run


def _product(size: int) -> Run:
    """Returns a run of matrix products, each of which is one image: the machine's ceiling."""
    x = jax.random.normal(jax.random.key(0), (size, size), jnp.float32)
    dot = jax.jit(jnp.dot)  # without our options, which are for convolutions

    def run(number: int, each: bool) -> Result:
        del each
        began = time.perf_counter()
        for _ in range(number):
            dot(x, x).block_until_ready()
        return Result(time.perf_counter() - began, number, [])

    return run


if __name__ == "__main__":
    worker.serve(prepare)
