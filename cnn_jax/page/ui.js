// Builds the page: elements, controls, questions. Nothing is made from text with tags in it, so a
// class may have any name.

// make("p", {class: "soft"}, "text", child) returns an element.
const make = (tag, attributes = {}, ...children) => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
};

let lastNumber = 0;
const newId = (word) => `${word}-${++lastNumber}`;

const clear = (element, ...children) => element.replaceChildren(...children.filter((x) => x != null));

// A number as people read it: at most four digits, a true minus sign.
const shown = (x) => {
  if (!Number.isFinite(x)) return String(x);
  const text = Number.isInteger(x) ? x.toLocaleString("en") : Math.abs(x) >= 1000 ? Math.round(x).toLocaleString("en")
    : String(Number(x.toPrecision(3)));
  return text.replace("-", "−");
};
// How weights are stored, in words.
const KIND_WORDS = { float16: "16-bit (float16)", int8: "8-bit (int8)" };
const percent = (p) => `${(100 * p).toFixed(1)} %`;

// A slider with its value beside it.
const slider = (label, { min, max, step = 1, value, text = shown }, change) => {
  const id = newId("slider");
  const output = make("output", { for: id }, text(value));
  const input = make("input", { type: "range", id, min, max, step, value, "aria-valuetext": text(value) });
  input.addEventListener("input", () => {
    const now = Number(input.value);
    output.textContent = text(now);
    input.setAttribute("aria-valuetext", text(now));
    change(now);
  });
  const element = make("div", { class: "control" }, make("label", { for: id }, label), input, output);
  element.set = (now) => {
    input.value = now;
    output.textContent = text(now);
    input.setAttribute("aria-valuetext", text(now));
  };
  element.span = (least, most) => { [input.min, input.max] = [least, most]; };
  return element;
};

// A menu; options are [value, text].
const menu = (label, options, change) => {
  const id = newId("menu");
  const select = make("select", { id }, ...options.map(([value, text]) => make("option", { value }, text)));
  select.addEventListener("change", () => change(select.value));
  const element = make("div", { class: "control" }, make("label", { for: id }, label), select);
  element.set = (value) => { select.value = value; };
  element.options = (more) => clear(select, ...more.map(([value, text]) => make("option", { value }, text)));
  return element;
};

const tick = (label, value, change) => {
  const id = newId("tick");
  const input = make("input", { type: "checkbox", id });
  input.checked = value;
  input.addEventListener("change", () => change(input.checked));
  const element = make("div", { class: "control tick" }, input, make("label", { for: id }, label));
  element.set = (now) => { input.checked = now; };
  return element;
};

const button = (label, click, attributes = {}) => make("button", { type: "button", onclick: click, ...attributes }, label);

// A line that screen readers say when it changes.
const liveLine = (attributes = {}) => make("p", { role: "status", "aria-live": "polite", ...attributes });

// A question with one right answer. Whether a guess is right stands in `reveal`, with the reason:
// a section puts it at its end, so that one sees before one is told.
const question = ({ ask, answers, right, why, source }) => {
  const name = newId("question");
  const kept = liveLine({ class: "kept" });
  const verdict = liveLine({ class: "verdict" });
  let guess = null;
  const tell = () => {
    const good = guess === right;
    verdict.textContent = good ? `Your guess is right: ${answers[right]}.` : `${guess == null ? "" : `Your guess was: ${answers[guess]}. Many people say so. `}The answer is: ${answers[right]}.`;
    verdict.className = good || guess == null ? "verdict good" : "verdict bad";
  };
  const choices = answers.map((text, i) => {
    const id = `${name}-${i}`;
    const input = make("input", { type: "radio", name, id, value: i });
    input.addEventListener("change", () => {
      guess = i;
      kept.textContent = "Your guess is kept. Now try it below; the answer and the reason stand at the end.";
      tell();
    });
    return make("div", { class: "answer" }, input, make("label", { for: id }, text));
  });
  tell();
  const element = make("fieldset", { class: "question" }, make("legend", {}, "First guess: ", ask), ...choices, kept);
  element.reveal = make("details", { class: "why" }, make("summary", {}, "The answer, and why"), make("p", { class: "soft" }, `The question was: ${ask}`), verdict,
    ...why.map((text) => make("p", {}, text)), source ? make("p", { class: "soft" }, `Source: ${source}`) : null);
  return element;
};

const table = (headers, rows, caption) => make("div", { class: "wide" }, make("table", {},
  caption ? make("caption", {}, caption) : null,
  make("thead", {}, make("tr", {}, ...headers.map((h) => make("th", { scope: "col" }, h)))),
  make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map((cell) => make("td", {}, typeof cell === "number" ? shown(cell) : cell)))))));

// Bars of probabilities: the three or so largest. `before` marks where they were.
const probabilityBars = (p, names, { before = null, label = null, most = 5 } = {}) => {
  const order = [...p.keys()].sort((a, b) => p[b] - p[a]).slice(0, most);
  if (label != null && !order.includes(label)) order[order.length - 1] = label; // as many rows as ever
  return make("div", { class: "bars" }, ...order.map((k) => {
    const bar = make("span", { class: "bar" });
    bar.style.width = `${Math.max(0.5, 100 * p[k])}%`;
    const track = make("span", { class: "track", "aria-hidden": "true" }, bar);
    if (before) {
      const mark = make("span", { class: "before" });
      mark.style.left = `${100 * before[k]}%`;
      track.append(mark);
    }
    return make("div", { class: "row" }, make("span", { class: "name" }, names[k], k === label ? make("span", { class: "soft" }, " (its label)") : ""), track,
      make("span", { class: "number" }, percent(p[k]), before ? make("span", { class: "soft was" }, `was ${percent(before[k])}`) : null));
  }));
};

// Runs the newest of many calls only, one at a time.
const newest = (work) => {
  let [busy, waiting] = [false, null];
  const call = async (...values) => {
    if (busy) { waiting = values; return; }
    busy = true;
    try { await work(...values); } finally {
      busy = false;
      if (waiting) { const next = waiting; waiting = null; call(...next); }
    }
  };
  return call;
};

const still = () => window.matchMedia("(prefers-reduced-motion: reduce)").matches;

const scene = (number, title, intro, ...children) => {
  const id = `scene-${number}`;
  const element = make("section", { id, "aria-labelledby": `${id}-title` },
    make("h2", { id: `${id}-title`, tabindex: "-1" }, `${number}. ${title}`),
    ...intro.map((text) => make("p", {}, text)), ...children);
  for (const child of children) if (child?.reveal && !child.reveal.parentNode) element.append(child.reveal);
  document.querySelector("main").append(element);
  return element;
};
