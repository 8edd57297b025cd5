"""Serves an exported network over HTTP, with ONNX Runtime and Pillow and nothing of this package.

python launch.py export --workdir=runs/digits_lenet --format=onnx --output=digits
python examples/serve.py digits 8000
curl --data-binary @seven.png localhost:8000
"""

import io
import json
import pathlib
import sys
from wsgiref.simple_server import make_server

import numpy as np
import onnxruntime  # pyright: ignore[reportMissingImports]
from PIL import Image, ImageOps, ImageStat

about = json.loads(pathlib.Path(sys.argv[1], "export.json").read_text())
shape, cut = (takes := about["input"])["shape"][1:], (1 - takes["crop_share"]) / 2
size, kind = (shape[1], shape[0]), Image.Resampling[takes["interpolation"].upper()]
fit = {
    "squash": lambda x: x.resize(size, kind, tuple(n * s for s in (cut, 1 - cut) for n in x.size)),
    "crop": lambda x: ImageOps.fit(x, size, kind, cut),
    "pad": lambda x: ImageOps.pad(x, size, kind),
    "pad_mean": lambda x: ImageOps.pad(x, size, kind, tuple(map(round, ImageStat.Stat(x).mean))),
}[takes["other_sizes"]]
session = onnxruntime.InferenceSession(pathlib.Path(sys.argv[1], about["file"]))


def answer(environ, start_response):  # noqa: D103
    given = io.BytesIO(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
    image = ImageOps.exif_transpose(Image.open(given)).convert("L" if shape[2] == 1 else "RGB")
    found = session.run(None, {"images": np.asarray(fit(image)).reshape(1, *shape)})
    said = {o.name: v[0].tolist() for o, v in zip(session.get_outputs(), found, strict=True)}
    said["class"] = about["classes"][int(np.argmax(said["probabilities"]))]
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(said).encode()]


make_server("localhost", int(sys.argv[2]), answer).serve_forever()
