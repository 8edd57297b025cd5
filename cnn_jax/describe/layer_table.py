"""The layer table of a model: shapes, parameters, FLOPs, terms of the output-size formula."""

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import flax.linen as nn

from cnn_jax.describe.layer_rows import LayerRow, variables_and_rows
from cnn_jax.reporting.tables import table

# The paths of an auxiliary classifier begin with this and the name of its stage.
AUXILIARY = "auxiliary_"


class Totals(NamedTuple):
    """Sums over a layer table, with its auxiliary classifiers.

    Attributes:
        parameters: the number of learned numbers.
        flops: the FLOPs of one image forward.
        training_flops: the FLOPs of one image forward and backward, with all layers trained. Going
            backward, each product is repeated for the gradient of each of its two factors, except
            that of the image.
    """

    parameters: int
    flops: int
    training_flops: int


def layer_table(
    model: nn.Module, input_shape: Sequence[int], variables: Any = None
) -> list[LayerRow]:
    """Returns a row for every layer, in the order in which an image passes through them.

    A layer is a module with parameters, matrix products or convolutions of its own, or one of the
    pools and reshapes of `layers`. A convolution that pools has two rows, the convolution and its
    pool. The rows of an auxiliary classifier follow those of its stage.

    Args:
        model: a Classifier, or a user's own module.
        input_shape: (height, width, channels).
        variables: the shapes of the model's variables, where they are known already.

    Raises:
        ValueError: a window is larger than its input, where the image is too small for the model;
            `models.check_input` says so in the user's terms.
    """
    return variables_and_rows(model, input_shape, variables)[1]


def totals(rows: Sequence[LayerRow]) -> Totals:
    """Returns the sums of a layer table."""
    flops = [row.flops for row in rows if row.flops]
    return Totals(
        parameters=sum(row.parameters for row in rows),
        flops=sum(flops),
        training_flops=3 * sum(flops) - sum(flops[:1]),
    )


def step_flops(
    rows: Sequence[LayerRow],
    trainable: Collection[str],
    prefixes: Sequence[str] = (),
    cut: int = 0,
) -> dict[str, int]:
    """Returns the FLOPs of a training step for one image.

    Going backward, every trained layer repeats its products for the gradient of its weights, and
    every layer behind the first trained one for the gradient of its input. A layer behind it whose
    products have no weights, such as attention, repeats them for both of their factors. With all
    layers trained that is three times the forward pass, less one product of the first layer. The
    optimizer is not counted: it makes some ten operations for each trained parameter, however many
    images there are.

    Args:
        rows: the layer table.
        trainable: the paths of the trained parameters, such as "backbone/block5/conv1/kernel".
        prefixes: what the parameter paths of each stage begin with, see
            `models.classifier.stage_prefixes`.
        cut: the number of first stages that do not run, as their output comes from a cache.

    Returns:
        "forward", "backward" and their "total".
    """
    cached = tuple(prefixes[:cut])
    # An auxiliary classifier runs where its stage, or one before it, is trained.
    idle = tuple(
        f"{AUXILIARY}{prefix.rstrip('/').rpartition('/')[2]}/"
        for number, prefix in enumerate(prefixes, start=1)
        if not any(path.startswith(tuple(prefixes[:number])) for path in trainable)
    )
    run = [row for row in rows if not f"{row.name}/".startswith(cached + idle)]
    trained = set(trainable)
    first = next(
        (i for i, row in enumerate(run) if not trained.isdisjoint(row.weights + row.biases)),
        len(run),
    )
    forward = sum(row.flops for row in run)
    backward = sum(row.flops for row in run if not trained.isdisjoint(row.weights))
    backward += sum(row.flops * (1 if row.weights else 2) for row in run[first + 1 :])
    return {"forward": forward, "backward": backward, "total": forward + backward}


def render(rows: Sequence[LayerRow]) -> str:
    """Returns the layer table as text, with the totals at the end.

    Where there are auxiliary classifiers, one line of totals leaves them out and one has them. F, S
    and P are the window, stride and padding of the output-size formula (W - F + 2P) / S + 1; one
    number stands for both axes where they agree.
    """
    headers = ["layer", "kind", "input", "F", "S", "P", "output", "parameters", "FLOPs"]
    run = [row for row in rows if not row.name.startswith(AUXILIARY)]
    lines = [
        [
            row.name or "(itself)",
            row.kind,
            by(row.input_shape),
            _axes(row.window),
            _axes(row.stride),
            _axes(row.padding),
            by(row.output_shape),
            f"{row.parameters:,}",
            f"{row.flops:,}",
        ]
        for row in rows
    ]

    def last_line(name: str, some: Sequence[LayerRow]) -> list[str]:
        sums = totals(some)
        return [name, *[""] * 6, f"{sums.parameters:,}", f"{sums.flops:,}"]

    lines.append(last_line("total", run))
    if len(run) < len(rows):
        lines.append(last_line("in training", rows))
    return table(lines, headers)


def by(shape: Sequence[int]) -> str:
    """Returns a shape as text, such as "28 x 28 x 256"."""
    return " x ".join(map(str, shape))


def _axes(terms: Sequence[Any] | None) -> str:
    """Returns one number where all axes agree, else one for each; a + b pads before and after."""
    if terms is None:
        return ""
    axes = [term if isinstance(term, tuple) else (term,) for term in terms]
    texts = [str(axis[0]) if len(set(axis)) == 1 else "+".join(map(str, axis)) for axis in axes]
    return texts[0] if len(set(texts)) == 1 else " x ".join(texts)
