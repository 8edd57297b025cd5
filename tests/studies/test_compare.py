"""Runs side by side: folded, chosen, sorted, judged, printed."""

import json
import re
from typing import Any

import pytest

from cnn_jax import experiment, files
from cnn_jax.cli import compare, flags
from cnn_jax.errors import RunError, UsageError
from cnn_jax.experiment import Experiment
from cnn_jax.runs import recorder
from cnn_jax.runs.directory import RunDirectory
from cnn_jax.studies import compare as studied
from cnn_jax.studies import summaries
from tests.tiny import data_json


def make(path, accuracies, seed=0, status: Any = "finished", test=None, said=None, **settings):
    said = {} if said is None else {"never_predicted": [0] * (2 - said)}
    changes = {name.replace("__", "."): value for name, value in settings.items()}
    directory = RunDirectory(path)
    directory.create()
    config = experiment.replace(Experiment(name="made"), {"seed": seed, **changes})
    directory.write("config", experiment.to_dict(config))
    counts = {"validation": [450, 550]}
    directory.write("data", data_json(sizes={"validation": 1000}, class_counts=counts))
    recorder.set_status(directory, status)
    directory.write(
        "history",
        [
            {"epoch": i, "validation_accuracy": accuracy, "seconds": 10.0 * i, **said}
            for i, accuracy in enumerate(accuracies, start=1)
        ],
    )
    if test is not None:
        recorder.update_result(directory, "evaluation", {"test": {"accuracy": test}})
    return path


@pytest.fixture
def tree(tmp_path):
    for seed, (a, b, c) in enumerate([(0.90, 0.80, 0.901), (0.91, 0.81, 0.908), (0.92, 0.79, 0.9)]):
        make(tmp_path / f"a{seed}", [0.5, a], seed, test=a - 0.01, model__name="lenet5")
        make(tmp_path / f"b{seed}", [0.85, b], seed, model__name="mlp")
        make(tmp_path / f"deep/c{seed}", [c], seed, model__name="mnist_cnn")
    make(tmp_path / "d", [], status="diverged", model__name="mlp", optimizer__learning_rate=9.0)
    return tmp_path


def compared(capsys, *arguments):
    assert compare.run_command(flags.parse(["compare", *map(str, arguments)])) == 0
    return capsys.readouterr().out


def test_seeds_are_folded_and_only_what_differs_is_shown(tree):
    lines = studied.table(studied.compare([str(tree)]), width=200).splitlines()
    assert lines[0].split()[:3] == ["model.name", "optimizer.learning_rate", "n"]
    rows = {line.split()[0] + line.split()[1]: line for line in lines[2:6]}
    assert re.search(
        "0.9100 ± 0.0100 +0.9000 ± 0.0100 +0.9100 ± 0.0100", rows["lenet50.001"]
    )  # best, test, last
    assert rows["lenet50.001"].endswith("best")
    assert "tie (p = " in rows["mnist_cnn0.001"]
    assert "less (p = " in rows["mlp0.001"]
    assert "diverged" in rows["mlp9"]
    assert lines[2].startswith("lenet5")  # the best first, what has no accuracy last
    assert lines[5].split()[1] == "9"
    assert "paired)" in rows["mlp0.001"]


def test_the_best_is_the_one_of_the_best_checkpoint_and_the_first_row(tmp_path, capsys):
    for seed in (0, 1):
        make(tmp_path / f"a{seed}", [0.95, 0.70], seed, model__name="lenet5")
        make(tmp_path / f"b{seed}", [0.70, 0.80], seed, model__name="mlp")
    found = json.loads(compared(capsys, tmp_path, "--format=json"))
    assert found[0]["settings"]["model.name"] == "lenet5"
    assert found[0]["note"] == "best"
    assert found[1]["note"].startswith("less")


def test_settings_that_change_no_result_neither_part_groups_nor_are_shown(tmp_path, capsys):
    for seed, (batch, keep) in enumerate([(100, 1), (200, 2), (300, 3)]):
        make(
            tmp_path / f"a{seed}",
            [0.9],
            seed,
            dataset__eval_batch_size=batch,
            checkpoint__keep=keep,
            logging__figures_every=None,
        )
    again = make(tmp_path / "again", [0.9], 1, dataset__eval_batch_size=50)
    (head, _, *rows) = compared(capsys, tmp_path).splitlines()[:4]
    assert head.split()[:2] == ["name", "n"]
    assert sorted(row.split()[1] for row in rows) == ["1", "3"]  # a repetition is no fourth seed
    csv_head = compared(capsys, tmp_path, "--format=csv").splitlines()[0]
    assert "dataset.eval_batch_size,checkpoint.keep" in csv_head
    make(again, [0.9], 1, dataset__on_error="skip")  # other images
    assert "dataset.on_error" in compared(capsys, tmp_path)


def test_folds_are_folded_as_seeds_are(tmp_path, capsys):
    better = {1: 0.90, 2: 0.92, 3: 0.91, 4: 0.95}
    for fold, accuracy in better.items():
        make(tmp_path / f"a{fold}", [accuracy], dataset__fold=f"{fold}/4", model__name="lenet5")
        for seed in (0, 1):
            worse = [accuracy - 0.1 + seed / 1000]
            make(
                tmp_path / f"b{fold}{seed}",
                worse,
                seed,
                dataset__fold=f"{fold}/4",
                model__name="mlp",
            )
        if fold < 3:
            more: Any = {"dataset__fold": f"{fold}/4", "model__name": "study_cnn"}
            make(tmp_path / f"c{fold}", [0.85], **more)
        make(tmp_path / f"d{fold}", [0.99], seed=fold, model__name="mnist_cnn")  # of no fold
    found = json.loads(compared(capsys, tmp_path, "--format=json"))
    groups = {group["settings"]["model.name"]: group for group in found}
    assert groups["lenet5"]["n"] == 4
    assert groups["lenet5"]["metrics"]["best_validation_accuracy"]["mean"] == pytest.approx(0.92)
    accuracy = groups["lenet5"]["metrics"]["best_validation_accuracy"]
    assert accuracy["std"] == pytest.approx(0.0216, abs=1e-4)
    assert groups["lenet5"]["settings"]["dataset.fold"] == "*/4"
    assert (groups["lenet5"]["note"], groups["mnist_cnn"]["note"]) == ("best", "")
    assert re.fullmatch(r"less \(p = \S+, paired by fold\)", groups["mlp"]["note"])
    assert groups["mlp"]["n"] == 8
    assert (groups["study_cnn"]["folds"], groups["study_cnn"]["note"]) == (
        "1,2 of 4",
        "other folds",
    )
    lines = studied.table(studied.compare([str(tmp_path)]), width=300).splitlines()
    assert re.search(r" n +folds +epochs ", lines[0])
    assert any("4 of 4" in line and "best" in line for line in lines)
    assert "2/4" in compared(capsys, tmp_path, "--format=csv")
    compared(capsys, tmp_path, f"--output={tmp_path}/folds.png")
    only = json.loads(compared(capsys, tmp_path, "--where=dataset.fold=*/4", "--format=json"))
    assert len(only) == 3


def test_a_wide_table_is_continued_below_and_a_file_has_all(tmp_path, capsys, monkeypatch):
    folders = [f"/photographs/{'very/long/' * 20}{i}" for i in range(3)]
    for i, model in enumerate(("lenet5", "mlp", "study_cnn")):
        for seed in (0, 1):
            make(
                tmp_path / f"{i}{seed}",
                [0.8 + i / 100, 0.7],
                seed,
                test=0.7,
                dataset__name="folder",
                dataset__path=folders[i],
                model__name=model,
                optimizer__learning_rate=0.1 / (i + 1),
                optimizer__ema_decay=0.9 + i / 100,
                train__label_smoothing=i / 10,
            )
    text = compared(capsys, tmp_path)
    assert max(map(len, text.splitlines())) <= 120
    blocks = text.split("\n\n")
    numbered = [block for block in blocks if block.startswith("#")]
    assert len(numbered) > 1
    first, *others = numbered
    assert re.match("#  n  epochs  validation \\(best\\)  test \\(best\\) +status", first)
    assert all([line.split()[0] for line in b.splitlines()[2:]] == ["1", "2", "3"] for b in others)
    assert f"dataset.path (1) = {folders[2]}" in text.replace("\n", "")
    # Never wider than the terminal, and a Markdown table is one.
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "64")
    assert max(map(len, compared(capsys, tmp_path).splitlines())) <= 64
    assert folders[0] in compared(capsys, tmp_path, "--format=markdown")
    assert folders[0] in compared(capsys, tmp_path, "--format=csv")


def test_where_and_sort(tree, capsys):
    text = compared(capsys, tree, "--where=model.name=mlp", "--format=csv")
    assert len(text.splitlines()) == 5
    assert {line.split(",")[1] for line in text.splitlines()[1:]} == {"made"}
    kept = json.loads(
        compared(capsys, tree, "--where=validation_accuracy>0.85,seconds<15", "--format=json")
    )
    assert [len(g["runs"]) for g in kept] == [3]
    assert kept[0]["settings"] == {}
    assert kept[0]["metrics"]["validation_accuracy"]["mean"] == pytest.approx(0.903)
    slow = json.loads(compared(capsys, tree, "--sort=-seconds", "--format=json"))
    assert slow[0]["metrics"]["seconds"]["mean"] == 20
    by_name = json.loads(compared(capsys, tree, "--sort=model.name", "--format=json"))
    names = [g["settings"]["model.name"] for g in by_name]
    assert names == sorted(names)


def test_markdown_and_figure(tree, capsys, tmp_path):
    output = tmp_path / "figures" / "compare.png"
    text = compared(capsys, tree, "--format=markdown", f"--output={output}")
    assert text.startswith("| model.name | optimizer.learning_rate | n |")
    assert output.read_bytes().startswith(b"\x89PNG")
    json.loads(compared(capsys, tree, "--format=json", f"--output={output}"))  # and nothing else


def test_one_seed_proves_nothing(tmp_path, capsys):
    make(tmp_path / "a", [0.9], model__name="lenet5")
    make(tmp_path / "b", [0.5], model__name="mlp")
    assert "one seed" in compared(capsys, tmp_path)


def test_only_finished_runs_are_judged(tmp_path, capsys):
    for seed in (0, 1):
        make(tmp_path / f"a{seed}", [0.8 + seed / 100], seed, model__name="lenet5")
        make(tmp_path / f"b{seed}", [0.7], seed + 1, model__name="mlp")
        early: Any = ("pruned", "diverged")[seed]
        make(tmp_path / f"c{seed}", [0.99], seed, status=early, model__name="mnist_cnn")
    found = json.loads(compared(capsys, tmp_path, "--format=json"))
    notes = {group["settings"]["model.name"]: group["note"] for group in found}
    assert notes["lenet5"] == "best"
    assert notes["mlp"].endswith("Welch)")  # of other seeds
    assert notes["mnist_cnn"] == ""
    assert "less" in compared(capsys, tmp_path, "--format=csv")


def test_a_run_that_says_one_class_only_is_shown_and_not_judged(tmp_path, capsys):
    for seed in (0, 1, 2):
        make(tmp_path / f"a{seed}", [0.7 + seed / 100], seed, said=2, model__name="lenet5")
        make(tmp_path / f"b{seed}", [0.55], seed, said=1, model__name="mlp")
        make(tmp_path / f"c{seed}", [0.55], seed, model__name="mnist_cnn")  # of an older version
    found = json.loads(compared(capsys, tmp_path, "--format=json"))
    status = {group["settings"]["model.name"]: group["status"] for group in found}
    assert status == {"lenet5": "finished", "mlp": "collapsed", "mnist_cnn": "finished"}
    notes = {group["settings"]["model.name"]: group["note"] for group in found}
    assert notes["mlp"] == ""
    assert "less" in notes["mnist_cnn"]  # an accuracy alone proves nothing
    text = compared(capsys, tmp_path)
    assert "collapsed: the network says one class only; it is shown and not compared" in text
    assert "largest class alone: 0.5500 of the validation images" in text
    assert "status=collapsed" not in compared(capsys, tmp_path, "--where=status=collapsed")


def evaluated(path, **accuracies):
    """Adds evaluations on test: {"step20": accuracy}."""
    directory = RunDirectory(path)
    for step, accuracy in accuracies.items():
        record = {"accuracy": accuracy, "checkpoint_step": int(step.removeprefix("step"))}
        recorder.add_evaluation(directory, "test", record)


def test_accuracies_beside_each_other_are_of_one_checkpoint(tmp_path, capsys):
    # The best epoch is the first; the history of `make` says no steps.
    for name, model in (("a", "lenet5"), ("b", "mlp")):
        path = make(tmp_path / name, [0.9, 0.8], model__name=model)
        history = files.read_json(path / "history.json")
        RunDirectory(path).write("history", [{**h, "step": 10 * h["epoch"]} for h in history])
    evaluated(tmp_path / "a", step10=0.88, step20=0.78)
    evaluated(tmp_path / "b", step20=0.77)
    found = json.loads(compared(capsys, tmp_path, "--format=json"))
    metrics = {group["settings"]["model.name"]: group["metrics"] for group in found}
    a, b = metrics["lenet5"], metrics["mlp"]
    assert (a["test_accuracy"]["values"], a["test_accuracy"]["steps"]) == ([0.88], [10])
    assert a["best_validation_accuracy"]["steps"] == [10]
    assert (a["last_test_accuracy"]["values"], a["last_test_accuracy"]["steps"]) == ([0.78], [20])
    assert "test_accuracy" not in b  # that of another checkpoint does not stand in for it
    assert b["last_test_accuracy"]["values"] == [0.77]
    head = compared(capsys, tmp_path).splitlines()[0]
    assert re.search(r"validation \(best\) +test \(best\).* best step +validation \(last\)", head)
    rows = compared(capsys, tmp_path, "--format=csv").splitlines()
    assert "best_step,last_step" in rows[0]
    assert ",10,20," in rows[1]


def test_an_evaluation_of_a_checkpoint_between_is_left_out_and_said(tmp_path, capsys):
    path = make(tmp_path / "a", [0.9, 0.8])
    RunDirectory(path).write(
        "history",
        [{"step": s, "epoch": s, "seconds": 1, "validation_accuracy": 1 / s} for s in (1, 2, 3)],
    )
    # As an older version wrote it: whatever was evaluated last stands for the run.
    record = {"accuracy": 0.4, "checkpoint_step": 2}
    recorder.update_result(RunDirectory(path), "evaluation", {"test": record})
    assert compare.run_command(flags.parse(["compare", str(tmp_path)])) == 0
    output = capsys.readouterr()
    assert "test (" not in output.out
    assert "is of step 2, neither its best nor its last checkpoint" in output.err
    evaluated(path, step1=0.5)
    assert '"test_accuracy"' in compared(capsys, tmp_path, "--format=json")
    result = files.read_json(path / "result.json")
    assert result["evaluation"]["test"]["accuracy"] == 0.5
    assert result["other_checkpoints"]["test"]["2"]["accuracy"] == 0.4


def test_runs_named_twice_count_once(tree, capsys):
    given = json.loads(compared(capsys, tree / "a0", tree / "a0", "--format=json"))
    assert given[0]["n"] == 1


def test_a_repetition_is_no_sample_of_its_group(tmp_path, capsys):
    for place, seed in (("a", 0), ("b", 1), ("again", 1)):
        make(tmp_path / place, [0.9], seed)
    found = json.loads(compared(capsys, tmp_path, "--format=json"))
    assert sorted(group["n"] for group in found) == [1, 2]


@pytest.mark.parametrize("content", ['{"model_type": "bert"}', "[1]", "not JSON"])
def test_what_is_no_run_is_left_out_of_a_tree_and_said(tree, capsys, content):
    (tree / "deep" / "bert").mkdir()
    (tree / "deep" / "bert" / "config.json").write_text(content)
    assert compare.run_command(flags.parse(["compare", str(tree), "--format=json"])) == 0
    output = capsys.readouterr()
    assert len(json.loads(output.out)) == 4
    (line,) = output.err.splitlines()
    assert line.startswith("left out: ")
    assert "bert/config.json" in line
    with pytest.raises(RunError, match=r"bert/config\.json"):
        summaries.find([str(tree / "deep" / "bert")], print)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "compare needs RUN..."),
        (["nowhere"], "there is no directory nowhere"),
        (["{}", "--where=model.nam=x"], "did you mean model.name"),
        (["{}", "--where=model.name"], "NAME=VALUE"),
        (["{}", "--where=model.name<3"], "compares numbers"),
        (["{}", "--where=model.name=vgg16"], "leaves none"),
        (["{}", "--sort=secnds"], "did you mean seconds"),
        (["{}", "--sort=seed"], "no setting or metric 'seed'"),
        (["{}", "--where=seed=1"], "no setting or metric 'seed'"),
        (["{}", "--where=checkpoint.keep=2"], "checkpoint.keep changes no result"),
        (["{}", "--model.name=mlp"], "compare takes no model.name; name directories, and give"),
        (["{}/empty"], "there is no run in"),
    ],
)
def test_mistakes_are_one_line(tree, arguments, message):
    (tree / "empty").mkdir()
    arguments = [a.replace("{}", str(tree)) for a in arguments]
    with pytest.raises(UsageError) as error:
        compare.run_command(flags.parse(["compare", *arguments]))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_runs_that_the_same_metric_chose_are_judged_by_it(tmp_path, capsys):
    """Of the loss the smaller one is better, of AUC the larger one; mixed runs by accuracy."""

    def written(name, metric, values, seed, **settings):
        path = make(tmp_path / f"{name}{seed}", [0.8, 0.7], seed, train__select=metric, **settings)
        directory = RunDirectory(path)
        history = directory.read("history")
        for record, value in zip(history, values, strict=True):
            record |= {"select": metric, f"validation_{metric}": value}
        directory.write("history", history)

    for seed in (0, 1):
        written("a", "loss", [0.5, 0.3 + seed / 100], seed, model__name="lenet5")
        written("b", "loss", [0.9, 0.8], seed, model__name="mlp")
    found = json.loads(compared(capsys, tmp_path, "--format=json"))
    assert [each["settings"]["model.name"] for each in found] == ["lenet5", "mlp"]
    assert found[0]["note"] == "best"
    assert found[0]["metrics"]["best_validation_loss"]["values"] == [0.3, 0.31]
    # The accuracy of the checkpoint that the loss chose, not the best accuracy.
    assert found[0]["metrics"]["best_validation_accuracy"]["mean"] == 0.7
    assert "loss (best)" in compared(capsys, tmp_path)
    for seed in (0, 1):
        written("c", "auc", [0.9, 0.6], seed, model__name="alexnet")
    mixed = json.loads(compared(capsys, tmp_path, "--format=json"))
    assert mixed[0]["settings"]["model.name"] == "alexnet"  # 0.8 at its first epoch
    only = json.loads(compared(capsys, tmp_path / "c0", tmp_path / "c1", "--format=json"))
    assert only[0]["metrics"]["best_validation_auc"]["mean"] == 0.9


def test_runs_chosen_by_two_kinds_of_kappa_are_no_seeds_of_one_setting(tmp_path):
    for seed, select in ((0, "kappa"), (2, "accuracy")):
        for more, ordered in enumerate((False, True)):
            path = tmp_path / select / str(more)
            make(path, [0.9], seed + more, train__select=select, dataset__ordered=ordered)
    assert len(studied.compare([str(tmp_path / "kappa")]).groups) == 2
    assert len(studied.compare([str(tmp_path / "accuracy")]).groups) == 1
