"""Keeps the settings and curves of a run in MLflow, of any preset or from Python.

    cnn-jax --config=cifar10_cnn --code=examples/track_mlflow.py --workdir=runs/cifar10
    mlflow ui

In Python: cnn_jax.train(data, model="resnet20", callbacks=[ToMLflow()]).
"""

import mlflow  # pyright: ignore[reportMissingImports]


class ToMLflow:  # noqa: D101
    def log(self, point):  # noqa: D102
        if mlflow.active_run() is None:
            mlflow.start_run(run_name=point.workdir)
            mlflow.log_params(point.settings)
        mlflow.log_metrics(point.metrics, step=point.step)
        if "result/steps" in point.metrics:
            mlflow.end_run()


CALLBACKS = [ToMLflow()]
