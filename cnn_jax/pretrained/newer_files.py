"""Keras' files of EfficientNet, MobileNetV3 and ConvNeXt; see `catalogue.py`."""

from typing import NamedTuple

from cnn_jax.data.fitting import Resize

_KERAS = "https://storage.googleapis.com/tensorflow/keras-applications"


class Files(NamedTuple):
    """The two files of a model.

    Attributes:
        model: the registered model.
        address: the folder in which they are.
        names: of the file with the top, and of that without.
        digests: likewise, hexadecimal: md5, or sha256 where they have 64 digits.
        licence: of the weights.
        source: who trained them.
        evaluated: see `catalogue.Entry`.
    """

    model: str
    address: str
    names: tuple[str, str]
    digests: tuple[str, str]
    licence: str
    source: str
    evaluated: tuple[Resize, float]


_EFFICIENTNET = (
    "Apache License 2.0",
    "Google (https://github.com/tensorflow/tpu), Tan and Le 2019, arXiv:1905.11946",
)
_MOBILENET = (
    "Apache License 2.0",
    "Google (https://github.com/tensorflow/models), Howard et al. 2019, arXiv:1905.02244",
)
_CONVNEXT = (
    "MIT License",
    "Meta (https://github.com/facebookresearch/ConvNeXt), Liu et al. 2022, arXiv:2201.03545",
)
_EFFICIENTNETS = {  # digests, and the share of the short side in its evaluation
    "b0": ("902e53a9f72be733fc0bcb005b3ebbac", "50bc09e76180e00e4465e1a485ddc09d", 224 / 256),
    "b1": ("1d254153d4ab51201f1646940f018540", "74c4e6b3e1f6a1eea24c589628592432", 240 / 272),
    "b2": ("b15cce36ff4dcbd00b6dd88e7857a6ad", "111f8e2ac8aa800a7a99e3239f7bfb39", 260 / 292),
    "b3": ("ffd1fdc53d0ce67064dc6a9c7960ede0", "af6d107764bb5b1abb91932881670226", 300 / 332),
}
_MOBILENETS = {
    "large": ("59e551e166be033d707958cf9e29a6a7", "07fb09a5933dd0c8eaafa16978110389"),
    "small": ("8768d4c2e7dee89b9d02b2d03d65d862", "d3e8ec802a04aa4fc771ee12a9a9b836"),
}
_CONVNEXTS = {
    "tiny": (
        "8ae6e78ce2933352b1ef4008e6dd2f17bc40771563877d156bc6426c7cf503ff",
        "d547c096cabd03329d7be5562c5e14798aa39ed24b474157cef5e85ab9e49ef1",
    ),
    "small": (
        "ce1277d8f1ee5a0ef0e171469089c18f5233860ceaf9b168049cb9263fd7483c",
        "6fc8009faa2f00c1c1dfce59feea9b0745eb260a7dd11bee65c8e20843da6eab",
    ),
}

FILES: tuple[Files, ...] = (
    *(
        Files(
            f"efficientnet_{size}",
            "https://storage.googleapis.com/keras-applications",
            (f"efficientnet{size}.h5", f"efficientnet{size}_notop.h5"),
            (top, notop),
            *_EFFICIENTNET,
            ("crop", share),
        )
        for size, (top, notop, share) in _EFFICIENTNETS.items()
    ),
    *(
        Files(
            f"mobilenet_v3_{size}",
            f"{_KERAS}/mobilenet_v3",
            (
                f"weights_mobilenet_v3_{size}_224_1.0_float.h5",
                f"weights_mobilenet_v3_{size}_224_1.0_float_no_top_v2.h5",
            ),
            digests,
            *_MOBILENET,
            ("squash", 0.875),
        )
        for size, digests in _MOBILENETS.items()
    ),
    *(
        Files(
            f"convnext_{size}",
            f"{_KERAS}/convnext",
            (f"convnext_{size}.h5", f"convnext_{size}_notop.h5"),
            digests,
            *_CONVNEXT,
            ("crop", 0.875),
        )
        for size, digests in _CONVNEXTS.items()
    ),
)
