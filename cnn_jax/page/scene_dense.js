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
const PERMUTED_PIXELS = "Measured on 5,000 images of CIFAR-10, five epochs, one seed: scrambling takes the guide's network from 0.440 to 0.287, and the dense one from 0.351 to 0.335. On the 8 x 8 digits, which have hardly more than strokes, both lose less than 0.01.";

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
  const names = [contents.model, ...(baseline ? [contents.baseline.model] : [])];
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
      const best = before.p.indexOf(Math.max(...before.p));
      clear(bars[i], make("h3", {}, names[i]), make("p", { class: "soft" }, kinds[i]),
        probabilityBars(now.p, contents.classes, { before: before.p, label: picture.now.label, most: 3 }));
      words.push(`${names[i]}: ${contents.classes[best]} ${percent(before.p[best])} → ${percent(now.p[best])}`);
    }
    line.textContent = words.join("; ");
  });
  const sweep = async () => {
    const reach = Math.min(8, Math.floor(width / 3));
    const points = [];
    for (const net of nets) {
      const before = await net.run(picture.now.pixels);
      const best = before.p.indexOf(Math.max(...before.p));
      const row = [];
      for (let dx = -reach; dx <= reach; dx++) row.push((await net.run(changedPixels(picture.now.pixels, shape, { dx }))).p[best]);
      points.push(row);
    }
    const shifts = Array.from({ length: 2 * reach + 1 }, (_, i) => i - reach);
    clear(curve, lineChart(points.map((row, i) => ({ name: names[i], values: row.map((y, k) => [shifts[k], y]) })),
      { x: "pixels to the right", y: "probability of its class", low: 0, high: 1 }),
    table(["pixels to the right", ...names], shifts.filter((s) => s % 2 === 0).map((s) => [s, ...points.map((row) => percent(row[s + reach]))])));
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
    const [a, b] = [await net.run(picture.now.pixels), await other.run(changedPixels(picture.now.pixels, shape, { order }))];
    const largest = Math.max(...a.logits.map((z, k) => Math.abs(z - b.logits[k])));
    same.textContent = `${names[i]}, its first weights permuted like the pixels, on the scrambled picture: the largest difference of its logits is ${largest ? `${largest.toExponential(1)}, rounding only` : "0"}. A convolution has no weights that could be permuted so.`;
    same.dataset.largest = largest;
  };
  scene(5, "Dense against convolution", intro, ask,
    baseline ? null : make("p", { class: "soft" }, "There is one network in this page. With another run, such as one of dense layers on the same images, written by --page.baseline=RUN, both stand side by side."),
    make("div", { class: "controls" }, slider("to the right, pixels", { min: -8, max: 8, value: 0 }, (v) => { state.dx = v; show(); }),
      slider("down, pixels", { min: -8, max: 8, value: 0 }, (v) => { state.dy = v; show(); }),
      tick("mirror", false, (v) => { state.mirror = v; show(); }), tick("scramble all pixels", false, (v) => { state.scrambled = v; show(); })),
    make("div", { class: "side" }, canvas, ...bars.map((each) => make("div", { class: "grow" }, each))), line,
    make("div", { class: "controls" }, button("all shifts from left to right", sweep), button("permute the first weights too", permuted)), same, curve);
  picture.watch(show);
};

// Lines of (x, y) with axes, as SVG.
const svg = (tag, attributes, ...children) => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
};
const lineChart = (lines, { x, y, low, high, from = null, to = null, texts = [], marks = [], diagonal = false }) => {
  const [w, h, left, bottom] = [460, 260, 72, 46];
  const all = lines.flatMap((each) => each.values.map(([a]) => a));
  const [x0, x1] = [from ?? Math.min(...all), to ?? Math.max(...all)];
  const [xText, yText] = [texts[0] ?? ((v) => shown(Number(v.toFixed(2)))), texts[1] ?? ((v) => shown(Number(v.toFixed(3))))];
  const px = (a) => left + ((a - x0) / (x1 - x0 || 1)) * (w - left - 24);
  const py = (b) => h - bottom - ((b - low) / (high - low || 1)) * (h - bottom - 12);
  const classes = ["line-a", "line-b", "line-c"];
  const chart = svg("svg", { viewBox: `0 0 ${w} ${h}`, role: "img", "aria-label": `${y} over ${x}: ${lines.map((l) => l.name).join(", ")}`, class: "chart" });
  for (let i = 0; i <= 4; i++) {
    const value = low + ((high - low) * i) / 4;
    chart.append(svg("line", { x1: left, x2: w - 24, y1: py(value), y2: py(value), class: "grid" }), svg("text", { x: left - 6, y: py(value) + 4, "text-anchor": "end" }, yText(value)));
    const at = x0 + ((x1 - x0) * i) / 4;
    chart.append(svg("text", { x: px(at), y: h - bottom + 18, "text-anchor": "middle" }, xText(at)));
  }
  if (diagonal) chart.append(svg("line", { x1: px(x0), y1: py(x0), x2: px(x1), y2: py(x1), class: "diagonal" }));
  lines.forEach((each, i) => {
    chart.append(svg("polyline", { points: each.values.map(([a, b]) => `${px(a)},${py(b)}`).join(" "), class: `${classes[i % 3]}` }));
    if (each.values.length < 30) each.values.forEach(([a, b]) => chart.append(svg("circle", { cx: px(a), cy: py(b), r: 3, class: classes[i % 3] })));
  });
  for (const [a, b] of marks) chart.append(svg("circle", { cx: px(a), cy: py(b), r: 7, class: "mark" }));
  chart.append(svg("text", { x: (left + w) / 2, y: h - 6, "text-anchor": "middle" }, x), svg("text", { x: 14, y: (h - bottom) / 2, transform: `rotate(-90 14 ${(h - bottom) / 2})`, "text-anchor": "middle" }, y));
  return make("figure", {}, chart, make("figcaption", {}, ...lines.map((each, i) => make("span", { class: `key ${classes[i % 3]}` }, each.name))));
};
