"""The state that a training run carries from step to step."""

from collections.abc import Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding

from cnn_jax import cpu
from cnn_jax.evaluation.metrics import Sums
from cnn_jax.models.classifier import Stages
from cnn_jax.pretrained.weights import Weights, merge
from cnn_jax.training import freezing, optimizers
from cnn_jax.training.freezing import Phase
from cnn_jax.training.plan import Plan
from cnn_jax.trees import flatten, unflatten

Tree = Any

# Training images that parameters may start from.
_SAMPLE = 5000


class TrainState(flax.struct.PyTreeNode):
    """Everything that a checkpoint holds, so that a resumed run goes on to the same bits.

    Attributes:
        step: int32 [], updates made.
        key: the random key of the run; a step's key is folded from it and the step's number.
        params: float32 parameters.
        batch_stats: running statistics of batch normalisation, {} where there is none.
        opt_state: the state of the optimizer.
        ema_params: the moving average of the trainable parameters, flat by path, or None.
        interval: sums since the last point of the training curves.
        epoch: sums since the start of the epoch.
        gradient_norm: float32 [], the global norm of the last gradient.
        nonfinite_step: int32 [], the first step whose loss or gradient was not finite, or -1.
        collections: the other variables of a user's own module, by collection.
        ema_batch_stats: the moving average of batch_stats, which belongs to that of the parameters;
            None where there is none, and in runs that began before it was kept.
    """

    step: jax.Array
    key: jax.Array
    params: Tree
    batch_stats: Tree
    opt_state: optax.OptState
    ema_params: Tree | None
    interval: Sums
    epoch: Sums
    gradient_norm: jax.Array
    nonfinite_step: jax.Array
    collections: Mapping[str, Tree] = flax.struct.field(default_factory=dict)
    ema_batch_stats: Tree | None = None

    def variables(self) -> dict[str, Tree]:
        """Returns the variables to evaluate with: the moving averages where there are any."""
        params, stats = self.params, self.ema_batch_stats
        if self.ema_params is not None:
            params = unflatten({**flatten(params), **self.ema_params})
        stats = self.batch_stats if stats is None else stats
        return {"params": params, "batch_stats": stats, **self.collections}


def create(
    variables: Mapping[str, Tree],
    key: jax.Array,
    optimizer: optax.GradientTransformation,
    phase: Phase,
    use_ema: bool,
) -> TrainState:
    """Returns the state before the first step; a pure function of its arguments.

    Args:
        variables: params and, where the model has them, batch_stats and other collections.
        key: the random key of the run.
        optimizer: the optimizer of the trainable parameters.
        phase: which parameters are trainable.
        use_ema: whether to keep a moving average of the trainable parameters, and of the
            statistics of batch normalisation.
    """
    trainable, _ = freezing.split(variables["params"], phase)
    stats = variables.get("batch_stats", {})
    known = ("params", "batch_stats", "intermediates")
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        key=key,
        params=variables["params"],
        batch_stats=stats,
        opt_state=optimizer.init(trainable),
        ema_params=jax.tree.map(jnp.copy, trainable) if use_ema else None,
        interval=Sums.zero(),
        epoch=Sums.zero(),
        gradient_norm=jnp.zeros((), jnp.float32),
        nonfinite_step=jnp.full((), -1, jnp.int32),
        collections={name: tree for name, tree in variables.items() if name not in known},
        ema_batch_stats=jax.tree.map(jnp.copy, stats) if use_ema else None,
    )


def new_state(plan: Plan, variables: Any, key: jax.Array, phase: int = 0) -> TrainState:
    """Returns a fresh state whose optimizer covers the trainable parameters of a phase."""
    use_ema = plan.optimizer.ema_decay is not None
    return create(variables, key, plan.make_optimizer(phase), plan.phases[phase], use_ema)


def abstract_state(plan: Plan, meta: Mapping[str, Any]) -> Any:
    """Returns the shapes of the state that was saved with `meta`, to restore a checkpoint with."""
    key = jax.eval_shape(lambda: jax.random.key(0))
    state: Any = jax.eval_shape(
        lambda variables, key: new_state(plan, variables, key, meta["phase"]),
        plan.assembly.shapes,
        key,
    )
    # A run that began without averaged statistics goes on without them, to the same bits.
    return state if meta.get("averages_statistics") else state.replace(ema_batch_stats=None)


def initial_state(
    plan: Plan,
    seed: int,
    sharding: NamedSharding,
    weights: Weights | None = None,
    include: str | None = None,
    images: np.ndarray | None = None,
) -> TrainState:
    """Returns the state before the first step, on the devices.

    Parameters and batch statistics that no weights replace start as the model initialises them.

    Args:
        plan: the plan of the run.
        seed: of the parameters and of the run's random key.
        sharding: where the state goes.
        weights: pretrained weights to start from.
        include: the pattern that selects among them; None: the backbone.
        images: `[n, height, width, channels]` as stored, the training images, for parameters that
            start from the first of them; None: they start as others do.
    """
    assembly = plan.assembly
    init_key, run_key = jax.random.split(jax.random.key(seed))
    loaded: dict[str, Any] = {}
    backbone = getattr(assembly.model, "backbone", None)
    own = getattr(type(backbone), "initial_values", Stages.initial_values)
    if images is not None and isinstance(backbone, Stages) and own is not Stages.initial_values:
        scaled = np.asarray(assembly.preprocess(jnp.asarray(images[:_SAMPLE]), None), np.float32)
        values = backbone.initial_values(scaled)
        loaded = {f"params/backbone/{path}": value for path, value in values.items()}
    if weights is not None:
        flat = flatten(assembly.shapes)
        merged = flatten(merge(assembly.shapes, weights, include))
        loaded |= {path: leaf for path, leaf in merged.items() if leaf is not flat[path]}

    def create(loaded: dict[str, Any], init_key: jax.Array, run_key: jax.Array) -> TrainState:
        variables = assembly.model.init(init_key, jnp.zeros((1, *assembly.image_shape)))
        variables = unflatten({**flatten(variables), **loaded})
        return new_state(plan, variables, run_key)

    options = cpu.compiler_options(once=True)
    return jax.jit(create, out_shardings=sharding, compiler_options=options)(
        loaded, init_key, run_key
    )


def enter_phase(plan: Plan, state: TrainState, phase: int, sharding: NamedSharding) -> TrainState:
    """Returns the state with the parameters of a new phase trainable.

    Parameters that were trained before keep their optimizer state; those set free start afresh.
    """
    optimizer, now = plan.make_optimizer(phase), plan.phases[phase]

    def enter(old: TrainState) -> TrainState:
        trainable, _ = freezing.split(old.params, now)
        ema = None if old.ema_params is None else {**trainable, **old.ema_params}
        opt_state = optimizers.carry_over(old.opt_state, optimizer.init(trainable))
        return old.replace(opt_state=opt_state, ema_params=ema)

    return jax.jit(enter, out_shardings=sharding)(state)
