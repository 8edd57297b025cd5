"""A model card of a run: README.md in the form of the Hugging Face hub.

Whatever is not in the files of the run is said not to be known. Names and places of files are left
out: a card goes to other people.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from cnn_jax import text
from cnn_jax.data import DataInfo
from cnn_jax.errors import RunError
from cnn_jax.experiment import Experiment
from cnn_jax.export import about, card_sections
from cnn_jax.export.facts import Facts
from cnn_jax.runs import evaluations
from cnn_jax.runs.directory import RunDirectory
from cnn_jax.runs.trained import Run
from cnn_jax.runs.untrained import Untrained

_LIBRARIES = {"stablehlo": "jax", "onnx": "onnx", "keras": "keras"}


def of_run(run: Run, record: Mapping[str, Any]) -> str:
    """Returns the card of an export.

    Args:
        run: the run.
        record: what export.json says.
    """
    directory = None if run.directory is None else RunDirectory(run.directory)
    trust = None if run.trusted is None else run.trusted.record
    facts = _facts(
        run.experiment, run.data_info, run.step, run.history, directory, trust, about.origin(run)
    )
    trained = not isinstance(run, Untrained)
    return write(dataclasses.replace(facts, asked=run.checkpoint, trained=trained), record)


def of_directory(directory: RunDirectory) -> str:
    """Returns the card of the run in a directory, of its best checkpoint.

    Raises:
        UsageError: there is no run.
        RunError: a file of it cannot be read.
    """
    directory.check_exists()
    config, described = directory.config(), directory.read("data")
    if described is None:
        raise RunError(
            f"{text.shown(directory.path / 'data.json')}, which says what the data are, is "
            "damaged or not there; put the file back"
        )
    history = directory.read("history", [])
    step = evaluations.best_step(history)
    trust = directory.read("trust")
    if trust is not None and trust["network"]["step"] != step:
        trust = None
    origin = about.origin_of(config, directory.about_weights(config))
    info = DataInfo.from_dict(described)
    return write(_facts(config, info, step, history, directory, trust, origin))


def _facts(
    config: Experiment,
    info: DataInfo,
    step: int | None,
    history: list[dict[str, Any]],
    directory: RunDirectory | None,
    trust: Mapping[str, Any] | None,
    origin: Mapping[str, Any] | None,
) -> Facts:
    result = {} if directory is None else directory.read("result", {})
    splits = {*result.get("evaluation", {}), *result.get("other_checkpoints", {})}
    found = {split: evaluations.of_step(result, split, step) for split in sorted(splits)}
    starts = [] if directory is None else directory.read("environment", [])
    return Facts(
        config,
        info,
        step,
        history,
        result.get("training", {}),
        {split: record for split, record in found.items() if record is not None},
        starts if isinstance(starts, list) else [starts],
        trust,
        origin,
    )


def write(facts: Facts, record: Mapping[str, Any] | None = None) -> str:
    """Returns a card.

    Args:
        facts: what is known.
        record: what export.json says, where the card is beside an export.
    """
    facts = dataclasses.replace(facts, export=record)
    parts = [_front_matter(facts), *card_sections.of(facts)]
    return text.printable("\n\n".join(parts)) + "\n"


def _front_matter(facts: Facts) -> str:
    """Returns the metadata, YAML whose values are written as JSON, which YAML knows."""
    model, record = facts.config.model.name, facts.export
    data = card_sections.name_of_data(facts)
    found: dict[str, Any] = {
        "license": "unknown",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "convolutional-neural-network", "cnn-jax", model],
    }
    if record is not None:
        listed = {each["name"] for each in record.get("files", [])}
        timm = "timm" if "config.json" in listed else None
        library = _LIBRARIES.get(record["format"], timm)
        found |= {} if library is None else {"library_name": library}
    results = [
        {
            "task": {"type": "image-classification", "name": "Image Classification"},
            "dataset": {"name": data, "type": text.file_name(data, "data"), "split": split},
            "metrics": [
                {"type": kind, "value": round(each[kind], 6), "name": kind.replace("_", " ")}
                for kind in ("accuracy", "balanced_accuracy", "macro_f1", "auc")
                if isinstance(each.get(kind), float)
            ],
        }
        for split, each in facts.evaluations.items()
    ]
    if results:
        found["metrics"] = ["accuracy"]
        found["model-index"] = [{"name": f"{model} on {data}", "results": results}]
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in found.items()]
    return "\n".join(["---", *lines, "---"])
