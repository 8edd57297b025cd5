"""The benchmark's own arithmetic, and that it runs; nothing here measures speed."""

import dataclasses
import json
import sys

import numpy as np
import pytest

import cnn_jax
from benchmarks import airbench, augmentation, retina, run
from benchmarks.peers import networks, ours, plan, report
from benchmarks.peers.plan import PEERS, WORKLOADS, Cell, Workload
from cnn_jax import experiment, trees
from cnn_jax.errors import RunError
from cnn_jax.runs import directory as run_directory
from cnn_jax.runs import recorder
from cnn_jax.training.parts import Parts

STUDY = {"study": Workload("train", reorders=True, target=1.2)}


def record(peer, seconds, *, variant="", number=0, kept=True, workload="study", **more):
    made = {"workload": workload, "peer": peer, "variant": variant, "round": number}
    return {
        **made,
        "seconds": seconds,
        "images": 100,
        "kept": kept,
        "foreign": 0.0,
        "memory_mib": 100.0,
        "flops": 10**7,
        **more,
    }


def test_foreign_share_leaves_out_our_own_time():
    # 10 s on two cores, of which 14 s are busy, of which 13 s are our own: 1 of 20.
    assert report.foreign_share((5, 100, 50), (15, 114, 63), 2) == pytest.approx(0.05)
    assert report.foreign_share((0, 0, 0), (10, 19.9, 20), 2) == 0


def test_usage_counts_a_worker_as_our_own():
    before = run.usage()
    if before is None:
        pytest.skip("this system does not tell the use of its processors")
    sum(range(10**6))
    after = run.usage()
    assert after is not None
    assert all(b >= a for a, b in zip(before, after, strict=True))


def test_turns_rotate():
    cells = [Cell("ours"), Cell("torch"), Cell("keras-tf")]
    assert [run.rotated(cells, number)[0] for number in range(4)] == [*cells, cells[0]]
    assert sorted(run.rotated(cells, 1)) == sorted(cells)


def test_losses_that_agree_pass():
    reference = [2.0, 1.0]
    found = {
        Cell("ours"): reference,
        Cell("torch"): [2.0001, 1.00009],
        Cell("torch-bf16"): [2.03, 0.99],
    }
    report.check_losses("study", found)


@pytest.mark.parametrize("wrong", [1.0002, float("nan")])
def test_losses_that_differ_are_refused_by_step_and_value(wrong):
    found = {Cell("ours"): [2.0, 1.0], Cell("torch", "reordered"): [2.0, wrong]}
    with pytest.raises(RunError, match=rf"study.*step 2 is {wrong:.7g} with torch, reo.* 1 with"):
        report.check_losses("study", found)


def test_summary_has_the_median_of_kept_rounds_and_the_ratio():
    records = [record("ours", seconds, number=i) for i, seconds in enumerate([1.0, 0.5, 2.0])]
    records += [record("torch", 2.0), record("torch", 100.0, kept=False)]
    records += [record("ours", 1.0, workload="ceiling", images=1, flops=10**10)]
    workloads = {"ceiling": Workload("product"), **STUDY}
    ceiling, mine, torch = report.summarize(records, workloads)
    assert (mine["median"], mine["minimum"], mine["maximum"]) == (100, 50, 200)
    assert (torch["median"], torch["rounds"], torch["dropped"]) == (50, 1, 1)
    assert torch["ratio"] == pytest.approx(2)
    assert mine["gflops"] == pytest.approx(1)
    assert ceiling["gflops"] == pytest.approx(10)
    assert mine["ceiling_share"] == pytest.approx(0.1)


def test_a_cell_without_a_kept_round_is_shown_as_such():
    rows = report.summarize([record("ours", 1.0, kept=False)], STUDY)
    assert rows[0]["median"] is None
    assert rows[0]["dropped"] == 1
    assert report.verdicts(rows, STUDY) == []
    report.tabulate(rows, [])
    report.draw(rows, [], STUDY)


def test_targets_are_judged_against_the_fastest_peer_of_their_kind():
    records = [
        record("ours", 1.2, memory_mib=100.0),
        record("ours-xla", 1.0, memory_mib=120.0),
        record("torch", 1.5),
        record("keras-tf", 1.25, memory_mib=200.0),
        record("torch", 1.1, variant="reordered"),
        record("torch-bf16", 0.5, memory_mib=10.0),
        record("keras-tf-malloc", 1.2, memory_mib=200.0),
    ]
    found = {v["what"]: v for v in report.verdicts(report.summarize(records, STUDY), STUDY)}
    speed, installed, graph, half, memory = found.values()
    assert (speed["ours"], speed["peer"], speed["met"]) == ("ours-xla", "keras-tf-malloc", True)
    assert speed["ratio"] == pytest.approx(1.2)
    assert (installed["peer"], installed["ratio"]) == ("keras-tf", pytest.approx(1.25))
    assert (graph["peer"], graph["met"]) == ("torch", True)
    assert graph["ratio"] == pytest.approx(1.1)
    assert (half["peer"], half["ratio"], half["met"]) == ("torch-bf16", 0.5, False)
    assert (memory["peer"], memory["ratio"], memory["met"]) == ("torch", 1.2, False)


def test_fewer_seconds_are_faster():
    workloads = {"start": Workload("start", target=1.0)}
    records = [
        record("ours", 9.0, workload="start", variant="cold", flops=None),
        record("ours", 5.0, workload="start", variant="warm", flops=None),
        record("keras-tf", 6.0, workload="start", flops=None),
    ]
    rows = report.summarize(records, workloads)
    assert [row["ratio"] for row in rows] == pytest.approx([9 / 5, 1, 6 / 5])
    seconds, speed = report.verdicts(rows, workloads)
    assert (seconds["ratio"], seconds["met"]) == (5.0, False)
    assert (speed["ratio"], speed["met"]) == (pytest.approx(1.2), True)


def test_peers_run_a_reordered_network_where_ours_does():
    cells = plan.cells(WORKLOADS["study_cnn_50"], PEERS)
    reordered = {cell.peer for cell in cells if cell.variant == "reordered"}
    assert reordered == {n for n in PEERS if "ours" not in n and "bf16" not in n}
    assert Cell("ours", "cached") in plan.cells(WORKLOADS["vgg16_block5"], PEERS)
    whole = [Cell("ours"), Cell("keras-tf")]
    assert plan.cells(WORKLOADS["transfer"], PEERS) == whole


def paths(layers):
    for kind, *rest in layers:
        match kind, rest:
            case "residual", (main, shortcut):
                yield from paths([*main, *shortcut])
            case "bias", (path,):
                yield f"{path}/bias"
            case "bn", (path, _, scale):
                yield f"{path}/bias"
                yield from [f"{path}/scale"] * scale
            case (("conv" | "dense"), (path, *_, bias)):
                yield f"{path}/kernel"
                yield from [f"{path}/bias"] * bias


@pytest.mark.parametrize("name", [n for n, w in WORKLOADS.items() if w.kind == "train"])
def test_networks_have_the_parameters_of_the_models(name, monkeypatch):
    # The shapes do: the values take seconds.
    monkeypatch.setattr(Parts, "first_state", lambda parts: parts.plan.assembly.shapes)
    work = {**dataclasses.asdict(WORKLOADS[name]), "variant": "", "mode": {}}
    shapes, _, _ = ours.make(work)
    for reordered in (False, True):
        layers = networks.network(work["model"], work["outputs"], reordered)
        assert sorted(paths(layers)) == sorted(trees.flatten(shapes["params"]))


def test_frozen_layers_cost_no_backward_pass():
    work = {**dataclasses.asdict(WORKLOADS["vgg16_block5"]), "variant": "", "mode": {}}
    whole = ours.step_flops(work)
    cached = ours.step_flops({**work, "variant": "cached"})
    forward = ours.step_flops({**work, "kind": "forward"})
    assert cached < forward < whole < 2 * forward


@pytest.fixture
def arguments(places, tmp_path, monkeypatch):
    for name, value in places.items():
        monkeypatch.setenv(name, value)
    folders = [f"--output={tmp_path}", f"--environments={tmp_path / 'environments'}"]
    return ["--quick", "--workloads=lenet5_64", *folders]


def test_it_runs_and_goes_on_after_an_interruption(arguments, tmp_path, monkeypatch, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run.Benchmark, "write", interrupt)
        assert run.main([*arguments, "--peers=ours"]) == 130
    (raw,) = tmp_path.glob("environments/*.jsonl")
    (measured,) = map(json.loads, raw.read_text().splitlines())
    assert (measured["peer"], measured["round"], measured["kept"]) == ("ours", 0, True)

    monkeypatch.setattr(run, "Worker", None)  # nothing is measured twice
    assert run.main([*arguments, "--peers=ours"]) == 0, capsys.readouterr().err
    result = json.loads((tmp_path / "speed.json").read_text())
    (row,) = result["rows"]
    assert row["values"] == [measured["images"] / measured["seconds"]]
    assert row["gflops"] > 0
    assert row["memory_mib"] > 0
    assert result["packages"]["ours"]["jax"]
    assert (tmp_path / "speed.png").read_bytes().startswith(b"\x89PNG")
    assert "| lenet5_64 | ours |" in (tmp_path / "speed.md").read_text()
    assert not raw.exists()


@pytest.mark.parametrize("name", ["lenet5_64", "airbench_256"])
def test_ours_and_keras_compute_the_same(name, arguments, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    keras = pytest.importorskip("keras", reason="Keras is a development dependency")
    # JAX would compile Keras' own initializer for every shape.
    monkeypatch.setattr(
        keras.initializers.VarianceScaling, "__call__", lambda _, shape, dtype: np.zeros(shape)
    )
    from benchmarks.peers import with_keras

    del arguments  # they set the places
    work = {
        **dataclasses.asdict(plan.quick(WORKLOADS[name])),
        **{"variant": "", "mode": {}, "own_parameters": False, "file": str(tmp_path / "a.npz")},
    }
    run.draw(work)
    expected = ours.prepare(work)(3, True).losses
    assert len(set(expected)) == 3
    for variant in ("", "reordered")[: 1 + WORKLOADS[name].reorders]:
        found = with_keras.prepare({**work, "variant": variant})(3, True).losses
        assert found == pytest.approx(expected, rel=1e-4)


def test_the_notes_name_workloads_and_peers_that_are_left_out(
    arguments, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(run.Benchmark, "measure", lambda *_: None)
    assert run.main([*arguments, "--workloads=jpeg", "--peers=ours,torch"]) == 0
    notes = json.loads((tmp_path / "speed.json").read_text())["notes"]
    assert any("jpeg" in note and "--photographs" in note for note in notes)
    assert any("torch" in note and "not installed" in note for note in notes)


def test_a_peer_that_fails_is_named_with_its_log(arguments, tmp_path, capsys, monkeypatch):
    # Without PyTorch its process ends; with PyTorch it finds no images.
    monkeypatch.setattr(run, "environment", lambda *_, **__: sys.executable)
    monkeypatch.setattr(run, "draw", lambda *_: None)
    assert run.main([*arguments, "--peers=torch"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: torch: ")
    assert "lenet5_64-torch.txt" in error
    assert "Error" in (tmp_path / "environments" / "logs" / "lenet5_64-torch.txt").read_text()


def test_steps_are_counted_until_they_take_long_enough():
    asked = []

    def run_steps(count):
        asked.append(count)
        return 0.5 + 0.01 * count  # half a second for any number of steps

    assert run.steps_for(10, run_steps) == pytest.approx(10 / 0.011, rel=0.4)
    assert asked == sorted(asked)
    assert run.steps_for(0, lambda count: 1.0) == 1


def test_unknown_names_are_refused(capsys):
    with pytest.raises(SystemExit):
        run.parse(["--workloads=study_cnn"])
    assert "'study_cnn' is not one of ceiling, study_cnn_50" in capsys.readouterr().err


def test_airbench_reads_finished_runs_and_writes_their_accuracies(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(airbench, "RESULTS", tmp_path / "results")
    (tmp_path / "results").mkdir()
    monkeypatch.setattr(airbench.subprocess, "run", lambda *_, **__: pytest.fail("it trains"))
    for line, seed, accuracy in (("full", 0, 0.94), ("full", 1, 0.96), ("quarter", 0, 0.9)):
        directory = run_directory.RunDirectory(tmp_path / "runs" / f"{line}-float32-{seed}")
        directory.create()
        directory.write("config", dataclasses.asdict(experiment.Experiment(seed=seed)))
        history = [{"validation_accuracy": share * accuracy} for share in (0.5, 0.9)]
        directory.write("history", history)
        found = {
            "training": {"epochs": 2, "flops": 2.9e14, "seconds": 120.0},
            "evaluation": {
                "test": {"accuracy": accuracy - 0.01},
                "test_mirror_translate": {"accuracy": accuracy},
            },
        }
        directory.write("result", found)
        machine = {"cores": 2, "processor": "P", "packages": {"jax": "1"}, "command": ["p", "l"]}
        directory.write("environment", [machine])
        recorder.set_status(directory, "finished")
    arguments = ["airbench", "--runs", str(tmp_path / "runs")]
    for more in (["--lines=quarter"], ["--seeds=1"], ["--seeds=2"]):
        monkeypatch.setattr(sys, "argv", [*arguments, *more])
        assert airbench.main() == 0
    assert capsys.readouterr().out.splitlines()[-1] == "full: 0.9400, 0.9600"
    # A run that is recorded already is not read again.
    (tmp_path / "runs" / "full-float32-0" / "result.json").unlink()
    assert airbench.main() == 0
    page = (tmp_path / "results" / "cifar10_94.md").read_text()
    full, quarter = (
        line for line in page.splitlines() if line.startswith("| ") and "0.290" in line
    )
    assert "| float32 | 2 | 0.290 | 2 | 0.9500 ± 0.0141 | 0.9400 |" in full
    assert "| 0.9000 | 0.8900 |" in quarter
    assert (tmp_path / "results" / "cifar10_94.png").read_bytes().startswith(b"\x89PNG")
    monkeypatch.setattr(sys, "argv", ["airbench", "--lines=nothing"])
    with pytest.raises(SystemExit):
        airbench.main()
    assert "no line 'nothing'; the lines are full, half" in capsys.readouterr().err


def test_the_cost_of_augmentation_is_a_share_of_the_step():
    functions = {name: (lambda _, name=name: order.append(name)) for name in ("a", "b")}
    order: list[str] = []
    found = augmentation.fastest(functions, 2)
    assert order == ["a", "b"] * 3
    assert all(0 <= seconds < 1 for pair in found.values() for seconds in pair)
    result = {
        **dict.fromkeys(("date", "processor", "cores", "rounds", "step_rounds"), 2),
        **{"packages": {"jax": "1"}, "batch": 128, "note": ""},
        "step": (2.0, 4.0),
        "augmentations": {"zoom=0.3": (0.01, 0.02)},
    }
    page = augmentation.page(result)
    assert "| `zoom=0.3` | 10.00 | 20.00 | 0.50% |" in page  # of 4,000 ms on 2 cores
    assert "takes 4,000 ms of processor time" in page
    for settings in augmentation.AUGMENTATIONS.values():
        assert experiment.Dataset(**settings).augments


def test_the_two_classes_of_retina_are_30_to_1_and_its_table_has_the_same_images(tmp_path):
    generator = np.random.default_rng(0)
    arrays = {}
    for name, counts in (("train", (90, 4, 20, 20, 10)), ("val", (6, 2, 4, 4, 2))):
        labels = generator.permutation(np.repeat(np.arange(5), counts)).astype(np.uint8)
        arrays[f"{name}_labels"] = labels[:, None]
        shape = (len(labels), 16, 16, 3)
        arrays[f"{name}_images"] = generator.integers(0, 256, shape, np.uint8)
    arrays |= {f"test_{what}": arrays[f"val_{what}"] + np.uint8(0) for what in ("images", "labels")}
    arrays["test_images"] = 255 - arrays["test_images"]
    path = tmp_path / "retinamnist.npz"
    np.savez(path, **arrays)
    made = retina.two_class_data(path)
    assert made.info.class_counts == {"train": (90, 3), "validation": (6, 10), "test": (6, 10)}
    table = retina.write_table(path, tmp_path)
    found = cnn_jax.from_experiment(
        cnn_jax.Dataset(name="table", path=str(table), label_column="grade")
    )
    assert len(set(found.train.groups or ())) == 72
    order = np.argsort(found.train.ids)
    np.testing.assert_array_equal(found.train.images[order], arrays["train_images"])
    np.testing.assert_array_equal(found.train.labels[order], arrays["train_labels"][:, 0])


def test_a_page_of_retina_has_what_was_measured_and_no_more(tmp_path):
    ends = {"auc": [0.6, 0.8], "quadratic_kappa": [0.1, 0.5]}
    graded = {"auc": 0.7, "accuracy": 0.5, "quadratic_kappa": 0.3, "intervals": ends}
    results = retina.Results(tmp_path / "retina.json")
    for seed in (0, 1):
        results.add("small none", seed, lambda: {**graded, "recalls": [1, 0, 0.5, 0.5, 0]})
    results.add("small none", 0, lambda: {}["no"])  # what is there is not made again
    page = retina.page(retina.Results(tmp_path / "retina.json"))
    assert "| small CNN, no weights | 2 | 0.700 (0.700 to 0.700) |" in page
    assert "0.700 (0.600 to 0.800)" in page
    assert "VGG16, class weights" not in page
    assert "Keras, small CNN" not in page
