"""Serves an exported network over HTTP, with ONNX Runtime and Pillow and nothing of this package.

python launch.py export --workdir=runs/digits_lenet --format=onnx --output=digits
python examples/serve.py digits 8000
curl --data-binary @seven.png localhost:8000
"""

import io
import json
import pathlib
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import onnxruntime  # pyright: ignore[reportMissingImports]
from PIL import Image, ImageOps

about = json.loads(pathlib.Path(sys.argv[1], "export.json").read_text())
takes, (_, height, width, channels) = about["input"], about["input"]["shape"]
fit = {"squash": Image.Image.resize, "crop": ImageOps.fit}.get(takes["other_sizes"], ImageOps.pad)
how = [Image.Resampling[takes["interpolation"].upper()]]
how += [(1 - takes["crop_share"]) / 2] if fit is ImageOps.fit else []
session = onnxruntime.InferenceSession(pathlib.Path(sys.argv[1], about["file"]))


class Handler(BaseHTTPRequestHandler):  # noqa: D101
    def do_POST(self):  # noqa: D102
        given = io.BytesIO(self.rfile.read(int(self.headers["Content-Length"])))
        image = ImageOps.exif_transpose(Image.open(given)).convert("L" if channels == 1 else "RGB")
        image = fit(image, (width, height), *how)
        found = session.run(None, {"images": np.asarray(image).reshape(1, height, width, channels)})
        said = {o.name: v[0].tolist() for o, v in zip(session.get_outputs(), found, strict=True)}
        said["class"] = about["classes"][int(np.argmax(said["probabilities"]))]
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(said).encode())


if __name__ == "__main__":
    HTTPServer(("localhost", int(sys.argv[2])), Handler).serve_forever()
