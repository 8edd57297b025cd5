"""What a run's directory says of the run: how it began, and how it ended."""

import contextlib
import sys
from typing import Any

from cnn_jax import distributed, experiment, run, runtime
from cnn_jax.errors import RunError
from cnn_jax.reporting import groups
from cnn_jax.training.loop import Interrupted, Trainer


def begin(trainer: Trainer, about_weights: dict[str, Any] | None = None) -> None:
    """Writes what is trained, on what data, from which weights, where and how.

    Args:
        trainer: of the run, whose directory is there and locked.
        about_weights: what weights.json is to say, where the run starts from weights.
    """
    if not distributed.is_primary():
        return
    directory = trainer.directory
    directory.write("config", experiment.to_dict(trainer.config))
    directory.write("data", trainer.info.to_dict())
    if about_weights is not None:
        directory.write("weights", about_weights)
    directory.add_environment(runtime.environment())
    directory.set_status("running")


def finish(trainer: Trainer, history: list[dict[str, Any]]) -> None:
    """Writes what training came to: result.json, the curves, and the status."""
    from cnn_jax.reporting import figures  # Matplotlib, which nothing before the end needs

    if not distributed.is_primary():
        return
    directory, last = trainer.directory, history[-1]
    best = max(history, key=lambda record: record["validation_accuracy"])
    flops = groups.run_flops(
        trainer.assembly, trainer.config, trainer.num_examples, trainer.cut, len(history)
    )
    directory.update_result(
        "training",
        {
            "epochs": len(history),
            "steps": last["step"],
            "seconds": last["seconds"],
            "last_validation_accuracy": last["validation_accuracy"],
            "best_validation_accuracy": best["validation_accuracy"],
            "best_epoch": best["epoch"],
            "flops": flops,
            "peak_memory_bytes": runtime.peak_memory(),
        },
    )
    figures.save(figures.training_curves(history), directory.figures / "training_curves.png")
    directory.set_status("finished", step=last["step"], steps=last["step"])


def stop(trainer: Trainer, stopped: Interrupted) -> None:
    """Writes the status of a run that was asked to stop and has saved its state."""
    trainer.directory.set_status("interrupted", step=stopped.step, steps=trainer.total_steps)


def fail(directory: run.RunDirectory, error: BaseException) -> None:
    """Writes the status of a run that ended early, unless whoever ended it has said more."""
    # The disk may be full, which must not hide the first error.
    with contextlib.suppress(OSError, RunError):
        if directory.status() != "running":
            return
        if isinstance(error, KeyboardInterrupt):
            directory.set_status("interrupted")
            print(f"go on with: {run.command_line('train', directory.path)}", file=sys.stderr)
        else:
            directory.set_status("failed", error=f"{type(error).__name__}: {error}")
