"""Keeps the settings and curves of a run at Weights & Biases, of any preset or from Python.

    cnn-jax --config=cifar10_cnn --code=examples/track_wandb.py --workdir=runs/cifar10

Without an account: WANDB_MODE=offline. In Python: cnn_jax.train(..., callbacks=[ToWandb()]).
"""

import wandb  # pyright: ignore[reportMissingImports]


class ToWandb:  # noqa: D101
    def log(self, point):  # noqa: D102
        if wandb.run is None:
            wandb.init(project="cnn_jax", name=point.workdir, config=point.settings)
        wandb.log({**point.metrics, "epoch": point.epoch}, step=point.step)
        if "result/steps" in point.metrics:
            wandb.finish()


CALLBACKS = [ToWandb()]
