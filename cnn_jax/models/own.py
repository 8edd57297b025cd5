"""A user's own Linen module behind the interface of a Classifier.

Such a module is a network as one piece: its one stage has no name, and the paths of its parameters
are the module's own, so that `MyNet().apply(variables, images)` works with what was trained here.
"""

import dataclasses
import inspect
from typing import Any

import flax.errors
import flax.linen as nn
import jax
import jax.numpy as jnp

from cnn_jax.errors import UsageError
from cnn_jax.models.classifier import Classifier

# The names by which a module is told whether it is trained, and what each is then.
_MODES = {"train": True, "training": True, "deterministic": False}
_EXPECTED = (
    "a model is called as (images) or (images, train), where the second argument may also be named "
    "training or deterministic"
)


def adapt(module: nn.Module) -> Any:
    """Returns a module with the interface of a Classifier.

    Args:
        module: any Linen module that maps float images `[batch, height, width, channels]` to
            logits `[batch, outputs]`; a Classifier is returned as it is.

    Raises:
        UsageError: it is no Linen module, or is called with other arguments.
    """
    if isinstance(module, Classifier | OwnModule):
        return module
    if isinstance(module, type):
        raise UsageError(f"the model is the class {module.__name__}; give an instance of it")
    if not isinstance(module, nn.Module):
        raise UsageError(f"the model is a {type(module).__name__}, not a flax.linen.Module")
    return OwnModule(_Hidden(module), _mode_argument(module))


def _mode_argument(module: nn.Module) -> str | None:
    """Returns the name of the argument that says whether the module is trained, or None."""
    name = type(module).__name__
    if not callable(module):
        raise UsageError(f"{name} has no method __call__; {_EXPECTED}")
    arguments = list(inspect.signature(module.__call__).parameters.values())
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    if not arguments or arguments[0].kind in (inspect.Parameter.KEYWORD_ONLY, several[1]):
        raise UsageError(f"{name}.__call__ takes no images; {_EXPECTED}")
    mode = next((each.name for each in arguments[1:] if each.name in _MODES), None)
    for each in arguments[1:]:
        required = each.default is inspect.Parameter.empty and each.kind not in several
        if required and each.name != mode:
            raise UsageError(f"{name}.__call__ needs the argument {each.name!r}; {_EXPECTED}")
    return mode


def _first_sentence(error: Exception) -> str:
    return str(error).partition(" (http")[0].partition(". ")[0].rstrip(".")


@dataclasses.dataclass(frozen=True, eq=False)  # a user's module may not be hashable
class _Hidden:
    """Holds a module where Linen does not see it, and so does not give it a name of its own."""

    module: nn.Module


class OwnModule(nn.Module):
    """A user's own module with the methods that training and evaluation call.

    The module is one stage, so its inside cannot be cut into features and a head: the features are
    the logits, and the head changes nothing.

    Attributes:
        hidden: the user's module.
        mode: the name of its argument that says whether it is trained; None: it has none.
    """

    hidden: _Hidden
    mode: str | None = None

    @property
    def module(self) -> nn.Module:
        """The user's module, without variables."""
        return self.hidden.module

    @property
    def stage_names(self) -> tuple[str, ...]:
        """One stage with no name."""
        return ("",)

    @property
    def auxiliary(self) -> dict[str, nn.Module]:
        """No auxiliary classifiers."""
        return {}

    def __call__(
        self, inputs: jax.Array, train: bool = False, *, start: int = 0, frozen: int = 0
    ) -> jax.Array:
        """Maps float images `[batch, height, width, channels]` to logits `[batch, outputs]`.

        Args:
            inputs: images, scaled as the data set demands; with `start=1`, logits.
            train: whether the module runs as in training.
            start: 0; 1 returns the inputs.
            frozen: 0; 1 runs the module as in evaluation, whatever `train` is.

        Returns:
            Logits, float32.

        Raises:
            UsageError: the module does not return an array.
        """
        features = self.forward_features(inputs, train, start=start, frozen=frozen)
        return self.forward_head(features, train)

    def forward_features(
        self,
        inputs: jax.Array,
        train: bool = False,
        *,
        start: int = 0,
        stop: int | None = None,
        frozen: int = 0,
    ) -> jax.Array:
        """Returns the module's output, as what comes before its last layer is not known.

        The arguments are those of a call.

        Raises:
            UsageError: `stop` asks for the output of a stage inside the module, or the module
                changes or draws in a mode in which it may not.
        """
        name = type(self.module).__name__
        if stop not in (None, 1):
            raise UsageError(f"{name} is one stage and has no features in between")
        if start:
            return inputs
        mode = {self.mode: (train and not frozen) == _MODES[self.mode]} if self.mode else {}
        # In this module's own scope the variables have the paths that they have without it.
        # `nn.share_scope` would leave the paths and random keys of modules in fields as they were.
        module: Any = self.module.clone(parent=self.scope)
        try:
            output = module(inputs, **mode)
        except flax.errors.ModifyScopeVariableError as error:
            raise UsageError(
                f"{name} changes its variables in evaluation too. Call it as (images, train), and "
                "give nn.BatchNorm(use_running_average=not train) in it; another variable that "
                "counts in training changes only `if train:`"
            ) from error
        except flax.errors.InvalidRngError as error:
            raise UsageError(
                f"{name} draws random numbers that it is not given: {_first_sentence(error)}. In "
                "training there is the key 'dropout', in evaluation none. Call it as (images, "
                "train), and give nn.Dropout(RATE, deterministic=not train) in it"
            ) from error
        if not isinstance(output, jax.Array):
            raise UsageError(
                f"{name} returns a {type(output).__name__}; "
                "it must return one array, the logits of shape [batch, outputs]"
            )
        return output

    def forward_head(self, features: jax.Array, train: bool = False) -> jax.Array:
        """Returns the features, which are the logits already, in float32."""
        del train
        return features.astype(jnp.float32)
