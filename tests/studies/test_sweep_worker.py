"""Workers with a program in place of training: what is taken, repeated, pruned and given back."""

import errno
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from cnn_jax import locks
from cnn_jax.errors import RunError, UsageError
from cnn_jax.experiment import Experiment, Optimizer, Train
from cnn_jax.options import Sweep
from cnn_jax.runs import recorder
from cnn_jax.runs.directory import RunDirectory
from cnn_jax.studies import collapse
from cnn_jax.studies.sweep import processes, results, space, worker
from cnn_jax.studies.sweep.study import MOST_ATTEMPTS, Study
from cnn_jax.studies.sweep.trial import LostError
from tests.tiny import data_json

pytest.importorskip("optuna")
TRAIN, ADAMW = Train(epochs=3), Optimizer(name="adamw")
BASE = Experiment(name="made", train=TRAIN)
SPACE = "optimizer.learning_rate=[0.1,0.2,0.3,0.4]"

DATA = json.dumps(data_json(class_counts={"validation": [30, 70]}))
# Accuracy is the learning rate; 0.3 does what the file `what` beside the sweep says.
TRAINING = (
    f"DATA = {DATA!r}"
    + """
import json, os, pathlib, signal, sys, time
flags = dict(a[2:].split("=", 1) for a in sys.argv[2:] if "=" in a)
directory = pathlib.Path(flags["workdir"]); directory.mkdir(parents=True, exist_ok=True)
config = json.loads(pathlib.Path(flags["config"]).read_text())
(directory / "config.new").write_text(json.dumps(config))
os.replace(directory / "config.new", directory / "config.json")
with open(directory.parents[2] / "starts", "a") as file:
    file.write(f"{directory.parent.name}/{directory.name}\\n")
rate, what = config["optimizer"]["learning_rate"], (directory.parents[2] / "what").read_text()
def say(**status): (directory / "status.json").write_text(json.dumps(status))
say(status="running")
(directory / "data.json").write_text(DATA)
history = []
for epoch in range(1, config["train"]["epochs"] + 1):
    time.sleep(float(os.environ.get("SLOW", 0.02)))
    if rate == 0.3 and what == "diverge": say(status="diverged"); sys.exit(1)
    if rate == 0.3 and what == "refuse": print("error: no such thing"); sys.exit(2)
    if rate == 0.3 and what == "crash": say(status="failed", error="no disk"); sys.exit(1)
    if rate == 0.3 and what == "full":
        print("error: a: No space left on device"); sys.exit(len(history) + 1)
    said = 1 if rate in (0.3, 0.4) and what == "collapse" else 2
    history.append({"epoch": epoch, "validation_accuracy": rate, "seconds": 1.0 * epoch})
    history[-1]["never_predicted"] = [0] * (2 - said)
    (directory / "history.new").write_text(json.dumps(history))
    os.replace(directory / "history.new", directory / "history.json")
say(status="finished")
"""
)


@pytest.fixture
def directory(tmp_path, monkeypatch):
    (tmp_path / "training.py").write_text(TRAINING)
    monkeypatch.setattr(processes, "_POLL_SECONDS", 0.01)
    monkeypatch.setattr(worker, "HEARTBEAT_SECONDS", 0.1)
    path = tmp_path / "sweep"
    path.mkdir()
    (path / "what").write_text("")
    return path


def study(directory, text=SPACE, **options):
    made = Sweep(space=text, **{"method": "grid", **options})
    dimensions = space.parse(text, BASE)
    return Study(directory, made, dimensions, BASE, space.planned(made, dimensions, BASE))


def work(found, stop=lambda: None):
    said: list[str] = []
    program = [sys.executable, str(found.directory.parent / "training.py")]
    worker.Worker(found, BASE, said.append, stop, program).work()
    return said


def starts(directory):
    return sorted((directory / "starts").read_text().split())


def test_every_setting_is_tried_once_with_every_seed_and_ranked_by_its_mean(directory):
    found = study(directory, seeds=2)
    work(found)
    records = found.records()
    assert [r["setting"]["optimizer.learning_rate"] for r in records] == [0.1, 0.2, 0.3, 0.4]
    assert [r["value"] for r in records] == [0.1, 0.2, 0.3, 0.4]
    assert {(r["state"], r["seeds"], r["std"], r["attempts"]) for r in records} == {
        ("complete", 2, 0.0, 1)
    }
    assert starts(directory) == [f"000{i}/seed{s}" for i in range(4) for s in range(2)]
    config = json.loads((directory / "trials/0003/seed1/config.json").read_text())
    assert (config["seed"], config["optimizer"]["learning_rate"]) == (1, 0.4)
    work(study(directory, seeds=2))  # started again, it has nothing left to do
    assert len(starts(directory)) == 8


def test_workers_share_the_settings(directory):
    found = study(directory)
    threads = [threading.Thread(target=work, args=(study(directory),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [r["state"] for r in found.records()] == ["complete"] * 4
    assert starts(directory) == [f"000{i}/seed0" for i in range(4)]


def _work_in_process(directory, text=SPACE):
    processes._POLL_SECONDS, worker.HEARTBEAT_SECONDS = 0.01, 0.1
    work(study(directory, text))


def test_a_killed_worker_is_found_and_its_setting_goes_on_in_the_same_directory(
    directory, monkeypatch
):
    monkeypatch.setenv("SLOW", "0.5")
    study(directory)
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_work_in_process, args=(directory,))
    process.start()
    deadline = time.monotonic() + 60
    while not (directory / "trials/0000/seed0/history.json").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    monkeypatch.setenv("SLOW", "0.02")
    found = study(directory)
    work(found)
    records = found.records()
    assert [r["state"] for r in records] == ["complete"] * 4
    assert [r["attempts"] for r in records] == [2, 1, 1, 1]
    assert [r["value"] for r in records] == [0.1, 0.2, 0.3, 0.4]


def test_a_setting_that_says_one_class_only_is_shown_and_is_not_the_best(directory):
    (directory / "what").write_text("collapse")
    found = study(directory)
    said = work(found)
    assert any(line.endswith("1 of 1 collapsed: says one class only") for line in said)
    made = results.write(found, BASE)
    assert made.states == {"complete": 2, "collapsed": 2}
    assert [r["value"] for r in made.collapsed] == [0.3, 0.4]
    best = json.loads((directory / "best.json").read_text())
    assert best["optimizer"]["learning_rate"] == 0.2
    table = results.table(made)
    assert table.count("collapsed") == 3  # two settings, and what it means
    assert "largest class alone: 0.7000 of the validation images" in table


def test_a_diverged_setting_is_a_result(directory):
    (directory / "what").write_text("diverge")
    found = study(directory)
    said = work(found)
    assert [r["state"] for r in found.records()] == [
        "complete",
        "complete",
        "diverged",
        "complete",
    ]
    assert starts(directory) == [f"000{i}/seed0" for i in range(4)]
    assert any("diverged" in line for line in said)


def test_a_crash_is_repeated_three_times_and_then_given_up(directory):
    (directory / "what").write_text("crash")
    found = study(directory)
    said = work(found)
    record = found.records()[2]
    assert (record["state"], record["attempts"]) == ("fail", 3)
    assert starts(directory).count("0002/seed0") == 3
    assert sum("will be tried again" in line for line in said) == 2
    assert [r["state"] for r in found.records()].count("complete") == 3
    work(study(directory))
    assert starts(directory).count("0002/seed0") == 3


@pytest.mark.parametrize("what", ["full", "full of nothing"])
def test_a_full_disk_is_no_fault_of_a_setting(directory, what, monkeypatch):
    (directory / "what").write_text("full" if what == "full" else "crash")
    full = pytest.raises(RunError, match=r"0002/seed0: No space left.*the same command goes on")
    with full, monkeypatch.context() as patch:
        if what != "full":  # the message found no space either
            patch.setattr(worker.shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
        work(study(directory))
    (directory / "what").write_text("")
    found = study(directory)
    work(found)
    assert {(r["state"], r["attempts"]) for r in found.records()} == {
        ("complete", 1),
        ("complete", 2),
    }


def test_a_run_that_is_refused_is_not_tried_again(directory):
    (directory / "what").write_text("refuse")
    found = study(directory)
    said = work(found)
    record = found.records()[2]
    assert (record["state"], record["attempts"]) == ("fail", 1)
    assert starts(directory).count("0002/seed0") == 1
    assert any(line.endswith("left out: no such thing") for line in said)


def test_workers_join_and_leave_and_one_is_killed(directory, monkeypatch):
    monkeypatch.setenv("SLOW", "0.3")
    text = "optimizer.learning_rate=[0.1,0.2,0.4,0.5,0.6,0.7]"
    study(directory, text)
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_work_in_process, args=(directory, text)) for _ in range(3)]
    for process in workers[:2]:
        process.start()
    deadline = time.monotonic() + 60
    while not any(directory.glob("trials/*/seed0/history.json")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    held = [json.loads(path.read_text())["pid"] for path in directory.glob("trials/*/worker.json")]
    killed = next(process for process in workers if process.pid in held)
    killed.kill()
    killed.join()  # before that it is a process still, as far as others can see
    workers[2].start()
    for process in workers:
        process.join(60)
    assert [process.exitcode for process in workers if process is not killed] == [0, 0]
    records = study(directory, text).records()
    assert [(r["state"], r["value"]) for r in records] == [
        ("complete", value) for value in (0.1, 0.2, 0.4, 0.5, 0.6, 0.7)
    ]
    attempts = {f"{r['place']}/seed0": r["attempts"] for r in records}
    assert sum(attempts.values()) == 7  # the killed worker's setting was tried twice
    # The run of the killed worker went on by itself, or was started again once.
    assert len(starts(directory)) in (6, 7)


def test_a_worker_that_was_silent_for_too_long_leaves_its_setting_alone(directory):
    found = study(directory, "optimizer.learning_rate=[0.1]")
    before = found.take()
    assert before is not None
    held = before.directory / "worker.json"
    os.utime(held, (0, 0))
    after = found.take()
    assert after is not None
    assert after.place == before.place
    with pytest.raises(LostError):
        before.report(1, 0.5)
    with pytest.raises(LostError):
        before.finish([0.5], 1.0)
    before.release()
    assert held.exists()
    after.finish([0.7], 1.0)
    assert [r["value"] for r in found.records()] == [0.7]


def test_settings_that_fall_behind_are_stopped_early(directory):
    text = "optimizer.learning_rate=[0.4,0.3,0.2,0.1]"
    found = study(directory, text, prune="asha")
    work(found)
    states = [r["state"] for r in found.records()]
    assert states[0] == "complete"
    assert "pruned" in states[1:]
    pruned = next(r for r in found.records() if r["state"] == "pruned")
    assert pruned["epochs"] < 3
    assert RunDirectory(directory / "trials" / pruned["place"] / "seed0").status() == "pruned"


def test_a_stopped_worker_gives_its_setting_back(directory, monkeypatch):
    monkeypatch.setenv("SLOW", "0.3")
    found = study(directory)
    begun = directory / "trials/0000/seed0/history.json"
    with pytest.raises(processes.Stopped):
        work(found, stop=begun.exists)
    assert [r["state"] for r in found.records()] == ["interrupted"]
    monkeypatch.setenv("SLOW", "0.02")
    work(found)
    assert [r["state"] for r in found.records()] == ["complete"] * 4
    assert json.loads((directory / "sweep.json").read_text()) == found.records()


def test_successive_halving_compares_with_no_attempt_that_was_given_up(directory):
    found = study(directory, SPACE, prune="asha")
    values = iter((0.9, 0.9, 0.5, 0.4))
    place = found.directory / "trials" / "0000" / "worker.json"
    for _ in range(2):
        trial = found.take()
        assert trial is not None
        assert not trial.report(1, next(values))
        if place.exists():
            trial.release()
    for pruned in (True, True):  # two had 0.9, and only one of them counts: a third of three is one
        trial = found.take()
        assert trial is not None
        assert trial.report(1, next(values)) is pruned
        assert not trial.report(2, 0.0)


def test_a_run_of_another_setting_is_not_taken_for_that_of_this_one(directory):
    work(study(directory, "optimizer.learning_rate=[0.1]"))
    (directory / "study.journal").unlink()
    with pytest.raises(RunError, match="trials/0000/seed0 holds a run of another setting"):
        work(study(directory, "optimizer.learning_rate=[0.2]"))


@pytest.mark.parametrize("method", ["random", "tpe"])
def test_random_and_tpe_try_as_many_settings_as_asked_for(directory, method):
    text = "optimizer.learning_rate=log(1e-3,1) model.name=[lenet5,mlp]"
    found = study(directory, text, method=method, trials=5)
    threads = [
        threading.Thread(target=work, args=(study(directory, text, method=method, trials=5),))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    records = found.records()
    assert len(records) == 5
    assert all(1e-3 <= r["setting"]["optimizer.learning_rate"] <= 1 for r in records)
    assert {r["state"] for r in records} == {"complete"}


def test_tpe_repeats_with_its_seed_and_two_workers_draw_differently(tmp_path):
    def drawn(place, workers):
        (tmp_path / place).mkdir()
        text = "optimizer.learning_rate=log(1e-3,1)"
        studying = [study(tmp_path / place, text, method="tpe", trials=4) for _ in range(workers)]
        trials = [studying[i % workers].take() for i in range(4)]
        return [trial.setting["optimizer.learning_rate"] for trial in trials if trial]

    first = drawn("a", 1)
    assert drawn("b", 1) == first
    assert len(set(first)) == 4
    assert len(set(drawn("c", 2))) == 4


def test_storage_that_cannot_be_opened_is_one_line(directory):
    with pytest.raises(RunError, match="storage cannot be opened") as error:
        study(directory, storage="nonsense://x")
    assert "\n" not in str(error.value)


def test_sweeps_share_a_database_and_nothing_else(directory, tmp_path):
    storage = f"sqlite:///{tmp_path}/studies.db"
    namesake = tmp_path / "other" / directory.name
    namesake.mkdir(parents=True)
    (namesake / "what").write_text("")
    (namesake.parent / "training.py").write_text(TRAINING)
    for place, text in ((directory, SPACE), (namesake, "optimizer.learning_rate=[0.5]")):
        work(study(place, text, storage=storage))
    work(study(directory, storage=storage))  # started again, it finds its own
    assert starts(directory) == [f"000{i}/seed0" for i in range(4)]
    assert starts(namesake) == ["0000/seed0"]
    records = study(namesake, "optimizer.learning_rate=[0.5]", storage=storage).records()
    assert [r["value"] for r in records] == [0.5]


def test_more_trials_continue_a_random_search(directory):
    text = "optimizer.learning_rate=log(1e-3,1)"
    work(study(directory, text, method="random", trials=2))
    found = study(directory, text, method="random", trials=4)
    work(found)
    rates = [r["setting"]["optimizer.learning_rate"] for r in found.records()]
    dimensions = space.parse(text, BASE)
    planned = space.sample(dimensions, BASE, 4, BASE.seed)
    assert rates == [setting["optimizer.learning_rate"] for setting in planned]


def test_a_combination_that_is_not_legal_is_left_out_where_nothing_is_planned(
    directory, monkeypatch
):
    monkeypatch.setattr(sys.modules[__name__], "BASE", Experiment(optimizer=ADAMW, train=TRAIN))
    text = "optimizer.name=[adam,adamw] optimizer.weight_decay=[0.0,0.1] train.epochs=int(1,3)"
    found = study(directory, text, method="tpe", trials=12)
    work(found)
    states = []
    for record in found.records():
        name, decay, _ = record["setting"].values()
        legal = (name, decay) != ("adam", 0.1)
        assert record["state"] == ("complete" if legal else "fail")
        states.append(record["state"])
    assert len(states) == 12


def test_a_setting_that_loses_its_worker_again_and_again_is_given_up(directory):
    found = study(directory, "optimizer.learning_rate=[0.1]")
    for _ in range(MOST_ATTEMPTS):
        trial = found.take()
        assert trial is not None
        assert trial.place == "0000"
        (trial.directory / "worker.json").write_text('{"host": "elsewhere", "pid": 1}')
        os.utime(trial.directory / "worker.json", (0, 0))  # long ago
    assert found.take() is None
    (record,) = found.records()
    assert (record["state"], record["attempts"]) == ("fail", MOST_ATTEMPTS)


def test_giving_back_is_no_failure(directory):
    found = study(directory, "optimizer.learning_rate=[0.1]")
    for _ in range(2 * MOST_ATTEMPTS):
        trial = found.take()
        assert trial is not None
        trial.release()
    work(found)
    assert [r["state"] for r in found.records()] == ["complete"]


def test_a_setting_that_waits_to_be_taken_again_is_shown_with_its_values(directory):
    found = study(directory)
    taken = found.take()
    assert taken is not None
    taken.release()
    other = found.take()  # the one that was given back waits behind it
    assert other is not None
    assert other.place == "0001"
    records = results.write(found, BASE).records
    assert [(r["place"], r["setting"], r["state"]) for r in records] == [
        ("0000", {"optimizer.learning_rate": 0.1}, "waiting"),
        ("0001", {"optimizer.learning_rate": 0.2}, "running"),
    ]


def test_a_run_that_outlived_its_worker_is_waited_for(directory):
    found = study(directory, "optimizer.learning_rate=[0.1]")
    orphan = RunDirectory(directory / "trials/0000/seed0")
    orphan.path.mkdir(parents=True)
    done = threading.Event()
    with orphan.locked():
        assert orphan.is_locked()
        worker_thread = threading.Thread(target=lambda: (work(found), done.set()))
        worker_thread.start()
        assert not done.wait(1.0)
        history = [{"epoch": e, "validation_accuracy": 0.7, "seconds": 1.0} for e in (1, 2, 3)]
        orphan.write("history", history)
        recorder.set_status(orphan, "finished")
    assert not orphan.is_locked()
    assert done.wait(30)
    assert not (directory / "starts").exists()  # nothing was trained again
    assert [r["value"] for r in found.records()] == [0.7]


def done_within(seconds, action):
    """Runs an action in a thread, and returns whether it ended in time, and not by an error."""
    ended = threading.Event()
    threading.Thread(target=lambda: (action(), ended.set()), daemon=True).start()
    return ended.wait(seconds)


def test_a_lock_that_an_older_version_left_in_a_directory_that_moved_stops_nothing(directory):
    left = directory / "study.journal.lock"
    left.symlink_to(directory.parent / "moved away" / "study.journal")
    assert done_within(30, lambda: study(directory).take())
    assert left.is_symlink()


def test_the_journal_is_locked_by_a_file_where_the_file_system_has_no_locks(directory, monkeypatch):
    def no_locks(file, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks.fcntl, "flock", no_locks)
    found = study(directory)
    assert found.take() is not None
    assert not list(directory.glob(".*.soft"))  # they are let go
    soft = directory / ".study.journal.lock.soft"
    soft.write_text("")
    assert not done_within(0.3, found.take)
    soft.unlink()


def test_a_journal_that_a_power_cut_tore_goes_on(directory):
    found = study(directory)
    assert found.take() is not None
    journal = directory / "study.journal"
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code": 5, "work')
    second = study(directory)
    assert second.take() is not None
    assert [record["place"] for record in study(directory).records()] == ["0000", "0001"]
    lines = journal.read_bytes().splitlines()
    assert all(json.loads(line) for line in lines)
    journal.write_bytes(b"nonsense\n" + whole)
    with pytest.raises(RunError, match=r"study\.journal is damaged; move it away"):
        study(directory)


@pytest.mark.parametrize("content", ["", '{"na', "[]", '{"name": 3}', None])
def test_a_damaged_study_json_is_made_anew_from_the_journal(directory, content):
    found = study(directory)
    name = found._study.study_name
    path = directory / "study.json"
    path.unlink() if content is None else path.write_text(content)
    assert study(directory)._study.study_name == name
    assert json.loads(path.read_text()) == {"name": name}


def test_a_damaged_study_json_is_not_guessed_at_in_a_storage_of_others(directory, tmp_path):
    storage = f"sqlite:///{tmp_path}/studies.db"
    name = study(directory, storage=storage)._study.study_name
    (directory / "study.json").write_text("")
    with pytest.raises(RunError, match=rf"study\.json is damaged.*{name}"):
        study(directory, storage=storage)


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"host": 1, "pid": 1}', '{"host": "a", "pid": 1e400}', '{"pid": 2}'],
)
def test_a_setting_whose_worker_json_is_damaged_is_taken_over(directory, content):
    found = study(directory, "optimizer.learning_rate=[0.1]")
    trial = found.take()
    assert trial is not None
    (trial.directory / "worker.json").write_text(content)
    again = found.take()
    assert again is not None
    assert again.place == trial.place


def test_every_setting_is_trained_on_every_fold_and_ranked_by_the_mean(directory):
    found = study(directory, "optimizer.learning_rate=[0.1,0.2]", folds=3, seeds=2)
    work(found)
    names = [f"seed{seed}_fold{fold}" for seed in (0, 1) for fold in (1, 2, 3)]
    assert starts(directory) == sorted(f"{place}/{n}" for place in ("0000", "0001") for n in names)
    config = json.loads((directory / "trials/0001/seed1_fold2/config.json").read_text())
    assert (config["seed"], config["dataset"]["fold"]) == (1, "2/3")
    assert [(r["seeds"], round(r["value"], 9)) for r in found.records()] == [(6, 0.1), (6, 0.2)]
    assert collapse.largest_share_of(directory) == pytest.approx(0.7)  # of each fold
    written = results.write(found, BASE)
    best = json.loads((directory / "best.json").read_text())
    assert best["dataset"]["fold"] is None  # the best is trained on all images
    assert len(written.complete) == 2


def test_where_loss_chooses_the_smallest_is_the_best_and_divergence_the_worst(directory):
    """Settings are taken and told by hand; ASHA stops the one with the larger loss."""
    base = BASE.replace({"train.select": "loss"})
    made = Sweep(space="optimizer.learning_rate=[0.1,0.2,0.3]", method="grid", prune="asha")
    dimensions = space.parse(str(made.space), base)
    found = Study(directory, made, dimensions, base, space.planned(made, dimensions, base))
    first, second, third = found.take(), found.take(), found.take()
    assert first is not None
    assert second is not None
    assert third is not None
    assert not first.report(1, 0.4)
    assert second.report(1, 0.9)
    first.finish([0.3, 0.5], 1.0)
    second.finish([0.2], 1.0)
    third.diverge(1.0)
    values = [record["value"] for record in found.write_records()]
    assert values == [pytest.approx(0.4), pytest.approx(0.2), None]
    assert found._study.best_trial.params == {"optimizer.learning_rate": 0.2}
    written = results.write(found, base)
    assert [record["value"] for record in written.complete] == [pytest.approx(0.2), 0.4]
    assert written.largest_share is None
    lines = results.table(written).splitlines()
    assert "validation loss" in lines[0]
    assert "0.2000" in lines[2]
    with pytest.raises(UsageError, match=r"judged by one train\.select"):
        space.parse("train.select=[auc,loss]", base)
