"""Takes the pictures of TensorBoard and a sweep for the README.

    python -m benchmarks.screenshots [--sweep=DIRECTORY]

It runs a small sweep over the digits (or uses an existing one), starts TensorBoard on it, and saves
docs/figures/tensorboard_{scalars,hparams,images,projector}.png with a headless Chromium. This takes
some minutes, most of them for the sweep.
"""

import argparse
import io
import json
import pathlib
import subprocess
import sys
import tempfile
import time

from PIL import Image

from tests import browser

ROOT = pathlib.Path(__file__).resolve().parent.parent
FIGURES = ROOT / "docs" / "figures"
SIZE = (1400, 900)
SWEEP = (
    "--config=digits_lenet",
    "--train.epochs=4",
    "--optimizer.name=sgd",
    "--optimizer.momentum=0.9",
    "--sweep.method=grid",
    "--sweep.seeds=2",
    "--sweep.space=optimizer.learning_rate=[0.003,0.03,30.0] dataset.batch_size=[32,128]",
)
# TensorBoard's pages are nested web components and frames; `all` looks through them.
FIND = """
const all = (selector, root = document) => {
  const found = [...root.querySelectorAll(selector)];
  for (const element of root.querySelectorAll("*")) {
    const within = element.shadowRoot ?? element.contentDocument;
    if (within) found.push(...all(selector, within));
  }
  return found;
};
"""
# The part of the address after the #, and an expression that is true once the page shows something.
PAGES = {
    "scalars": (
        "scalars&tagFilter=accuracy|loss&_smoothingWeight=0&regexInput=seed",
        "all('vz-line-chart2').length > 3",
    ),
    "hparams": ("hparams", "all('paper-checkbox.hparam-checkbox').length > 5"),
    "images": (
        "images&tagFilter=validation&regexInput=0002/seed0",
        "all('tf-image-loader').length > 1",
    ),
    "projector": ("projector", "all('canvas').length > 0"),
}
# The table fills up to five columns with settings that do not vary.
ONLY_VARIED = """
all('paper-checkbox.hparam-checkbox').filter(
  (box) => box.checked && !VARIED.includes(box.textContent.trim())
).forEach((box) => box.click())
"""


def main() -> None:
    """Runs the sweep if none is given, and takes the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sweep", type=pathlib.Path)
    given = parser.parse_args().sweep
    with tempfile.TemporaryDirectory() as folder:
        base = pathlib.Path(folder)
        sweep = given or base / "sweep"
        if given is None:
            launch = [sys.executable, str(ROOT / "launch.py"), "sweep", f"--workdir={sweep}"]
            subprocess.run([*launch, *SWEEP], check=True)
        varied = list(json.loads((sweep / "sweep.json").read_text())[0]["setting"])
        shown = base / "runs"  # the pages show its name
        shown.symlink_to(sweep.resolve())
        with (
            browser.tensorboard(shown, base / "log") as address,
            browser.chromium(base / "chromium") as page,
        ):
            page.size(*SIZE)
            for name, (place, ready) in PAGES.items():
                page.go("about:blank")
                page.go(f"{address}/#{place}")
                page.until(f"(() => {{ {FIND} return {ready}; }})()")
                if name == "hparams":
                    script = ONLY_VARIED.replace("VARIED", json.dumps(varied))
                    page.evaluate(f"(() => {{ {FIND} {script} }})()")
                time.sleep(8)  # for the curves to be drawn and the projection to settle
                save(page.png(), FIGURES / f"tensorboard_{name}.png")


def save(png: bytes, path: pathlib.Path) -> None:
    """Writes a picture in 128 colours, which takes a third of the bytes."""
    image = Image.open(io.BytesIO(png)).convert("RGB").quantize(128)
    image.save(path, optimize=True)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
