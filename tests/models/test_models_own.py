"""A user's own modules: behind the interface of a Classifier, and under a name."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax import models
from cnn_jax.describe import model_list
from cnn_jax.errors import UsageError
from cnn_jax.models import classifier, own
from cnn_jax.models.study_cnn import study_cnn

X = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)


class Compact(nn.Module):
    num_outputs: int = 3
    dtype: Any = jnp.float32
    width: int = 4

    @nn.compact
    def __call__(self, x, train: bool):
        x = nn.Conv(self.width, (3, 3), dtype=self.dtype)(x)
        x = nn.BatchNorm(use_running_average=not train, dtype=self.dtype)(x)
        x = nn.Dropout(0.5, deterministic=not train)(x)
        return nn.Dense(self.num_outputs, dtype=self.dtype)(x.mean((1, 2)))


class WithSetup(nn.Module):
    """A module in a field, and submodules with names that an adapter might use."""

    inner: nn.Module

    def setup(self):
        self.module, self.hidden = nn.Dense(5), nn.Dense(3)
        self.layers = [nn.Dense(5), nn.Dense(5)]
        self.drop = nn.Dropout(0.5)

    def __call__(self, x, *, training=False):
        x = self.module(self.inner(x))
        for layer in self.layers:
            x = layer(x)
        return self.hidden(self.drop(x, deterministic=not training))


class Nested(nn.Module):
    @nn.compact
    def __call__(self, x, *, deterministic: bool = True):
        w = self.param("w", nn.initializers.normal(), (x.shape[-1], 3))
        return Compact(name="part")(x, not deterministic) + x.mean((1, 2)) @ w


def pooled(x):
    return x.mean((1, 2))


SEQUENTIAL = nn.Sequential([nn.Conv(4, (3, 3)), nn.relu, pooled, nn.Dense(3)])
MODULES = {
    "compact": (Compact(), lambda train: {"train": train}),
    "setup": (WithSetup(nn.Sequential([nn.Conv(4, (3, 3)), pooled])), lambda t: {"training": t}),
    "nested": (Nested(), lambda train: {"deterministic": not train}),
    "sequential": (SEQUENTIAL, lambda train: {}),
}


@pytest.mark.parametrize("name", MODULES)
def test_an_adapted_module_is_the_module(name):
    """Initial values, logits, dropout and statistics are those without the adapter."""
    module, mode = MODULES[name]
    adapted = own.adapt(module)
    key = jax.random.key(0)
    variables: Any = adapted.init(key, X)
    jax.tree.map(np.testing.assert_array_equal, variables, module.init(key, X, **mode(False)))
    np.testing.assert_array_equal(
        adapted.apply(variables, X), module.apply(variables, X, **mode(False))
    )
    options: Any = {"rngs": {"dropout": key}, "mutable": ["batch_stats"]}
    ours = adapted.apply(variables, X, train=True, **options)
    theirs = module.apply(variables, X, **mode(True), **options)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    still = adapted.apply(variables, X, train=True, frozen=1, mutable=["batch_stats"])
    np.testing.assert_array_equal(still[0], adapted.apply(variables, X))
    assert own.adapt(adapted) is adapted
    assert hash(adapted) == hash(adapted)


def test_an_adapted_module_is_one_stage_without_features():
    adapted = own.adapt(SEQUENTIAL)
    assert (adapted.stage_names, adapted.auxiliary) == (("",), {})
    assert classifier.stage_prefixes(adapted) == ("",)
    variables = adapted.init(jax.random.key(0), X)
    features = adapted.apply(variables, X, method=adapted.forward_features)
    logits = adapted.apply(variables, features, method=adapted.forward_head)
    np.testing.assert_array_equal(logits, adapted.apply(variables, X))
    np.testing.assert_array_equal(logits, adapted.apply(variables, logits, start=1))
    with pytest.raises(UsageError, match="Sequential is one stage"):
        adapted.apply(variables, X, stop=0, method=adapted.forward_features)


def test_prefixes_of_a_classifiers_stages():
    assert classifier.stage_prefixes(study_cnn(2)) == ("backbone/",)
    assert classifier.stage_prefixes(models.create("resnet20", 2)) == tuple(
        f"backbone/{name}/" for name in ("stem", "stage1", "stage2", "stage3")
    )
    model = models.create("resnet20", 2)
    assert own.adapt(model) is model


def test_logits_are_float32():
    adapted = own.adapt(Compact(dtype=jnp.bfloat16))
    variables = adapted.init(jax.random.key(0), X)
    features: Any = adapted.apply(variables, X, method=adapted.forward_features)
    logits: Any = adapted.apply(variables, X)
    assert (features.dtype, logits.dtype) == (jnp.bfloat16, jnp.float32)


class NoImages(nn.Module):
    @nn.compact
    def __call__(self):
        return jnp.zeros(3)


class Another(nn.Module):
    @nn.compact
    def __call__(self, x, mask, train=False):
        return x


class NoCall(nn.Module):
    def encode(self, x):
        return x


class Several(nn.Module):
    @nn.compact
    def __call__(self, x):
        return x, x


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (NoImages(), "NoImages.__call__ takes no images; a model is called as"),
        (Another(), r"needs the argument 'mask'; a model is called as \(images\) or"),
        (NoCall(), "NoCall has no method __call__"),
        (Compact, "the class Compact; give an instance"),
        (lambda x: x, "a function, not a flax.linen.Module"),
    ],
)
def test_other_ways_of_calling_are_refused(module, message):
    with pytest.raises(UsageError, match=message):
        own.adapt(module)


def test_a_module_with_several_results_is_refused():
    with pytest.raises(UsageError, match="Several returns a tuple; it must return one array"):
        own.adapt(Several()).init(jax.random.key(0), X)


@pytest.fixture(autouse=True)
def _registry():
    before = dict(models.REGISTRY)
    yield
    models.REGISTRY.clear()
    models.REGISTRY.update(before)


def test_a_builder_has_a_name_and_options():
    @models.register_model("mine", input_shape=(8, 8, 3), smallest=(4, 4), options={"width": 6})
    def build(num_outputs, dtype=jnp.float32, width=1):
        return Compact(num_outputs, dtype, width)

    assert build(2).width == 1  # the decorator returns it
    entry = models.REGISTRY["mine"]
    assert (entry.builder, entry.defined_in) == (build, __file__)
    assert models.create("mine", 5).module == Compact(5, jnp.float32, 6)
    half = models.create("mine", 5, dtype=jnp.bfloat16, width=9)
    assert half.module == Compact(5, jnp.bfloat16, 9)
    models.check_input("mine", (4, 4))
    with pytest.raises(UsageError, match="at least 4 x 4"):
        models.check_input("mine", (3, 4))
    with pytest.raises(UsageError, match=r"model.dropout_rate has no effect on mine; .*alexnet"):
        models.create("mine", 5, dropout_rate=0.5)
    with pytest.raises(UsageError, match=r"model.head=pooled replaces .* and mine is a Compact"):
        models.create("mine", 5, head="pooled")
    title, line = model_list.render().splitlines()[-2:]
    assert title.startswith("from ")
    assert title.endswith("test_models_own.py")
    assert line.split()[:2] == ["mine", "8"]  # no figures


def test_a_class_and_a_classifier_are_builders_too():
    models.register_model("compact", Compact)
    assert models.create("compact", 7).module == Compact(7)
    assert models.REGISTRY["compact"].defined_in == __file__
    models.register_model("wider", functools.partial(Compact, width=8))
    assert models.create("wider", 7).module.width == 8
    models.register_model("study", lambda num_outputs, **options: study_cnn(num_outputs, **options))
    model = models.create("study", 4, head="pooled")
    assert isinstance(model, models.Classifier)
    assert model.head.num_outputs == 4


def test_a_builder_without_dtype_computes_in_its_own_precision():
    models.register_model("plain", lambda num_outputs: Compact(num_outputs))
    assert models.create("plain", 3).module == Compact(3)
    with pytest.raises(UsageError, match=r"train.precision=bfloat16: .* plain has no argument dty"):
        models.create("plain", 3, dtype=jnp.bfloat16)


def test_a_name_is_registered_twice_by_the_same_file_alone():
    def again():
        def build(num_outputs, dtype=jnp.float32):
            return Compact(num_outputs, dtype)

        return build

    first, second = again(), again()
    models.register_model("twice", first)
    models.register_model("twice", second)
    assert models.REGISTRY["twice"].builder is second
    with pytest.raises(UsageError, match=r"already a model 'twice' \(in .*test_models_own.py\)"):
        models.register_model("twice", Compact)
    for name in ("lenet5", "resnet20"):
        with pytest.raises(UsageError, match=f"already a model '{name}' .of cnn_jax"):
            models.register_model(name, models.REGISTRY[name].builder)
