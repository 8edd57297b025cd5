"""Tries that damage what the program wrote: side files, checkpoints, caches, prepared data."""

import json
import os
import pathlib
import re
import shutil

from benchmarks.harm import damages
from benchmarks.harm.bench import Bench, check_same, copy, figures
from benchmarks.harm.ends import Ended, Fault
from benchmarks.harm.world import SWEEP, World, train

_READERS = (
    ["evaluate", "--workdir=run"],
    ["evaluate", "--workdir=run", "--checkpoint=last", "--split=validation"],
    ["predict", "--workdir=run", "photos/test/cat/0.png"],
    ["compare", "run", "other"],
    ["compare", "run", "other", "--format=json"],
    ["report", "run"],
    ["describe", "--config=run/config.json"],
)


def _any_json(draw: damages.Draw, path: pathlib.Path, other: pathlib.Path) -> str:
    """Damages a JSON file: its bytes or, as often, its values."""
    if draw.random() < 0.5 and path.is_file():
        what, text = damages.harm_json(draw, json.loads(path.read_text()))
        path.write_text(text)
        return f"{path.name}: {what}"
    return damages.harm_file(draw, path, other)


def side_files_read(bench: Bench, world: World) -> None:
    """JSON files of a run are damaged; commands read it; put back, they print the same."""
    draw = bench.draw
    copy(world.photos(), bench.folder / "photos")
    other = copy(world.evaluated("digits"), bench.folder / "other")
    run = copy(world.evaluated("photos"), bench.folder / "run")
    harmed = draw.sample(sorted(run.glob("*.json")), draw.choice((1, 1, 1, 3)))
    done = [_any_json(draw, path, other / path.name) for path in harmed]
    command = draw.choice(_READERS)
    bench.about = f"{', '.join(done)}; {command[0]}"
    ended = bench.run(command)
    damages.put_back(world.evaluated("photos"), run)
    again = bench.succeed(command)
    if ended.code == 0 and command[0] in ("evaluate", "predict") and "warning" not in ended.stderr:
        check_same(_accuracy(ended), _accuracy(again), "printed without a warning")


def side_files_in_bulk(bench: Bench, world: World) -> None:
    """Twenty copies of a run with a damaged JSON file each are read in one process."""
    draw = bench.draw
    photos = copy(world.photos(), bench.folder / "photos")
    source, other = world.evaluated("photos"), world.evaluated("digits")
    bench.about = "20 runs"
    calls = {}
    for number in range(20):
        run = bench.folder / f"run{number}"
        shutil.copytree(source / "checkpoints", run / "checkpoints", copy_function=os.link)
        for path in source.glob("*.*"):
            if path.is_file():
                shutil.copy2(path, run)
        path = draw.choice(sorted(run.glob("*.json")))
        what = _any_json(draw, path, other / path.name)
        command = draw.choice(
            (
                ["predict", f"--workdir={run}", str(photos / "test" / "cat" / "0.png")],
                ["compare", str(run), str(other)],
                ["compare", str(run), "--format=csv"],
                ["report", str(run)],
                ["evaluate", f"--workdir={run}"],
            )
        )
        calls[f"{number} {what}; {command[0]}"] = command
    bench.many(calls)


def _accuracy(ended: Ended) -> list[str]:
    """Returns the lines with figures; those that name files come after them."""
    return re.findall(r"^(?:\S+ accuracy .*|.*\d\.\d{3}.*)$", ended.stdout, re.MULTILINE)


def side_files_resumed(bench: Bench, world: World) -> None:
    """JSON files of a killed run are damaged, and the same command goes on as they are."""
    draw = bench.draw
    run = copy(world.killed("digits"), bench.folder / "run")
    files = sorted(run.glob("*.json"))
    names = draw.sample(files, min(len(files), draw.choice((1, 1, 2, 6))))
    other = world.run("other")
    done = [damages.harm_file(draw, path, other / path.name) for path in names]
    bench.about = ", ".join(done)
    wanted = world.wanted("digits")
    if bench.run(train("digits")).code != 0:
        # What no checkpoint holds, or what is another run's, is refused; mended it goes on.
        damages.put_back(world.killed("digits"), run)
        bench.succeed(train("digits"))
    check_same(figures(run), wanted, "resumed")


def checkpoints_resumed(bench: Bench, world: World) -> None:
    """Files of checkpoints are damaged; the same command goes on, from an older one if need be."""
    draw = bench.draw
    source = world.killed("digits")
    run, other = copy(source, bench.folder / "run"), world.run("other")
    steps = sorted((x for x in (run / "checkpoints").iterdir() if x.name.isdecimal()), key=_step)
    which = steps[-1:] if draw.random() < 0.75 else steps
    done = []
    for folder in which:
        if draw.random() < 0.15:
            theirs = other / "checkpoints" / folder.name
            if theirs.exists() and draw.random() < 0.5:
                damages.put_back(theirs, folder)
                done.append(f"{folder.name} of another run")
            else:
                damages.remove(folder / draw.choice(("state", "meta", "_CHECKPOINT_METADATA")))
                done.append(f"{folder.name} with a part missing")
            continue
        path = draw.choice(damages.files_below(folder))
        theirs = other / path.relative_to(run)
        done.append(f"{folder.name}/{damages.harm_file(draw, path, theirs)}")
    if len(which) < len(steps) and draw.random() < 0.3:
        names = ("9" * 30, "07", "100", "5.orbax-checkpoint-tmp-123", "x")
        (run / "checkpoints" / draw.choice(names)).mkdir()
        done.append("and an empty folder beside it")
    bench.about = ", ".join(done)
    wanted = world.wanted("digits")
    if bench.run(train("digits")).code != 0:
        if len(which) < len(steps) and "another run" not in bench.about:
            raise Fault("it does not go on, though an older checkpoint is whole")
        damages.put_back(source, run)
        bench.succeed(train("digits"))
    check_same(figures(run), wanted, "resumed")


def _step(path: pathlib.Path) -> int:
    return int(path.name)


def checkpoints_read(bench: Bench, world: World) -> None:
    """A file of a checkpoint is damaged; evaluate and predict say so or give the same."""
    draw = bench.draw
    copy(world.photos(), bench.folder / "photos")
    run = copy(world.evaluated("photos"), bench.folder / "run")
    path = draw.choice(damages.files_below(run / "checkpoints"))
    theirs = world.run("digits") / path.relative_to(run)
    bench.about = f"{path.relative_to(run).parts[1]}/{damages.harm_file(draw, path, theirs)}"
    command = draw.choice(_READERS[:3])
    bench.about += f"; {command[0]}"
    ended = bench.run(command)
    damages.put_back(world.evaluated("photos"), run)
    again = bench.succeed(command)
    if ended.code == 0 and "warning" not in ended.stderr:
        check_same(_accuracy(ended), _accuracy(again), "without a warning")


def caches(bench: Bench, world: World) -> None:
    """Files of the caches of images, features and programs are damaged; a run is the same."""
    draw = bench.draw
    name = draw.choice(("frozen", "frozen", "photos"))
    wanted = world.wanted(name)
    if name == "photos":
        copy(world.photos(), bench.folder / "photos")
    cache = copy(world.base / "cache", bench.folder / "cache")
    copy(world.base / "programs", cache / "programs")
    places = {
        "CNN_JAX_CACHE": str(cache),
        "JAX_COMPILATION_CACHE_DIR": str(cache / "programs"),
    }
    if name == "photos":  # this copy has a cache of its own, which is made first
        bench.succeed(train(name, "first"), environment=places)
    done = []
    files = damages.files_below(cache)
    for path in draw.sample(files, min(len(files), draw.choice((1, 5, 40)))):
        harm = _any_json if path.suffix == ".json" else damages.harm_file
        done.append(harm(draw, path, draw.choice(damages.files_below(cache))))
    bench.about = f"{name}: {', '.join(done[:2])} of {len(done)}"
    if bench.run(train(name), environment=places).code != 0:
        shutil.rmtree(cache)
        bench.succeed(train(name), environment=places)
    check_same(figures(bench.folder / "run"), wanted, "with a damaged cache")


def prepared_data(bench: Bench, world: World) -> None:
    """A file of a prepared data set is damaged; without it the same command is the same."""
    draw = bench.draw
    wanted = world.wanted("digits")
    data = copy(world.base / "prepared", bench.folder / "prepared")
    places = {"TFDS_DATA_DIR": str(data), "CNN_JAX_CACHE": str(bench.folder / "cache")}
    files = damages.files_below(data)
    path = draw.choice(files)
    harm = _any_json if path.suffix == ".json" else damages.harm_file
    bench.about = harm(draw, path, draw.choice(files))
    if bench.run(train("digits"), environment=places).code != 0:
        damages.put_back(world.base / "prepared", data)
        bench.succeed(train("digits"), environment=places)
    check_same(figures(bench.folder / "run"), wanted, "with damaged data")


def prepared_in_bulk(bench: Bench, world: World) -> None:
    """Twenty copies of a prepared data set with a damaged file each are described."""
    draw = bench.draw
    world.run("digits")  # prepares them
    digits = next(path for path in (world.base / "prepared").rglob("digits") if path.is_dir())
    bench.about = "20 prepared directories"
    calls = {}
    for number in range(20):
        data = bench.folder / f"prepared{number}"
        data.mkdir()
        copy(digits, data / "digits")
        files = damages.files_below(data)
        path = draw.choice(files)
        harm = _any_json if path.suffix == ".json" else damages.harm_file
        what = harm(draw, path, draw.choice(files))
        flags = [f"--dataset.data_dir={data}", "--dataset.train_examples=40", "--model.name=mlp"]
        calls[f"{number} {what}"] = ["describe", *flags]
    bench.many(calls)


def studies(bench: Bench, world: World) -> None:
    """Files of a finished sweep or advise are damaged; report, compare and the command go on."""
    draw = bench.draw
    kind = draw.choice(("sweep", "advise"))
    if kind == "sweep":
        wanted, source, again = world.sweep(), world.sweep_folder(), ["sweep", *SWEEP]
    else:
        wanted, source, again = world.advise(), world.advise_folder(), world.advise_command()
    del wanted
    study = copy(source, bench.folder / "study")
    files = [path for path in damages.files_below(study) if "checkpoints" not in path.parts]
    path = draw.choice(files)
    whole = path.suffix != ".json" or draw.random() < 0.5
    done = damages.harm_file(draw, path) if whole else _any_json(draw, path, files[0])
    reader = draw.choice((["report", "study"], ["compare", "study"], [*again, "--workdir=study"]))
    bench.about = f"{kind}: {path.relative_to(study).parent}/{done}; {reader[0]}"
    bench.run(reader)
    damages.put_back(source, study)
    bench.succeed(reader)
