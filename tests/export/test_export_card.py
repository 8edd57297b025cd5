"""The model card of a run, and the one beside an export."""

import dataclasses
import json
import re

import numpy as np
import pytest
import yaml

import cnn_jax
from cnn_jax import files, trees
from cnn_jax.assembly import assemble
from cnn_jax.data import DataInfo
from cnn_jax.export import about, card, card_sections
from cnn_jax.export.facts import Facts
from cnn_jax.pretrained import imagenet, layouts, torch_files
from cnn_jax.runs.directory import RunDirectory
from cnn_jax.runs.trained import Run
from tests.tiny import data_json


def front_matter(text):
    return yaml.safe_load(text.split("---\n")[1])


def made_facts(**changes):
    names = ["cat", "<b>|[dog](x)", "a\nb"]
    counts = {"train": [5, 4, 1], "validation": [2, 2, 1]}
    info = DataInfo.from_dict(
        data_json(
            name="/home/somebody/photos",
            class_names=names,
            class_counts=counts,
            notes=["in /home/x"],
        )
    )
    config = cnn_jax.Experiment().replace({"transfer.weights": "/home/x/w.h5"})
    origin = {"asked_for": "/home/x/w.h5", "licence": None, "source": None, "sha256": "f" * 64}
    facts = Facts(config, info, None, [], {}, {}, [], None, origin)
    return dataclasses.replace(facts, **changes)


def test_what_is_not_known_is_said_and_no_place_is_named():
    text = card.write(made_facts())
    assert front_matter(text)["license"] == "unknown"
    assert "model-index" not in front_matter(text)
    assert "/home" not in text
    assert "<b>" not in text
    assert "a\\nb" in text
    for section in (
        "for whom it was made",
        "who collected the images",
        "the command, the versions and the machine",
        "this checkpoint was not evaluated",
        "whether its probabilities mean what they say",
        "how it fares on noisy",
        "figures by patient",
        "the licence of this network",
    ):
        assert re.search(rf"\*\*Not known\*\*: {section}", text), section
    assert "Their licence: not known. Their source: LEFT-OUT." in text


def test_weights_of_the_catalogue_bring_their_licence(tmp_path):
    directory = RunDirectory(tmp_path)
    name = "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
    said = {
        "source": f"/cache/{name}",
        "sha256": "0" * 64,
        "preprocessing": "caffe",
        "preprocessing_reason": f"the catalogue's for {name}",
        "options": {},
    }
    (tmp_path / "weights.json").write_text(json.dumps(said))
    config = cnn_jax.Experiment().replace({"transfer.weights": "imagenet"})
    found = about.origin_of(config, directory.about_weights(config))
    assert found is not None
    assert found["licence"] == "Creative Commons Attribution License"
    text = card.write(made_facts(origin=found))
    assert "Their licence: Creative Commons Attribution License. Their source: Visual" in text


def test_the_card_of_a_run_has_its_figures(finished, main, capsys):
    assert main("evaluate", f"--workdir={finished}", "--quiet") == 0
    assert main("report", str(finished), "--format=card") == 0
    assert "export " in capsys.readouterr().out
    text = (finished / "README.md").read_text()
    result = json.loads((finished / "result.json").read_text())
    record = result["evaluation"]["test"]
    (entry,) = front_matter(text)["model-index"]
    (found,) = entry["results"]
    assert found["dataset"]["split"] == "test"
    assert found["metrics"][0]["value"] == pytest.approx(record["accuracy"], abs=1e-6)
    low, high = record["intervals"]["accuracy"]
    assert f"{record['accuracy']:.4f} ({low:.4f} to {high:.4f})" in text
    assert f"{result['training']['flops'] / 1e12:,.4g} TFLOP" in text
    assert "--model.name=mlp" in text
    hub = pytest.importorskip("huggingface_hub", reason="the reader of the hub")
    data = hub.ModelCard(text).data
    assert data.license == "unknown"
    assert data.eval_results[0].metric_value == pytest.approx(record["accuracy"], abs=1e-6)


def test_figures_of_images_from_elsewhere_stay_without_the_name_of_their_folder():
    names = ("accuracy", "confidence", "ece", "answered", "error", "strange", "set_coverage")
    rows = [
        {"shift": name, "strength": strength, **dict.fromkeys(names, share)}
        for name, strength, share in (("blur", 2, 0.25), ("/home/a/b", 0, 0.5), ("c/d", 0, 0.75))
    ]
    text = "\n".join(card_sections._shift(made_facts(trust={"shift": rows})))
    assert "| blur | 2 | 25.0 % |" in text
    assert "| other images, set 1 | - | 50.0 % |" in text
    assert "| other images, set 2 | - | 75.0 % |" in text
    assert "/home" not in text


def test_reports_of_other_kinds_refuse(main, capsys, tmp_path):
    (tmp_path / "empty").mkdir()
    assert main("report", "empty", "--format=card") == 2
    assert "is not a run directory" in capsys.readouterr().err
    assert main("report", "empty", "--format=onnx") == 2
    assert "--format of report is one of html, card" in capsys.readouterr().err


def test_a_checkpoint_is_chosen_only_where_the_validation_images_chose_it():
    history = [
        {"epoch": n, "step": 2 * n, "validation_accuracy": accuracy, "validation_loss": 1.0}
        for n, accuracy in ((1, 0.7), (2, 0.9), (3, 0.8))
    ]
    chosen = card.write(made_facts(history=history, step=4))
    assert "| chosen | epoch 2, validation accuracy 0.9000, by `accuracy` |" in chosen
    assert "The validation accuracy above chose it" in chosen
    for step, asked, said in ((6, "last", "asked for: the last"), (2, "2", "asked for: step 2")):
        text = card.write(made_facts(history=history, step=step, asked=asked))
        assert "chosen" not in text
        assert "chose it, and" not in text
        assert f"| checkpoint | epoch {step // 2}, validation accuracy 0." in text
        assert said in text


@pytest.mark.parametrize(
    ("how", "said"), [("pad", "black"), ("pad_mean", "their mean colour"), ("squash", "squashed")]
)
def test_a_card_says_what_surrounds_images(how, said):
    facts = made_facts()
    info = dataclasses.replace(facts.info, resize=how)
    shown = card.write(dataclasses.replace(facts, info=info))
    assert re.search(rf"images of another aspect are (padded with )?{said}\.", shown)


def test_the_weights_of_a_run_without_a_directory_are_known():
    info = DataInfo.from_dict(data_json())
    config = cnn_jax.Experiment().replace({"model.name": "mlp", "transfer.weights": "w.h5"})
    said = {"preprocessing": "unit", "sha256": "f" * 64}
    run = Run(config, assemble(config, info, said), info, [], lambda: ({}, 1))
    assert (about.origin(run) or {})["sha256"] == "f" * 64


@pytest.fixture
def untrained(tmp_path):
    """An export of a folder of weights for ImageNet's classes, under a private name."""
    names = list(imagenet.class_names())
    info = DataInfo.from_dict(data_json(class_names=names, image_shape=[32, 32, 3]))
    config = cnn_jax.Experiment().replace({"model.name": "resnet18"})
    flat = trees.flatten(assemble(config, info).shapes)
    arrays = {
        path.partition("/")[2]: np.full(x.shape, 0.01, np.float32) for path, x in flat.items()
    }
    folder = tmp_path / "StMary"
    folder.mkdir()
    file = folder / "model.safetensors"
    torch_files.write(file, arrays, layouts.find("resnet18").layers, {"format": "pt"})
    said = {"input_size": [3, 32, 32], "crop_pct": 0.9}
    config = {"architecture": "resnet18", "pretrained_cfg": said}
    (folder / "config.json").write_text(json.dumps(config))
    run = cnn_jax.load_pretrained("resnet18", str(folder))
    return cnn_jax.export_run(run, "safetensors", tmp_path / "out"), files.sha256(file)


def test_the_card_of_weights_of_others_invents_no_training(untrained):
    made, sha256 = untrained
    text = (made.folder / "README.md").read_text()
    assert text.count("It was not trained here; weights of others were taken as they are.") == 2
    for invented in ("trained with", "step 0", "learning rate", "chose", "| split |", "``", "adam"):
        assert invented not in re.sub("```", "", text), invented
    licence = "Its weights are others'. Their licence: not known. Their source: LEFT-OUT."
    assert f"{licence} sha256: `{sha256}`" in text
    assert "Images of another aspect are scaled and cropped in the middle." in text
    record = (made.folder / "export.json").read_text()
    found = json.loads(record)
    assert found["pretrained"]["sha256"] == sha256
    assert (found["data"], found["checkpoint"]["which"]) == (None, "not trained here")
    assert "StMary" not in record
    assert "StMary" not in text
