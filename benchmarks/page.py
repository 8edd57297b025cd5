"""Makes the page of a run, measures it in Chromium, and takes a picture of each section.

    python -m benchmarks.page --workdir=runs/cifar10_cnn --baseline=runs/cifar10_mlp [--pictures]

It writes page.html in the run directory and prints the largest difference of 100 probabilities from
JAX's, the time of a forward pass, and the size. With --pictures it saves them in docs/figures/page:
one of each section, and sheets of all sections at 1,100 and 390 pixels, by day and by night. The
runs are those of the presets `cifar10_cnn` and `cifar10_mlp`.
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

import jax.numpy as jnp
import numpy as np
from PIL import Image

import cnn_jax
from cnn_jax.evaluation import metrics
from tests import browser

ROOT = pathlib.Path(__file__).resolve().parent.parent
PICTURES = ROOT / "docs" / "figures" / "page"
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
  for (const section of [1, 3]) document.querySelector(`#scene-${section} .why`).open = true;
  put(1, "select", 0, "picture");
  put(1, "select", 1, "sobelX");
  put(3, "input[type=range]", 1, 1);
  put(5, "input[type=range]", 0, 3);
  put(7, "input[type=range]", 1, 0.7);
  press("cover every place");
  press("test: draw the weights anew");
  return true;
})()"""
PRESS = """[...document.querySelectorAll("button")]
  .find((each) => each.textContent === "WORDS").click()"""
# What goes when another picture is set.
SHIFTS = """[...document.querySelectorAll("button")]
  .find((each) => /^all shifts: .* images/.test(each.textContent)).click()"""
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
    expected = np.asarray(metrics.probabilities(jnp.asarray(run.logits(images))))
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
    """Takes every section's pictures, after a reader has done something in each.

    Of each width and scheme there is one sheet with all sections, of the wide page by day also one
    picture a section.
    """
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.evaluate(DONE.replace("PICTURE", str(picture)))
    page.until(LATER)
    page.until("document.querySelector('#why-test').dataset.correlation")
    for width, scheme in ((1100, "light"), (1100, "dark"), (390, "light"), (390, "dark")):
        page.size(width, 900, mobile=width < 500)
        media = [{"name": "prefers-color-scheme", "value": scheme}]
        page.call("Emulation.setEmulatedMedia", features=media)
        page.evaluate("picture.set(picture.now.pixels, picture.now.name, picture.now.label)")
        page.evaluate(SHIFTS)
        page.evaluate(PRESS.replace("WORDS", "permute the first weights too"))
        page.evaluate(PRESS.replace("WORDS", "cover every place"))
        page.until(LATER)
        page.evaluate("delete document.querySelector('#why-test').dataset.correlation")
        page.evaluate(PRESS.replace("WORDS", "test: draw the weights anew"))
        page.until("document.querySelector('#why-test').dataset.correlation")
        time.sleep(2)  # for the other sections to draw
        shots = [shot(page, section) for section in SECTIONS]
        columns, scale = (2, 0.5) if width > 500 else (5, 0.6)
        path = (
            PICTURES / f"all_{width}_{scheme}.webp"
        )  # a third of a PNG, for pictures to leaf over
        sheet(shots, columns, scale).save(path, quality=60, method=6)
        if (width, scheme) == (1100, "light"):
            for name, image in zip(SECTIONS.values(), shots, strict=True):
                save(image, PICTURES / f"{name}.png")


def shot(page: browser.Page, section: str) -> Image.Image:
    """Returns the picture of a section."""
    box = page.evaluate(
        f"(() => {{ const r = document.getElementById('{section}').getBoundingClientRect();"
        "return [r.x + scrollX, r.y + scrollY, r.width, r.height]; })()"
    )
    x, y, width, height = box
    clip = {"x": x - 8, "y": y - 8, "width": width + 16, "height": height + 16, "scale": 1}
    taken = page.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
    return Image.open(io.BytesIO(base64.b64decode(taken["data"]))).convert("RGB")


def sheet(shots: list[Image.Image], columns: int, scale: float) -> Image.Image:
    """Returns pictures side by side, each below the shortest column so far."""
    small = [
        image.resize(
            (round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS
        )
        for image in shots
    ]
    width, gap = max(image.width for image in small), 12
    ends, places = [0] * columns, []
    for image in small:
        column = ends.index(min(ends))
        places.append((column * (width + gap), ends[column]))
        ends[column] += image.height + gap
    whole = Image.new("RGB", (columns * (width + gap) - gap, max(ends)), shots[0].getpixel((0, 0)))
    for image, place in zip(small, places, strict=True):
        whole.paste(image, place)
    return whole


def save(image: Image.Image, path: pathlib.Path) -> None:
    """Saves a picture in 96 colours, which takes a third of the bytes."""
    image.quantize(96).save(path, optimize=True)


if __name__ == "__main__":
    main()
