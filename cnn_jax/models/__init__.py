"""The models: one file for each architecture, and the registry that names them.

To add one to the package, write its file with a builder `(num_outputs, dtype[, option]...) ->
Classifier`, end it with `ENTRIES`, and add the file to `registry.py`; the tests run over the
registry. To give a model of your own a name, call `register_model`.
"""

from cnn_jax.models.classifier import AUXILIARY_WEIGHT, Classifier
from cnn_jax.models.entry import Entry
from cnn_jax.models.registry import REGISTRY, check_input, create, register_model

__all__ = [
    "AUXILIARY_WEIGHT",
    "REGISTRY",
    "Classifier",
    "Entry",
    "check_input",
    "create",
    "register_model",
]
