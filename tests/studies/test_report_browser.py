"""The page of `report` in a real browser."""

import dataclasses
import json
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from cnn_jax import experiment
from cnn_jax.cli import flags, report
from cnn_jax.experiment import Experiment, Optimizer
from cnn_jax.options import Sweep
from cnn_jax.runs import recorder
from cnn_jax.runs.directory import RunDirectory
from tests import browser
from tests.tiny import data_json

pytestmark = pytest.mark.skipif(browser.CHROMIUM is None, reason="no Chromium on PATH")


def made_run(directory: RunDirectory, **changes) -> None:
    config = experiment.replace(
        Experiment(name="digits_lenet", optimizer=Optimizer("adamw")), changes
    )
    directory.create()
    directory.write("config", experiment.to_dict(config))
    keys = ("train_loss", "validation_loss", "train_accuracy", "validation_accuracy")
    directory.write(
        "history", [{"epoch": i, "seconds": i, **dict.fromkeys(keys, i / 5)} for i in (1, 2, 3)]
    )
    directory.write("data", data_json(name="made", notes=["a note"]))
    recorder.set_status(directory, "finished")
    start = {
        "command": ["python", "launch.py", "train", f"--workdir=/{'deep/' * 40}"],
        "packages": {"jax": "1", "numpy": "2"},
        "python": "3",
        "platform": "made",
        "cores": 2,
        "processor": "x",
        "git_commit": "0" * 40,
    }
    directory.write("environment", [start])
    names = ["cat", "dog", "a class with quite a long name"]
    record = {
        "accuracy": 0.75,
        "loss": 0.5,
        "examples": 30,
        "checkpoint_step": 9,
        "class_names": names,
        "confusion_matrix": [[9, 1, 0], [2, 8, 0], [0, 0, 10]],
        "per_class_accuracy": [0.9, 0.8, 1.0],
    }
    recorder.update_result(directory, "evaluation", {"test": record})
    directory.figures.mkdir()
    Figure(figsize=(12, 3), facecolor="red").savefig(directory.figures / "wide.png")


def made_sweep(directory: RunDirectory) -> None:
    directory.path.mkdir()
    space = "optimizer.learning_rate=log(1e-4,1) optimizer.weight_decay=uniform(0,0.1)"
    options = Sweep(space=space, method="random")
    base = experiment.to_dict(Experiment(name="digits_lenet", optimizer=Optimizer("adamw")))
    plan = {"experiment": base, "sweep": dataclasses.asdict(options), "command": "python launch.py"}
    directory.write("plan", plan)
    records = []
    for i, (state, value) in enumerate(
        [("complete", 0.9), ("complete", 0.8), ("pruned", None), ("diverged", None)]
    ):
        setting = {"optimizer.learning_rate": 0.1**i, "optimizer.weight_decay": 0.01 * i}
        made_run(RunDirectory(directory.path / f"trials/000{i}/seed0"), **setting)
        records.append(
            {
                "place": f"000{i}",
                "setting": setting,
                "state": state,
                "value": value,
                "std": None,
                "epochs": 3,
                "seconds": 1.0,
            }
        )
    directory.write("sweep", records)


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("pages")
    made_run(RunDirectory(base / "run"))
    made_sweep(RunDirectory(base / "sweep"))
    for name in ("run", "sweep"):
        report.run_command(flags.parse(["report", str(base / name)]))
    return {name: base / name / "report.html" for name in ("run", "sweep")}


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    with browser.chromium(tmp_path_factory.mktemp("chromium")) as page:
        yield page


@pytest.fixture(params=["run", "sweep"])
def page(request, pages, tab):
    tab.errors.clear()
    tab.requests.clear()
    tab.size(1000, 800)
    tab.go(pages[request.param].as_uri())
    yield tab
    assert tab.errors == []
    # Pictures within the page are no requests; nothing else but the page itself is asked for.
    assert [x for x in tab.requests if not x.startswith("data:")] == [pages[request.param].as_uri()]


def test_every_picture_is_there(page):
    assert page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    assert page.evaluate("document.querySelectorAll('svg').length") >= 2


def test_a_click_on_a_title_sorts_and_a_second_one_sorts_back(page):
    script = """[...document.querySelectorAll("table.sortable")].map((table, i) => {
      table.id = "table" + i;
      return [...table.tHead.rows[0].cells].length;
    })"""
    for i, columns in enumerate(page.evaluate(script)):
        for column in range(1, columns + 1):
            head = f"#table{i} th:nth-child({column})"
            cells = f"""[...document.querySelectorAll("#table{i} tbody tr")].map((row) => {{
              const cell = row.cells[{column - 1}];
              return cell.dataset.value ? Number(cell.dataset.value) : cell.textContent;
            }})"""
            for down in (False, True):
                page.mouse(f"{head} button", click=True)
                values = page.evaluate(cells)
                key = lambda x: (isinstance(x, str), x)  # noqa: E731
                assert values == sorted(values, key=key, reverse=down)
                said = page.evaluate(f"document.querySelector('{head}').ariaSort")
                assert said == ("descending" if down else "ascending")


def test_a_point_tells_its_value_inside_the_window(page):
    assert page.evaluate("getComputedStyle(document.getElementById('tip')).display") == "none"
    shown = page.evaluate(
        "[...document.querySelectorAll('circle[data-tip]')].filter(c => c.getClientRects().length)"
        ".map((c, i) => (c.id = 'point' + i, c.dataset.tip))"
    )
    for i in (0, len(shown) - 1):
        page.mouse(f"#point{i}")
        text, left, right = page.evaluate(
            "(() => { const t = document.getElementById('tip'), r = t.getBoundingClientRect();"
            "return [t.textContent, r.left, r.right]; })()"
        )
        assert text in shown
        assert 0 <= left < right <= 1000
    page.mouse("h1")
    assert page.evaluate("getComputedStyle(document.getElementById('tip')).display") == "none"


def test_details_open(page):
    assert page.evaluate("document.querySelector('details pre').checkVisibility()") is False
    page.mouse("summary", click=True)
    assert page.evaluate("document.querySelector('details pre').checkVisibility()")
    json.loads(page.evaluate("document.querySelector('details pre').textContent"))


@pytest.mark.parametrize("page", ["sweep"], indirect=True)
def test_the_menu_shows_one_setting_at_a_time(page):
    visible = "[...document.querySelectorAll('[data-panel]')].filter(p => p.checkVisibility())"
    names = page.evaluate("[...document.querySelector('select').options].map(o => o.value)")
    assert names == ["optimizer.learning_rate", "optimizer.weight_decay"]
    for name in (*names[1:], names[0]):
        page.evaluate(
            f"(() => {{ const s = document.querySelector('select'); s.value = '{name}';"
            "s.dispatchEvent(new Event('change', {bubbles: true})); })()"
        )
        assert page.evaluate(f"{visible}.map(p => p.dataset.panel)") == [name]


@pytest.mark.parametrize("width", [320, 390, 1000])
def test_no_window_is_too_narrow(page, width):
    page.size(width, 800, mobile=width < 500)
    inner = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert inner == [width, width]


@pytest.mark.parametrize("width", [320, 380, 1000])
def test_the_text_in_pictures_can_be_read(page, width):
    page.size(width, 800, mobile=width < 500)
    sizes = page.evaluate("""[...document.querySelectorAll("svg text")]
      .filter((text) => text.checkVisibility())
      .map((text) => parseFloat(getComputedStyle(text).fontSize) * text.getScreenCTM().a)""")
    assert sizes
    assert min(sizes) >= (9 if width < 380 else 11)
    # No label covers another one.
    assert page.evaluate("""[...document.querySelectorAll("svg")].every((svg) => {
      const boxes = [...svg.querySelectorAll("text")].map((text) => text.getBoundingClientRect());
      return boxes.every((a, i) => boxes.every((b, j) => i <= j || a.right <= b.left + 1
        || b.right <= a.left + 1 || a.bottom <= b.top + 3 || b.bottom <= a.top + 3));
    })""")


def contrast(colours: list[str]) -> float:
    """Returns the contrast of WCAG 2 between two colours, "rgb(r, g, b)"."""

    def luminance(colour: str) -> float:
        parts = [int(x) / 255 for x in colour[4:-1].split(",")]
        linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted(map(luminance, colours))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_by_day_and_by_night(page, scheme):
    page.call(
        "Emulation.setEmulatedMedia",
        features=[{"name": "prefers-color-scheme", "value": scheme}],
    )
    back = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (contrast([back, "rgb(0, 0, 0)"]) > 10) == (scheme == "light")
    for selector in ("body", "figcaption", ".soft", "pre"):
        script = f"""[...document.querySelectorAll({json.dumps(selector)})].map((e) => {{
          const style = getComputedStyle(e);
          return [style.color, style.backgroundColor];
        }})"""
        for colour, own in page.evaluate(script):
            assert contrast([colour, back if own.startswith("rgba") else own]) > 4.5, selector


def test_it_prints_on_paper_with_all_its_text(page):
    assert page.pdf().startswith(b"%PDF")
    page.call("Emulation.setEmulatedMedia", media="print")
    try:
        assert page.evaluate(
            "[...document.querySelectorAll('h2, table, figure svg, pre')].filter("
            "e => !e.closest('details')).every(e => e.checkVisibility())"
        )
        script = "[...document.querySelectorAll('details')].every(d => d.open)"
        page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
        assert page.evaluate(script)
        page.evaluate("window.dispatchEvent(new Event('afterprint'))")
        assert not page.evaluate(script)
    finally:
        page.call("Emulation.setEmulatedMedia", media="")
