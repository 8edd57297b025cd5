"""Numbers that are legal alone and too high for the length of a run."""

from cnn_jax import experiment, settings
from cnn_jax.data import batches
from cnn_jax.errors import UsageError


def check(dataset: experiment.Dataset, epochs: int, num_examples: int) -> None:
    """Refuses more steps than a run counts.

    Args:
        dataset: its settings.
        epochs: passes over the training split.
        num_examples: examples in the training split.

    Raises:
        UsageError: a number is too high.
    """
    steps = epochs * batches.steps_per_epoch(num_examples, dataset.batch_size)
    if steps > settings.LARGEST_INT:
        raise UsageError(
            f"--train.epochs={epochs} are {steps:,} steps, and a run counts up to "
            f"{settings.LARGEST_INT:,}"
        )
