// Section 7: when should it be silent? Section 8: freeze or fine-tune?

const halvesOf = (base64) => {
  const bytes = bytesOf(base64);
  return engineModule().unpack([{ type: "float16", at: 0, size: bytes.length / 2 }], bytes)[0];
};

// Coverage and error of the answers that are at least as sure as the threshold.
const answered = (rows, labels, temperature, threshold) => {
  let [said, wrong] = [0, 0];
  const bins = Array.from({ length: 10 }, () => ({ count: 0, right: 0, sure: 0 }));
  rows.forEach((logits, i) => {
    const p = softmax(logits, temperature);
    const best = bestOf(p);
    const right = best === labels[i];
    const bin = bins[Math.min(9, Math.floor(p[best] * 10))];
    bin.count++;
    bin.sure += p[best];
    if (right) bin.right++;
    if (p[best] >= threshold) { said++; if (!right) wrong++; }
  });
  return { said, wrong, coverage: said / rows.length, error: said ? wrong / said : 0, bins };
};

// Where a run calibrates with a weight and an offset for each class, the temperature comes on top. A
// single logit is that of the second class against 0.
const calibrated = (logits, trust) => (trust?.weights
  ? Array.from(logits.length === 1 ? [0, logits[0]] : logits, (z, k) => z * trust.weights[k] + trust.offsets[k]) : logits);

const LEAST = 10; // images that a share is drawn of
// Wilson's 95 % interval of a share.
const wilson = (hits, count) => {
  const [p, z] = [hits / count, 1.959964];
  const [middle, half] = [p + z * z / (2 * count), z * Math.sqrt(p * (1 - p) / count + z * z / (4 * count * count))];
  return [middle - half, middle + half].map((x) => Math.min(1, Math.max(0, x / (1 + z * z / count))));
};

const percent0 = (p) => `${Math.round(100 * p)} %`;

const sceneTrust = (contents, network) => {
  const test = contents.test;
  const trust = contents.trust;
  const ask = question({
    ask: `the network says: ${contents.classes[Math.min(6, contents.classes.length - 1)]}, 0.97. Does that mean that it is right for 97 of 100 such pictures?`,
    answers: ["yes, softmax gives the chance", "only if that was measured on pictures it had not seen", "yes, if it was trained long enough"], right: 1,
    why: ["Softmax makes positive numbers that sum to one. Nothing in training makes them chances: networks are often surer than they are right. On held-out pictures one can count how often 0.97 is right, and stretch or press the numbers by one temperature until they fit.",
      "A picture of something that is none of the classes also gets numbers that sum to one: press the button noise above, beside the pictures, and look."],
    source: "C. Guo et al., On calibration of modern neural networks, 2017; T. Pearce et al., Understanding softmax confidence and uncertainty, 2021",
  });
  const intro = ["A network always answers. Where a wrong answer costs more than none, it should be silent below a threshold: then fewer pictures are answered, and fewer answers are wrong."];
  if (!test) {
    scene(7, "When should it be silent?", [...intro, "This page was written without the run's images, so there are no test results to try thresholds on."], ask);
    return;
  }
  const flat = halvesOf(test.logits);
  const scaled = (logits) => calibrated(logits, trust);
  const rows = test.labels.map((_, i) => scaled(flat.subarray(i * test.outputs, (i + 1) * test.outputs)));
  const state = { temperature: trust?.temperature ?? 1, threshold: trust?.threshold ?? 0 };
  const line = liveLine({ class: "formula", id: "trust-line" });
  const reliability = make("div", {});
  const risk = make("div", {});
  const now = make("div", { id: "trust-now" });
  const said = liveLine({ class: "formula" });
  const thresholds = Array.from({ length: 26 }, (_, i) => i / 25 * 0.98 + 0.01);
  const show = () => {
    const found = answered(rows, test.labels, state.temperature, state.threshold);
    line.textContent = `Of ${rows.length.toLocaleString("en")} ${contents.split} images it answers ${found.said.toLocaleString("en")} (${percent(found.coverage)}); of these answers ${found.wrong} are wrong (${percent(found.error)}${found.said ? `; chance alone leaves it open between ${wilson(found.wrong, found.said).map(percent).join(" and ")}` : ""}).`;
    const full = found.bins.filter((b) => b.count >= LEAST);
    clear(reliability, lineChart([{ name: `measured, where it said such a number ${LEAST} times or more; on the dashed line confidence would be the share that is right`, values: full.map((b) => [b.sure / b.count, b.right / b.count]) }], { x: "what it says", y: "share that is right", low: 0, high: 1, from: 0, to: 1, texts: [percent0, percent0], diagonal: true }));
    const curve = thresholds.map((t) => answered(rows, test.labels, state.temperature, t)).filter((f) => f.said > 0);
    const high = Math.max(0.02, ...curve.map((f) => f.error)) * 1.1;
    clear(risk, lineChart([{ name: "share of wrong answers; the ring is the threshold of now", values: curve.map((f) => [f.coverage, f.error]).sort((a, b) => a[0] - b[0]) }], { x: "share of images that are answered", y: "wrong answers", low: 0, high, texts: [percent0, percent0], marks: found.said ? [[found.coverage, found.error]] : [] }));
    own();
  };
  const own = newest(async () => {
    if (!network || !picture.now.pixels) return;
    const logits = scaled((await network.run(picture.now.pixels)).logits);
    const p = softmax(logits, state.temperature);
    const best = bestOf(p);
    clear(now, probabilityBars(p, contents.classes, { label: picture.now.label, most: 3 }));
    said.textContent = p[best] >= state.threshold ? `The picture above: answer ${contents.classes[best]}, ${percent(p[best])}` : `The picture above: no answer, unsure (${contents.classes[best]} ${percent(p[best])})`;
  });
  const goal = trust?.most_wrong == null ? "answers are right often enough" : `at most ${percent0(trust.most_wrong)} of the answers are wrong${trust.confidence == null ? "" : ` (with ${percent0(trust.confidence)} confidence)`}`;
  scene(7, "When should it be silent?", [...intro, trust
    ? `The command trust of cnn_jax measures on held-out images above which number ${goal}. ${trust.threshold == null ? `It has set no threshold here: ${trust.why}. So "silent below" begins at 0.`
      : `Here that is ${percent(trust.threshold)}: below it this network should be silent. The slider begins there.`}${trust.weights ? " It also fits the probabilities to what was measured, class by class." : ` It also found a temperature of ${trust.temperature.toFixed(2)}, by which the numbers before softmax are divided so that probabilities fit what was measured.`} ${trust.weights || trust.temperature !== 1 ? "So the probabilities here differ a little from those of the other sections, which show what the network itself says." : ""}`
    : "For this run nobody has measured a temperature or a threshold, so both start where they change nothing."],
  ask, make("div", { class: "controls" },
    slider("temperature", { min: 0.05, max: Math.max(5, Math.ceil(state.temperature)), step: 0.05, value: state.temperature }, (v) => { state.temperature = v; show(); }),
    slider("silent below", { min: 0, max: 0.99, step: 0.01, value: state.threshold, text: percent }, (v) => { state.threshold = v; show(); })),
  trust ? make("details", {}, make("summary", {}, "What was measured and promised, in the words of the command trust"), ...trust.sentences.map((each) => make("p", {}, each))) : null,
  line, make("div", { class: "side" }, make("div", { class: "grow" }, risk), make("div", { class: "grow" }, reliability)), said, now,
  make("p", { class: "soft" }, `These are the ${rows.length < test.of ? `first ${rows.length.toLocaleString("en")} of ${test.of.toLocaleString("en")}` : rows.length.toLocaleString("en")} ${contents.split} images. A threshold chosen by looking at them holds for them; a promise for new images needs images that nobody chose by. It holds for images like these: not for another camera or another hospital.`));
  picture.watch(own);
  show();
};

const STRATEGY_WORDS = {
  head: "the head alone, everything else frozen", last_block: "the last block", last_two_blocks: "the last two blocks",
  everything: "everything, from pretrained weights", scratch: "everything, from random weights",
};

const cellName = (cell) => `${STRATEGY_WORDS[cell.strategy] ?? cell.strategy}${(cell.rate ?? 1) === 1 ? "" : `, at ${shown(cell.rate)} of the rate`}`;
// A network that says one class for everything is shown, and not compared.
const hasCollapsed = (cell) => (cell.collapsed ?? 0) > 0;

// How many parameters of this network are trained, for how many images, by how many layers are frozen.
const trainedPart = ({ network }) => {
  const layers = (network.steps ?? []).filter((step) => step.parameters > 0);
  if (layers.length < 2) return [];
  const state = { trained: 1, images: 100 };
  const line = liveLine({ class: "formula", id: "freeze-line" });
  const show = () => {
    const sum = (some) => some.reduce((total, step) => total + step.parameters, 0);
    const free = sum(layers.slice(-state.trained));
    line.textContent = `${bytesAmount(free)} of ${bytesAmount(sum(layers))} parameters are trained (${layers.slice(-state.trained).map((step) => step.title).join("; ")}), ${bytesAmount(sum(layers) - free)} are frozen. That is ${shown(free / state.images)} for each of the ${bytesAmount(state.images)} images. The more there are for each image, the easier they fit chance: but frozen layers must already find what matters in the new images.`;
  };
  show();
  return [make("div", { class: "controls" },
    slider("last layers trained", { min: 1, max: layers.length, value: 1 }, (v) => { state.trained = v; show(); }),
    menu("labelled images", [100, 10, 1000, 10000, 100000].map((n) => [n, bytesAmount(n)]), (v) => { state.images = Number(v); show(); })), line];
};

const sceneFreeze = (contents) => {
  const advice = contents.advice;
  const ask = question({
    ask: "100 labelled photographs, a network pretrained on a million others. What is the safest start?",
    answers: ["train everything from random numbers", "freeze the pretrained layers and train a new head", "fine-tune everything at the usual learning rate"], right: 1,
    why: ["With few images there is too little to change millions of numbers by; the head has few. With more images, or images unlike those of pretraining, training more layers at a small rate can win. It is a question to measure: the command advise trains every strategy on your own images.",
      "Frozen layers cost nothing backward, and their features can be computed once."],
    source: "J. Yosinski et al., How transferable are features in deep neural networks?, 2014; S. Kornblith et al., 2019",
  });
  const intro = ["A network that was trained on many images can be the start for few. What should be trained: the last layer, some, or all?"];
  if (!advice) {
    scene(8, "Freeze or fine-tune?", [...intro, "This page has no measurements of it. The command advise of cnn_jax trains every strategy on one's own images; the page command shows its results here with --page.advise=DIRECTORY. What can be tried here is how many numbers would be trained."], ask, ...trainedPart(contents));
    return;
  }
  const parts = Object.entries(advice.budgets).map(([name, budget]) => {
    const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;
    const rows = budget.cells.map((cell) => [`${cellName(cell)}${hasCollapsed(cell) ? " (says one class only)" : ""}`, cell.images, cell.epochs,
      cell.accuracies.length ? `${mean(cell.accuracies).toFixed(3)} (${Math.min(...cell.accuracies).toFixed(3)} to ${Math.max(...cell.accuracies).toFixed(3)})` : "diverged"]);
    const sizes = [...new Set(budget.cells.map((cell) => cell.images))].sort((a, b) => a - b);
    const result = make("div", {});
    let size = sizes[0];
    let guess = null;
    const show = () => {
      const cells = budget.cells.filter((cell) => cell.images === size && cell.accuracies.length);
      const compared = cells.filter((cell) => !hasCollapsed(cell));
      const best = (compared.length ? compared : cells).reduce((a, b) => (mean(b.accuracies) > mean(a.accuracies) ? b : a));
      clear(result, guess == null ? make("p", {}, "Which strategy reached most? Choose one.") : make("div", {},
        make("p", { class: guess === best.strategy ? "verdict good" : "verdict bad" }, `With ${size} images ${cellName(best)} reached most: ${mean(best.accuracies).toFixed(3)}.`),
        ...cells.map((cell) => {
          const bar = make("span", { class: "bar" });
          bar.style.width = `${100 * mean(cell.accuracies)}%`;
          return make("div", { class: "row" }, make("span", { class: "name" }, cellName(cell)), make("span", { class: "track", "aria-hidden": "true" }, bar), make("span", { class: "number" }, mean(cell.accuracies).toFixed(3)));
        }), table(["trained", "images", "epochs", "validation accuracy (range)"], rows)));
    };
    const strategies = [...new Set(budget.cells.map((cell) => cell.strategy))];
    show();
    return make("div", {}, make("h3", {}, name === "epochs" ? "The same number of epochs for each" : "The same amount of computation for each"),
      make("div", { class: "controls" }, menu("images", sizes.map((s) => [s, s]), (v) => { size = Number(v); guess = null; show(); }),
        menu("your guess", [["", "choose"], ...strategies.map((s) => [s, STRATEGY_WORDS[s] ?? s])], (v) => { guess = v || null; show(); })), result);
  });
  scene(8, "Freeze or fine-tune?", intro, ask, ...parts);
};
