"""The page of a run in a real browser."""

import base64
import io
import json
import re

import flax.linen as nn
import numpy as np
import pytest
from PIL import Image

import cnn_jax
from cnn_jax import layers
from cnn_jax.evaluation import intervals
from cnn_jax.explain import maps
from cnn_jax.explain import network as networks
from cnn_jax.page import contents, frame
from tests import browser
from tests.studies.test_report_browser import contrast

pytestmark = pytest.mark.skipif(browser.CHROMIUM is None, reason="no Chromium on PATH")

MINUS = "\u2212"
ODD_NAME = '<b>zero</b> & "quotes"'


# What the page reads of a trust.json.
RECORD = {
    "calibration": {
        "scaling": {"kind": "temperature", "temperature": 1.5, "weights": [], "offsets": []}
    },
    "thresholds": [0.625] * 10,
    "score": "max_probability",
    "network": {"views": "one"},
    "settings": {"max_error": 0.1, "confidence": 0.95},
    "sentences": ["It may answer 90 % of <such> images."],
}


class Small(nn.Module):
    """A convolution, a pool, dropout and a dense layer."""

    @nn.compact
    def __call__(self, x, train=False):
        x = layers.Conv(6, (3, 3), padding="SAME", activation="relu", name="conv")(x)
        x = layers.MaxPool((2, 2))(x).reshape(x.shape[0], -1)
        x = nn.Dropout(0.25, name="dropout")(x, deterministic=not train)
        return nn.Dense(10, name="dense")(x)


@pytest.fixture(scope="module")
def run(digits):
    return cnn_jax.train(digits, model=Small(), epochs=2, batch_size=32)


@pytest.fixture(scope="module")
def held(run, trained):
    """What the page holds, with a baseline, results of an advise and an odd class name."""
    cell = {"images": 100, "epochs": 5, "diverged": 0, "flops": 1, "seconds": 1.0}
    cells = [
        {**cell, "strategy": "head", "accuracies": [0.8, 0.9]},
        {**cell, "strategy": "scratch", "accuracies": [0.5]},
    ]
    advice = {"budgets": {"epochs": {"cells": cells, "recommendation": {}}}}
    found = contents.gather(run, baseline=cnn_jax.load(trained[0]), advice=advice)
    found["classes"][0] = ODD_NAME
    found["trust"] = contents.trust_of(RECORD)
    return found


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    with browser.chromium(tmp_path_factory.mktemp("chromium")) as page:
        yield page


@pytest.fixture(scope="module")
def place(held, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(frame.document(held))
    return path


def opened(tab, path):
    tab.errors.clear()
    tab.requests.clear()
    tab.size(1000, 800)
    tab.go("about:blank")
    tab.go(path.as_uri())
    tab.until("document.documentElement.dataset.ready === 'true'")


@pytest.fixture(scope="module")
def loaded(tab, place):
    opened(tab, place)
    return tab


@pytest.fixture
def page(loaded, place):
    loaded.size(1000, 800)
    yield loaded
    assert loaded.errors == []
    elsewhere = [x for x in loaded.requests if not x.startswith(("data:", "blob:", "about:"))]
    assert elsewhere == [place.as_uri()]


def text(page, selector):
    return page.evaluate(f"document.querySelector({json.dumps(selector)}).textContent")


def press(page, selector, *keys):
    page.evaluate(f"document.querySelector({json.dumps(selector)}).focus()")
    for key in keys:
        known = {" ": 32, "Tab": 9, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39}
        code = known.get(key, 40)
        for kind in ("rawKeyDown", "keyUp"):
            page.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code)


def choose(page, label, value):
    """Sets the control with this label, as a person would."""
    page.evaluate(f"""(() => {{
      const label = [...document.querySelectorAll("label")].find(
        (each) => each.textContent === {json.dumps(label)});
      const control = document.getElementById(label.htmlFor);
      if (control.type === "checkbox") {{
        if (control.checked !== {json.dumps(value)}) control.click();
        return;
      }}
      control.value = {json.dumps(value)};
      control.dispatchEvent(new Event("input", {{ bubbles: true }}));
      control.dispatchEvent(new Event("change", {{ bubbles: true }}));
    }})()""")


def click(page, words):
    page.evaluate(f"""[...document.querySelectorAll("button")].find(
      (each) => each.textContent === {json.dumps(words)}).click()""")


def test_it_checks_itself_and_computes_what_jax_computes(page, run, held):
    assert "Checked" in text(page, "#check")
    images = run.split().images[:100]
    expected = run.predict(images).probabilities
    given = json.dumps([image.ravel().tolist() for image in images])
    found = page.evaluate(f"""(async () => {{
      const about = JSON.parse(document.getElementById("contents").textContent).network;
      const net = new Network("test", about, [0, 255]);
      const all = [];
      for (const image of {given}) all.push((await net.run(image)).p);
      return all;
    }})()""")
    assert np.abs(np.array(found) - expected).max() < 1e-3
    assert held["network"]["kind"] == "float32"
    assert held["baseline"]["kind"] == "float16"


def test_the_answer_stands_beside_the_picture_and_the_first_one_is_right(page):
    page.until("document.querySelector('#picture-answer').textContent.endsWith('That is right.')")
    click(page, "noise")
    page.until("document.querySelector('#picture-line').textContent === 'Now: noise.'")
    page.until("!/right|wrong/.test(document.querySelector('#picture-answer').textContent)")
    page.evaluate("document.querySelectorAll('.thumb')[0].click()")


def test_the_window_has_the_guides_numbers(page):
    assert f"⌊(5 {MINUS} 3 + 2 · 0) / 1⌋ + 1 = 3" in text(page, "#window-formula")
    sums = []
    for _ in range(9):
        sums.append(text(page, "#window-sum").rpartition("= ")[2])
        click(page, "next place")
    assert sums == ["0", "0", "8", f"{MINUS}4", "0", "2", "0", f"{MINUS}4", "0"]
    press(page, "#window-input", "ArrowRight", "ArrowRight")
    assert text(page, "#window-sum").endswith("= 8")
    choose(page, "image", "small")
    choose(page, "kernel", "corner")
    sums = []
    page.evaluate("document.querySelector('#window-input').focus()")
    press(page, "#window-input", "ArrowUp", "ArrowUp", "ArrowLeft", "ArrowLeft")
    for _ in range(4):
        sums.append(text(page, "#window-sum").rpartition("= ")[2])
        click(page, "next place")
    assert sums == ["6", "8", "12", "14"]
    choose(page, "image", "guide")
    choose(page, "kernel", "sobelX")
    before = text(page, "#window-sum").rpartition("= ")[2]
    choose(page, "turn the kernel by 180° (convolution of mathematics)", True)
    assert {before, text(page, "#window-sum").rpartition("= ")[2]} == {"6", f"{MINUS}6"}
    choose(page, "turn the kernel by 180° (convolution of mathematics)", False)
    choose(page, "bias", -7)
    choose(page, "ReLU", True)
    assert text(page, "#window-sum").endswith(f"with the bias {MINUS}1; ReLU makes it 0")
    choose(page, "ReLU", False)
    choose(page, "image", "large")
    assert f"⌊(28 {MINUS} 3 + 2 · 1) / 1⌋ + 1 = 28" in text(page, "#window-formula")
    choose(page, "image", "guide")
    choose(page, "kernel", "guide")


def test_the_sizes_are_those_of_the_package(page):
    found = page.evaluate("""(() => {
      const all = [];
      for (let w = 1; w <= 32; w++) for (let f = 1; f <= w; f++) for (const p of [0, 1, 2])
        for (const s of [1, 2, 3]) all.push([w, f, s, p, outputSize(w, f, s, p)]);
      return all;
    })()""")
    assert len(found) > 4000
    assert all(cnn_jax.convolution.output_size(*each[:4]) == each[4] for each in found)


def test_channels_and_flatten_count_as_they_say(page):
    for label, value in (("kernel height", 5), ("kernel width", 5), ("filters", 100)):
        choose(page, label, value)
    assert "5 · 5 · 3 · 100 + 100 = 7,600 " in text(page, "#channels-count")
    assert text(page, "#shapes-small").startswith("largest 6, mean 3.25, first 1")
    labels = page.evaluate(
        "[...document.querySelectorAll('.flat button')].map((each) => each.textContent)"
    )
    assert ",".join(labels).replace(MINUS, "-") == "0,-1,0,-1,4,-1,0,-1,0"


def test_a_filter_is_switched_off_and_on(page):
    page.evaluate("document.querySelectorAll('.layer')[2].click()")
    before = text(page, "#walk-bars")
    columns = "getComputedStyle(document.querySelector('#scene-4 .maps')).gridTemplateColumns"
    wide = page.evaluate(columns)
    page.evaluate(
        "document.querySelectorAll('.tile')[1].click()"
    )  # looks, as long as nothing else is asked
    assert "channel 2, row 1 of 8" in text(page, "#walk-pointed")
    assert page.evaluate("document.querySelectorAll('.tile.off').length") == 0
    choose(page, "pressing a map switches its filter off or on", True)
    page.evaluate("document.querySelectorAll('.tile').forEach((tile) => tile.click())")
    page.until("document.querySelector('#walk-off').textContent.startsWith('6 ')")
    page.until("document.querySelectorAll('.tile.off').length === 6")
    assert text(page, "#walk-bars") != before
    assert page.evaluate(columns) == wide  # so the next press meets the next map
    click(page, "all filters on")
    page.until("document.querySelectorAll('.tile.off').length === 0")
    assert text(page, "#walk-bars") == before
    assert "receptive field 3 x 3" in text(page, "#walk-facts")


SCATTER = re.compile(
    r"from ([\d.]+) % to ([\d.]+) %, ([\d.]+) % on average; in evaluation ([\d.]+) %"
)


def scattered(page):
    """Returns what the page says of passes with dropout: least, most, mean, in evaluation."""
    (found,) = SCATTER.findall(text(page, "#dropout-line"))
    return map(float, found)


def test_dropout_scatters_in_training_alone(page):
    names = page.evaluate("JSON.parse(document.getElementById('contents').textContent).classes")
    assert "In training this network drops 25.0 % of its numbers at one place" in text(
        page, "#scene-4"
    )
    click(page, "50 passes")
    said = page.until(
        "document.querySelector('#dropout-line').textContent.match(/^50 .*each time/)"
    )
    assert said[0].startswith("50 passes with dropout off: ")
    choose(page, "dropout on, as in training", True)
    assert text(page, "#dropout-line").startswith("Dropout is on")
    click(page, "50 passes")
    page.until("/^50 .*average/.test(document.querySelector('#dropout-line').textContent)")
    least, most, mean, whole = scattered(page)
    assert least < mean < most
    assert least <= whole <= most
    assert f" {whole:.1f} %, the same number each time" in said[0]
    assert any(name in said[0] for name in names)
    assert page.evaluate("document.querySelectorAll('#dropout-chart circle').length") >= 150
    click(page, "one more pass")
    page.until("document.querySelector('#dropout-line').textContent.startsWith('51 passes')")
    choose(page, "share dropped", 0.05)  # less is dropped: the passes lie closer together
    click(page, "50 passes")
    page.until("/^50 .*average/.test(document.querySelector('#dropout-line').textContent)")
    low, high, _, same = scattered(page)
    assert high - low < most - least
    assert same == whole
    choose(page, "dropout on, as in training", False)


def test_a_dense_network_does_not_mind_scrambled_pixels(page, held):
    click(page, "permute the first weights too")
    assert float(page.until("document.querySelector('#dense-same').dataset.largest")) < 1e-4
    click(page, f"all shifts: {held['network']['shifted']['images']} images")
    assert page.evaluate("document.querySelectorAll('#dense-curve polyline').length") == 2
    right = held["network"]["shifted"]["right"]
    assert f"{100 * right[2][0]:.1f} % ({100 * right[2][1]:.1f} % to" in text(page, "#dense-curve")
    click(page, "all shifts: this picture alone")
    page.until("document.querySelector('#dense-curve').textContent.includes('alone')")
    page.evaluate("document.querySelectorAll('.thumb')[3].click()")  # what was of another picture
    assert text(page, "#dense-curve") == text(page, "#dense-same") == ""


def test_evidence_adds_up_and_the_map_is_tested(page):
    page.until("document.querySelector('#why-cam-line').textContent")
    said = text(page, "#why-cam-line").replace(MINUS, "-")
    logit, total, rest = map(float, re.findall(r"(?:is|to|rest,) (-?[\d.]+\d)", said)[:3])
    assert abs(logit - total - rest) < 0.02 * max(1, abs(logit))
    click(page, "test: draw the weights anew")
    assert -1 <= float(page.until("document.querySelector('#why-test').dataset.correlation")) <= 1
    press(page, "#why-picture", "ArrowRight", "ArrowDown")
    page.until("/row 6, column 6/.test(document.querySelector('#why-line').textContent)")


def test_what_is_shown_of_a_layer_is_what_jax_computes(page, run):
    image = run.split().images[5]
    maps = run.features(image, "conv")[0]
    found = page.evaluate(f"""(async () => {{
      const about = JSON.parse(document.getElementById("contents").textContent).network;
      const net = new Network("layers", about, [0, 255]);
      const value = about.steps.find((each) => each.title === "ReLU").value;
      const shift = changedPixels({image.ravel().tolist()}, [8, 8, 1], {{ dx: 1 }});
      const [a, b] = [await net.run({image.ravel().tolist()}, {{ keep: [value] }}),
        await net.run(shift, {{ keep: [value] }})];
      return [[...a.values[value]], [...b.values[value]]];
    }})()""")
    shown, moved = (np.array(each).reshape(maps.shape) for each in found)
    np.testing.assert_allclose(shown, maps, atol=1e-5 * np.abs(maps).max())
    # The map moves along with the picture, inside its border.
    np.testing.assert_allclose(moved[1:-1, 2:-1], shown[1:-1, 1:-2], atol=1e-6)


def test_maps_are_those_of_explain(page, run):
    image = run.split().images[3]
    network = networks.Network(run)
    for method in ("hirescam", "gradcam"):
        subject = maps.Subject(image, 2)
        expected = getattr(maps, method)(network, subject)
        found = page.evaluate(f"""(async () => {{
          const about = JSON.parse(document.getElementById("contents").textContent).network;
          const net = new Network("maps", about, [0, 255]);
          const found = await net.run({image.ravel().tolist()}, {{ keep: [about.map] }});
          const A = found.values[about.map];
          const G = await net.gradient(A, towards(10, 2));
          const shape = about.forward.shapes[about.map].slice(1);
          return [...evidence(A, G, shape, {json.dumps(method)})];
        }})()""")
        np.testing.assert_allclose(found, expected.ravel(), atol=1e-4 * np.abs(expected).max())


def test_thresholds_count_the_runs_own_results(page, run):
    split = run.split()
    logits = run.logits(split.images)
    wrong = logits.argmax(1) != split.labels
    assert page.evaluate("calibrated([2], { weights: [1, 2], offsets: [0.5, 1] })") == [0.5, 5]
    assert RECORD["sentences"][0] in text(page, "#scene-7 details:not(.why)")
    for temperature, threshold in ((1.5, 0.625), (0.25, 0.4)):  # the run's own come first
        if threshold == 0.4:
            choose(page, "temperature", temperature)
            choose(page, "silent below", threshold)
        shifted = np.exp((logits - logits.max(1, keepdims=True)) / temperature)
        sure = (shifted / shifted.sum(1, keepdims=True)).max(1) >= threshold
        said = text(page, "#trust-line")
        answers, errors = re.findall(r"answers (\d+) \(.*answers (\d+) are wrong", said)[0]
        assert abs(int(answers) - sure.sum()) <= 1  # of float16 logits
        assert abs(int(errors) - (sure & wrong).sum()) <= 1
        if sure.any():
            ends = intervals.wilson(int(errors), int(answers))
            assert f"between {100 * ends[0]:.1f} % and {100 * ends[1]:.1f} %)" in said
    assert sure.any()  # at the second threshold


def test_a_file_and_a_drawing_become_the_picture(page, tmp_path):
    file = tmp_path / "own <file>.png"
    Image.fromarray(np.full((50, 70, 3), 200, np.uint8)).save(file)
    root = page.call("DOM.getDocument")["root"]["nodeId"]
    node = page.call("DOM.querySelector", nodeId=root, selector="#own-file")["nodeId"]
    page.call("DOM.setFileInputFiles", nodeId=node, files=[str(file)])
    page.until("document.querySelector('#picture-line').textContent.includes('own <file>.png')")
    assert page.evaluate("[...new Set(picture.now.pixels)]") == [200]
    page.evaluate("document.querySelectorAll('#chooser details')[0].open = true")
    press(page, "#pad", " ", "ArrowLeft", "ArrowLeft", "ArrowUp", " ")
    page.until("document.querySelector('#picture-line').textContent.includes('drawing')")
    drawn = page.evaluate("[...picture.now.pixels]")
    assert max(drawn) > 200
    assert min(drawn) == 0


def test_the_answers_are_told_and_kept(page):
    why = "#scene-1 > details.why"
    assert page.evaluate(
        f"document.querySelector('{why}') === document.querySelector('#scene-1').lastElementChild"
    )  # after what one does
    for answer, said in (
        (0, "Your guess was: 5 x 5. Many people say so. The answer is: 3 x 3."),
        (2, "Your guess is right: 3 x 3."),
    ):
        page.evaluate(f"document.querySelectorAll('#scene-1 input[type=radio]')[{answer}].click()")
        assert not page.evaluate(f"document.querySelector('{why}').open")
        assert "Now try it below" in text(page, "#scene-1 .kept")
        assert text(page, f"{why} .verdict") == said
    every = page.evaluate("document.querySelectorAll('main details.why').length")
    assert every == page.evaluate("document.querySelectorAll('main section legend').length") - 12
    assert page.evaluate("QUIZ.length") == 12
    pick = """document.querySelectorAll('#scene-9 fieldset').forEach(
      (f, i) => f.querySelectorAll('input')[ANSWER].click())"""
    page.evaluate(pick.replace("ANSWER", "0"))
    click(page, "start the second time")
    page.evaluate(pick.replace("ANSWER", "QUIZ[i].right"))
    before = page.evaluate("QUIZ.filter((q) => q.right === 0).length")
    assert text(page, "#quiz-score") == f"Before: {before} of 12. After: 12 of 12."
    click(page, "check")
    assert text(page, "#quiz-did").startswith("Nothing is missing")
    click(page, "forget my answers")
    assert "12 of 12" in text(page, "#quiz-score")  # it asks once more
    click(page, "really forget them?")
    assert text(page, "#quiz-score") == "0 of 12 answered."


def test_names_are_text(page):
    assert page.evaluate("document.querySelectorAll('main b').length") == page.evaluate(
        "document.querySelectorAll('.layer b').length"
    )
    assert ODD_NAME in page.evaluate("document.querySelector('#scene-6 select').textContent")


CONTROLS = """(() => {
  const found = document.querySelectorAll(
    "a[href], button, input, select, summary, canvas[tabindex]");
  return [...found].filter((e) => e.checkVisibility() && !e.disabled);
})()"""


def test_every_control_is_reached_by_tab_and_has_a_name(page):
    count = page.evaluate(f"{CONTROLS}.length")
    page.evaluate("document.activeElement.blur(); window.reached = new Set(); scrollTo(0, 0)")
    for _ in range(count + 5):  # of the answers to a question Tab reaches one, arrows the others
        for kind in ("rawKeyDown", "keyUp"):
            page.call("Input.dispatchKeyEvent", type=kind, key="Tab", windowsVirtualKeyCode=9)
        page.evaluate("reached.add(document.activeElement)")
    missed = page.evaluate(f"""(() => {{
      const names = new Set([...reached].filter((e) => e.type === "radio").map((e) => e.name));
      return {CONTROLS}.filter((e) => !reached.has(e) && !names.has(e.name))
        .map((e) => e.outerHTML.slice(0, 80));
    }})()""")
    assert missed == []
    nameless = page.evaluate("""[...document.querySelectorAll("button, input, select, canvas, svg")]
      .filter((e) => !e.closest("[aria-hidden]") && e.checkVisibility())
      .filter((e) => !(e.getAttribute("aria-label") || e.textContent.trim() ||
        (e.labels && e.labels.length))).map((e) => e.outerHTML.slice(0, 80))""")
    assert nameless == []


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_no_window_is_too_narrow(page, width):
    page.size(width, 800, mobile=width < 500)
    inner = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert inner == [width, width]


def test_a_finger_finds_every_control(page):
    page.size(390, 800, mobile=True)
    small = page.evaluate("""[...document.querySelectorAll(
      "button, select, summary, .answer, input[type=number]")]
      .filter((e) => e.checkVisibility()).filter((e) => e.getBoundingClientRect().height < 43.5)
      .map((e) => e.outerHTML.slice(0, 90))""")
    assert small == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_by_day_and_by_night(page, scheme):
    media = [{"name": "prefers-color-scheme", "value": scheme}]
    page.call("Emulation.setEmulatedMedia", features=media)
    back = page.evaluate("getComputedStyle(document.body).backgroundColor")
    for selector in ("body", ".soft", ".formula", ".verdict", "button", "summary", "a"):
        elements = f"[...document.querySelectorAll({json.dumps(selector)})]"
        colours = page.evaluate(f"""{elements}.map((e) => {{
          const style = getComputedStyle(e);
          return [style.color, style.backgroundColor];
        }})""")
        for colour, own in colours:
            assert contrast([colour, back if own.startswith("rgba") else own]) > 4.5, selector
    page.call("Emulation.setEmulatedMedia", features=[])


def test_motion_can_be_reduced_and_the_page_printed(page):
    media = [{"name": "prefers-reduced-motion", "value": "reduce"}]
    page.call("Emulation.setEmulatedMedia", features=media)
    assert (
        page.evaluate("getComputedStyle(document.querySelector('.bar')).transitionDuration") == "0s"
    )
    page.call("Emulation.setEmulatedMedia", features=[])
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("[...document.querySelectorAll('details')].every((each) => each.open)")
    assert page.pdf().startswith(b"%PDF")
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")


def test_a_page_that_computes_something_else_says_so(tab, held, tmp_path):
    wrong = {**held, "network": {**held["network"]}}
    wrong["network"]["check"] = [[z + 0.1 for z in row] for row in held["network"]["check"]]
    path = tmp_path / "wrong.html"
    path.write_text(frame.document(wrong))
    opened(tab, path)
    assert tab.evaluate("document.querySelector('#check').getAttribute('role')") == "alert"
    assert text(tab, "#check").startswith("Do not trust this page")


def test_without_an_advise_the_parameters_that_are_trained_are_counted(tab, held, tmp_path):
    path = tmp_path / "plain.html"
    path.write_text(frame.document({**held, "advice": None}))
    opened(tab, path)
    choose(tab, "last layers trained", 1)
    assert "970 of 1,030 parameters are trained" in text(tab, "#freeze-line")
    choose(tab, "last layers trained", 2)
    choose(tab, "labelled images", 10)
    assert "0 are frozen. That is 103 for each of the 10 images" in text(tab, "#freeze-line")
    assert tab.errors == []


def test_without_a_worker_the_page_computes_by_itself(tab, place):
    script = tab.call("Page.addScriptToEvaluateOnNewDocument", source="delete window.Worker")
    opened(tab, place)
    tab.call("Page.removeScriptToEvaluateOnNewDocument", identifier=script["identifier"])
    assert tab.evaluate("typeof Worker") == "undefined"
    assert "Checked" in text(tab, "#check")
    assert tab.errors == []


def test_a_page_without_the_runs_images_and_one_of_recorded_maps(tab, run, tmp_path, monkeypatch):
    monkeypatch.setattr(contents, "MOST_PARAMETERS", 10)
    notes = []
    found = contents.gather(run, images=False, say=notes.append)
    assert "does not run in the page" in notes[0]
    assert found["network"]["recorded"][0]["layers"][0]["name"] == "conv"
    assert "test" not in found
    assert found["network"]["recorded"][0]["evidence"]["shape"] == [4, 4]
    path = tmp_path / "recorded.html"
    path.write_text(frame.document(found))
    opened(tab, path)
    assert tab.errors == []
    assert "too large to run here" in text(tab, "#check")
    assert tab.evaluate("document.querySelectorAll('#scene-4 .maps canvas').length") == 6
    assert tab.evaluate("document.querySelectorAll('section').length") == 10
    press(tab, "#scene-4 .maps canvas", "ArrowDown", "ArrowRight")
    assert re.search(
        r"map 1, row 2 of 8, column 2 of 8: about .* depends on 3 x 3", text(tab, "#walk-pointed")
    )
    assert "parameters" in text(tab, "#walk-facts")
    assert "when the picture moves by up to 8 pixels" in text(tab, "#dense-line")
    assert tab.evaluate("document.querySelectorAll('#scene-6 .recorded figure').length") == 12
    seen = found["network"]["recorded"]
    pictures = base64.b64decode(found["images"][seen[2]["picture"]]["data"])
    image = np.frombuffer(pictures, np.uint8).reshape(1, 8, 8, 1)
    logits = run.logits(image)
    best = int(logits[0].argmax())
    assert seen[2]["occlusion"]["class"] == best
    np.testing.assert_allclose(seen[2]["shifted"]["z"][4], logits[0, best], rtol=1e-5)
    edge = np.repeat(image[:, :, -1:], 8, axis=2)  # by 8 pixels to the left only it is left
    z = run.logits(edge)[0, best]
    np.testing.assert_allclose(seen[2]["shifted"]["z"][0], z, rtol=1e-4, atol=1e-4)
    assert found["network"]["dropout"] == [0.25]
    assert np.shape(seen[1]["passes"]) == (50, 10)
    assert np.std([p for one in seen for p in one["passes"]], axis=0).max() > 0.01
    tab.evaluate("document.querySelectorAll('#scene-4 .thumb')[1].click()")
    choose(tab, "dropout on, as in training", True)
    click(tab, "50 passes")
    tab.until("/^50 .*average/.test(document.querySelector('#dropout-line').textContent)")
    best = int(np.argmax(seen[1]["p"]))
    dropped = 100 * np.array(seen[1]["passes"])[:, best]
    expected = [dropped.min(), dropped.max(), dropped.mean(), 100 * seen[1]["p"][best]]
    said = scattered(tab)
    np.testing.assert_allclose(list(said), expected, atol=0.06)
    shot = Image.open(io.BytesIO(tab.png()))
    assert len(shot.convert("RGB").getcolors(1 << 20) or []) > 10
