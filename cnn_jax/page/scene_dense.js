// Section 5: dense against convolution: shift, mirror, scramble.

// The same permutation for everybody: a linear congruential generator of 32 bits.
const permutation = (count, seed = 1) => {
  const order = Array.from({ length: count }, (_, i) => i);
  let x = seed >>> 0;
  for (let i = count - 1; i > 0; i--) {
    x = (Math.imul(x, 1664525) + 1013904223) >>> 0;
    const j = Math.floor((x / 2 ** 32) * (i + 1));
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
};

const changedPixels = (pixels, [height, width, channels], { dx = 0, dy = 0, mirror = false, order = null }) => {
  const found = new Uint8Array(pixels.length);
  for (let r = 0; r < height; r++) for (let c = 0; c < width; c++) {
    const from = [Math.max(0, Math.min(height - 1, r - dy)), Math.max(0, Math.min(width - 1, c - dx))];
    if (mirror) from[1] = width - 1 - from[1];
    let place = from[0] * width + from[1];
    if (order) place = order[place];
    for (let k = 0; k < channels; k++) found[(r * width + c) * channels + k] = pixels[place * channels + k];
  }
  return found;
};

// Measured by benchmarks/permuted_pixels.py.
const PERMUTED_PIXELS = "Measured on 5,000 images of CIFAR-10, five epochs, one seed: trained anew on scrambled pixels, the convolutional network is right for 28.7 % instead of 44.0 %, the dense one for 33.5 % instead of 35.1 %. On the 8 x 8 digits, which have hardly more than strokes, both lose less than 0.01.";

// What is seen when many images are moved. A flatten keeps places apart, so the layers behind it do
// not give the same answer to a moved map; a mean over each map would.
const whyShifts = (found, names, flattens) => {
  const last = found[0].shifts.length - 1;
  const falls = found.map((each) => each.right[last / 2][0] - (each.right[0][0] + each.right[last][0]) / 2);
  return [`Moved by ${found[0].shifts[last]} pixels, to the left or to the right, ${falls.map((fall, i) => `the share that ${names[i]} has right ${fall < 0 ? "rises" : "falls"} by ${Math.abs(100 * fall).toFixed(1)} points`).join(", ")} (percentage points; the table has 95 % confidence limits).`,
    `${found.every(({ p }) => Math.max(...p) - Math.min(...p) > 0.02) ? "None of the lines is flat. " : ""}It is a common mistake to say that convolutions make a network invariant to shifts. They are equivariant: when the picture moves, their maps move along, away from the border.`,
    flattens ? "Then this network writes its maps in one row (flatten), and the dense layer behind has weights of its own for every place: a moved map meets other weights. Training on moved pictures, or a mean over each whole map, would make the answer depend less on the place."
      : "What follows can still undo it: pooling and strides skip places, and the border enters.",
    `What moves out of the picture is lost and the edge is smeared into the free space, so a part of the fall is due to that, for any network. ${found.length > 1 ? "A network that is right more often also has more to lose." : ""}`];
};

const sceneDense = (contents, network, baseline) => {
  const shape = contents.shape;
  const [height, width, channels] = shape;
  const intro = ["A dense layer gives every pixel weights of its own, at every place. A convolution uses the same few weights everywhere, for neighbours. What does that do when the pixels move?"];
  const ask = question({
    ask: "all pixels of all images are scrambled, always by the same permutation, and both networks are trained anew. Which one loses accuracy?",
    answers: ["the dense one", "the convolutional one", "both", "neither"], right: 1,
    why: ["To a dense layer the order of its inputs means nothing: permute the pixels and the rows of its first weights alike, and every number stays as it was. A convolution relies on neighbours belonging together, and scrambling takes that away.",
      "So a convolution is not better whatever the data are. It is better where near pixels have to do with each other, and where a thing looks the same in another place.",
      PERMUTED_PIXELS],
    source: "C. Ivan, Convolutional neural networks on randomized data, 2019, and benchmarks/permuted_pixels.py",
  });
  if (!network) {
    scene(5, "Dense against convolution", [...intro, "The network of this page does not run in the browser; what it says of shifted pictures was computed when the page was written."], ask, ...recordedShifts(contents));
    return;
  }
  const state = { dx: 0, dy: 0, mirror: false, scrambled: false };
  const order = permutation(height * width);
  const canvas = canvasOf("the changed picture", width, height, { class: "picture", id: "dense-picture" });
  const ask2 = question({
    ask: "the picture moves to the side, by up to a third of its width. Whose answer stays the same?",
    answers: ["the convolutional network's: it is shift-invariant", "the dense network's", "neither's"], right: 2,
    why: ["A convolution moves its maps along with the picture: that is equivariance. The answer would be invariant only if what follows did not look at places, and flatten with a dense layer does. How much each network loses has to be measured; the button above shows it for many images."],
    source: "A. Azulay and Y. Weiss, Why do deep convolutional networks generalize so poorly to small image transformations?, 2019; O. Kayhan and J. van Gemert, On translation invariance in CNNs, 2020",
  });
  const scrambledNote = make("p", { class: "soft" }, `The box breaks the networks as they are, which learned from pictures in order: that says nothing about the question. The question is about networks trained anew. ${PERMUTED_PIXELS}`);
  const kindOf = (about) => (about.steps.some((step) => step.kind === "conv") ? "convolutional" : "dense layers only");
  const names = [[contents.model, contents.network], ...(baseline ? [[contents.baseline.model, contents.baseline]] : [])]
    .map(([name, about]) => `${name} (${kindOf(about)})`);
  const nets = [network, ...(baseline ? [baseline] : [])];
  const bars = names.map(() => make("div", {}));
  const line = liveLine({ class: "formula", id: "dense-line" });
  const same = liveLine({ class: "formula", id: "dense-same" });
  const curve = make("div", { id: "dense-curve" });
  const abouts = [contents.network, contents.baseline].filter(Boolean);

  const kinds = abouts.map((about) => `${about.parameters.toLocaleString("en")} parameters. ${weightsOf(about)}`);
  const show = newest(async () => {
    const whole = picture.now.pixels;
    const pixels = changedPixels(whole, shape, { ...state, order: state.scrambled ? order : null });
    paintPixels(canvas, pixels, shape);
    const words = [];
    for (const [i, net] of nets.entries()) {
      const [before, now] = [await net.run(whole), await net.run(pixels)];
      const best = bestOf(before.p);
      clear(bars[i], make("h3", {}, names[i]), make("p", { class: "soft" }, kinds[i]),
        probabilityBars(now.p, contents.classes, { before: before.p, label: picture.now.label, most: 3 }));
      words.push(`${names[i]}: ${contents.classes[best]} ${percent(before.p[best])} → ${percent(now.p[best])}`);
    }
    line.textContent = words.join("; ");
  });
  const shifted = abouts.map((about) => about.shifted).filter(Boolean);
  const mean = () => {
    const [{ shifts, images }] = shifted;
    clear(curve, make("h3", {}, `The first ${images.toLocaleString("en")} ${contents.split} images, all moved alike`),
      lineChart(shifted.map((each, i) => ({ name: names[i], values: each.p.map((p, k) => [shifts[k], p]) })),
        { x: "pixels to the right", y: "mean probability of the label", low: 0, high: 1, texts: [null, percent0] }),
      ...whyShifts(shifted, names, contents.network.steps.some((step) => step.kind === "flatten")).map((text) => make("p", {}, text)),
      table(["pixels to the right", ...names.map((name) => `${name}: share right (95 % limits)`)], shifts.map((s, k) => [s, ...shifted.map(({ right: { [k]: [share, low, high] } }) =>
        `${percent(share)} (${percent(low)} to ${percent(high)})`)]).filter(([s]) => s % 2 === 0)));
  };
  // Of one picture: the probability of one class for both networks, that of the label where it has one.
  const alone = async () => {
    const { pixels, label, name } = picture.now;
    const reach = Math.min(8, Math.floor(width / 3));
    const shifts = Array.from({ length: 2 * reach + 1 }, (_, i) => i - reach);
    const first = (await network.run(pixels)).p;
    const cls = label ?? bestOf(first);
    const rows = [];
    for (const net of nets) {
      const row = [];
      for (const dx of shifts) row.push((await net.run(changedPixels(pixels, shape, { dx }))).p[cls]);
      rows.push(row);
    }
    if (pixels !== picture.now.pixels) return;
    clear(curve, make("h3", {}, `${name} alone`), lineChart(rows.map((row, i) => ({ name: names[i], values: row.map((y, k) => [shifts[k], y]) })),
      { x: "pixels to the right", y: `probability of ${contents.classes[cls]}`, low: 0, high: 1, texts: [null, percent0] }),
    make("p", {}, `${label == null ? `This picture has no label, so both lines are of the class that ${names[0]} says first.` : `Both lines are of its label, ${contents.classes[cls]}.`} One picture shows nothing about networks: some support one, some the other. ${shifted.length ? "Look at all of them as well." : ""}`),
    table(["pixels to the right", ...names], shifts.map((s, k) => [s, ...rows.map((row) => percent(row[k]))]).filter(([s]) => s % 2 === 0)));
  };
  const permuted = async () => {
    const dense = [...nets.entries()].find(([i]) => abouts[i].first_dense != null);
    if (!dense) { same.textContent = "None of the networks here begins with a dense layer; write the page with a dense baseline to see it."; return; }
    const [i, net] = dense;
    const leaf = abouts[i].first_dense;
    const units = abouts[i].weights.leaves[leaf].size / (height * width * channels);
    const weights = engineModule().unpack([abouts[i].weights.leaves[leaf]], bytesOf(abouts[i].weights.data))[0];
    const rows = new Float32Array(weights.length);
    order.forEach((from, to) => rows.set(weights.subarray(from * channels * units, (from + 1) * channels * units), to * channels * units));
    const other = await net.changed(`${net.name}-permuted`, { [leaf]: rows });
    const pixels = picture.now.pixels;
    const [a, b] = [await net.run(pixels), await other.run(changedPixels(pixels, shape, { order }))];
    if (pixels !== picture.now.pixels) return;
    const largest = Math.max(...a.logits.map((z, k) => Math.abs(z - b.logits[k])));
    same.textContent = `${names[i]}, its first weights permuted like the pixels, on the scrambled picture: the largest difference of its logits (the numbers before softmax) is ${largest ? `${largest.toExponential(1)}, rounding only` : "0"}. A convolution has no weights that could be permuted so.`;
    same.dataset.largest = largest;
  };
  scene(5, "Dense against convolution", intro, ask,
    baseline ? null : make("p", { class: "soft" }, "There is one network in this page. With another run, such as one of dense layers on the same images, written by --page.baseline=RUN, both stand side by side."),
    make("div", { class: "controls" }, slider("to the right, pixels", { min: -8, max: 8, value: 0 }, (v) => { state.dx = v; show(); }),
      slider("down, pixels", { min: -8, max: 8, value: 0 }, (v) => { state.dy = v; show(); }),
      tick("mirror", false, (v) => { state.mirror = v; show(); }), tick("scramble all pixels", false, (v) => { state.scrambled = v; show(); })),
    scrambledNote,
    make("div", { class: "side" }, canvas, ...bars.map((each) => make("div", { class: "grow" }, each))), line,
    make("div", { class: "controls" }, button("permute the first weights too", permuted)), same, ask.reveal,
    ask2, make("div", { class: "controls" }, shifted.length ? button(`all shifts: ${shifted[0].images.toLocaleString("en")} images`, mean) : null, button("all shifts: this picture alone", alone)), curve);
  picture.watch(() => { clear(curve); same.textContent = ""; show(); });
};

// Lines of (x, y) with axes, as SVG.
const svg = (tag, attributes, ...children) => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
};
// Round numbers from low to high, about five.
const roundTicks = (low, high) => {
  const raw = (high - low || 1) / 4;
  const ten = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].find((each) => each * ten >= raw * 0.999) * ten;
  const first = Math.ceil(low / step - 1e-9);
  return Array.from({ length: Math.floor(high / step + 1e-9) - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)));
};

const lineChart = (lines, { x, y, low, high, from = null, to = null, texts = [], marks = [], diagonal = false }) => {
  const [w, h, left, bottom, top] = [460, 280, 72, 46, 32];
  const all = lines.flatMap((each) => each.values.map(([a]) => a));
  const [x0, x1] = [from ?? Math.min(...all), to ?? Math.max(...all)];
  const [xText, yText] = [texts[0] ?? ((v) => shown(Number(v.toFixed(2)))), texts[1] ?? ((v) => shown(Number(v.toFixed(3))))];
  const px = (a) => left + ((a - x0) / (x1 - x0 || 1)) * (w - left - 30);
  const py = (b) => h - bottom - ((b - low) / (high - low || 1)) * (h - bottom - top);
  const classes = ["line-a", "line-b", "line-c"];
  const chart = svg("svg", { viewBox: `0 0 ${w} ${h}`, role: "img", "aria-label": `${y} over ${x}: ${lines.map((l) => l.name).join(", ")}`, class: "chart" });
  for (const value of roundTicks(low, high)) {
    chart.append(svg("line", { x1: left, x2: w - 30, y1: py(value), y2: py(value), class: "grid" }), svg("text", { x: left - 6, y: py(value) + 4, "text-anchor": "end" }, yText(value)));
  }
  for (const at of roundTicks(x0, x1)) {
    chart.append(svg("text", { x: px(at), y: h - bottom + 18, "text-anchor": "middle" }, xText(at)));
  }
  if (diagonal) chart.append(svg("line", { x1: px(x0), y1: py(x0), x2: px(x1), y2: py(x1), class: "diagonal" }));
  lines.forEach((each, i) => {
    chart.append(svg("polyline", { points: each.values.map(([a, b]) => `${px(a)},${py(b)}`).join(" "), class: `${classes[i % 3]}` }));
    if (each.values.length < 30) each.values.forEach(([a, b]) => chart.append(svg("circle", { cx: px(a), cy: py(b), r: 3, class: classes[i % 3] })));
  });
  for (const [a, b] of marks) chart.append(svg("circle", { cx: px(a), cy: py(b), r: 7, class: "mark" }));
  chart.append(svg("text", { x: (left + w) / 2, y: h - 6, "text-anchor": "middle" }, x), svg("text", { x: 4, y: 18 }, y));
  return make("figure", {}, chart, make("figcaption", {}, ...lines.map((each, i) => make("span", { class: `key ${classes[i % 3]}` }, each.name))));
};
