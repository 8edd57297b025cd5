"""The command `export` and `cnn_jax.export_run`."""

import dataclasses
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cnn_jax
from cnn_jax import files
from cnn_jax.errors import RunError, UsageError
from cnn_jax.export import checking, exporting, folders, judging, program
from cnn_jax.trust import calibration, scores, sets, strangers, verdicts
from cnn_jax.trust.outputs import Seen

# A process in which this package and Flax cannot be imported.
ALONE = """
import sys
for name in ("cnn_jax", "flax"):
    sys.modules[name] = None
import numpy as np
from jax import export
call = export.deserialize(bytearray(open(sys.argv[1], "rb").read())).call
found = call(np.load(sys.argv[2]))
np.savez(sys.argv[3], **{name: np.asarray(x) for name, x in found.items()})
"""


@pytest.fixture
def certified(finished, main, capsys):
    """A run with a trust.json."""
    words = ("--trust.max_error=0.3", "--trust.false_alarms=0.1")
    assert main("trust", f"--workdir={finished}", *words) == 0
    capsys.readouterr()
    return finished


def judge(name: str, gate: str) -> verdicts.Judge:
    rng = np.random.default_rng(3)
    bank = strangers.Bank.of(rng.standard_normal((60, 7)), rng.standard_normal((60, 5)))
    held = {
        "neighbours": rng.uniform(0.6, 1.2, 40),
        "energy": -rng.uniform(0, 4, 40),
        "middle": rng.uniform(1, 9, 40),
        "together": rng.uniform(0, 9, 40),
    }
    return verdicts.Judge(
        calibration.Scaling("vector", rng.uniform(0.5, 1.5, 4), rng.standard_normal(4)),
        name,
        np.zeros(4),
        sets.Sets("lac", 0.1, np.array([0.7, 0.8, 0.9, np.inf]), True, np.full(4, 9)),
        gate,
        {"energy": (-3.0, 1.0), "neighbours": (0.8, 0.2), "middle": (4.0, 5.0)},
        bank,
        held[gate],
        0.1,
    )


@pytest.mark.parametrize("classes", [2, 9])
def test_a_graph_makes_the_sets_of_raps(classes):
    """Of one image in a hundred a logit may be rounded to another hundredth."""
    rng = np.random.default_rng(5)
    logits = 3 * rng.standard_normal((400, classes))
    logits[:7, 0] = [0, -0.004, 0.005, -1e7, 1e7, -3.145, 60]
    expected = sets.uniforms(logits.astype(np.float32))
    found = np.asarray(judging.uniforms(jnp.float32(logits)))
    assert (np.abs(found - expected) < 1e-6).mean() >= 0.99
    logits[20:30, 1] = logits[20:30, 0]
    unlimited = dataclasses.replace(judge("energy", "energy"), bank=None)
    ours = dataclasses.replace(
        unlimited,
        scaling=calibration.Scaling.of_temperature(1.5, classes),
        thresholds=np.zeros(classes),
        made=sets.Sets("raps", 0.1, rng.uniform(0.6, 0.95, classes), True, np.full(classes, 9)),
    )
    nothing = np.zeros((400, 7)), np.zeros((400, 0))
    theirs = ours(Seen(logits.astype(np.float32), nothing[0])).sets
    mine = np.asarray(judging.judge(ours, *map(jnp.float32, (logits, *nothing)))["sets"])
    assert (mine == theirs).all(axis=1).mean() >= 0.99
    assert 0.3 < theirs.mean() < 0.95


@pytest.mark.parametrize("name", [*scores.names(3), "p_norm_3"])
def test_a_graph_judges_as_trust_does(name):
    gates = {"margin": "energy", "gen": "middle", "p_norm_3": "neighbours"}
    gate = gates.get(name, "together")
    ours = judge(name, gate)
    rng = np.random.default_rng(4)
    logits, features = 3 * rng.standard_normal((200, 4)), rng.standard_normal((200, 7))
    maps = rng.standard_normal((200, 5)).astype(np.float32)
    given = Seen(logits, features, middle=maps)
    middle = float(np.median(ours(given).scores))
    ours = dataclasses.replace(ours, thresholds=np.array([middle, np.inf, middle, -1e9]))
    expected = ours(given)
    found = judging.judge(ours, *map(jnp.float32, (logits, features, maps)))
    assert found["probabilities"] == pytest.approx(expected.probabilities, abs=1e-6)
    assert found["p_values"] == pytest.approx(expected.p_values, abs=1e-6)
    assert (np.asarray(found["answers"]) == expected.answers).all()
    assert (np.asarray(found["sets"]) == expected.sets).all()
    assert 0.05 < expected.answers.mean() < 0.95
    sure = judging.score(
        name,
        jnp.float32(logits),
        jax.nn.log_softmax(
            jnp.float32(logits) * jnp.float32(ours.scaling.weights)
            + jnp.float32(ours.scaling.offsets)
        ),
    )
    below = 1 if name in ("max_probability", "margin") else 0
    assert sure == pytest.approx(expected.scores - below, abs=2e-5)


def test_a_network_that_is_sure_of_everything_answers_no_more_than_it_may():
    logits = np.zeros((3, 4))
    logits[:, 0] = [17, 20, 23]  # 1e-7, 6e-9 and 3e-10 from 1
    ours = dataclasses.replace(judge("max_probability", "neighbours"), bank=None)
    ours = dataclasses.replace(
        ours, scaling=calibration.Scaling.of_temperature(1, 4), thresholds=np.full(4, 1 - 2e-9)
    )
    expected = ours(Seen(logits, np.zeros((3, 7)))).answers
    nothing = jnp.zeros((3, 7)), jnp.zeros((3, 0))
    found = judging.judge(ours, jnp.float32(logits), *nothing)["answers"]
    assert found.tolist() == expected.tolist() == [False, False, True]


def test_stablehlo_needs_jax_alone(certified, main, capsys, tmp_path, digits):
    pytest.importorskip("flatbuffers", reason="an extra")
    where = f"--workdir={certified}"
    assert main("export", where, "--format=stablehlo", "--output=out") == 0
    said = capsys.readouterr().out
    assert "on 144 images (validation images)" in said
    assert "out/model.stablehlo" in said
    record = json.loads((tmp_path / "out/export.json").read_text())
    assert record["classes"] == list(digits.info.class_names)
    assert record["trust"]["in_file"] is True
    assert (
        record["checkpoint"]["sha256"]
        == json.loads((certified / "trust.json").read_text())["network"]["sha256"]
    )
    assert record["check"]["differences"]["probabilities"] < 1e-5

    images = digits.splits["test"].images[:5]
    np.save(tmp_path / "x.npy", images)
    paths = [str(tmp_path / name) for name in ("out/model.stablehlo", "x.npy", "y.npz")]
    subprocess.run([sys.executable, "-c", ALONE, *paths], check=True, cwd=tmp_path)
    expected = cnn_jax.load(certified).predict(images)
    with np.load(tmp_path / "y.npz") as found:
        assert found["probabilities"] == pytest.approx(expected.probabilities, abs=2e-6)
        assert (found["answers"] == expected.answers).all()


@pytest.mark.slow
def test_onnx_is_computed_by_its_runtime(certified, main, capsys, tmp_path, digits):
    pytest.importorskip("jax2onnx", reason="an extra")
    onnxruntime = pytest.importorskip("onnxruntime", reason="an extra")
    assert main("export", f"--workdir={certified}", "--format=onnx", "--output=out") == 0
    assert "checked    by ONNX Runtime" in capsys.readouterr().out
    session = onnxruntime.InferenceSession(tmp_path / "out/model.onnx")
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["classes"]) == list(digits.info.class_names)
    for count in (1, 7):
        images = digits.splits["test"].images[:count]
        names = [each.name for each in session.get_outputs()]
        found = dict(zip(names, session.run(names, {"images": images}), strict=True))
        expected = cnn_jax.load(certified).predict(images)
        assert found["probabilities"] == pytest.approx(expected.probabilities, abs=2e-6)
        assert (found["answers"] == expected.answers).all()


def test_a_missing_package_is_named(trained, main, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "flatbuffers", None)
    assert main("export", f"--workdir={trained[0]}", "--format=stablehlo", "--output=o") == 2
    said = capsys.readouterr().err
    assert "needs flatbuffers: pip install 'cnn-jax[stablehlo]'" in said


def test_mistakes_are_one_line(main, capsys, trained):
    where = f"--workdir={trained[0]}"
    for words, message in (
        (["export"], "export needs --format, which is one of stablehlo"),
        (["export", "--format=onnx"], "export needs --workdir=DIR"),
        (["export", where, "--format=json"], "--format of export is one of stablehlo"),
        (["export", where, "--format=onnx", "--output=a.onnx"], "is a directory, not 'a.onnx'"),
        (["export", where, "--format=onnx", f"--output={trained[0]}"], "holds other files"),
    ):
        assert main(*words) == 2
        said = capsys.readouterr().err
        assert message in said
        assert len(said.strip().splitlines()) == 1


def test_a_network_that_says_something_else_is_not_exported(trained, tmp_path, monkeypatch):
    run = cnn_jax.load(trained[0])
    made = program.of_run(run)

    def compute(images):
        found = {name: np.array(x) for name, x in jax.jit(made.apply)(images).items()}
        found["probabilities"][3] += 0.01
        return found

    with pytest.raises(RunError, match="says something else than the run: probabilities differ"):
        checking.check(run, compute, "a stranger", "float32")

    def write(run, made, folder):
        (folder / "model.stablehlo").write_bytes(b"half")
        return checking.check(run, compute, "a stranger", "float32")

    monkeypatch.setattr(exporting.stablehlo, "write", write)
    with pytest.raises(RunError, match="nothing was written"):
        cnn_jax.export_run(run, "stablehlo", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UsageError, match="did you mean stablehlo"):
        cnn_jax.export_run(run, "stable_hlo", tmp_path / "out")


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path):
    place = tmp_path / "out"

    def fill(folder, text):
        (folder / "model.onnx").write_text(text)
        (folder / folders.CARD).write_text(text)
        listed = [
            {"name": n, "sha256": files.sha256(folder / n)} for n in ("model.onnx", folders.CARD)
        ]
        (folder / folders.RECORD).write_text(json.dumps({"files": listed}))

    for text in ("one", "two"):
        with folders.whole(place) as folder:
            fill(folder, text)
        assert (place / "model.onnx").read_text() == text
    with pytest.raises(RunError, match="cannot be written"), folders.whole(place) as folder:
        fill(folder / "model.onnx", "three")
    assert (place / "model.onnx").read_text() == "two"
    (place / folders.CARD).write_text("by hand")
    with pytest.raises(UsageError, match="was edited since"), folders.whole(place):
        pass
    (place / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"other files \(mine.txt\)"), folders.whole(place):
        pass
    with pytest.raises(UsageError, match="is a file"), folders.whole(place / "mine.txt"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_without_its_images_random_ones_are_compared_and_said(tmp_path, rng_images):
    images, labels = rng_images
    data = cnn_jax.from_arrays(images, labels, validation=(images[:10], labels[:10]))
    cnn_jax.train(data, model="mlp", epochs=1, batch_size=16, workdir=tmp_path / "run")
    found, source = checking.images_of(cnn_jax.load(tmp_path / "run"))
    assert found.shape == (64, 4, 4, 3)
    reason = "random pixels, because the run's images cannot be had"
    assert source.startswith(f"{reason}: ")
    checked = checking.Checked(64, f"{reason}: no folder /home/x", "by", {"weights": 0.0}, 0.0)
    assert checked.to_dict()["source"] == reason


@pytest.fixture
def rng_images():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (32, 4, 4, 3), np.uint8), rng.integers(0, 2, 32)
