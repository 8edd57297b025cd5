"""A network with weights for ImageNet, as a value like a trained one, without training."""

from cnn_jax import experiment, models, runtime
from cnn_jax.assembly import assemble
from cnn_jax.data import DataInfo
from cnn_jax.errors import UsageError
from cnn_jax.experiment import Experiment
from cnn_jax.pretrained import imagenet
from cnn_jax.pretrained.weights import merge
from cnn_jax.runs import weights as run_weights
from cnn_jax.runs.trained import Run


class Untrained(Run):
    """A network with weights of others, which was not trained here."""


# What images are cut to where nobody says what the network was evaluated with.
_USUAL = ("crop", 0.875)


def load_pretrained(
    model: str = "resnet50", weights: str = "imagenet", *, image_size: int | None = None
) -> Run:
    """Returns a network with weights for ImageNet's 1,000 classes, without any training.

        run = cnn_jax.load_pretrained("resnet50")
        run.predict(["photo.jpg"]).classes

    Image files are cut and scaled as those on which its published accuracy was measured. The
    probabilities are not calibrated.

    Args:
        model: the model's name.
        weights: "imagenet", which is downloaded once, or what `--transfer.weights` takes besides: a
            file, a folder, or a name on the Hugging Face hub.
        image_size: height and width of the images, in pixels; None: those it was evaluated with.

    Raises:
        UsageError: the weights are not for ImageNet's classes, or not of this model.
        RunError: they cannot be read or downloaded, or do not fit.
    """
    runtime.start()
    settings = {"model.name": model, "transfer.weights": weights, "dataset.image_size": image_size}
    return load(experiment.replace(Experiment(), settings))[0]


def load(config: Experiment) -> tuple[Run, str, str]:
    """Returns the network of an experiment with all of the weights that it starts from.

    Returns:
        The network, without history, data and directory; the file of its weights; and how its
        images are cut and scaled, in a few words.

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
            f"--transfer.weights={source} has {outputs}, and without training it names "
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
        interpolation=found.interpolation or "bilinear",
    )
    if "auxiliary" in entry.options:
        config = experiment.replace(config, {"model.auxiliary": False})
    about = {
        "source": found.source,
        "sha256": found.sha256,
        "preprocessing": found.preprocessing,
        "preprocessing_reason": found.preprocessing_reason,
        "options": found.options,
    }
    assembly = assemble(config, info, about)
    variables = merge(assembly.shapes, found, "backbone|head")
    how = (
        f"{share:.1%} of the image by {fit}, {info.interpolation}, to {height} x {width}; scaled "
        f"as {assembly.normalize} ({found.preprocessing_reason})"
    )
    run = Untrained(config, assembly, info, [], lambda: (variables, 0))
    return run, found.source, how
