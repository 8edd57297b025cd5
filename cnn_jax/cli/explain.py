"""The command `explain`: shows why a network says what it says, with tests of every map."""

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cnn_jax import places, progress, text
from cnn_jax.cli import console
from cnn_jax.cli.given import decoding, load_run, read_files
from cnn_jax.cli.invocation import Invocation
from cnn_jax.data import images, named
from cnn_jax.errors import RunError, UsageError
from cnn_jax.evaluation import confusion
from cnn_jax.explain import choosing, explaining, presenting, units
from cnn_jax.explain.network import Network
from cnn_jax.options import Explain
from cnn_jax.runs import figures as run_figures
from cnn_jax.runs.trained import Run

_TYPICAL = 6  # confusions of each kind
_EXCITING = 9  # images of each unit
_MAPS = 24  # feature maps of an image


class _Chosen(NamedTuple):
    """Images as stored, in their own size, their names, and their classes or None."""

    images: np.ndarray
    wholes: list[np.ndarray]
    names: list[str]
    true: list[int] | None
    title: str


def run_command(invocation: Invocation) -> int:
    """Explains, prints a table, writes pictures and JSON, and returns the exit code.

    Raises:
        UsageError: there is nothing to explain, or no such class, layer or unit.
        RunError: an image cannot be read.
    """
    options = Explain(**invocation.explain)
    wanted = (options.worst, options.pair, options.units)
    if not invocation.arguments and wanted == (None, None, None):
        raise UsageError(
            "explain needs images, or --explain.worst=25, --explain.pair=auto or --explain.units=0"
        )
    say = console.speaker(invocation.quiet or invocation.format == "json")
    overrides = dict(invocation.overrides)
    depth, on_error = "auto", "refuse"
    if invocation.arguments:  # of files they say how these are read, not those of the run
        depth = overrides.pop("dataset.bit_depth", depth)
        on_error = overrides.pop("dataset.on_error", on_error)
    directory, run = load_run(dataclasses.replace(invocation, overrides=overrides))
    network = Network(run, options.layer)
    output = directory.path / "explanations"
    if options.output is not None:
        output = places.place(options.output, "--explain.output")
    output.mkdir(parents=True, exist_ok=True)
    say(f"network    {run.experiment.model.name} of step {run.step}, {_where(network)}")
    say(f"writing    {text.shown(output)}")
    jobs = []
    if invocation.arguments:
        jobs.append((_of_files(run, invocation.arguments, on_error, depth), output))
    if options.worst is not None or options.pair is not None:
        jobs += [
            (chosen, output / name) for name, chosen in _of_split(invocation, options, network)
        ]
    printed: list[Any] = []
    for chosen, place in jobs:
        printed += _explain(invocation, options, network, chosen, place, say)
    if options.features or options.units is not None:
        filters = output / "filters.png"
        if presenting.save_filters(network, filters):
            say(f"figure     {text.shown(filters)}")
    if options.units is not None:
        _units(invocation, options, network, output, say)
    if invocation.format == "json":
        print(json.dumps({"checkpoint_step": run.step, "explanations": printed}))
    for line in _next(invocation, options, network, directory.path):
        say(line)
    return 0


def _where(network: Network) -> str:
    """Returns in words what the maps are of."""
    if network.layer is None:
        return "which has no feature map: its maps are of pixels alone"
    height, width, channels = network.layers[network.layer]
    return f"with maps of its layer {network.layer}: {height} x {width} places, {channels} channels"


def _next(
    invocation: Invocation, options: Explain, network: Network, directory: Path
) -> Iterator[str]:
    """Yields the commands that come next: the first of those that were not asked for, the page."""
    more = {
        "errors": (options.worst, "--explain.worst=25"),
        "confusions": (options.pair, "--explain.pair=auto"),
        "units": (options.units or not network.layer, "--explain.units=0,1,2"),
    }
    split = [] if invocation.split is None else [f"--split={invocation.split}"]
    for name, (asked, flag) in more.items():
        if not asked:
            command = console.command_line(invocation, "explain", directory, flag, *split)
            yield f"{name:<11}{command}"
            break
    yield f"page       {console.command_line(invocation, 'page', directory)}"


def _of_files(run: Run, paths: tuple[str, ...], on_error: str, depth: str) -> _Chosen:
    """Reads image files, as the network takes them and in their own size."""
    if run.data_info.dtype != "uint8":
        raise UsageError(
            "the run was trained on float arrays, and files are none; explain those of a split, "
            "such as --explain.worst=25, or arrays in Python: cnn_jax.explain_images(run, images)"
        )
    failures: list[dict[str, str]] = []
    blocks = list(read_files(named.expand(paths), run, on_error, depth, failures))
    if not blocks:
        raise RunError("none of the images can be read")
    names = [path for block, _ in blocks for path in block]
    how, shape = decoding(run, names, depth, warn=False), run.data_info.image_shape
    wholes = [_whole(path, how, shape) for path in names]
    return _Chosen(np.concatenate([pixels for _, pixels in blocks]), wholes, names, None, "")


def _whole(path: str, how: images.Decoding, shape: tuple[int, ...]) -> np.ndarray:
    """Returns what the network sees of an image, in the image's own resolution."""
    whole = images.decode(path, dataclasses.replace(how, size=None)).pixels
    if how.resize == "squash":
        return whole
    height, width, _ = shape
    scale = max(whole.shape[0] / height, whole.shape[1] / width)
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    return images.decode(path, dataclasses.replace(how, size=size)).pixels


def _of_split(
    invocation: Invocation, options: Explain, network: Network
) -> Iterator[tuple[str, _Chosen]]:
    """Yields (folder, what is explained) of a split: its worst errors, its typical confusions."""
    run = network.run
    split, name = run.split(invocation.split), run.split_name(invocation.split)
    found = run.evaluate(split)
    if options.worst is not None:
        worst = confusion.surest_errors(found.probabilities, split.labels, options.worst)
        if len(worst) == 0:
            raise UsageError(f"--explain.worst={options.worst}: there is no error on {name}")
        errors = int(found.examples - np.trace(found.confusion))
        title = f"{len(worst)} of {errors:,} errors on {name}: the most certain ones"
        yield f"worst_{name}", _part(split, worst, title)
    if options.pair is not None:
        pair = _pair(options.pair, network, found.confusion)
        kinds = choosing.typical_confusions(network, split, found.probabilities, pair, _TYPICAL)
        one, other = (run.class_names[i] for i in pair)
        if not any(map(len, kinds)):
            raise UsageError(f"--explain.pair: {one} and {other} are never confused on {name}")
        counts = [int(found.confusion[pair]), int(found.confusion[pair[::-1]])]
        title = f"{counts[0]} {one} taken for {other}, {counts[1]} {other} for {one}: typical ones"
        yield text.file_name(f"{one}_{other}", "pair"), _part(split, np.concatenate(kinds), title)


def _pair(given: str, network: Network, matrix: np.ndarray) -> tuple[int, int]:
    if given == "auto":
        return choosing.most_confused(matrix)
    one, other = (explaining.find_class(network, name) for name in given.split(","))
    if one == other:
        raise UsageError(f"--explain.pair takes two classes, not {given!r}")
    return one, other


def _part(split: Any, indices: np.ndarray, title: str) -> _Chosen:
    images = split.images[indices]
    wholes = list(run_figures.as_pixels(images))
    names = [split.ids[int(i)] for i in indices]
    return _Chosen(images, wholes, names, split.labels[indices].tolist(), title)


def _explain(
    invocation: Invocation,
    options: Explain,
    network: Network,
    chosen: _Chosen,
    output: Path,
    say: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Explains images, draws them, prints a table, and returns the values of the JSON."""
    quiet = invocation.quiet

    def counted(items: Iterable[Any]) -> Iterator[Any]:
        with progress.Counter(len(chosen.images), "explaining", 0, quiet) as counter:
            for item in items:
                yield item
                counter.update(1)

    found = explaining.explain(
        network,
        chosen.images,
        chosen.names,
        methods=options.chosen,
        label=options.class_,
        against=options.against,
        true=chosen.true,
        box=options.region,
        steps=options.steps,
        draws=options.draws,
        progress=counted,
    )
    values = [presenting.to_dict(one) for one in found]
    output.mkdir(parents=True, exist_ok=True)
    about = {"checkpoint_step": network.run.step, "layer": network.layer, "split": chosen.title}
    presenting.write(found, about, output / "explanations.json")
    ends = presenting.limits(found)
    names = presenting.file_names(chosen.names)
    written = [output / f"{name}.png" for name in names]
    for one, whole, path in zip(found, chosen.wholes, written, strict=True):
        presenting.save(one, whole, ends, path, options.region)
    if options.features:
        written += _features(network, chosen, names, output)
    if len(found) > 1:
        written.insert(0, output / "overview.png")
        title = chosen.title or f"{len(found)} images"
        presenting.save_overview(found, chosen.wholes, title, written[0])
    if invocation.format == "table":
        if chosen.title:
            print(text.one_line(chosen.title))
        print(presenting.table(found, [text.one_line(name) for name in chosen.names]))
        for line in presenting.lines(found, chosen.names):
            print(text.one_line(line))
        if network.run.trusted is not None:
            print("p is what the network itself says; predict shows it calibrated by trust.json")
    say(f"written    {text.shown(output / 'explanations.json')}")
    for path in written[:3]:
        say(f"figure     {text.shown(path)}")
    if len(written) > 3:
        say(f"           and {len(written) - 3} more there")
    return values


def _features(network: Network, chosen: _Chosen, names: list[str], output: Path) -> list[Path]:
    """Draws the strongest feature maps of each image; returns the files."""
    from cnn_jax.reporting import figures
    from cnn_jax.reporting.figures import explanations

    written = []
    for image, name in zip(chosen.images, names, strict=True):
        maps = units.outputs(network, image[None])[0]
        strongest = units.strongest(maps, _MAPS)
        means = [f"{maps[..., i].mean():.3g}" for i in strongest]
        title = f"{network.layer}: the {len(strongest)} strongest of {maps.shape[-1]} maps, mean"
        figure = explanations.feature_maps(maps[..., strongest], strongest.tolist(), means, title)
        written.append(output / f"{name}_features.png")
        figures.save(figure, written[-1])
    return written


def _units(
    invocation: Invocation,
    options: Explain,
    network: Network,
    output: Path,
    say: Callable[[str], None],
) -> None:
    """Draws the images that excite units most, and those made to excite them."""
    from cnn_jax.reporting import figures

    run = network.run
    chosen = list(map(int, str(options.units).split(",")))
    units.check(network, chosen)
    split, name = run.split(invocation.split), run.split_name(invocation.split)
    indices, values = units.exciting(network, split.images, chosen, _EXCITING)
    for unit, best, strength in zip(chosen, indices, values, strict=True):
        images = run_figures.as_pixels(split.images[best])
        labels = split.labels[best]
        title = f"{name} images that excite unit {unit} of {network.layer} most"
        if options.maximise:
            made = run_figures.as_pixels(units.maximised(network, unit)[None])
            images, labels = np.concatenate([made, images]), np.concatenate([[-1], labels])
            title = f"unit {unit} of {network.layer}: made to excite it, then {name} images"
        layer = text.file_name(str(network.layer), "layer")
        path = output / f"{layer}_unit{unit}.png"
        class_names = [*run.class_names, "made"]  # -1 is the last
        figures.save(figures.image_grid(images, labels, class_names, title), path)
        counts = np.bincount(split.labels[best], minlength=len(run.class_names))
        most = run.class_names[int(counts.argmax())]
        say(
            f"unit {unit:<6}{strength[0]:.3g} at most; of the {len(best)} images that excite it "
            f"most {counts.max()} are of the class {most}"
        )
        say(f"figure     {text.shown(path)}")
