"""Makes the page of a run, measures it in Chromium, and takes a picture of each section.

    python -m benchmarks.page --workdir=runs/cifar10_cnn --baseline=runs/cifar10_mlp [--pictures]

It writes page.html in the run directory and prints the largest difference of 100 probabilities from
JAX's, the time of a forward pass, and the size. With --pictures it saves docs/page/SECTION_*.png at
1,100 and 390 pixels, by day and by night. The runs are those of the presets `cifar10_cnn` and
`cifar10_mlp`.
"""

import argparse
import base64
import io
import json
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
from PIL import Image

import cnn_jax
from tests import browser

ROOT = pathlib.Path(__file__).resolve().parent.parent
PICTURES = ROOT / "docs" / "page"
SECTIONS = {
    "chooser": "the_picture",
    "scene-1": "1_window",
    "scene-2": "2_channels",
    "scene-3": "3_shapes",
    "scene-4": "4_walk",
    "scene-5": "5_dense",
    "scene-6": "6_why",
    "scene-7": "7_silent",
    "scene-8": "8_freeze",
    "scene-9": "9_quiz",
}
# What a reader has done when the pictures are taken.
DONE = """(async () => {
  const press = (words) => [...document.querySelectorAll("button")]
    .find((each) => each.textContent === words).click();
  const put = (section, kind, number, value) => {
    const control = document.querySelectorAll(`#scene-${section} ${kind}`)[number];
    control.value = value;
    for (const event of ["input", "change"]) {
      control.dispatchEvent(new Event(event, { bubbles: true }));
    }
  };
  document.querySelectorAll(".thumb")[PICTURE].click();
  document.querySelectorAll("#scene-1 input[type=radio]")[2].click();
  document.querySelectorAll("#scene-3 input[type=radio]")[0].click();
  put(1, "select", 0, "picture");
  put(1, "select", 1, "sobelX");
  put(3, "input[type=range]", 1, 1);
  put(5, "input[type=range]", 0, 3);
  put(7, "input[type=range]", 1, 0.7);
  press("all shifts from left to right");
  press("permute the first weights too");
  press("cover every place");
  press("test: draw the weights anew");
  return true;
})()"""
PRESS = """[...document.querySelectorAll("button")]
  .find((each) => each.textContent === "WORDS").click()"""
LATER = "document.querySelector('#why-line').textContent.startsWith('Covered everywhere')"
CHECK = """(async () => {
  const contents = JSON.parse(document.getElementById("contents").textContent);
  const net = new Network("check", contents.network, contents.span);
  await net.loaded;
  const [all, times] = [[], []];
  for (const image of IMAGES) {
    const begun = performance.now();
    all.push((await net.run(bytesOf(image))).p);
    times.push(performance.now() - begun);
  }
  return [all, times];
})()"""


def main() -> None:
    """Writes the page, measures it, and takes the pictures if they are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workdir", type=pathlib.Path, required=True)
    parser.add_argument("--baseline", type=pathlib.Path)
    parser.add_argument("--advise", type=pathlib.Path)
    parser.add_argument("--picture", type=int, default=0, help="which picture the sections show")
    parser.add_argument("--pictures", action="store_true")
    given = parser.parse_args()
    output = given.workdir / "page.html"
    more = [
        f"--page.{name}={value}"
        for name, value in (("baseline", given.baseline), ("advise", given.advise))
        if value is not None
    ]
    where = [f"--workdir={given.workdir}", f"--output={output}"]
    subprocess.run([sys.executable, str(ROOT / "launch.py"), "page", *where, *more], check=True)
    run = cnn_jax.load(given.workdir)
    images = np.asarray(run.split().images[:100])
    expected = run.predict(images).probabilities
    encoded = json.dumps([base64.b64encode(image.tobytes()).decode() for image in images])
    with tempfile.TemporaryDirectory() as folder, browser.chromium(pathlib.Path(folder)) as page:
        page.size(1100, 900)
        page.go(output.resolve().as_uri())
        page.until("document.documentElement.dataset.ready === 'true'")
        found, times = page.evaluate(CHECK.replace("IMAGES", encoded))
        difference = np.abs(np.array(found) - expected).max()
        print(f"largest difference of a probability from JAX's, 100 images: {difference:.1e}")
        print(f"forward pass: median {np.median(times):.0f} ms, fastest {min(times):.0f} ms")
        print(f"size: {output.stat().st_size / 1e6:.2f} MB")
        if given.pictures:
            take(page, given.picture)
        assert not page.errors, page.errors


def take(page: browser.Page, picture: int) -> None:
    """Takes every section's pictures, after a reader has done something in each."""
    page.evaluate(DONE.replace("PICTURE", str(picture)))
    page.until(LATER)
    page.until("document.querySelector('#why-test').dataset.correlation")
    for width, scheme in ((1100, "light"), (390, "dark"), (1100, "dark"), (390, "light")):
        page.size(width, 900, mobile=width < 500)
        media = [{"name": "prefers-color-scheme", "value": scheme}]
        page.call("Emulation.setEmulatedMedia", features=media)
        page.evaluate("picture.set(picture.now.pixels, picture.now.name, picture.now.label)")
        page.evaluate(PRESS.replace("WORDS", "cover every place"))
        page.until(LATER)
        page.evaluate(PRESS.replace("WORDS", "test: draw the weights anew"))
        time.sleep(2)  # for the other sections to draw
        for section, name in SECTIONS.items():
            save(page, section, PICTURES / f"{name}_{width}_{scheme}.png")


def save(page: browser.Page, section: str, path: pathlib.Path) -> None:
    """Saves the picture of a section in 96 colours, which takes a third of the bytes."""
    box = page.evaluate(
        f"(() => {{ const r = document.getElementById('{section}').getBoundingClientRect();"
        "return [r.x + scrollX, r.y + scrollY, r.width, r.height]; })()"
    )
    x, y, width, height = box
    clip = {
        "x": x - 8,
        "y": y - 8,
        "width": width + 16,
        "height": min(height + 16, 2400),
        "scale": 1,
    }
    shot = page.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
    image = Image.open(io.BytesIO(base64.b64decode(shot["data"])))
    image.convert("RGB").quantize(96).save(path, optimize=True)


if __name__ == "__main__":
    main()
