"""cnn_jax, measured: the feed, train step and eval step of its own loop, jitted as it does."""

import concurrent.futures
import itertools
import tempfile
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.peers import worker
from benchmarks.peers.worker import Result, Run
from cnn_jax import build, data, distributed, experiment, models, run, runtime
from cnn_jax.data import batches, cache, images
from cnn_jax.evaluation import metrics
from cnn_jax.reporting import summary
from cnn_jax.training import features, freezing, loop, steps


def assemble(work: dict[str, Any]) -> tuple[experiment.Experiment, data.DataInfo, build.Assembly]:
    """Returns the experiment of a workload, its data set and its assembly."""
    head = "pooled" if work["model"] == "vgg16" else "default"
    own = models.REGISTRY[work["model"]].options
    shape = (work["size"], work["size"], work["channels"])
    config = experiment.Experiment(
        dataset=experiment.Dataset(batch_size=work["batch"], eval_batch_size=work["batch"]),
        model=experiment.Model(
            work["model"], head=head, dropout_rate=0.0 if "dropout_rate" in own else None
        ),
        transfer=experiment.Transfer(
            freeze=work["frozen"] or "none", cache_features=work["variant"] == "cached"
        ),
        optimizer=experiment.Optimizer(work["optimizer"], learning_rate=work["learning_rate"]),
        train=experiment.Train(precision=work["mode"].get("precision", "float32")),
    )
    classes = tuple(map(str, range(work["outputs"])))
    zero = (0.0,) * work["channels"]
    info = data.DataInfo("benchmark", "", classes, shape, zero, zero, {}, {}, (), "")
    return config, info, build.assemble(config, info)


def step_flops(work: dict[str, Any]) -> int:
    """Returns the FLOPs of one step for one image, those that a cache saves not counted."""
    config, info, assembly = assemble(work)
    rows = summary.layer_table(assembly.model, info.image_shape)
    if work["kind"] == "forward":
        return summary.totals(rows).flops
    trained = assembly.phases[0].groups
    cut = features.cut(config, assembly)
    return summary.step_flops(rows, trained, assembly.model.stage_names, cut)["total"]


def draw_parameters(work: dict[str, Any], generator: np.random.Generator) -> dict[str, np.ndarray]:
    """Returns parameters by path: He-normal kernels, small biases, scales of one."""
    _, _, assembly = assemble(work)
    drawn = {}
    for path, leaf in freezing.flatten(assembly.shapes["params"]).items():
        if path.endswith("/scale"):
            drawn[path] = np.ones(leaf.shape, np.float32)
        else:
            fan_in = np.prod(leaf.shape[:-1])
            deviation = np.sqrt(2 / fan_in) if path.endswith("/kernel") else 0.01
            drawn[path] = (deviation * generator.standard_normal(leaf.shape)).astype(np.float32)
    return drawn


def prepare(work: dict[str, Any]) -> Run:
    """Returns the run of a workload; see `worker`."""
    runtime.start(cpu_convolutions=work["mode"].get("cpu_convolutions", "winograd"))
    if work["kind"] == "jpeg":
        return _decode(work["photographs"], work["size"])
    if work["kind"] == "product":
        return _product(work["size"])
    config, info, assembly = assemble(work)
    pixels, labels, parameters = worker.load(work)
    pixels, labels = pixels.reshape(-1, *info.image_shape), labels.reshape(-1)
    split = data.Split(pixels, labels, [str(i) for i in range(len(labels))])
    loaded = data.Data(info, {"train": split, "validation": split})
    directory = run.RunDirectory(tempfile.gettempdir())  # nothing is written there
    trainer = loop.Trainer(config, loaded, assembly, None, directory, quiet=True)
    replicated = distributed.replicated(trainer.mesh)
    state = build.initial_state(assembly, config, None, replicated)
    if parameters:
        state = state.replace(params=distributed.put(freezing.unflatten(parameters), replicated))
    if trainer.cut:
        split = features.cache_splits(
            config, loaded, assembly, state.variables(), trainer.cut, quiet=True
        )["train"]
    feed = batches.Feed(split, trainer.mesh, config.dataset.resident_limit)
    count = len(labels) // work["batch"]
    order = np.arange(len(labels), dtype=np.int32)
    indices = (batches.take_batch(order, work["batch"], i) for i in itertools.cycle(range(count)))
    fed = feed.batches(indices)
    hyper = distributed.put(jax.tree.map(np.asarray, steps.Hyperparameters.of(config)), replicated)
    step = trainer._step(0) if work["kind"] == "train" else trainer.evaluator._step

    def train(number: int, each: bool) -> Result:
        nonlocal state
        sums = [jax.device_get(state.interval)] if each else []
        began = time.perf_counter()
        for _ in range(number):
            state = step(state, feed.resident, next(fed), hyper)
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
        variables = state.variables()
        found = []
        began = time.perf_counter()
        for _ in range(number):
            found.append(step(variables, feed.resident, next(fed)))
        jax.block_until_ready(found)
        seconds = time.perf_counter() - began
        losses = [_mean(jax.device_get(one.sums)) for one, _ in found] if each else []
        return Result(seconds, number * work["batch"], losses)

    return train if work["kind"] == "train" else forward


def _mean(sums: metrics.Sums) -> float:
    return float(sums.loss / sums.examples)


def _decode(paths: list[str], size: int) -> Run:
    """Returns a run of which a step is one photograph, read as `data.cache` does."""
    taken = itertools.cycle(paths)

    def run(number: int, each: bool) -> Result:
        del each
        some = list(itertools.islice(taken, number))
        parts = [some[i : i + 32] for i in range(0, number, 32)]
        began = time.perf_counter()
        with concurrent.futures.ThreadPoolExecutor(cache.cores()) as pool:
            list(pool.map(lambda part: [images.read_image(path, size) for path in part], parts))
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
