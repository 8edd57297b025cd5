"""The command `trust` on a run, and what predict, evaluate, report and Python make of it."""

import json
import types

import numpy as np
import pytest
from PIL import Image

import cnn_jax
from cnn_jax.data import Split
from cnn_jax.errors import UsageError
from cnn_jax.runs import trust_images
from cnn_jax.trust import corruptions


@pytest.fixture
def certified(finished, main, capsys):
    """A run with a trust.json; what the command printed."""
    assert main("trust", f"--workdir={finished}", "--trust.max_error=0.3") == 0
    return finished, capsys.readouterr().out


def test_the_command_promises_and_predict_evaluate_and_report_go_by_it(
    certified, main, capsys, tmp_path, digits
):
    directory, said = certified
    assert "the split test, divided by a hash: 90 images to tune, 180 images to certify" in said
    assert "It may answer" in said
    record = json.loads((directory / "trust.json").read_text())
    assert record["data"]["chosen_among"] == 1
    for name in ("reliability", "risk_coverage", "set_sizes"):
        assert (directory / "figures" / f"trust_{name}.png").stat().st_size > 5000

    for i in range(3):
        Image.fromarray(digits.splits["test"].images[i, :, :, 0]).save(tmp_path / f"{i}.png")
    files = [str(tmp_path / f"{i}.png") for i in range(3)]
    assert main("predict", f"--workdir={directory}", "--format=json", *files) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["calibrated"] is True
    run = cnn_jax.load(directory)
    found = run.predict(digits.splits["test"].images[:3])
    assert found.set is not None
    assert found.answers is not None
    for i, each in enumerate(values["predictions"]):
        assert each["set"] == list(found.set[i])
        assert each["answers"] == bool(found.answers[i])
        assert each["probabilities"][each["class"]] == pytest.approx(found.probabilities[i].max())
    temperature = record["calibration"]["scaling"]["temperature"]
    p = np.exp(run.logits(digits.splits["test"].images[:3]) / temperature)
    assert found.probabilities == pytest.approx(p / p.sum(axis=1, keepdims=True), abs=1e-5)
    assert main("predict", f"--workdir={directory}", *files) == 0
    assert "verdict" in capsys.readouterr().out
    assert main("predict", f"--workdir={directory}", "--format=csv", *files) == 0
    assert "answers,reason,set,p_value" in capsys.readouterr().out.splitlines()[0]

    assert main("evaluate", f"--workdir={directory}") == 0
    assert f"divided by a temperature of {temperature:.3g} (trust.json)" in capsys.readouterr().out
    result = json.loads((directory / "result.json").read_text())["evaluation"]["test"]
    plain = run.evaluate("test")
    assert result["accuracy"] == plain.accuracy
    assert result["calibrated"]["nll_before"] == pytest.approx(plain.loss, abs=1e-5)

    assert main("report", str(directory), "--noimages") == 0
    page = (directory / "report.html").read_text()
    assert "<h2>Trust</h2>" in page
    share = record["report"]["share"]
    assert f"Of 100 such images it answers about {100 * share:.0f} on its own" in page
    assert "It may answer" in page


def test_shift_new_images_and_members_are_compared(
    finished, main, capsys, tmp_path, digits, monkeypatch
):
    noise = {"noise": corruptions.KINDS["noise"]}
    monkeypatch.setattr(corruptions, "KINDS", noise)
    monkeypatch.setenv("HOME", str(tmp_path))
    test = digits.splits["test"]
    for i in range(40):
        folder = tmp_path / "there" / digits.info.class_names[test.labels[i]]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(255 - test.images[i, :, :, 0]).save(folder / f"{i}.png")
    more = (
        "--trust.shift=on,~/there",
        f"--trust.new={tmp_path / 'there'}",
        f"--trust.members={finished}",
        "--views=mirror",
    )
    assert main("trust", f"--workdir={finished}", "--trust.max_error=0.3", *more) == 0
    said = capsys.readouterr().out
    assert "Under 6 shifts it answers" in said
    assert "The 40 new images can be told from those of before" in said
    assert "Averaged with 1 more network (2 in all)" in said
    record = json.loads((finished / "trust.json").read_text())
    assert [row["strength"] for row in record["shift"]] == [0, 1, 2, 3, 4, 5]
    assert "Over the views mirror, the error goes from" in said
    assert main("evaluate", f"--workdir={finished}") == 0
    assert "calibrated no: trust.json is of the views mirror, not of one" in capsys.readouterr().out
    one, mirror = record["views"]
    plain = cnn_jax.load(finished).trust(max_error=0.3)
    assert one["nll"] == plain.record["calibration"]["after"]["nll"]
    assert mirror["nll"] == record["calibration"]["after"]["nll"] != one["nll"]
    this, other, both = record["members"]
    assert this["nll"] == other["nll"] == pytest.approx(both["nll"])
    assert (finished / "figures" / "trust_shift.png").exists()


def test_another_checkpoint_or_damaged_arrays_make_it_void(certified, digits, caplog):
    directory, _ = certified
    images = digits.splits["test"].images[:2]
    assert cnn_jax.load(directory, "best").predict(images).set is not None
    arrays = directory / "trust.npz"
    whole = arrays.read_bytes()
    arrays.write_bytes(whole[:-1])
    assert cnn_jax.load(directory).predict(images).set is None
    assert "nothing is promised; run trust again" in caplog.text
    arrays.write_bytes(whole)
    record = json.loads((directory / "trust.json").read_text())
    changed = record | {"network": record["network"] | {"sha256": "0" * 64, "step": 1}}
    (directory / "trust.json").write_text(json.dumps(changed))
    run = cnn_jax.load(directory)
    assert run.predict(images).answers is None
    assert "its promises are void" in caplog.text
    (directory / "trust.json").write_text(json.dumps(record | {"thresholds": ["a"]}))
    assert cnn_jax.load(directory).predict(images).answers is None
    assert "does not hold what trust.json of a run holds" in caplog.text


def test_python_certifies_on_fresh_images_and_refuses_what_does_not_fit(finished, digits):
    run = cnn_jax.load(finished)
    test = digits.splits["test"]
    found = run.trust(test.images, test.labels, max_error=0.3)
    assert found.record["data"]["source"] == "fresh images"
    assert "It may answer" in repr(found)
    assert run.predict(test.images[:2]).p_value is not None
    assert not (finished / "trust.json").exists()
    seen = run.split("train")
    mixed = Split(
        np.concatenate([test.images, seen.images[:20]]),
        np.concatenate([test.labels, seen.labels[:20]]),
        [f"new {i}" for i in range(len(test) + 20)],
    )
    left = run.trust(mixed, max_error=0.3).record["data"]
    assert any("20 fresh images left out" in note for note in left["notes"])
    assert left["certify"]["images"] == 180
    with pytest.raises(UsageError, match="no setting 'max_eror'; did you mean max_error"):
        run.trust(max_eror=0.1)
    with pytest.raises(UsageError, match="are too few to tune"):
        run.trust(test.images[:3], test.labels[:3])
    with pytest.raises(UsageError, match="must be less than 1"):
        run.trust(max_error=2.0)


def test_a_run_whose_validation_is_its_test_split_pays_for_the_choice(finished):
    run = cnn_jax.load(finished)
    data = run.data
    data.splits["test"] = data.splits["validation"]
    found = run.trust(max_error=0.4)
    assert found.record["data"]["chosen_among"] == 3  # epochs
    assert found.record["level"] == pytest.approx(0.05 / 3)
    assert any("which is the validation split too" in line for line in found.sentences)
    data.splits.pop("test")
    last = cnn_jax.load(finished, "last")
    last.__dict__["data"] = data
    assert last.trust(max_error=0.4).record["data"]["chosen_among"] == 1


def test_a_trial_of_a_sweep_was_chosen_among_the_checkpoints_of_all_trials(tmp_path):
    epochs = [{"epoch": i, "step": i, "validation_accuracy": 0.5} for i in range(1, 5)]
    places = [tmp_path / "trials" / f"{i:04}" / "seed0" for i in range(3)]
    for i, place in enumerate(places):
        place.mkdir(parents=True)
        (place / "config.json").write_text("{}")
        (place / "history.json").write_text(json.dumps(epochs[: i + 2]))
    run = types.SimpleNamespace(directory=places[-1], history=epochs, checkpoint="last")
    assert trust_images.chosen_among(run) == 2 + 3 + 4
    alone = types.SimpleNamespace(directory=tmp_path / "run", history=epochs, checkpoint="best")
    assert trust_images.chosen_among(alone) == 4
    alone.checkpoint = "last"
    assert trust_images.chosen_among(alone) == 1


def test_images_are_held_out_to_calibrate_and_trained_on_by_nobody(places, monkeypatch):
    for name, value in places.items():
        monkeypatch.setenv(name, value)
    section = cnn_jax.Dataset(name="digits", calibration_fraction=0.2)
    held = cnn_jax.from_experiment(section)
    plain = cnn_jax.from_experiment(cnn_jax.Dataset(name="digits"))
    assert list(held.test.ids) == list(plain.test.ids)
    assert list(held.validation.ids) == list(plain.validation.ids)
    calibration = held.splits["calibration"]
    assert len(calibration) == round(0.2 * (len(plain.train) + len(plain.validation)))
    assert not set(calibration.ids) & set(held.train.ids)
    assert set(calibration.ids) | set(held.train.ids) == set(plain.train.ids)
    trained = cnn_jax.from_experiment(section, test=False)
    assert list(trained.train.ids) == list(held.train.ids)
    assert trained.info.digest == held.info.digest
    assert "calibration" not in trained.splits
