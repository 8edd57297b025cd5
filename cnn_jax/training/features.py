"""Features of stages that stay frozen, computed once and cached on disk, or kept in memory.

The key of a cache covers what the features depend on and nothing else, so runs that differ only in
head, seed or learning rate share one.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnn_jax import cpu, distributed, experiment, files, progress, runtime
from cnn_jax.data import Data, DataInfo, Split, array_file, augmentation, kept
from cnn_jax.errors import RunError
from cnn_jax.runs import leaves
from cnn_jax.training import feature_cache
from cnn_jax.training.plan import Plan
from cnn_jax.trees import flatten

PIECE = 64  # images computed, written and checked at a time


def cache_splits(
    plan: Plan,
    data: Data,
    variables: Any,
    precision: str,
    augmentation: Sequence[Any],
    quiet: bool = False,
    say: Callable[[str], None] | None = None,
    on_disk: bool = True,
) -> dict[str, Split]:
    """Returns the train and validation split with features in place of images.

    Args:
        plan: the plan of the run, whose first `cached_stages` stages are computed.
        data: the images.
        variables: the model's, on the devices.
        precision: of the computation, "float32" or "bfloat16".
        augmentation: what the cached views of training images depend on besides their key.
        quiet: whether to show no progress.
        say: shows a line; None: no line is shown.
        on_disk: whether other runs can use them; else they are in memory, for a run that writes
            nothing.
    """
    assembly, info, cut = plan.assembly, data.info, plan.cached_stages
    if jax.process_count() > 1:  # each computes some of them alone
        variables = distributed.on_this_process(variables)
    inside = plan.prefixes[:cut]

    def of_stages(tree: Any) -> dict[str, Any]:
        return {path: leaf for path, leaf in flatten(tree).items() if path.startswith(inside)}

    def forward(variables: Any, images: jax.Array, key: jax.Array | None) -> jax.Array:
        inputs = assembly.preprocess(images, key)
        out: Any = assembly.model.apply(
            variables, inputs, stop=cut, method=assembly.model.forward_features
        )
        return out.astype(jnp.float32)

    options = cpu.compiler_options()
    plain = jax.jit(lambda v, x: forward(v, x, None), compiler_options=options)
    augmented = jax.jit(forward, compiler_options=options)
    images = jax.ShapeDtypeStruct((PIECE, *info.image_shape), info.dtype)
    shape = jax.eval_shape(plain, variables, images).shape[1:]
    common = {
        "parameters": leaves.digest(
            [of_stages(variables["params"]), of_stages(variables["batch_stats"])]
        ),
        "model": repr(assembly.model.backbone),  # with its options
        "stages": cut,
        "image_shape": info.image_shape,
        # Statistics of the training images only where they are used: subsets of them differ.
        "normalize": [assembly.normalize]
        + ([info.mean, info.std] if assembly.normalize == "standardize" else []),
        "precision": precision,
    }
    made = {}
    for name in ("train", "validation"):
        views = plan.cached_views if name == "train" else 0

        def compute(images: np.ndarray, view: int, piece: int, views: int = views) -> jax.Array:
            if not views:
                return plain(variables, images)
            key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), view), piece)
            return augmented(variables, images, key)

        split = data.splits[name]
        size = max(views, 1) * len(split.labels) * 4 * math.prod(shape)
        if say is not None:
            say(
                f"features   {name}: {max(views, 1) * len(split.labels):,} of {shape}, "
                f"{size / 2**20:,.0f} MiB"
            )
        label, key = f"features of {name}", None
        # Of this split alone: training sets of different sizes share one validation split.
        if on_disk:
            key = cache_key(
                **common,
                data=kept.digest({name: split}),
                views=views,
                augmentation=views and list(augmentation),
            )
        made[name] = cached(split, max(views, 1), compute, shape, key, label, quiet)
    return made


def augmentation_of(dataset: experiment.Dataset, info: DataInfo) -> list[Any]:
    """Returns the settings and numbers that augmented views depend on, besides their key."""
    return augmentation.fingerprint(dataset, info.mean)


def cache_key(**parts: Any) -> str:
    """Returns a name for features that depend on these values, which JSON can hold."""
    return files.json_sha256(parts)[:24]


def cached(
    split: Split,
    views: int,
    forward: Callable[[np.ndarray, int, int], jax.Array],
    feature_shape: tuple[int, ...],
    key: str | None,
    label: str,
    quiet: bool = False,
) -> Split:
    """Returns the split with features, float32 [views * n, ...], in place of its images.

    Args:
        split: of n images.
        views: augmented views of each image; view v of image i stands at v * n + i. 1 without
            augmentation.
        forward: (uint8 [PIECE, height, width, channels], view, number of the piece) -> features
            [PIECE, ...]; the last piece is filled up.
        feature_shape: of one image.
        key: `cache_key` of all that the features depend on; None: they are kept in memory.
        label: what to call them on the progress bar.
        quiet: whether to show no progress.

    Raises:
        RunError: the disk has no room for them, or the cache cannot be written.
    """
    n = len(split.labels)
    shape = (views * n, *feature_shape)
    pieces = [(view, start) for view in range(views) for start in range(0, n, PIECE)]

    def compute(view: int, start: int) -> tuple[int, np.ndarray]:
        """Returns where the features of a piece begin, and the features."""
        images = split.images[start : start + PIECE]
        fill = np.zeros((PIECE - len(images), *images.shape[1:]), images.dtype)
        computed = forward(np.concatenate([images, fill]), view, start // PIECE)
        return view * n + start, np.asarray(computed, np.float32)[: len(images)]

    if key is None:
        features = np.empty(shape, np.float32)
        with progress.Counter(views * n, label, 0, quiet) as counter:
            for view, start in pieces:
                first, rows = compute(view, start)
                features[first : first + len(rows)] = rows
                counter.update(len(rows))
    else:
        folder = runtime.cache_dir() / "features" / key
        try:
            features = feature_cache.opened(folder, pieces, compute, shape, label, quiet)
        except OSError as error:
            raise RunError(
                f"cannot keep features in {folder}: {array_file.reason(error)}; free some space, "
                "set CNN_JAX_CACHE to a directory that can be written, or give "
                "--transfer.cache_features=false"
            ) from error
    return Split(features, np.concatenate([split.labels] * views), list(split.ids) * views)
