"""Verdicts of a network as operations of JAX, so that they are part of an exported graph.

`trust.verdicts.Judge` computes the same in NumPy with 64 bits; here it is 32.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnn_jax.trust import sets, verdicts

_BELOW_ONE = ("max_probability", "margin")


def judge(
    found: verdicts.Judge, logits: jax.Array, features: jax.Array, middle: jax.Array
) -> dict[str, jax.Array]:
    """Judges images.

    Args:
        found: the judge.
        logits: float32 [n, outputs].
        features: float32 [n, channels], what the layer takes that computes the logits.
        middle: float32 [n, channels], the output of the middle convolution, averaged; [n, 0]: none.

    Returns:
        `probabilities` float32 [n, classes], calibrated; `answers` bool [n]; `p_values` float32
        [n]; and `sets` bool [n, classes].
    """
    if logits.shape[1] == 1:
        logits = jnp.concatenate([jnp.zeros_like(logits), logits], axis=1)
    scaling = found.scaling
    weights, offsets = (jnp.asarray(x, jnp.float32) for x in (scaling.weights, scaling.offsets))
    logs: Any = jax.nn.log_softmax(logits * weights + offsets)
    p = jnp.exp(logs)
    own = found.score
    limits = np.asarray(found.thresholds, np.float64) - (1 if own in _BELOW_ONE else 0)
    needed = jnp.asarray(limits.astype(np.float32))[jnp.argmax(logs, axis=1)]
    answers = score(own, logits, logs) >= needed
    said = {"probabilities": p}
    if found.bank is None or not len(found.held_out):
        p_values = jnp.ones_like(logs[:, 0])
    else:
        above = _above(found, logits, features, middle)
        p_values = (1 + above).astype(jnp.float32) / (1 + len(found.held_out))
        # The p-value of the fewest strange ones, counted: 32 bits may round the share itself.
        most = np.floor(found.false_alarms * (1 + len(found.held_out)) + 1e-9) - 1
        answers = answers & (above > int(most))
    said |= {"answers": answers, "p_values": p_values}
    late = 1 - p if found.made.method == "lac" else _raps(p, uniforms(logits))
    return said | {"sets": late <= jnp.asarray(found.made.quantiles, jnp.float32)}


def _raps(p: jax.Array, uniform: jax.Array) -> jax.Array:
    """Returns `sets.raps`, float32 [n, classes]."""
    classes = p.shape[1]
    ordered, order = jax.lax.top_k(p, classes)
    before = jnp.cumsum(ordered, axis=1) - ordered
    late = sets.PENALTY * np.maximum(np.arange(1, classes + 1) - sets.FREE, 0)
    scores = before + uniform[:, None] * ordered + jnp.asarray(late, jnp.float32)
    place = jax.lax.top_k(-order.astype(jnp.float32), classes)[1]  # of each class in the order
    return jnp.take_along_axis(scores, place, axis=1)


def uniforms(logits: jax.Array) -> jax.Array:
    """Returns `sets.uniforms`, float32 [n]."""
    prime, number = sets.PRIME, min(len(sets.WEIGHTS), logits.shape[1])
    largest = jax.lax.top_k(logits, number)[0]
    whole = jnp.floor(100 * jnp.clip(largest, -sets.LIMIT, sets.LIMIT) + 0.5).astype(jnp.int32)
    above = int(100 * sets.LIMIT // prime + 1) * prime  # a rest of what is below 0 would be too

    def rest(x: jax.Array) -> jax.Array:  # jax2onnx does not convert rests of integers
        return x - jax.lax.div(x, jnp.full_like(x, prime)) * prime

    weighted = rest(whole + above) * jnp.array(sets.WEIGHTS[:number], jnp.int32)
    hashed = rest(jnp.sum(rest(weighted), axis=1))
    return (hashed.astype(jnp.float32) + 0.5) / prime


def _above(
    found: verdicts.Judge, logits: jax.Array, features: jax.Array, middle: jax.Array
) -> jax.Array:
    """Returns how many of the held-out images are at least as strange, int32 [n]."""
    assert found.bank is not None
    parts = {
        "energy": lambda: -_energy(logits),
        "neighbours": lambda: _distances(found.bank, features),
        "middle": lambda: _surprise(found.bank, middle),
    }
    if found.gate == "together":
        away = [(parts[name]() - m) / reach for name, (m, reach) in found.spread.items()]
        above = jnp.maximum(jnp.stack(away), 0)
        strange = jnp.sum(above * above, axis=0)  # of a square jax2onnx makes doubles
    else:
        strange = parts[found.gate]()
    held = jnp.asarray(found.held_out, jnp.float32)
    return jnp.sum((held[None, :] >= strange[:, None]).astype(jnp.int32), axis=1)


def _distances(bank: Any, features: jax.Array) -> jax.Array:
    largest = jnp.max(jnp.abs(features), axis=1, keepdims=True)
    features = features / jnp.maximum(largest, 1e-30)
    length = jnp.sqrt(jnp.sum(features * features, axis=1, keepdims=True))
    known = jnp.asarray(bank.features.astype(np.float32).T)
    near = (features / jnp.maximum(length, 1e-30)) @ known
    kth = jax.lax.top_k(near, bank.neighbours)[0][:, -1]
    return jnp.sqrt(jnp.maximum(2 - 2 * kth, 0.0))


def _surprise(bank: Any, middle: jax.Array) -> jax.Array:
    mean, inverse = bank.middle
    away = middle - jnp.asarray(mean)
    return jnp.sum((away @ jnp.asarray(inverse)) * away, axis=1)


def score(name: str, logits: jax.Array, logs: jax.Array) -> jax.Array:
    """Returns a score of `trust.scores` by its name, float32 [n].

    Of those that end at 1 it is the score minus 1: in 32 bits 1 - 1e-8 would be 1, and a network
    that is that sure of everything would answer everything.
    """
    p = jnp.exp(logs)
    rest = p @ (1 - jnp.eye(p.shape[1], dtype=p.dtype))  # 1 - p, to the last digit where p is 1
    if name == "max_probability":
        return -jnp.min(rest, axis=1)
    if name == "margin":
        return -jnp.min(rest, axis=1) - jax.lax.top_k(p, 2)[0][:, 1]
    if name == "negative_entropy":
        sure = jnp.log1p(-jnp.minimum(rest, 0.5))
        return jnp.sum(p * jnp.where(rest < 0.5, sure, jnp.maximum(logs, -1e30)), axis=1)
    if name == "gen":
        return -jnp.sum((p * rest) ** 0.1, axis=1)
    if name == "energy":
        return _energy(logits)
    if name == "max_logit":
        return jnp.max(logits, axis=1)
    power = int(name.removeprefix("p_norm_"))
    centred = logits - jnp.mean(logits, axis=1, keepdims=True)
    centred = centred / jnp.maximum(jnp.max(jnp.abs(centred), axis=1, keepdims=True), 1e-30)
    exponent = jnp.full_like(centred, power)  # of an integral one jax2onnx makes doubles
    powers = jax.lax.pow(jnp.abs(centred), exponent)
    norms = jnp.sum(powers, axis=1) ** (1 / power)
    return jnp.max(centred, axis=1) / jnp.maximum(norms, 1e-30)


def _energy(logits: jax.Array) -> jax.Array:
    if logits.shape[1] == 2:
        logits = logits - jnp.mean(logits, axis=1, keepdims=True)
    largest = jnp.max(logits, axis=1)
    return largest + jnp.log(jnp.sum(jnp.exp(logits - largest[:, None]), axis=1))
