"""Tries on full disks and in folders that may not be written."""

import os
import pathlib
import resource

from benchmarks.harm.bench import Bench, all_figures, check_same, copy, figures
from benchmarks.harm.ends import Fault
from benchmarks.harm.world import SWEEP, World, train

_NOBODY = 65534


def is_root() -> bool:
    """Returns whether small disks can be made and rights given up."""
    return os.geteuid() == 0


def _size(path: pathlib.Path) -> int:
    return sum(-(-x.stat().st_size // 4096) * 4096 + 4096 for x in path.rglob("*") if x.is_file())


def _places(world: World, disk: str, bench: Bench) -> dict[str, str]:
    """Returns the variables that put the caches, or prepared data, on the disk of this try."""
    if disk == "run":
        return {}
    cache = bench.folder / "disk" / "cache" if disk == "cache" else bench.folder / "cache"
    places = {"CNN_JAX_CACHE": str(cache)}
    if disk == "prepared":
        places["TFDS_DATA_DIR"] = str(bench.folder / "disk" / "prepared")
    return places


def full_disk(bench: Bench, world: World) -> None:
    """The disk of a run, a cache or prepared data is full; with more room the command ends well."""
    draw = bench.draw
    name = draw.choice(("digits", "frozen", "photos"))
    disk = draw.choice(
        ("run", "run", "cache", "prepared") if name != "photos" else ("run", "cache")
    )
    wanted = world.wanted(name)
    needed = {
        "run": _size(world.run(name)),
        "cache": _size(world.base / "cache") // 2,
        "prepared": _size(world.base / "prepared"),
    }[disk]
    size = max(8192, int(needed * draw.uniform(0, 1.1)))
    bench.about = f"train {name}, {disk} on {size:,} bytes"
    if name == "photos":
        copy(world.photos(), bench.folder / "photos")
    command = train(name, "disk/run" if disk == "run" else "run")
    _small(bench, size, command, _places(world, disk, bench))
    run = bench.folder / ("disk/run" if disk == "run" else "run")
    check_same(figures(run), wanted, "with more room")


def _small(bench: Bench, size: int, command: list[str], places: dict[str, str]) -> None:
    """Runs a command on a disk of some bytes, or with files of that size, and then with more."""
    disk = bench.folder / "disk"
    if is_root():
        bench.mount("disk", str(size))
    else:
        disk.mkdir(exist_ok=True)

    def no_longer_files() -> None:
        _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, most))

    before = None if is_root() else no_longer_files
    bench.run(command, environment=places, before=before)
    if is_root():
        bench.remount(disk, "size=300m")
    bench.succeed(command, environment=places)


def full_disk_elsewhere(bench: Bench, world: World) -> None:
    """The disk is full under evaluate, report, compare, describe, sweep or advise."""
    draw = bench.draw
    kinds = ("evaluate", "evaluate", "report", "report", "compare", "describe", "sweep", "advise")
    kind = draw.choice(kinds)
    if kind in ("sweep", "advise"):
        wanted, source = (
            (world.sweep(), world.sweep_folder())
            if kind == "sweep"
            else (world.advise(), world.advise_folder())
        )
        size = max(8192, int(_size(source) * draw.uniform(0, 1.1)))
        command = ["sweep", *SWEEP] if kind == "sweep" else world.advise_command()
        bench.about = f"{kind} on {size:,} bytes"
        _small(bench, size, [*command, "--workdir=disk/study"], {})
        check_same(all_figures(bench.folder / "disk" / "study"), wanted, "with more room")
        return
    source = world.evaluated("digits")
    run = copy(world.run("digits"), bench.folder / "source")
    size = 8192 + int(draw.uniform(0, 1) * (_size(source) if kind == "evaluate" else 200_000))
    bench.about = f"{kind} on {size:,} bytes"
    output = {"report": "page.html", "compare": "figure.png", "describe": "net.png"}.get(kind, "")
    command = {
        "evaluate": ["evaluate", "--workdir=disk/run"],
        "report": ["report", "source", "--output=disk/page.html"],
        "compare": ["compare", "source", str(world.run("frozen")), "--output=disk/figure.png"],
        "describe": ["describe", "--config=source/config.json", "--output=disk/net.png"],
    }[kind]
    if kind != "evaluate":
        _small(bench, size, command, {})
        if not (bench.folder / "disk" / output).stat().st_size:
            raise Fault(f"{output} is empty")
        return
    if not is_root():
        return
    disk = bench.mount("disk", str(_size(run) + size // 2))
    copy(run, disk / "run")
    bench.run(command)
    bench.remount(disk, "size=300m")
    bench.succeed(command)
    check_same(figures(disk / "run"), figures(source), "with more room")


def read_only(bench: Bench, world: World) -> None:
    """A folder may not be written, by its rights or its disk; afterwards the command ends well."""
    draw = bench.draw
    name = draw.choice(("photos", "frozen"))
    command = draw.choice((train(name), train(name), ["evaluate", "--workdir=run"]))
    wanted = figures(world.evaluated(name)) if command[0] == "evaluate" else world.wanted(name)
    where = draw.choice(
        ("run", "run/checkpoints", "run/figures", "cache", "cache/arrays", "cache/features", ".")
    )
    disk = is_root() and where in ("run", "cache") and draw.random() < 0.5
    bench.about = f"{command[0]} {name}, {where} {'on a read-only disk' if disk else 'read-only'}"
    folders = {"run": world.killed(name) if command[0] == "train" else world.run(name)}
    if name == "photos":
        folders["photos"] = world.photos()
    if draw.random() < 0.5 or where.startswith("cache"):
        folders["cache"] = world.base / "cache"
    else:
        (bench.folder / "cache").mkdir()
    if disk:
        bench.mount(where, "300m")
    for target, source in folders.items():
        copy_into(source, bench.folder / target)
    places = {"CNN_JAX_CACHE": str(bench.folder / "cache")}
    target = bench.folder / where
    if not target.exists():
        return
    if disk:
        bench.remount(target, "ro")
        bench.run(command, environment=places)
        bench.remount(target, "rw")
    else:
        for path in [bench.folder, *bench.folder.rglob("*")]:
            path.chmod(0o777 if path.is_dir() else 0o666)
        target.chmod(0o555)
        bench.run(command, environment=places, before=_give_up_rights)
        target.chmod(0o777)
    bench.succeed(command, environment=places)
    check_same(figures(bench.folder / "run"), wanted, "where it may be written")


def _give_up_rights() -> None:
    if is_root():
        os.setgroups([])
        os.setgid(_NOBODY)
        os.setuid(_NOBODY)


def copy_into(source: pathlib.Path, target: pathlib.Path) -> None:
    """Copies a folder, also into one that is there, such as a disk."""
    import shutil

    shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
