"""Keeps the settings and curves of a run in Trackio, of any preset or from Python.

    cnn-jax --config=cifar10_cnn --code=examples/track_trackio.py --workdir=runs/cifar10
    trackio show --project=cnn_jax

In Python: cnn_jax.train(data, model="resnet20", callbacks=[ToTrackio()]).
"""

import trackio  # pyright: ignore[reportMissingImports]


class ToTrackio:  # noqa: D101
    run = None

    def log(self, point):  # noqa: D102
        if self.run is None:
            self.run = trackio.init(project="cnn_jax", name=point.workdir, config=point.settings)
        trackio.log(point.metrics, step=point.step)
        if "result/steps" in point.metrics:
            trackio.finish()
            self.run = None


CALLBACKS = [ToTrackio()]
