// Section 4: a picture walks through every layer of the network.

const bytesAmount = (n) => n.toLocaleString("en");

const fieldOf = (field, row, column) => [
  field.start[0] + row * field.jump[0], field.start[1] + column * field.jump[1], field.size[0], field.size[1],
];

const drawField = (canvas, pixels, shape, box) => {
  paintPixels(canvas, pixels, shape);
  if (!box) return;
  const context = canvas.getContext("2d");
  context.strokeStyle = "#ff8c1a";
  context.lineWidth = 1;
  const [top, left, h, w] = box;
  const [t, l] = [Math.max(0, top), Math.max(0, left)];
  const [b, r] = [Math.min(shape[0], top + h), Math.min(shape[1], left + w)];
  context.strokeRect(l + 0.5, t + 0.5, Math.max(0, r - l - 1), Math.max(0, b - t - 1));
};

// What the page has of the weights, and what that costs.
const weightsOf = ({ kind, cost }) => {
  const right = cost ? `on ${bytesAmount(cost.examples)} images it is right for ${percent(cost.after)}` : "";
  if (kind === "float32") return `The weights are in this page as they were trained${right ? `: ${right}` : ""}.`;
  return `The weights are in this page as ${KIND_WORDS[kind] ?? kind} numbers${right ? `: ${right}, and for ${percent(cost.before)} with the numbers that were trained` : ""}.`;
};

const dependsOn = ([top, left, h, w], [height, width]) => `It depends on ${shown(h)} x ${shown(w)} pixels of the picture${
  top < 0 || left < 0 || top + h > height || left + w > width ? ", some of them in the padding" : ""}.`;

const WHY_WALK = {
  ask: "a unit deep in the network has a kernel of 3 x 3. Which part of the picture can change it?",
  answers: ["3 x 3 pixels", "more than 3 x 3: what its inputs saw, and theirs", "always the whole picture"], right: 1,
  why: ["Each layer looks at places of the layer before, which looked at several pixels themselves. A pool or a stride makes all later windows wider. The box on the picture shows the receptive field: point at a map.",
    "Where the box leaves the picture, the layer reads padding: zeros that are in no picture."],
  source: "A. Araujo, W. Norris and J. Sim, Computing receptive fields of convolutional neural networks, Distill, 2019",
};

// What a kind of step is for, in a few words.
const MEANINGS = {
  flatten: "writes all maps in one row, since a dense layer takes a row of numbers",
  dropout: "in training sets a share of the numbers to zero, so that none is relied on alone; here it lets all pass",
  pool: "keeps one number of each window: smaller maps, and each place sees more of the picture",
  mean: "keeps one number of each map",
};

const sceneWalk = (contents, network) => {
  const about = contents.network;
  const intro = ["The picture goes through the layers below, from left to right. Every filter of a layer makes a map: its number is large where the picture has what the filter looks for. Choose a layer and press a map at some place, to see what it depends on. Then tick the box, and press a map to switch its filter off: what does the answer lose? A layer with more filters looks for more things, and costs more parameters."];
  if (!about.live) { recordedWalk(contents); return; }
  const shape = contents.shape;
  const ask = question(WHY_WALK);
  const steps = about.steps;
  const state = { step: Math.min(2, steps.length - 1), off: {}, result: null, whole: null, place: [0, 0], channel: 0, switching: false };
  const list = make("div", { class: "layers", role: "group", "aria-label": "layers of the network" });
  const maps = make("div", { class: "maps", role: "group", "aria-label": "maps of the layer" });
  const facts = make("p", { class: "formula", id: "walk-facts" });
  const pointed = liveLine({ class: "formula", id: "walk-pointed" });
  const offLine = liveLine({ id: "walk-off" });
  const bars = make("div", { id: "walk-bars" });
  const small = canvasOf("the picture, with what the pointed place sees", shape[1], shape[0], { class: "picture" });
  const bar = make("div", {});

  const words = (step) => (step.shape.length === 3 ? `${step.shape[0]} x ${step.shape[1]} x ${step.shape[2]}` : `${step.shape[0]}`);
  const buttons = steps.map((step, i) => button("", () => { state.step = i; showStep(); }, { class: "layer" }));
  steps.forEach((step, i) => {
    clear(buttons[i], make("b", {}, step.title), make("span", { class: "soft" }, step.layer.split("/").pop() || "input"), make("span", {}, words(step)));
  });
  clear(list, ...buttons);

  const point = (row, column, channel) => {
    const step = steps[state.step];
    Object.assign(state, { place: [row, column], channel });
    const [h, w, c] = step.shape;
    const value = state.result.values[step.value][(row * w + column) * c + channel];
    const box = step.field ? fieldOf(step.field, row, column) : null;
    drawField(small, picture.now.pixels, shape, box);
    const depth = step.settings.depth;
    const made = depth ? ` It is the sum of ${step.settings.kernel.join(" · ")} · ${depth} = ${step.settings.kernel[0] * step.settings.kernel[1] * depth} products.`
      : step.kind === "pool" ? ` It is made of ${step.settings.kernel.join(" · ")} numbers of channel ${channel + 1} alone.` : "";
    pointed.textContent = `channel ${channel + 1}, row ${row + 1} of ${h}, column ${column + 1} of ${w}: ${shown(value)}.${made} ${box ? dependsOn(box, shape) : "It depends on the whole picture."}`;
  };

  const showStep = () => {
    const [i, step] = [state.step, steps[state.step]];
    buttons.forEach((each, k) => each.setAttribute("aria-pressed", k === i ? "true" : "false"));
    facts.textContent = [step.title, step.layer ? `called ${step.layer} in the program` : "", MEANINGS[step.kind] ?? (step.title.startsWith("cut") ? "leaves out rows and columns at the end, such as those that no window of the next pool reaches" : ""), `shape ${words(step)}`,
      step.parameters ? `${bytesAmount(step.parameters)} parameters` : "no parameters",
      step.macs ? `${bytesAmount(step.macs)} multiply-adds` : "",
      step.field ? `receptive field ${shown(step.field.size[0])} x ${shown(step.field.size[1])}` : "sees the whole picture",
      step.settings.strides ? `stride ${step.settings.strides.join(", ")}` : ""].filter(Boolean).join("; ");
    if (!state.result) return;
    const values = state.result.values[step.value];
    const [low, high] = rangeOf(values);
    const signed = low < 0 && step.kind !== "input";
    clear(bar, colourBar(signed ? -Math.max(-low, high) : Math.min(0, low), signed ? Math.max(-low, high) : high, signed));
    pointed.textContent = "";
    drawField(small, picture.now.pixels, shape, null);
    if (step.shape.length !== 3) {
      const canvas = canvasOf(`${step.shape[0]} numbers of ${step.title}`, 1, 1, { class: "pixels strip" });
      const columns = Math.min(step.shape[0], 50);
      const rows = Math.ceil(step.shape[0] / columns);
      const padded = new Float32Array(rows * columns);
      padded.set(values);
      paintMap(canvas, padded, rows, columns, { low: signed ? low : Math.min(0, low), high, signed });
      clear(maps, make("figure", {}, canvas, make("figcaption", {}, `${step.shape[0]} numbers, from ${shown(low)} to ${shown(high)}`)));
      if (i === steps.length - 1 && values.length === contents.classes.length) {
        maps.append(make("figure", {}, table(["class", "its number (logit); softmax makes the probabilities of these"], contents.classes.map((name, k) => [name, values[k]]))));
      }
      return;
    }
    const [h, w, c] = step.shape;
    const most = Math.min(c, 64);
    const silent = state.off[step.value] ?? [];
    clear(maps, ...Array.from({ length: most }, (_, k) => {
      const canvas = make("canvas", { "aria-hidden": "true", class: "pixels" });
      paintMap(canvas, values, h, w, { low: signed ? low : Math.min(0, low), high, signed, offset: k, step: c });
      const isOff = silent.includes(k);
      const tile = button(canvas, (event) => (state.switching ? toggle(step, k) : look(event)), { class: isOff ? "tile off" : "tile", "aria-pressed": state.switching ? String(isOff) : null,
        "aria-label": `channel ${k + 1}${isOff ? ", switched off" : ""}: ${step.kind === "input" ? "a plane of the picture" : state.switching ? "press to switch it off or on" : "press to look at a place, arrow keys for others"}` });
      const inside = ([row, column]) => point(Math.max(0, Math.min(h - 1, row)), Math.max(0, Math.min(w - 1, column)), k);
      const look = (event) => inside(event.detail ? placeOn(canvas, event) : state.place); // 0: by the keyboard
      canvas.addEventListener("pointermove", (event) => {
        if (event.pointerType === "mouse" && !state.switching) inside(placeOn(canvas, event));
      });
      tile.addEventListener("keydown", (event) => {
        const by = ARROWS[event.key];
        if (!by) return;
        event.preventDefault();
        inside([state.place[0] + by[0], state.place[1] + by[1]]);
      });
      return tile;
    }));
    if (most < c) maps.append(make("p", { class: "soft" }, `the first ${most} of ${c} maps`));
    const empty = Array.from({ length: most }, (_, k) => k).filter((k) => { for (let i = k; i < values.length; i += c) if (values[i]) return false; return !silent.includes(k); }).length;
    if (empty) maps.append(make("p", { class: "soft" }, `${empty} of these maps ${empty === 1 ? "is" : "are"} 0 everywhere: the filter has found nothing in this picture, so switching it off changes nothing. Try another picture.`));
  };

  const toggle = (step, k) => {
    if (step.kind === "input") return;
    const now = new Set(state.off[step.value] ?? []);
    if (now.has(k)) now.delete(k); else now.add(k);
    if (now.size) state.off[step.value] = [...now]; else delete state.off[step.value];
    compute(true);
  };

  const compute = newest(async (keepPlace) => {
    const pixels = picture.now.pixels;
    const keep = steps.map((step) => step.value);
    if (!keepPlace || !state.whole) state.whole = await network.run(pixels);
    state.result = await network.run(pixels, { keep, off: state.off });
    clear(bars, probabilityBars(state.result.p, contents.classes, { before: state.whole.p, label: picture.now.label }));
    const count = Object.values(state.off).reduce((sum, each) => sum + each.length, 0);
    const best = bestOf(state.whole.p);
    offLine.textContent = count ? `${count} ${count === 1 ? "filter is" : "filters are"} off: ${contents.classes[best]} ${percent(state.whole.p[best])} → ${percent(state.result.p[best])}. The marks show the probabilities with all filters.` : "All filters are on.";
    const focused = document.activeElement?.classList.contains("tile") ? [...maps.children].indexOf(document.activeElement) : -1;
    showStep();
    if (focused >= 0) maps.children[focused]?.focus();
  });

  scene(4, "Through this network", [...intro,
    `It has ${bytesAmount(about.parameters)} parameters and makes ${bytesAmount(about.macs)} multiplications for a picture. ${weightsOf(about)}`],
  ask, make("p", { class: "soft screen" }, `${steps.length} steps, the first at the left; the row scrolls sideways.`), list, facts,
  make("div", { class: "controls" }, tick("pressing a map switches its filter off or on", false, (on) => { state.switching = on; showStep(); }), button("all filters on", () => { state.off = {}; compute(true); })),
  make("div", { class: "walk" }, make("div", { class: "look" }, small, make("div", {}, pointed, offLine)), make("div", { class: "maps-side" }, bar, maps), make("div", { class: "said" }, bars)),
  ask.reveal, ...dropoutPart(contents.classes, about.forward.operations.filter((each) => each.name === "dropout").map((each) => each.rate),
    async (drop) => (await network.run(picture.now.pixels, { drop })).p, picture.watch));
  showStep();
  picture.watch(() => compute(false));
};
