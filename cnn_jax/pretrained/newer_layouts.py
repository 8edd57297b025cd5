"""The layouts of EfficientNet, MobileNetV3 and ConvNeXt; see `layouts.py`.

Names and conventions are those of Keras Applications 3.15, torchvision 0.29 and timm 1.0.
"""

from cnn_jax.models import convnext, efficientnet, mobilenet_v3
from cnn_jax.pretrained.layout import Convention, Layer, Layout

# TensorFlow's epsilon of normalisations minus PyTorch's; ours is that of torchvision's network.
_TENSORFLOW = 1e-3 - 1e-5


def _conv(path: str, keras: str, torch: str, timm: str) -> Layer:
    return Layer(path, "conv", keras, torch, timm=timm)


def _norm(path: str, keras: str, torch: str, timm: str) -> Layer:
    return Layer(path, "batch_norm", keras, torch, timm=timm)


def _block(
    path: str,
    keras: tuple[str, str, str],
    torch: str,
    timm: str,
    expands: bool,
    squeezes: bool,
) -> list[Layer]:
    """Returns the layers of an `InvertedResidual`.

    Args:
        path: ours.
        keras: what its names begin with, and how they end of a depthwise convolution and of the
            one that projects; the normalisations of the two follow from these.
        torch: torchvision's name of the block.
        timm: timm's name of the block.
        expands: whether there is a convolution in front of the depthwise one.
        squeezes: whether there is a squeeze-and-excitation.
    """
    prefix, reduce, expand = keras
    own = prefix.startswith("block")  # EfficientNet's in Keras
    layers, part, norm = [], 0, 1
    parts = [("expand", "expand_conv" if own else "expand", "expand_bn", "conv_pw")] * expands
    conv, bn = ("dwconv", "bn") if own else ("depthwise", "depthwise_bn")
    parts.append(("depthwise", conv, bn, "conv_dw"))
    parts.append(("project", "project_conv" if own else "project", "project_bn", "conv_pwl"))
    for ours, conv, bn, its in parts:
        if ours == "project" and squeezes:
            for one, other, fc, name in (
                ("reduce", reduce, "fc1", "conv_reduce"),
                ("expand", expand, "fc2", "conv_expand"),
            ):
                layers.append(
                    _conv(
                        f"{path}/squeeze_excite/{one}",
                        f"{prefix}{other}",
                        f"{torch}.{part}.{fc}",
                        f"{timm}.se.{name}",
                    )
                )
            part += 1
        if ours == "project" and not expands:
            its = "conv_pw"
        layers += [
            _conv(f"{path}/{ours}/conv", f"{prefix}{conv}", f"{torch}.{part}.0", f"{timm}.{its}"),
            _norm(f"{path}/{ours}/bn", f"{prefix}{bn}", f"{torch}.{part}.1", f"{timm}.bn{norm}"),
        ]
        part, norm = part + 1, norm + 1
    return layers


def _efficientnet(width: float, depth: float) -> Layout:
    layers = [
        _conv("backbone/stem/conv", "stem_conv", "features.0.0", "conv_stem"),
        _norm("backbone/stem/bn", "stem_bn", "features.0.1", "bn1"),
    ]
    rows = efficientnet.scaled(width, depth)
    for stage, row in enumerate(rows, start=1):
        for block in range(row.blocks):
            layers += _block(
                f"backbone/stage{stage}/block{block + 1}",
                (f"block{stage}{chr(ord('a') + block)}_", "se_reduce", "se_expand"),
                f"features.{stage}.{block}.block",
                f"blocks.{stage - 1}.{block}",
                expands=row.expansion > 1,
                squeezes=True,
            )
    top = f"features.{len(rows) + 1}"
    layers += [
        _conv("backbone/top/conv", "top_conv", f"{top}.0", "conv_head"),
        _norm("backbone/top/bn", "top_bn", f"{top}.1", "bn2"),
        Layer("head/logits", "dense", "predictions", "classifier.1", timm="classifier"),
    ]
    symmetric = Convention("torch", {"padding": "symmetric"})
    tensorflow = Convention("torch", {"padding": "same"}, epsilon=_TENSORFLOW)
    return Layout(
        tuple(layers),
        {"keras": tensorflow, "torch": symmetric, "timm": symmetric, "timm_tf": tensorflow},
    )


def _mobilenet_v3(stages: tuple[tuple[mobilenet_v3.Row, ...], ...]) -> Layout:
    layers = [
        _conv("backbone/stem/conv", "conv", "features.0.0", "conv_stem"),
        _norm("backbone/stem/bn", "conv_bn", "features.0.1", "bn1"),
    ]
    number, channels = 0, 16
    for stage, rows in enumerate(stages, start=1):
        for block, row in enumerate(rows):
            prefix = f"expanded_conv_{number}_" if number else "expanded_conv_"
            number += 1
            layers += _block(
                f"backbone/stage{stage}/block{block + 1}",
                (prefix, "squeeze_excite_conv", "squeeze_excite_conv_1"),
                f"features.{number}.block",
                f"blocks.{stage - 1}.{block}",
                expands=row.expanded != channels,
                squeezes=row.squeeze,
            )
            channels = row.filters
    top, timm = f"features.{number + 1}", f"blocks.{len(stages)}.0"
    layers += [
        _conv("backbone/top/conv", "conv_1", f"{top}.0", f"{timm}.conv"),
        _norm("backbone/top/bn", "conv_1_bn", f"{top}.1", f"{timm}.bn1"),
        Layer("head/dense1", "dense", "conv_2", "classifier.0", timm="conv_head"),
        Layer("head/logits", "dense", "logits", "classifier.3", timm="classifier"),
    ]
    options = {"padding": "symmetric"}
    return Layout(
        tuple(layers),
        {
            "keras": Convention("symmetric", {"padding": "same"}),
            "torch": Convention("torch", options),
            "timm": Convention("torch", options, epsilon=-_TENSORFLOW),
            "timm_tf": Convention("symmetric", {"padding": "same"}),
        },
    )


def _convnext(name: str, blocks: tuple[int, ...]) -> Layout:
    def layer(path: str, kind: str, keras: str, torch: str, timm: str) -> Layer:
        return Layer(path, kind, f"{name}_{keras}", torch, timm=timm)  # type: ignore[arg-type]

    layers = [
        layer("backbone/stem/conv", "conv", "stem_conv", "features.0.0", "stem.0"),
        layer("backbone/stem/norm", "layer_norm", "stem_layernorm", "features.0.1", "stem.1"),
    ]
    for stage, count in enumerate(blocks):
        path, timm = f"backbone/stage{stage + 1}", f"stages.{stage}"
        if stage:
            torch, its, n = f"features.{2 * stage}", f"{timm}.downsample", stage - 1
            keras = f"downsampling_layernorm_{n}", f"downsampling_conv_{n}"
            layers += [
                layer(f"{path}/norm", "layer_norm", keras[0], f"{torch}.0", f"{its}.0"),
                layer(f"{path}/downsample", "conv", keras[1], f"{torch}.1", f"{its}.1"),
            ]
        for block in range(count):
            ours, keras = f"{path}/block{block + 1}", f"stage_{stage}_block_{block}"
            torch, its = f"features.{2 * stage + 1}.{block}", f"{timm}.blocks.{block}"
            for part, kind, k, t, i in (
                ("depthwise", "conv", "depthwise_conv", "block.0", "conv_dw"),
                ("norm", "layer_norm", "layernorm", "block.2", "norm"),
                ("dense1", "dense", "pointwise_conv_1", "block.3", "mlp.fc1"),
                ("dense2", "dense", "pointwise_conv_2", "block.5", "mlp.fc2"),
                ("layer_scale", "scale", "layer_scale", "layer_scale", "gamma"),
            ):
                names = f"{keras}_{k}", f"{torch}.{t}", f"{its}.{i}"
                layers.append(layer(f"{ours}/{part}", kind, *names))
    layers += [
        layer("head/norm", "layer_norm", "head_layernorm", "classifier.0", "head.norm"),
        layer("head/logits", "dense", "head_dense", "classifier.2", "head.fc"),
    ]
    same = Convention("torch")
    return Layout(tuple(layers), {"keras": same, "torch": same, "timm": same})


LAYOUTS: dict[str, Layout] = {
    **{name: _efficientnet(*scale[:2]) for name, scale in efficientnet.SCALES.items()},
    **{name: _mobilenet_v3(stages) for name, stages in mobilenet_v3.STAGES.items()},
    **{name: _convnext(name, blocks) for name, (blocks, _) in convnext.STAGES.items()},
}
