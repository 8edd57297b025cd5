import itertools

import jax
import jax.numpy as jnp
import pytest
from matplotlib.figure import Figure

from cnn_jax import models
from cnn_jax.describe import block_diagram, block_picture, layer_table, model_list
from cnn_jax.pretrained import catalogue
from cnn_jax.reporting import figures

# One model of each kind; those on smaller images than usual are quicker.
SHAPES = {
    "lenet5": (32, 32, 1),
    "mlp": (32, 32, 3),
    "alexnet": (224, 224, 3),
    "vgg16": (224, 224, 3),
    "googlenet": (224, 224, 3),
    "inception_v3": (299, 299, 3),
    "resnet152": (64, 64, 3),
    "densenet121": (64, 64, 3),
    "wide_resnet28_10": (32, 32, 3),
}
every_kind = pytest.mark.parametrize("name", SHAPES)
_cache: dict[str, tuple[models.Classifier, list[layer_table.LayerRow]]] = {}


def table(name: str) -> tuple[models.Classifier, list[layer_table.LayerRow]]:
    if name not in _cache:
        model = models.create(name, models.REGISTRY[name].outputs)
        _cache[name] = model, layer_table.layer_table(model, SHAPES[name])
    return _cache[name]


def blocks(name: str) -> dict[str, block_diagram.Block]:
    model, rows = table(name)
    return {block.name: block for block in block_diagram.blocks(rows, model.stage_names)}


def draw(name: str) -> Figure:
    return block_picture.draw(name, SHAPES[name], list(blocks(name).values()))


@every_kind
def test_blocks_hold_every_layer_once(name):
    _, rows = table(name)
    parts = blocks(name).values()
    assert sum(part.layers for part in parts) == len(rows)
    assert sum(part.parameters for part in parts) == layer_table.totals(rows).parameters
    assert sum(part.flops for part in parts) == layer_table.totals(rows).flops
    assert all(part.contents for part in parts)


@pytest.mark.parametrize("name", ["vgg16", "googlenet", "resnet152", "densenet121"])
def test_blocks_are_the_stages_with_the_shapes_that_they_give(name):
    model, _ = table(name)
    image = jax.ShapeDtypeStruct((1, *SHAPES[name]), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), image)
    found = blocks(name)
    stages = [path for path in found if path.startswith("backbone/")]
    assert stages == [f"backbone/{stage}" for stage in model.stage_names]

    def features(variables, x):
        outputs = []
        for start in range(len(stages)):
            part = {"start": start, "stop": start + 1, "method": "forward_features"}
            x = model.apply(variables, x, **part)
            outputs.append(x)
        return outputs

    for path, real in zip(stages, jax.eval_shape(features, variables, image), strict=True):
        assert found[path].output_shape == real.shape[1:]


def test_layers_without_parameters_join_a_layer_beside_them():
    assert {name: (b.layers, b.contents) for name, b in blocks("lenet5").items()} == {
        "backbone/conv1": (2, "5x5, max pool"),
        "backbone/conv2": (2, "5x5, max pool"),
        "head/dense1": (2, "flatten, dense"),
        "head/dense2": (1, "dense"),
        "head/logits": (1, "dense"),
    }
    mlp = {name: (b.layers, b.contents) for name, b in blocks("mlp").items()}
    assert mlp["backbone/dense1"] == (3, "flatten, dense")  # and dropout
    assert list(blocks("alexnet"))[-3:] == ["head/fc1", "head/fc2", "head/logits"]


@pytest.mark.parametrize(
    ("name", "block", "contents"),
    [
        ("vgg16", "backbone/block3", "3x3, 3x3, 3x3, max pool"),
        ("resnet152", "backbone/stage3", "36 blocks of 1x1, 3x3, 1x1"),
        ("wide_resnet28_10", "backbone/stage2", "4 blocks of 3x3, 3x3"),
        ("densenet121", "backbone/block1", "6 layers of 1x1, 3x3; then 1x1, average pool"),
        ("googlenet", "backbone/inception3a", "1x1 | 1x1, 3x3 | 1x1, 3x3 | max pool, 1x1"),
        (
            "googlenet",
            "backbone/inception3b",
            "1x1 | 1x1, 3x3 | 1x1, 3x3 | max pool, 1x1; then max pool",
        ),
        # Figures 5, 10 (both forms), 6 and 7 of the paper.
        (
            "inception_v3",
            "backbone/mixed0",
            "1x1 | 1x1, 5x5 | 1x1, 3x3, 3x3 | average pool, 1x1",
        ),
        ("inception_v3", "backbone/mixed3", "3x3 | 1x1, 3x3, 3x3 | max pool"),
        ("inception_v3", "backbone/mixed8", "1x1, 3x3 | 1x1, 1x7, 7x1, 3x3 | max pool"),
        (
            "inception_v3",
            "backbone/mixed4",
            "1x1 | 1x1, 1x7, 7x1 | 1x1, 7x1, 1x7, 7x1, 1x7 | average pool, 1x1",
        ),
        (
            "inception_v3",
            "backbone/mixed9",
            "1x1 | 1x1, 1x3 + 3x1 | 1x1, 3x3, 1x3 + 3x1 | average pool, 1x1",
        ),
    ],
)
def test_contents_are_those_of_the_papers(name, block, contents):
    assert blocks(name)[block].contents == contents


def test_the_table_has_totals_without_and_with_auxiliary_classifiers():
    entry = models.REGISTRY["googlenet"]
    _, rows = table("googlenet")
    sums = layer_table.totals(rows)
    for text in (
        block_diagram.render(list(blocks("googlenet").values())),
        layer_table.render(rows),
    ):
        total, training = text.splitlines()[-2:]
        assert total.startswith("total")
        assert f"{entry.parameters:,}" in total
        assert f"{entry.flops:,}" in total
        assert training.startswith("in training")
        assert f"{sums.parameters:,}" in training
    lines = block_diagram.render(list(blocks("vgg16").values())).splitlines()
    assert lines[-1].startswith("total")
    assert len(lines) == 2 + 5 + 3 + 1
    assert lines[2].split()[-1] == "12.5%"


def overlaps(figure: Figure) -> list[tuple[str, str]]:
    """Returns the pairs of texts that overlap."""
    figures.to_array(figure)
    texts = [text for text in figure.axes[0].texts if text.get_text()]
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts]
    return [
        (a, b)
        for (a, first), (b, second) in itertools.combinations(boxes, 2)
        # Neighbouring lines may touch.
        if first.padded(-1.5).overlaps(second.padded(-1.5))
    ]


def inside(figure: Figure) -> bool:
    figures.to_array(figure)
    left, bottom, width, height = figure.get_tightbbox().bounds
    return (
        min(left, bottom) >= 0
        and left + width <= figure.get_figwidth()
        and bottom + height <= figure.get_figheight()
    )


@every_kind
def test_a_picture_has_every_block_and_nothing_lies_on_anything(name):
    figure = draw(name)
    shown = [text.get_text() for text in figure.axes[0].texts]
    for block in blocks(name).values():
        if not block.is_auxiliary:
            assert block.name.rpartition("/")[2] in shown
        assert any(f"{block.parameters:,} parameters" in text for text in shown)
    assert overlaps(figure) == []
    assert inside(figure)


def test_a_picture_says_what_the_registry_says():
    entry = models.REGISTRY["googlenet"]
    shown = [text.get_text() for text in draw("googlenet").axes[0].texts]
    assert any(t.startswith(f"{entry.parameters:,} parameters, 3.00 GFLOP") for t in shown)
    assert sum(text.startswith("auxiliary classifier\n") for text in shown) == 2
    assert "0.833 MFLOP" in draw("lenet5").axes[0].texts[1].get_text()
    block = block_diagram.Block("backbone/conv", (8, 8, 3), 1, 1, 236_294_720, "3x3")
    assert ", 236 MFLOP " in block_picture.draw("", (8, 8, 3), [block]).axes[0].texts[1].get_text()


def test_boxes_shrink_with_the_map_and_grow_with_the_channels():
    fronts = [patch.get_extents() for patch in draw("vgg16").axes[0].patches[::9]]
    heights, lengths = [box.height for box in fronts], [box.width for box in fronts]
    assert heights[:6] == sorted(heights[:6], reverse=True)
    assert lengths[:5] == sorted(lengths[:5])
    # Proportional to square roots: 224 and 56 pixels, 64 and 256 channels.
    assert heights[0] == pytest.approx(2 * heights[2])
    assert lengths[3] == pytest.approx(2 * lengths[1])


def test_pictures_are_saved_as_png_and_svg(tmp_path):
    for suffix, beginning in ((".png", b"\x89PNG"), (".svg", b"<?xml")):
        figures.save(draw("lenet5"), tmp_path / f"lenet5{suffix}")
        assert (tmp_path / f"lenet5{suffix}").read_bytes().startswith(beginning)
    assert "conv1" in (tmp_path / "lenet5.svg").read_text()


def test_the_list_has_every_model_with_the_registrys_figures():
    lines = {line.split()[0]: line for line in model_list.render().splitlines() if line[:2] == "  "}
    assert set(lines) == set(models.REGISTRY)
    with_weights = {entry.model for entry in catalogue.ENTRIES}
    for name, entry in models.REGISTRY.items():
        for text in (f"{entry.parameters:,}", layer_table.by(entry.input_shape), entry.source):
            assert text in lines[name]
        assert entry.published in lines[name]
        assert (" weights " in lines[name]) == (name in with_weights)
    assert " 30.9 " in lines["vgg16"]


def test_the_list_is_in_families():
    titles, family = {}, ""
    for line in model_list.render().splitlines()[2:]:
        if line.startswith("  "):
            titles[line.split()[0]] = family
        else:
            family = line
    assert titles["vgg11"] == titles["vgg16_bn_cifar"] != titles["resnet18"]
    assert titles["resnet18"] == titles["resnet20"]
    assert titles["resnet20"].startswith("ResNet: ")
