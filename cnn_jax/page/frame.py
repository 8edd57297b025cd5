"""Joins style, scripts and contents to one HTML file whose policy loads nothing."""

import json
import pathlib
from typing import Any

import numpy as np

from cnn_jax.reporting import page

_HERE = pathlib.Path(__file__).resolve().parent
SCRIPTS = (
    "engine.js",
    "ui.js",
    "draw.js",
    "network.js",
    "picture.js",
    "scene_window.js",
    "scene_shapes.js",
    "dropout.js",
    "scene_walk.js",
    "recorded.js",
    "scene_dense.js",
    "scene_why.js",
    "scene_trust.js",
    "quiz.js",
    "main.js",
)
STYLE = "page.css"


def document(contents: dict[str, Any]) -> str:
    """Returns the page.

    Its policy allows the style and the script that are in it, by their sha256, pictures made of
    data, and a worker made of the script; nothing can be loaded from anywhere or sent.

    Args:
        contents: what `contents.gather` returns.
    """
    style, script = joined(STYLE), "\n".join(['"use strict";', joined(*SCRIPTS)])
    policy = (
        f"default-src 'none'; img-src data: blob:; worker-src blob:; "
        f"style-src '{page.digest(style)}'; script-src '{page.digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    data = json.dumps(contents, separators=(",", ":"), default=_plain, allow_nan=False)
    title = f"What {contents['model']} sees: {contents['data']}"
    body = f"""<a class="skip" href="#scene-1">to the first section</a>
<header><h1>{page.escape(title)}</h1></header>
<main></main>
<noscript>This page computes in your browser, and needs JavaScript to do it.</noscript>
<script type="application/json" id="contents">{_in_html(data)}</script>"""
    return page.document(title, policy, style, body, script)


def joined(*names: str) -> str:
    """Returns files of this package, one below the other."""
    return "\n".join((_HERE / name).read_text() for name in names)


def _in_html(text: str) -> str:
    """Returns JSON that ends no element: `<` is written as an escape, which JSON knows."""
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _plain(value: Any) -> Any:
    """Returns a number of NumPy's as one of Python's."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} is not for JSON")
