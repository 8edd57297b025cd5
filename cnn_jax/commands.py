"""The commands that `launch.py` hands over to.

What only some of them need, Matplotlib and Optuna above all, they import themselves: training has
made its first step before all of it were loaded.
"""

import dataclasses
import json
import logging as python_logging
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from absl import flags as absl_flags
from absl import logging

from cnn_jax import build, data, distributed, experiment, flags, run, runtime
from cnn_jax.data import batches, folder
from cnn_jax.errors import RunError, UsageError
from cnn_jax.evaluation import metrics
from cnn_jax.evaluation.evaluator import Evaluation, Evaluator
from cnn_jax.flags import Invocation
from cnn_jax.pretrained import loading
from cnn_jax.reporting import groups, progress, projector, results, summary, tables
from cnn_jax.training import checkpoints, features, loop, record


def run_command(invocation: Invocation) -> int:
    """Runs the command of a command line and returns the exit code.

    Raises:
        UsageError: the command asks for what does not exist or fit together.
        RunError: files, data or the training itself failed it.
    """
    absl_flags.FLAGS.mark_as_parsed()  # or absl's logging says that flags are not parsed yet
    logging.use_absl_handler()
    logging.set_verbosity(logging.WARNING)  # Orbax tells its life at the level below
    logging.get_absl_handler().setFormatter(python_logging.Formatter("warning: %(message)s"))
    computes = next(c.computes for c in flags.COMMANDS if c.name == invocation.command)
    if computes:
        runtime.start(invocation.platform, invocation.cpu_tuning, invocation.cpu_convolutions)
    else:
        runtime.start("cpu")
    commands: dict[str, Callable[[Invocation], int]] = {
        "train": train,
        "evaluate": evaluate,
        "predict": predict,
        "describe": describe,
        "models": list_models,
        "advise": _advise,
        "sweep": _sweep,
        "compare": _compare,
        "report": _report,
    }
    return commands[invocation.command](invocation)


def _advise(invocation: Invocation) -> int:
    from cnn_jax import advise

    return advise.run_command(invocation, _train_in)


def _sweep(invocation: Invocation) -> int:
    from cnn_jax.sweep import command

    return command.run_command(invocation)


def _compare(invocation: Invocation) -> int:
    from cnn_jax import compare

    return compare.run_command(invocation)


def _report(invocation: Invocation) -> int:
    from cnn_jax import report

    return report.run_command(invocation)


def train(invocation: Invocation) -> int:
    """Starts the run of the flags, or resumes the one in --workdir."""
    config = _experiment(invocation)
    if invocation.workdir is None:
        directory = run.new_directory(config.name)
    else:
        directory = run.RunDirectory(invocation.workdir)
    return _train_in(directory, config, invocation)


def _train_in(
    directory: run.RunDirectory, config: experiment.Experiment, invocation: Invocation
) -> int:
    """Starts or resumes one run and returns the exit code; a finished run is left as it is.

    Of the invocation it reads `quiet` and `profile` alone.
    """
    started = directory.exists()
    if started:
        config = _check_unchanged(directory, config)
        if _is_finished(directory, config):
            if not invocation.quiet:
                _say_finished(directory)
                if invocation.profile is not None:
                    print("profile    no trace: there is no step left to make")
            return 0
    loaded = data.load(config.dataset, test=False)
    if started:
        _check_same_data(directory, loaded.info)
    weights, about_weights = _weights(config, directory)
    assembly = _assemble(config, loaded.info, about_weights)
    if weights is not None:
        loading.merge(assembly.shapes, weights, config.transfer.include)
    trainer = loop.Trainer(
        config,
        loaded,
        assembly,
        weights,
        directory,
        invocation.quiet,
        profile_steps=invocation.profile,
    )
    directory.create()
    with directory.locked():
        _say(invocation, f"run        {config.name}: {config.model.name} on {loaded.info.name}")
        _say(invocation, f"devices    {runtime.describe_devices()}")
        _say(invocation, f"tuning     {runtime.describe_tuning()}")
        _say(invocation, f"results    {run.shown(directory.path)}")
        sizes = ", ".join(f"{name} {size:,}" for name, size in loaded.info.sizes.items())
        _say(invocation, f"images     {sizes}; {loaded.info.image_shape} each")
        for note in loaded.info.notes:
            _say(invocation, f"           {note}")
        if about_weights is not None:
            _say(
                invocation,
                f"weights    {about_weights['source']}; images scaled as {assembly.normalize} "
                f"({about_weights['preprocessing_reason']})",
            )
        for line in _transfer_report(config, assembly):
            _say(invocation, line)
        record.begin(trainer, about_weights)
        began = time.monotonic()
        try:
            history = trainer.run()
            record.finish(trainer, history)
            if distributed.is_primary():
                _say_result(directory, history, time.monotonic() - began, invocation)
        except loop.Interrupted as stop:
            record.stop(trainer, stop)
            print(f"stopped at step {stop.step} of {trainer.total_steps}; the state is saved")
            print(f"go on with: {run.command_line('train', directory.path)}")
            return 128 + stop.signal_number
        except BaseException as error:
            record.fail(directory, error)
            raise
    return 0


def _weights(
    config: experiment.Experiment, directory: run.RunDirectory
) -> tuple[loading.Weights | None, dict[str, Any] | None]:
    """Returns (weights to start from, what weights.json says of them), where there are any.

    A run that has a checkpoint has no more need of them.
    """
    if config.transfer.weights is None:
        return None, None
    about = directory.read("weights")
    if about is not None and checkpoints.best_step(directory.checkpoints) is not None:
        return None, about
    weights = loading.load(config.transfer.weights, config.model.name, config.transfer.include)
    about = {
        "source": weights.source,
        "sha256": weights.sha256,
        "preprocessing": weights.preprocessing,
        "preprocessing_reason": weights.preprocessing_reason,
        "options": dict(weights.options),
    }
    return weights, about


def _assemble(
    config: experiment.Experiment, info: data.DataInfo, about_weights: dict[str, Any] | None
) -> build.Assembly:
    about = about_weights or {}
    return build.assemble(config, info, about.get("preprocessing"), about.get("options"))


def _transfer_report(config: experiment.Experiment, assembly: build.Assembly) -> list[str]:
    """Returns what is trained and what it costs, where not everything is trained alike."""
    if config.transfer.freeze == "none" and not config.transfer.lr_scale:
        return []
    table = groups.render(groups.rows(assembly, config))
    return [table, *groups.step_costs(assembly, features.cut(config, assembly))]


def _say(invocation: Invocation, line: str) -> None:
    progress.speaker(invocation.quiet)(line)


def _experiment(invocation: Invocation) -> experiment.Experiment:
    """Returns the experiment of preset and flags; without preset, that of the run in --workdir."""
    if invocation.workdir is not None and invocation.config is None:
        directory = run.RunDirectory(invocation.workdir)
        if directory.exists():
            return experiment.replace(directory.config(), invocation.overrides)
    return flags.resolve(invocation)


def _check_unchanged(
    directory: run.RunDirectory, new: experiment.Experiment
) -> experiment.Experiment:
    """Returns the experiment to resume with.

    Raises:
        UsageError: it differs from the one that was started in what is computed.
    """
    old = directory.config()
    resumable = {path for path, field in experiment.fields() if field.metadata["resumable"]}
    changed = {
        path: values
        for path, values in experiment.difference(old, new).items()
        if path not in resumable and path != "name"
    }
    epochs = changed.pop("train.epochs", None)
    if epochs is not None and epochs[1] < epochs[0]:
        changed["train.epochs"] = epochs
    if changed:
        lines = "; ".join(
            f"--{path} was {_text(a)} and is now {_text(b)}" for path, (a, b) in changed.items()
        )
        raise UsageError(
            f"the run in {run.shown(directory.path)} was started with another configuration: "
            f"{lines}. Leave these flags out to resume it, or give another --workdir"
        )
    if epochs is not None and new.optimizer.schedule != "constant":
        logging.warning(
            "--train.epochs goes from %d to %d: the %s schedule depends on it, so the learning "
            "rate jumps at the resumed step and the run is not the one of %d epochs from the start",
            *epochs,
            new.optimizer.schedule,
            epochs[1],
        )
    return experiment.replace(new, {"name": old.name})


def _text(value: Any) -> str:
    return "none" if value is None else str(value)


def _check_same_data(directory: run.RunDirectory, info: data.DataInfo) -> None:
    before = directory.read("data")
    if before is not None and before["digest"] != info.digest:
        raise RunError(
            f"the data are not those that the run in {run.shown(directory.path)} was started on "
            f"({info.name} {info.version}); give it the same data, or another --workdir"
        )


def _is_finished(directory: run.RunDirectory, config: experiment.Experiment) -> bool:
    history = directory.read("history", [])
    return directory.status() == "finished" and len(history) >= config.train.epochs


def _say_finished(directory: run.RunDirectory) -> None:
    epochs = len(directory.read("history", []))
    print(f"the run in {run.shown(directory.path)} is finished ({epochs} epochs)")
    print(f"evaluate it: {run.command_line('evaluate', directory.path)}")
    print(
        f"train on:    {run.command_line('train', directory.path, f'--train.epochs={epochs + 5}')}"
    )


def _say_result(
    directory: run.RunDirectory,
    history: list[dict[str, Any]],
    seconds: float,
    invocation: Invocation,
) -> None:
    """Says what training came to, with the commands to go on with."""
    best = max(history, key=lambda record: record["validation_accuracy"])
    last = history[-1]
    _say(
        invocation,
        f"validation accuracy {last['validation_accuracy']:.4f} after {len(history)} epochs, "
        f"best {best['validation_accuracy']:.4f} after {best['epoch']}; {seconds:.0f} s",
    )
    probe = directory.read("result").get("probe")
    if probe is not None:
        _say(invocation, f"the probe on the same frozen features had {probe['accuracy']:.4f}")
    _say(invocation, f"figures    {run.shown(directory.figures)}/")
    _say(invocation, f"evaluate   {run.command_line('evaluate', directory.path)}")
    _say(invocation, f"curves     tensorboard --logdir {run.shown(directory.path)}")
    if (directory.path / projector.FOLDER).exists():
        _say(invocation, "           and, in its tab PROJECTOR, images by their features")


def _load_run(invocation: Invocation) -> tuple[run.RunDirectory, experiment.Experiment]:
    """Returns the run in --workdir with the flags that may change given on top."""
    if invocation.workdir is None:
        raise UsageError(f"{invocation.command} needs --workdir=DIR, the directory of a run")
    directory = run.RunDirectory(invocation.workdir)
    directory.check_exists()
    return directory, _check_unchanged(
        directory, experiment.replace(directory.config(), invocation.overrides)
    )


def _restore(
    invocation: Invocation,
    directory: run.RunDirectory,
    config: experiment.Experiment,
    info: data.DataInfo,
) -> tuple[build.Assembly, Any, int]:
    """Returns (assembly, variables, step) of the checkpoint that was asked for."""
    assembly = _assemble(config, info, directory.read("weights"))
    variables, step = checkpoints.load_variables(directory.checkpoints, str(invocation.checkpoint))
    whole = distributed.replicated(distributed.make_mesh())
    return assembly, distributed.put(variables, whole), step


def evaluate(invocation: Invocation) -> int:
    """Measures a checkpoint on every example of a split."""
    from cnn_jax.reporting import figures

    directory, config = _load_run(invocation)
    loaded = data.load(config.dataset)
    _check_same_data(directory, loaded.info)
    name = invocation.split or ("test" if "test" in loaded.splits else "validation")
    if name not in loaded.splits:
        raise UsageError(f"--split={name}: {loaded.info.name} has {', '.join(loaded.splits)} only")
    if name != (invocation.split or "test"):
        _say(invocation, f"{loaded.info.name} has no test split: this is the validation split")
    assembly, variables, step = _restore(invocation, directory, config, loaded.info)
    mesh = distributed.make_mesh()
    split = loaded.splits[name]
    evaluator = Evaluator(assembly, config, mesh, views=invocation.views)
    found = evaluator(variables, batches.Feed(split, mesh, config.dataset.resident_limit))
    if not distributed.is_primary():
        return 0
    record = _evaluation_record(found, loaded.info, step)
    if invocation.views != "one":
        name += f"_{invocation.views}"
    evaluations = directory.read("result", {}).get("evaluation", {})
    directory.update_result("evaluation", {**evaluations, name: record})
    saved = {
        f"{name}_confusion_matrix": figures.confusion_matrix(
            found.confusion, loaded.info.class_names
        ),
        f"{name}_predictions": results.predictions_figure(found, split, loaded.info),
    }
    history = directory.read("history", [])
    if history:
        saved["training_curves"] = figures.training_curves(history)
    for stem, figure in saved.items():
        figures.save(figure, directory.figures / f"{stem}.png")
    print(f"{name} accuracy {found.accuracy:.4f}, loss {found.loss:.4f}", end=" ")
    print(f"on {found.examples:,} examples (checkpoint of step {step})")
    rows = [
        [class_name, f"{int(found.confusion[i].sum()):,}", f"{record['per_class_accuracy'][i]:.4f}"]
        if record["per_class_accuracy"][i] is not None
        else [class_name, "0", "-"]
        for i, class_name in enumerate(loaded.info.class_names)
    ]
    print(tables.table(rows, ["class", "examples", "accuracy"]))
    print(f"written    {run.shown(directory.path / 'result.json')}")
    for stem in saved:
        print(f"figure     {run.shown(directory.figures / stem)}.png")
    print(f"predict    {run.command_line('predict', directory.path, 'IMAGE...')}")
    return 0


def _evaluation_record(found: Evaluation, info: data.DataInfo, step: int) -> dict[str, Any]:
    counts = found.confusion.sum(axis=1)
    right = np.diag(found.confusion)
    return {
        "accuracy": found.accuracy,
        "loss": found.loss,
        "examples": found.examples,
        "checkpoint_step": step,
        "class_names": list(info.class_names),
        "per_class_accuracy": [
            float(r / n) if n else None for r, n in zip(right, counts, strict=True)
        ],
        "confusion_matrix": found.confusion.tolist(),
    }


def predict(invocation: Invocation) -> int:
    """Classifies image files."""
    if invocation.format not in ("table", "json"):
        raise UsageError(f"--format={invocation.format}: predict prints table or json")
    # Here it says what to do with a file of the command line, not with one of the data set.
    overrides = dict(invocation.overrides)
    on_error = overrides.pop("dataset.on_error", "refuse")
    directory, config = _load_run(dataclasses.replace(invocation, overrides=overrides))
    described = directory.read("data")
    if described is None:
        raise UsageError(f"the run in {run.shown(directory.path)} has not begun to train yet")
    info = data.DataInfo.from_dict(described)
    height, width, channels = info.image_shape
    images, paths, failures = [], [], []
    for path in invocation.arguments:
        try:
            images.append(folder.read_image(path, (height, width), channels))
            paths.append(path)
        except folder.ImageError as error:
            if on_error == "refuse":
                raise
            failures.append({"image": path, "error": str(error)})
            logging.warning("skipped: %s", error)
    predictions: list[dict[str, Any]] = []
    step = None
    if images:
        assembly, variables, step = _restore(invocation, directory, config, info)

        @jax.jit
        def probabilities(variables: Any, images: jax.Array) -> jax.Array:
            logits: Any = assembly.model.apply(variables, assembly.preprocess(images, None))
            return metrics.probabilities(logits)

        size = min(64, len(images))
        for start in range(0, len(images), size):
            part = np.stack(images[start : start + size])
            fill = np.zeros((size - len(part), *part.shape[1:]), np.uint8)
            p = np.asarray(probabilities(variables, np.concatenate([part, fill])))[: len(part)]
            for path, row in zip(paths[start : start + size], p, strict=True):
                order = np.argsort(-row, kind="stable")
                predictions.append(
                    {
                        "image": path,
                        "class": info.class_names[order[0]],
                        "probabilities": {info.class_names[i]: float(row[i]) for i in order},
                    }
                )
    if invocation.format == "json":
        print(
            json.dumps({"checkpoint_step": step, "predictions": predictions, "skipped": failures})
        )
    else:
        rows = [
            [
                prediction["image"],
                *(
                    f"{name} {probability:.3f}"
                    for name, probability in list(prediction["probabilities"].items())[:3]
                ),
            ]
            for prediction in predictions
        ]
        width_in_classes = min(3, len(info.class_names))
        print(tables.table(rows, ["image", "first", "second", "third"][: 1 + width_in_classes]))
    return 1 if failures and not predictions else 0


def list_models(invocation: Invocation) -> int:
    """Prints the registered models and what to do with one."""
    from cnn_jax.reporting import zoo

    flags.refuse_settings(invocation, "python launch.py describe --model.name=NAME shows one model")
    print(zoo.render())
    print("\ndescribe   python launch.py describe --model.name=NAME --output=NAME.png")
    print("train      python launch.py --config=cifar10_cnn --model.name=NAME --workdir=DIR")
    return 0


# Networks with more layers are printed by their blocks.
_MOST_LAYERS = 40


def describe(invocation: Invocation) -> int:
    """Prints configuration, layers, data, steps and memory without training."""
    from cnn_jax.reporting import architecture, figures

    directory = run.RunDirectory(invocation.workdir or ".")
    if invocation.workdir is not None and not (invocation.config or invocation.overrides):
        directory.check_exists()  # nothing else says what to describe
    config = _experiment(invocation)
    loaded = data.load(config.dataset)
    info = loaded.info
    assembly = _assemble(config, info, _weights(config, directory)[1])
    model = assembly.model
    mesh = distributed.make_mesh()
    distributed.check_batch_size("dataset.batch_size", config.dataset.batch_size, mesh)
    print(experiment.to_json(config))
    print(f"{config.model.name} on images of {info.image_shape} (height, width, channels)")
    rows = summary.layer_table(model, info.image_shape)
    blocks = architecture.blocks(rows, model.stage_names)
    if len(rows) > _MOST_LAYERS and not invocation.layers:
        print(architecture.render(blocks))
        print(f"--layers prints all {len(rows)} layers")
    else:
        print(summary.render(rows))
    if invocation.output is not None:
        title = f"{config.model.name} on {summary.by(info.image_shape)}"
        figures.save(architecture.draw(title, info.image_shape, blocks), invocation.output)
        print(f"picture    {invocation.output}")
    for line in _transfer_report(config, assembly):
        print(line)
    steps = batches.steps_per_epoch(len(loaded.splits["train"].labels), config.dataset.batch_size)
    print(f"\ndata       {info.name} {info.version}, classes: {', '.join(info.class_names)}")
    for name, size in info.sizes.items():
        print(f"           {name}: {size:,} images")
    for note in info.notes:
        print(f"           {note}")
    print(f"steps      {steps:,} an epoch, {steps * config.train.epochs:,} in all")
    memory = summary.memory_estimate(
        model,
        info.image_shape,
        config.dataset.batch_size,
        groups.slots(config.optimizer),
        2 if config.train.precision == "bfloat16" else 4,
    )
    memory["data"] = sum(
        split.images.nbytes
        for split in loaded.splits.values()
        if split.images.nbytes <= config.dataset.resident_limit * 2**30
    )
    memory["total"] += memory["data"]
    parts = ", ".join(
        f"{name.replace('_', ' ')} {size / 2**20:,.1f}"
        for name, size in memory.items()
        if size and name != "total"
    )
    print(f"memory     about {memory['total'] / 2**20:,.0f} MiB in a training step: {parts}")
    print(f"devices    {runtime.describe_devices()}")
    return 0
