"""Trains four learning rates at once: `jax.vmap` over the pure train step."""

import jax
import jax.numpy as jnp

import cnn_jax

data = cnn_jax.from_experiment(cnn_jax.Dataset(name="digits"))

# XLA's own convolutions take the extra axis; oneDNN's calls would run one after another.
with cnn_jax.cpu.using("xla"):
    state, step = cnn_jax.create(data, model="mlp", batch_size=64)
    rates = jnp.array([1e-4, 1e-3, 1e-2, 1e-1])
    hyper = step.hyperparameters._replace(learning_rate=rates)
    axes = jax.tree.map(lambda _: None, hyper)._replace(learning_rate=0)
    step_all = jax.jit(jax.vmap(step.pure, in_axes=(0, None, axes)))
    states = jax.tree.map(lambda leaf: jnp.stack([leaf] * len(rates)), state)

    for batch in cnn_jax.batches(data.train, 64, seed=0, epochs=3):
        states = step_all(states, batch, hyper)

    for i, rate in enumerate(rates):
        one = jax.tree.map(lambda leaf, i=i: leaf[i], states)
        found = step.evaluate(one, data.validation)
        print(f"learning rate {rate:.0e}: validation accuracy {found.accuracy:.3f}")
