"""Train, transfer and understand convolutional networks in JAX.

    import cnn_jax

    data = cnn_jax.from_arrays(x, y, validation=(xv, yv), class_names=["cat", "dog"])
    run = cnn_jax.train(data, model="resnet20", epochs=10, batch_size=128)
    run = cnn_jax.load("runs/a")
    run.predict(images).classes

Names are imported when they are first used, so that `import cnn_jax` itself takes no time.
"""

import importlib
from typing import TYPE_CHECKING, Any

from cnn_jax._version import __version__ as __version__

if TYPE_CHECKING:
    from cnn_jax import cpu
    from cnn_jax.api import (
        batches,
        create,
        create_model,
        from_arrays,
        from_experiment,
        from_folder,
        load,
        preset,
        read_images,
        register_dataset,
        register_loss,
        register_model,
        train,
    )
    from cnn_jax.data import Data
    from cnn_jax.errors import RunError, UsageError
    from cnn_jax.evaluation.predictions import Predictions
    from cnn_jax.experiment import (
        Checkpoint,
        Dataset,
        Experiment,
        Logging,
        Model,
        Optimizer,
        Train,
        Transfer,
    )
    from cnn_jax.explain.explaining import explain_images
    from cnn_jax.export.exporting import Export, export_run
    from cnn_jax.inspection.label_errors import LabelErrors
    from cnn_jax.inspection.label_errors import find as find_label_errors
    from cnn_jax.inspection.report import DataReport, inspect
    from cnn_jax.options import Sweep
    from cnn_jax.processes import joined as join
    from cnn_jax.runs.callbacks import Callback, Point
    from cnn_jax.runs.trained import Run
    from cnn_jax.runs.untrained import load_pretrained

# The public names, by the module that has them, and behind a colon their name there.
_PUBLIC = {
    "Callback": "runs.callbacks",
    "Checkpoint": "experiment",
    "Data": "data",
    "DataReport": "inspection.report",
    "Dataset": "experiment",
    "Experiment": "experiment",
    "Export": "export.exporting",
    "LabelErrors": "inspection.label_errors",
    "Logging": "experiment",
    "Model": "experiment",
    "Optimizer": "experiment",
    "Point": "runs.callbacks",
    "Predictions": "evaluation.predictions",
    "Run": "runs.trained",
    "RunError": "errors",
    "Sweep": "options",
    "Train": "experiment",
    "Transfer": "experiment",
    "UsageError": "errors",
    "batches": "api",
    "create": "api",
    "create_model": "api",
    "explain_images": "explain.explaining",
    "export_run": "export.exporting",
    "find_label_errors": "inspection.label_errors:find",
    "from_arrays": "api",
    "from_experiment": "api",
    "from_folder": "api",
    "inspect": "inspection.report",
    "join": "processes:joined",
    "load": "api",
    "load_pretrained": "runs.untrained",
    "preset": "api",
    "read_images": "api",
    "register_dataset": "api",
    "register_loss": "api",
    "register_model": "api",
    "train": "api",
}

__all__ = [
    "Callback",
    "Checkpoint",
    "Data",
    "DataReport",
    "Dataset",
    "Experiment",
    "Export",
    "LabelErrors",
    "Logging",
    "Model",
    "Optimizer",
    "Point",
    "Predictions",
    "Run",
    "RunError",
    "Sweep",
    "Train",
    "Transfer",
    "UsageError",
    "batches",
    "cpu",
    "create",
    "create_model",
    "explain_images",
    "export_run",
    "find_label_errors",
    "from_arrays",
    "from_experiment",
    "from_folder",
    "inspect",
    "join",
    "load",
    "load_pretrained",
    "preset",
    "read_images",
    "register_dataset",
    "register_loss",
    "register_model",
    "train",
]


def __getattr__(name: str) -> Any:
    if name == "cpu":
        return importlib.import_module("cnn_jax.cpu")
    if name in _PUBLIC:
        module, _, own = _PUBLIC[name].partition(":")
        return getattr(importlib.import_module(f"cnn_jax.{module}"), own or name)
    raise AttributeError(f"module 'cnn_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
