"""Numbers that are legal alone and too high for the images or the length of a run."""

from cnn_jax import experiment, settings
from cnn_jax.data import batches
from cnn_jax.errors import UsageError


def check(
    dataset: experiment.Dataset, image_shape: tuple[int, int, int], epochs: int, num_examples: int
) -> None:
    """Refuses augmentation larger than the images, and more steps than a run counts.

    Args:
        dataset: its settings.
        image_shape: (height, width, channels).
        epochs: passes over the training split.
        num_examples: examples in the training split.

    Raises:
        UsageError: a number is too high.
    """
    smallest = min(image_shape[:2])
    for name in ("crop_padding", "cutout"):
        if getattr(dataset, name) > smallest:
            raise UsageError(
                f"--dataset.{name}={getattr(dataset, name)} is more than the images have: "
                f"{smallest} pixels"
            )
    steps = epochs * batches.steps_per_epoch(num_examples, dataset.batch_size)
    if steps > settings.LARGEST_INT:
        raise UsageError(
            f"--train.epochs={epochs} are {steps:,} steps, and a run counts up to "
            f"{settings.LARGEST_INT:,}"
        )
