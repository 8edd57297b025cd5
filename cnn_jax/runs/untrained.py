"""A network with weights for ImageNet, as a value like a trained one, without training."""

import dataclasses

from cnn_jax import experiment, models
from cnn_jax.assembly import assemble
from cnn_jax.data import DataInfo, images
from cnn_jax.errors import UsageError
from cnn_jax.experiment import Experiment
from cnn_jax.pretrained import imagenet
from cnn_jax.pretrained.weights import merge
from cnn_jax.runs import weights as run_weights
from cnn_jax.runs.trained import Run

# What images are cut to where nobody says what the network was evaluated with.
_USUAL = ("crop", 0.875)


@dataclasses.dataclass(frozen=True)
class Untrained:
    """A network with ImageNet's classes.

    Attributes:
        run: it, without history, data and directory.
        decoding: how image files become those that it takes.
        source: the file of weights.
        how: how its images are cut and scaled, in a few words.
    """

    run: Run
    decoding: images.Decoding
    source: str
    how: str


def load(config: Experiment) -> Untrained:
    """Returns the network of an experiment with all of the weights that it starts from.

    Raises:
        UsageError: it starts from none, or they are not for ImageNet's 1,000 classes.
        RunError: they cannot be read or downloaded, or do not fit.
    """
    name, source = config.model.name, config.transfer.weights
    if source is None:
        raise UsageError("--transfer.weights=none: without training and weights it knows nothing")
    found = run_weights.load(source, name, ".*")
    names = imagenet.class_names()
    if found.classes != len(names):
        outputs = "no head" if found.classes is None else f"{found.classes} outputs"
        raise UsageError(
            f"--transfer.weights={source} has {outputs}, and without training predict names "
            f"ImageNet's {len(names):,} classes"
        )
    entry = models.REGISTRY[name]
    height, width = found.input_size or entry.input_shape[:2]
    if config.dataset.image_size is not None:
        height = width = config.dataset.image_size
    fit, share = found.evaluated or _USUAL
    info = DataInfo(
        name="ImageNet",
        version="",
        class_names=names,
        image_shape=(height, width, 3),
        mean=(0.0,) * 3,
        std=(1.0,) * 3,
        sizes={},
        class_counts={},
        notes=(),
        digest="",
        resize=fit,
        crop_share=share,
    )
    if "auxiliary" in entry.options:
        config = experiment.replace(config, {"model.auxiliary": False})
    about = {"preprocessing": found.preprocessing, "options": found.options}
    assembly = assemble(config, info, about)
    variables = merge(assembly.shapes, found, "backbone|head")
    interpolation = found.interpolation or "bilinear"
    decoding = dataclasses.replace(
        images.like(info, config.dataset.max_megapixels), interpolation=interpolation
    )
    return Untrained(
        Run(config, assembly, info, [], lambda: (variables, 0)),
        decoding,
        found.source,
        f"{share:.1%} of the image by {fit}, {interpolation}, to {height} x {width}; scaled as "
        f"{assembly.normalize} ({found.preprocessing_reason})",
    )
