"""Tries that stop commands by signals at any moment, and that start two at once."""

import signal
import time

from benchmarks.harm.bench import Bench, all_figures, check_logs, check_same, copy, figures
from benchmarks.harm.ends import Fault
from benchmarks.harm.processes import Process
from benchmarks.harm.world import RUNS, SWEEP, World, train

_SIGNALS = ("SIGKILL", "SIGKILL", "SIGTERM", "Ctrl-C", "Ctrl-C twice", "Ctrl-C twice")


def _stop(bench: Bench, process: Process, moment: float, how: str) -> None:
    """Sends the signals and checks how the command ended."""
    end = time.monotonic() + moment
    while time.monotonic() < end and not process.poll():
        time.sleep(0.01)
    number = signal.SIGINT if how.startswith("Ctrl-C") else signal.Signals[how]
    process.send(number)
    if how == "Ctrl-C twice":
        pause = time.monotonic() + bench.draw.choice((0.001, 0.05, 0.3, 1.0))
        while time.monotonic() < pause and not process.poll():
            time.sleep(0.001)
        process.send(number)
    bench.finish(process)


def stopped_run(bench: Bench, world: World) -> None:
    """Training, decoding, caching or preparing is stopped, perhaps twice; the command goes on."""
    draw = bench.draw
    name = draw.choice(("digits", "digits", "photos", "frozen"))
    cold = draw.choice(("", "caches cold", "data not prepared") if name != "photos" else ("", "c"))
    wanted = world.wanted(name)
    places = {}
    if cold:
        places["CNN_JAX_CACHE"] = str(bench.folder / "cache")
    if cold == "data not prepared":
        places["TFDS_DATA_DIR"] = str(bench.folder / "prepared")
    if name == "photos":
        copy(world.photos(), bench.folder / "photos")
    fresh = draw.random() < 0.2
    done = []
    for _ in range(draw.choice((1, 1, 2))):
        how = draw.choice(_SIGNALS)
        seconds = world.seconds[f"train {name}"] * (1.3 if cold else 1.0) + 3 * fresh
        moment = draw.uniform(0, seconds)
        done.append(f"{how} at {moment:.1f} of {seconds:.1f} s")
        bench.about = f"train {name} {cold}{' fresh' * fresh}: {', '.join(done)}"
        _stop(bench, bench.start(train(name), environment=places, fresh=fresh), moment, how)
    bench.succeed(train(name), environment=places)
    check_same(figures(bench.folder / "run"), wanted, "resumed")


def stopped_reader(bench: Bench, world: World) -> None:
    """Evaluate, report, compare or describe is stopped; the same command ends well."""
    draw = bench.draw
    wanted = figures(world.evaluated("digits"))
    run = copy(world.run("digits"), bench.folder / "run")
    command = draw.choice(
        (
            ["evaluate", "--workdir=run"],
            ["evaluate", "--workdir=run"],
            ["report", "run"],
            ["compare", "run", str(world.run("frozen")), "--output=figure.png"],
            ["describe", "--config=run/config.json", "--output=figure.png"],
        )
    )
    how = draw.choice(_SIGNALS)
    moment = draw.uniform(0, world.seconds["evaluate digits"] / (1 if len(command) == 2 else 2))
    bench.about = f"{command[0]}: {how} at {moment:.1f} s"
    _stop(bench, bench.start(command), moment, how)
    bench.succeed(command)
    if command[0] == "evaluate":
        check_same(figures(run), wanted, "evaluated again")
    elif command[0] == "report":
        if not (run / "report.html").read_text().rstrip().endswith("</html>"):
            raise Fault("report.html is not whole")
    elif command[0] == "compare" and not (bench.folder / "figure.png").stat().st_size:
        raise Fault("the figure is empty")


def stopped_study(bench: Bench, world: World) -> None:
    """A sweep with two workers, or an advise, is stopped; the same command goes on."""
    draw = bench.draw
    kind = draw.choice(("sweep", "advise"))
    wanted = world.sweep() if kind == "sweep" else world.advise()
    words = ["sweep", *SWEEP] if kind == "sweep" else world.advise_command()
    command = [*words, "--workdir=study"]
    how = draw.choice(_SIGNALS)
    moment = draw.uniform(0, world.seconds[kind])
    bench.about = f"{kind}: {how} at {moment:.1f} of {world.seconds[kind]:.1f} s"
    _stop(bench, bench.start(command), moment, how)
    bench.succeed(command)
    check_same(all_figures(bench.folder / "study"), wanted, "afterwards")
    check_logs(bench.folder / "study")


def two_starts(bench: Bench, world: World) -> None:
    """The same command is started twice in one directory, or two runs fill one empty cache."""
    draw = bench.draw
    kind = draw.choice(("train", "train", "train", "cache", "evaluate", "sweep", "advise"))
    places = {"CNN_JAX_CACHE": str(bench.folder / "cache")} if kind == "cache" else {}
    if kind == "sweep":
        wanted, commands = world.sweep(), [["sweep", "--workdir=study", *SWEEP]] * 2
    elif kind == "advise":
        wanted, commands = world.advise(), [[*world.advise_command(), "--workdir=study"]] * 2
    elif kind == "evaluate":
        wanted = figures(world.evaluated("digits"))
        copy(world.run("digits"), bench.folder / "run")
        commands = [["evaluate", "--workdir=run"]] * 2
    else:
        name = "frozen" if kind == "cache" else "digits"
        wanted = world.wanted(name)
        second = "run2" if kind == "cache" else "run"
        commands = [["train", f"--workdir={w}", *RUNS[name]] for w in ("run", second)]
    moment = draw.uniform(0, world.seconds.get(kind, world.seconds.get("train digits", 3.0)))
    bench.about = f"{kind}, the second after {moment:.1f} s"
    one = bench.start(commands[0], environment=places)
    end = time.monotonic() + moment
    while time.monotonic() < end and not one.poll():
        time.sleep(0.01)
    other = bench.start(commands[1], environment=places)
    ended = [bench.finish(one), bench.finish(other)]
    if all(end.code for end in ended):
        raise Fault(f"both were refused: {[end.stderr.strip()[-200:] for end in ended]}")
    for command in commands:
        bench.succeed(command, environment=places)
    if kind in ("sweep", "advise"):
        check_same(all_figures(bench.folder / "study"), wanted, "afterwards")
        check_logs(bench.folder / "study")
        return
    for name in {"run", commands[1][1].partition("=")[2]}:
        check_same(figures(bench.folder / name), wanted, f"{name} afterwards")
