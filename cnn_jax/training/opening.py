"""What a run says before its first step."""

from collections.abc import Sequence
from typing import Any

from cnn_jax import cpu, runtime, text
from cnn_jax.data import augmentation
from cnn_jax.evaluation import two_classes
from cnn_jax.experiment import Experiment
from cnn_jax.runs.directory import RunDirectory
from cnn_jax.training import balance, costs
from cnn_jax.training.parts import Parts, Say

# With fewer images to validate on, one of them moves the accuracy by more than 2 points.
_FEW = 50


def tell(say: Say, parts: Parts, directory: RunDirectory | None) -> None:
    """Says what is trained, where the results go, on what, and from which weights.

    Args:
        say: shows a line.
        parts: the run.
        directory: its directory, or None.
    """
    config, info, about = parts.config, parts.data.info, parts.about_weights
    say(f"run        {config.name}: {config.model.name} on {info.name}")
    say(f"devices    {runtime.describe_devices()}")
    say(f"tuning     {cpu.describe()}")
    if directory is not None:
        say(f"results    {text.shown(directory.path)}")
    sizes = ", ".join(f"{name} {size:,}" for name, size in info.sizes.items())
    say(f"images     {sizes}; {info.image_shape} each")
    for note in [*info.notes, *_few(info.sizes["validation"])]:
        say(f"           {note}")
    for line in balance.hints(config.train, info):
        say(line)
    if changes := augmentation.describe(config.dataset):
        say(f"augment    training images are {', '.join(changes)}")
    if config.dataset.mirrors:
        name = "flip" if config.dataset.flip else "alternate_flip"
        say(
            f"           a mirrored chest is another one: --dataset.{name}=false where sides matter"
        )
    positive = two_classes.positive_class(config.dataset.positive, info.class_names)
    if positive is not None:
        say(f"positive   {info.class_names[positive]} (--dataset.positive)")
    if about is not None:
        say(
            f"weights    {about['source']}; images scaled as {parts.plan.assembly.normalize} "
            f"({about['preprocessing_reason']})"
        )
        if info.image_shape[-1] == 1:
            say("           images have one channel, as the weights take: colours are not seen")
        for line in _aspect(config, about.get("evaluated")):
            say(f"           {line}")
    for line in costs.report(parts.plan, config.transfer):
        say(line)


def _aspect(config: Experiment, evaluated: Sequence[Any] | None) -> list[str]:
    """Returns a note where pretrained weights were evaluated on images of another aspect."""
    if evaluated is None or config.dataset.name not in ("folder", "table"):
        return []
    how, share = evaluated
    kept = config.dataset.crop_share
    if (how, share if how == "crop" else kept) == (config.dataset.resize, kept):
        return []
    return [
        f"published figures of these weights are of {share:.1%} of the short side, resized by "
        f"{how}; here it is {kept:.1%}, by {config.dataset.resize} (--dataset.crop_share, "
        "--dataset.resize)"
    ]


def _few(images: int) -> list[str]:
    """Returns a note where validation accuracy has coarse steps."""
    if images >= _FEW:
        return []
    points = text.plural(round(100 / images), "point")
    return [f"validation has {text.plural(images, 'image')}: one image is {points} of accuracy"]
