"""The sections of a model card."""

import shlex
from collections.abc import Sequence
from typing import Any

from cnn_jax import text
from cnn_jax.data import DataInfo
from cnn_jax.export import card_results
from cnn_jax.export.facts import MOST_CLASSES, UNKNOWN, Facts, plain
from cnn_jax.reporting import evaluations, private, tables
from cnn_jax.trust import tables as trust_tables

_FITTED = {
    "squash": "squashed",
    "crop": "scaled and cropped in the middle",
    "pad": "padded with black",
    "pad_mean": "padded with their mean colour",
}


def name_of_data(facts: Facts) -> str:
    """Returns the name of the data set, without places."""
    return plain(str(private.value("name", facts.info.name))) or "data without a name"


def of(facts: Facts) -> list[str]:
    """Returns the sections of a card, in Markdown."""
    return [
        _title(facts),
        *_use(facts),
        *_data(facts),
        *_training(facts),
        *card_results.of(facts),
        *_trust(facts),
        *_shift(facts),
        *_groups(facts),
        *_licences(facts),
        *_loading(facts),
    ]


def _title(facts: Facts) -> str:
    classes, step = len(facts.info.class_names), facts.step
    what = "findings" if facts.info.multilabel else "classes"
    name, told = facts.config.model.name, f"tells {classes:,} {what} of images apart"
    if not facts.trained:
        return (
            f"# {name} for the classes of {name_of_data(facts)}\n\n"
            f"A convolutional network that {told}. {_not_trained(facts)}"
        )
    at = "" if step is None else f", at step {step:,}"
    return (
        f"# {name} on {name_of_data(facts)}\n\n"
        f"A convolutional network that {told}, trained with cnn_jax{at}."
    )


def _use(facts: Facts) -> list[str]:
    info = facts.info
    names = ", ".join(map(plain, info.class_names[:MOST_CLASSES]))
    more = len(info.class_names) - MOST_CLASSES
    names += f" and {more:,} more (export.json has all)" if more > 0 else ""
    height, width, channels = info.image_shape
    colour = {1: "grey", 3: "colour (red, green, blue)"}.get(channels, f"{channels}-channel")
    every = (
        "Each image may have several of them, or none."
        if info.multilabel
        else "Each image is taken to be of one of them: it has no answer for anything else."
    )
    limits = (
        "answering on its own where the section on calibration promises nothing, and other images "
        "than those it was trained on."
        if facts.trust is not None
        else "answering on its own: it was not tested how far it may (the command `trust` does)."
    )
    return [
        "## What it is for, and what not",
        f"Images of {height} x {width} pixels, {colour}, like those of its data. The classes: "
        f"{names}. {every}",
        f"It is not for: {limits}",
        f"{UNKNOWN}for whom it was made, and which decisions it may inform. Whoever publishes it "
        "should add that here.",
    ]


def _data(facts: Facts) -> list[str]:
    info, sizes = facts.info, facts.info.sizes
    rows = [[split, count, *_range(info, split)] for split, count in sizes.items()]
    others = {s: each["examples"] for s, each in facts.evaluations.items() if s not in sizes}
    rows += [[f"{plain(split)} (not trained on)", count, "", ""] for split, count in others.items()]
    version = f", version {info.version}" if info.version else ""
    fitted = f"images of another aspect are {_FITTED[info.resize]}"
    if not facts.trained:
        where = f"{UNKNOWN}what images it was trained on, who collected them, from whom and when."
        return ["## Data", f"{fitted.capitalize()}.", where]
    found = [
        "## Data",
        f"`{name_of_data(facts)}`{version}; {fitted}. sha256 of images "
        f"and labels of training and validation: `{info.digest}`.",
        tables.markdown(rows, ["split", "images", "smallest class", "largest class"]),
    ]
    notes = private.lines(info.notes, info.class_names)
    if notes:
        found.append("\n".join(f"- {plain(note)}" for note in notes))
    found.append(f"{UNKNOWN}who collected the images, from whom, when, and with whose consent.")
    return found


def _range(info: DataInfo, split: str) -> list[str]:
    counts = info.class_counts.get(split, ())
    if not counts:
        return ["", ""]
    ends = (min(counts), max(counts))
    return [f"{end:,} ({plain(info.class_names[counts.index(end)])})" for end in ends]


def _training(facts: Facts) -> list[str]:
    config, training = facts.config, facts.training
    rows = [["model", f"{config.model.name}, head {config.model.head}"]]
    if facts.export is not None:
        rows.append(["parameters", f"{facts.export['parameters']:,}"])
    if not facts.trained:
        shown = tables.markdown(rows, ["what", ""], "ll")
        return ["## How it was trained", _not_trained(facts), shown]
    rows += [
        ["loss, optimizer", f"{config.train.loss}, {config.optimizer.name}"],
        ["learning rate", f"{config.optimizer.learning_rate:g}, {config.optimizer.schedule}"],
        ["batch size, seed", f"{config.dataset.batch_size}, {config.seed}"],
        ["precision", config.train.precision],
    ]
    if facts.history:
        best = next((each for each in facts.history if each.get("step") == facts.step), None)
        rows.append(["epochs", f"{len(facts.history)}"])
        if best is not None:
            value = best.get("validation_accuracy")
            shown = "" if value is None else f", validation accuracy {value:.4f}"
            said = f"epoch {best.get('epoch')}{shown}"
            said += f", by `{config.train.select}`" if facts.chosen else f", {_asked(facts)}"
            rows.append(["chosen" if facts.chosen else "checkpoint", said])
        else:
            rows.append(["checkpoint", _asked(facts)])
    for name, shown, unit in (("steps", "steps", ""), ("seconds", "time of training", " s")):
        if name in training:
            rows.append([shown, f"{training[name]:,.0f}{unit}"])
    if "flops" in training:
        rows.append(["computation of training", f"{training['flops'] / 1e12:,.4g} TFLOP"])
    if "peak_memory_bytes" in training:
        rows.append(["memory at most", f"{training['peak_memory_bytes'] / 2**30:.2f} GiB"])
    if facts.starts:
        last = facts.starts[-1]
        packages = last.get("packages", {})
        said = ", ".join(f"{name} {packages[name]}" for name in ("jax", "flax") if name in packages)
        rows.append(["made with", f"Python {last.get('python')}, {said}"])
        rows.append(["commit of cnn_jax", str(last.get("git_commit") or "not known")])
        rows.append(["machine", f"{last.get('processor')}, {', '.join(last.get('devices', []))}"])
    found = ["## How it was trained", tables.markdown(rows, ["what", ""], "ll")]
    commands = [start["command"] for start in facts.starts if start.get("command")]
    if commands:
        typed = text.as_typed(private.command(commands[0]))
        found.append(f"```sh\n{shlex.join(typed)}\n```")
    else:
        found.append(f"{UNKNOWN}the command, the versions and the machine.")
    return found


def _not_trained(facts: Facts) -> str:
    known = facts.origin is not None and facts.origin.get("source")
    whose = "published weights" if known else "weights of others"
    return f"It was not trained here; {whose} were taken as they are."


def _asked(facts: Facts) -> str:
    return f"asked for: {'the last' if facts.asked == 'last' else f'step {facts.step}'}"


def _trust(facts: Facts) -> list[str]:
    found = ["## Calibration, and what is promised"]
    if facts.trust is None:
        return [
            *found,
            f"{UNKNOWN}whether its probabilities mean what they say, and how many images it may "
            "answer on its own; `trust` was not run on this checkpoint.",
        ]
    said = private.lines(facts.trust["sentences"], facts.info.class_names)
    found.append("\n".join(f"- {plain(line)}" for line in said))
    claims = trust_tables.claims(facts.trust)
    if claims.rows:
        found += [f"{claims.title}:", tables.markdown(claims.rows, claims.columns)]
    return found


def _shift(facts: Facts) -> list[str]:
    found = ["## Under shift"]
    rows = [] if facts.trust is None else facts.trust.get("shift") or []
    if not rows:
        return [*found, f"{UNKNOWN}how it fares on noisy, blurred, darker or other images."]
    assert facts.trust is not None
    table = trust_tables.shift(facts.trust)
    shown, places = [], 0
    for name, *figures in table.rows:  # a folder's name is that of images from elsewhere
        is_place = private.value("shift", name) == private.HIDDEN
        places += is_place
        shown.append([f"other images, set {places}" if is_place else plain(name), *figures])
    return [*found, f"{table.title}:", tables.markdown(shown, table.columns)]


def _groups(facts: Facts) -> list[str]:
    found = ["## By patient or group"]
    lines = [
        f"- On {split}: {' '.join(' '.join(evaluations.group_lines(record)).split())}"
        for split, record in facts.evaluations.items()
        if record.get("per_group")
    ]
    if lines:
        return [*found, "\n".join(lines)]
    return [
        *found,
        f"{UNKNOWN}figures by patient, site, sex, age or any other group: the run's evaluations "
        "have none.",
    ]


def _licences(facts: Facts) -> list[str]:
    found = ["## Licences", f"{UNKNOWN}the licence of this network and that of its data."]
    if facts.origin is None:
        found.append("It was trained from scratch, with no weights of others.")
        return found
    licence = facts.origin.get("licence") or "not known"
    source = facts.origin.get("source") or private.value("weights", facts.origin["asked_for"])
    sha = facts.origin.get("sha256")
    began = "It started from weights of others." if facts.trained else "Its weights are others'."
    found.append(
        f"{began} Their licence: {licence}. Their source: {source}."
        f"{f' sha256: `{sha}`.' if sha else ''}"
    )
    return found


def _loading(facts: Facts) -> list[str]:
    found = ["## How to load it"]
    record = facts.export
    if record is None:
        lines = ["import cnn_jax", "", 'run = cnn_jax.load("RUN")  # its run directory']
        lines.append("run.predict(images).classes")
        return [*found, _code(lines)]
    found += [f"`{record['file']}` ({record['format']}):", _code(record["load"])]
    given = record["input"]
    scaling = record["preprocessing"]
    shape = _listed(given["shape"])
    inside = "inside of the file" if scaling["in_file"] else "by the caller, before the network"
    found.append(
        f"It takes `{given['name']}`, {given['dtype']} [{shape}] ({given['channels']}), any number "
        f"of them. Pixels are scaled {inside}: {scaling['formula']}."
    )
    if record["outputs"]:
        rows = [
            [
                f"`{each['name']}`",
                each["dtype"],
                ", ".join(map(str, each["shape"])),
                each["meaning"],
            ]
            for each in record["outputs"]
        ]
        found.append(tables.markdown(rows, ["output", "type", "shape", "meaning"], "llll"))
    check = record["check"]
    said = "; ".join(f"{name} {value:.2g}" for name, value in check["differences"].items())
    of = f" on {check['images']} {check['source'].partition(',')[0]}" if check["images"] else ""
    found.append(f"Compared with the run by {check['by']}{of}: largest difference: {said}.")
    found += [f"- {line}" for line in record["left_out"]]
    found.append("`export.json` has all of this for programs, and the sha256 of the files.")
    return found


def _code(lines: list[str]) -> str:
    return "\n".join(["```python", *lines, "```"])


def _listed(values: Sequence[Any]) -> str:
    return ", ".join(map(str, values))
