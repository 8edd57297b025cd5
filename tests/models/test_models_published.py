"""Parameters and multiply-adds against what others published of the same networks."""

import jax
import pytest

from cnn_jax import models
from cnn_jax.describe.layer_rows import variables_and_rows

TORCHVISION = "torchvision.models, docs 0.20, num_params of the IMAGENET1K_V1 weights"
KUANGLIU = "the common CIFAR-10 form, github.com/kuangliu/pytorch-cifar"
PAPER = "table 6 of He et al. 2015, in full by github.com/akamaster/pytorch_resnet_cifar10"

# Learned numbers with 1,000 classes (10 for CIFAR-10 and MNIST), and their source.
PARAMETERS = {
    "lenet5": (61_706, "by hand from the 1998 paper's layers, all of C3 connected"),
    "study_cnn": (58_389, "Keras' model.summary() of the study guide's network"),
    "study_cnn_wide": (585_526, "Keras' model.summary() of the study guide's network"),
    "mnist_cnn": (93_322, "TensorFlow's tutorial prints model.summary()"),
    "airbench": (1_971_640, "by hand; 708 MFLOP a trained image, as 0.36 PFLOP in 9.9 epochs say"),
    "airbench95": (4_604_728, "by hand"),
    "airbench96": (9_915_704, "by hand"),
    "alexnet": (61_100_840, TORCHVISION),
    "vgg11": (132_863_336, TORCHVISION),
    "vgg13": (133_047_848, TORCHVISION),
    "vgg16": (138_357_544, TORCHVISION),
    "vgg19": (143_667_240, TORCHVISION),
    "vgg11_bn": (132_868_840, TORCHVISION),
    "vgg13_bn": (133_053_736, TORCHVISION),
    "vgg16_bn": (138_365_992, TORCHVISION),
    "vgg19_bn": (143_678_248, TORCHVISION),
    "vgg16_bn_cifar": (14_728_266, KUANGLIU),
    "googlenet": (6_624_904, TORCHVISION),
    "inception_v3": (23_817_352, "Keras Applications, trainable parameters"),
    "resnet18": (11_689_512, TORCHVISION),
    "resnet34": (21_797_672, TORCHVISION),
    "resnet50": (25_557_032, TORCHVISION),
    "resnet101": (44_549_160, TORCHVISION),
    "resnet152": (60_192_808, TORCHVISION),
    "resnet18_cifar": (11_173_962, KUANGLIU),
    "resnet20": (269_722, PAPER),
    "resnet32": (464_154, PAPER),
    "resnet56": (853_018, PAPER),
    "wide_resnet28_10": (36_479_194, "36.5 M in table 4 of Zagoruyko and Komodakis 2016"),
    "densenet121": (7_978_856, TORCHVISION),
    "densenet169": (14_149_480, TORCHVISION),
    "densenet201": (20_013_928, TORCHVISION),
    "efficientnet_b0": (5_288_548, TORCHVISION),
    "efficientnet_b1": (7_794_184, TORCHVISION),
    "efficientnet_b2": (9_109_994, TORCHVISION),
    "efficientnet_b3": (12_233_232, TORCHVISION),
    "mobilenet_v3_large": (5_483_032, TORCHVISION),
    "mobilenet_v3_small": (2_542_856, TORCHVISION),
    "convnext_tiny": (28_589_128, TORCHVISION),
    "convnext_small": (50_223_688, TORCHVISION),
    "densenet_bc100_12": (769_162, "0.8 M in table 2 of Huang et al. 2016"),
}

# torchvision's GFLOPS, which are 1e9 multiply-adds, at the registry's input size.
GIGA_MULTIPLY_ADDS = {
    "alexnet": 0.71,
    "vgg11": 7.61,
    "vgg13": 11.31,
    "vgg16": 15.47,
    "vgg19": 19.63,
    "googlenet": 1.50,
    "inception_v3": 5.71,
    "resnet18": 1.81,
    "resnet34": 3.66,
    "resnet50": 4.09,
    "resnet101": 7.80,
    "resnet152": 11.51,
    "densenet121": 2.83,
    "densenet169": 3.36,
    "densenet201": 4.29,
    "efficientnet_b0": 0.386,
    "efficientnet_b1": 0.687,
    "efficientnet_b3": 1.827,  # of b2 torchvision has 1.09 at 288 x 288
    "mobilenet_v3_large": 0.217,
    "mobilenet_v3_small": 0.057,
    "convnext_tiny": 4.456,
    "convnext_small": 8.684,
}

# Counted by hooks on the convolutions and dense layers of torchvision 0.29's networks and timm
# 1.0.31's, which agree, at the registry's input size.
MULTIPLY_ADDS = {
    "efficientnet_b0": 385_814_752,
    "efficientnet_b1": 686_802_832,
    "efficientnet_b2": 993_561_872,
    "efficientnet_b3": 1_827_141_392,
    "mobilenet_v3_large": 216_589_760,
    "mobilenet_v3_small": 56_510_400,
    "convnext_tiny": 4_455_531_264,
    "convnext_small": 8_683_712_256,
}

# "Params" of Keras' tables: with moving statistics, and with the biases that Keras' ResNet has in
# front of its normalisations; (all, of which such biases).
KERAS = {
    "vgg16": (138_357_544, 0),
    "vgg19": (143_667_240, 0),
    "resnet50": (25_636_712, 26_560),
    "resnet101": (44_707_176, 52_672),
    "resnet152": (60_419_944, 75_712),
    "inception_v3": (23_851_784, 0),
    "densenet121": (8_062_504, 0),
    "densenet169": (14_307_880, 0),
    "densenet201": (20_242_984, 0),
    # Without the 7 numbers of the layer that scales EfficientNet's pixels.
    "efficientnet_b0": (5_330_571 - 7, 0),
    "efficientnet_b1": (7_856_239 - 7, 0),
    "efficientnet_b2": (9_177_569 - 7, 0),
    "efficientnet_b3": (12_320_535 - 7, 0),
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters(name):
    """The registry's figures, which the last test holds against the models."""
    assert models.REGISTRY[name].parameters == PARAMETERS[name][0]


def test_only_the_dense_baseline_is_published_nowhere():
    assert set(models.REGISTRY) - set(PARAMETERS) == {"mlp"}


@pytest.mark.parametrize("name", GIGA_MULTIPLY_ADDS)
def test_multiply_adds(name):
    assert models.REGISTRY[name].flops / 2e9 == pytest.approx(GIGA_MULTIPLY_ADDS[name], abs=0.006)


@pytest.mark.parametrize("name", MULTIPLY_ADDS)
def test_exact_multiply_adds(name):
    assert models.REGISTRY[name].flops == 2 * MULTIPLY_ADDS[name]


@pytest.mark.parametrize("name", models.REGISTRY)
def test_models_have_the_figures_of_the_registry(name):
    """And those of Keras' tables; and the stages hold all parameters of the backbone."""
    entry = models.REGISTRY[name]
    models.check_input(name, entry.input_shape)
    model = models.create(name, entry.outputs)
    variables, every = variables_and_rows(model, entry.input_shape)
    rows = [row for row in every if not row.name.startswith("auxiliary_")]
    assert sum(row.parameters for row in rows) == entry.parameters
    assert sum(row.flops for row in rows) == entry.flops
    assert rows[-1].output_shape == (entry.outputs,)
    if name in KERAS:
        total, biases = KERAS[name]
        assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == total - biases
    if model.stage_names != ("",):
        assert set(variables["params"]["backbone"]) == set(model.stage_names)
