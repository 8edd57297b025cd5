// A part of section 4: the same picture goes through the network many times, with dropout on as in
// training, or off as in evaluation.

const PASSES = 50;

const whyDropout = (rates) => ({
  ask: `this network has dropout, which in training sets ${percent(rates[0])} of a layer's numbers to zero, others in every pass. The same picture goes through the trained network twice, to be classified. Are the two answers the same?`,
  answers: ["no: dropout is part of the network, so each pass is another draw", "yes: dropout is off in evaluation", "yes: the trained network always drops the same units"], right: 1,
  why: ["In training dropout zeroes a share p of the numbers, drawn anew in each pass, and divides the others by 1 − p, so that their mean stays what it was. No unit can then rely on another one being there. In evaluation nothing is dropped and nothing is drawn: the same picture gets the same answer.",
    "A network that is left in training mode by mistake gives another answer each time and is less often right: in Flax that is train=True or deterministic=False, in PyTorch a forgotten model.eval(). Batch normalisation changes with that mode as well; here it stays as in evaluation, so that dropout can be seen alone.",
    "How far the passes scatter is sometimes used as a measure of doubt. Like every such measure it has to be tested on pictures that were not trained on."],
  source: "N. Srivastava et al., Dropout: a simple way to prevent neural networks from overfitting, 2014; Y. Gal and Z. Ghahramani, Dropout as a Bayesian approximation, 2016",
});

// One row for each class, one dot for each pass; a bar marks the answer of evaluation.
const passesChart = (rows) => {
  const [w, left, row, top] = [460, 120, 44, 8];
  const bottom = top + rows.length * row;
  const px = (p) => left + p * (w - left - 20);
  const chart = svg("svg", { viewBox: `0 0 ${w} ${bottom + 46}`, role: "img", class: "chart",
    "aria-label": rows.map((each) => `${each.name}: ${each.values.length} dots from ${percent(each.least)} to ${percent(each.most)}, in evaluation ${percent(each.whole)}`).join("; ") });
  for (let i = 0; i <= 4; i++) {
    chart.append(svg("line", { x1: px(i / 4), x2: px(i / 4), y1: top, y2: bottom, class: "grid" }),
      svg("text", { x: px(i / 4), y: bottom + 18, "text-anchor": "middle" }, `${25 * i} %`));
  }
  rows.forEach((each, r) => {
    const middle = top + (r + 0.5) * row;
    chart.append(svg("text", { x: left - 10, y: middle + 5, "text-anchor": "end" }, each.name.length > 14 ? `${each.name.slice(0, 13)}…` : each.name));
    each.values.forEach((p, i) => chart.append(svg("circle", { cx: px(p), cy: middle + (((i * 0.618) % 1) - 0.5) * (row - 16), r: 4, class: "pass" })));
    chart.append(svg("line", { x1: px(each.whole), x2: px(each.whole), y1: middle - row / 2 + 3, y2: middle + row / 2 - 3, class: "line-b whole" }));
  });
  chart.append(svg("text", { x: (left + w) / 2, y: bottom + 40, "text-anchor": "middle" }, "probability"));
  return make("figure", {}, chart, make("figcaption", {}, make("span", { class: "key line-a" }, "one pass"), make("span", { class: "key line-b" }, "evaluation")));
};

// Returns the elements of the part, or none where the network has no dropout. `answer(drop)` gives
// the probabilities of the picture of now, with dropout on where `drop` is {seed, rate}; `watch` is
// told what to call when the picture changes.
const dropoutPart = (names, rates, answer, watch, recorded = false) => {
  if (!rates.length) return [];
  const state = { on: false, rate: null, seed: 0, whole: null, found: [], turn: 0 };
  const line = liveLine({ class: "formula", id: "dropout-line" });
  const chart = make("div", { id: "dropout-chart" });
  const one = button("one more pass", () => pass(1));
  const many = button(`${PASSES} passes`, () => { restart(); pass(PASSES); });

  const rowsOf = () => {
    const order = [...state.whole.keys()].sort((a, b) => state.whole[b] - state.whole[a]);
    const said = new Set(state.found.map((p) => bestOf(p)));
    const chosen = order.filter((k, i) => i < 3 || said.has(k)).slice(0, 5);
    return chosen.map((k) => {
      const values = state.found.map((p) => p[k]);
      return { k, name: names[k], values, whole: state.whole[k], least: Math.min(...values), most: Math.max(...values) };
    });
  };
  const draw = () => clear(chart, state.found.length ? passesChart(rowsOf()) : null);
  const tell = () => {
    const count = state.found.length;
    if (!count) {
      line.textContent = `Dropout is ${state.on ? "on, as in training" : "off, as in evaluation"}. Let the picture pass.`;
      return;
    }
    const [best] = rowsOf();
    const mean = best.values.reduce((a, b) => a + b, 0) / count;
    const others = state.found.filter((p) => bestOf(p) !== best.k).length;
    const passed = `${count} ${count === 1 ? "pass" : "passes"} with dropout ${state.on ? "on" : "off"}: ${best.name}`;
    line.textContent = best.least === best.most && others === 0 && (count > 1 || !state.on)
      ? `${passed} ${percent(best.least)}${count > 1 ? ", the same number each time" : ""}.`
      : `${passed} from ${percent(best.least)} to ${percent(best.most)}, ${percent(mean)} on average; in evaluation ${percent(best.whole)}. ${others ? `${others} of the passes` : "No pass"} would say another class.`;
  };
  const pass = async (count) => {
    const turn = state.turn;
    for (let i = 0; i < count && turn === state.turn; i++) {
      state.seed++;
      const p = await answer(state.on ? { seed: state.seed, ...(state.rate == null ? {} : { rate: state.rate }) } : null);
      if (turn !== state.turn) break; // the picture or the switch has changed
      state.found.push(p);
      if (!still()) draw();
    }
    if (turn === state.turn) { draw(); tell(); }
  };
  const restart = () => {
    Object.assign(state, { found: [], seed: 0, turn: state.turn + 1 });
    draw();
    tell();
  };
  watch(async () => {
    restart();
    const { turn } = state;
    const whole = await answer(null);
    if (turn === state.turn) state.whole = whole;
  });
  const areMany = new Set(rates).size > 1;
  const places = rates.length === 1 ? "at one place" : `at ${rates.length} places`;
  const ask = question(whyDropout(rates));
  return [
    make("h3", {}, "Dropout: on in training, off in evaluation"), ask,
    make("p", {}, `In training this network drops ${areMany ? `${percent(Math.min(...rates))} to ${percent(Math.max(...rates))}` : percent(rates[0])} of its numbers ${places}. Switch it on and let the same picture pass again and again; then take a picture that the network is less sure of.${recorded ? ` The ${PASSES} passes were computed when the page was written.` : ""}`),
    make("div", { class: "controls" }, tick("dropout on, as in training", false, (on) => { state.on = on; restart(); }),
      recorded ? null : slider("share dropped", { min: 0.05, max: 0.95, step: 0.05, value: rates[0], text: percent }, (v) => { state.rate = v; restart(); }), one, many),
    line, chart, ask.reveal,
  ];
};
