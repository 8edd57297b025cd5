// Section 3: pooling, stride, flatten: what each throws away.

const pool = (values, rows, columns, size, fold) => {
  const [r2, c2] = [Math.floor(rows / size), Math.floor(columns / size)];
  const found = new Float32Array(r2 * c2);
  for (let r = 0; r < r2; r++) for (let c = 0; c < c2; c++) {
    const inside = [];
    for (let i = 0; i < size; i++) for (let j = 0; j < size; j++) inside.push(values[(r * size + i) * columns + c * size + j]);
    found[r * c2 + c] = fold(inside);
  }
  return { values: found, rows: r2, columns: c2 };
};

const WAYS = [
  ["max-pooling", "keeps the largest of each window", (v) => Math.max(...v)],
  ["average pooling", "keeps the mean of each window", (v) => v.reduce((a, b) => a + b, 0) / v.length],
  ["stride", "keeps the first of each window: a convolution with this stride does not compute the others", (v) => v[0]],
];

const sceneShapes = (contents) => {
  const shape = contents.shape;
  const state = { size: 2, shift: 0, small: [1, 1, 5, 6], index: 4, dims: [3, 3, 1] };
  const results = WAYS.map(([name]) => canvasOf(`the picture after ${name}`, 4, 4, { class: "pixels" }));
  const before = canvasOf("the picture in grey", 4, 4, { class: "pixels" });
  const captions = WAYS.map(() => make("figcaption", {}));
  const changes = liveLine({ class: "formula", id: "shapes-change" });
  const shifted = (values) => Float64Array.from(values, (_, i) => {
    const [r, c] = [Math.floor(i / shape[1]), i % shape[1]];
    return values[r * shape[1] + Math.max(0, c - state.shift)];
  });
  const show = () => {
    if (!picture.now.pixels) return;
    const whole = greyOf(picture.now.pixels, shape);
    const moved = shifted(whole);
    paintMap(before, moved, shape[0], shape[1], { low: 0, high: 255 });
    const words = WAYS.map(([name, text, fold], i) => {
      const found = pool(moved, shape[0], shape[1], state.size, fold);
      const still = pool(whole, shape[0], shape[1], state.size, fold);
      paintMap(results[i], found.values, found.rows, found.columns, { low: 0, high: 255 });
      captions[i].textContent = `${name}, ${found.rows} x ${found.columns}: ${text}`;
      const change = found.values.reduce((sum, v, k) => sum + Math.abs(v - still.values[k]), 0) / found.values.length;
      return `${name} ${shown(Number(change.toFixed(1)))}`;
    });
    changes.textContent = !state.shift ? "Move the picture by a pixel: by how much do the three outputs change?" : `Moved by ${state.shift} pixel${state.shift > 1 ? "s" : ""}, the outputs change by, on average, of 255: ${words.join(", ")}. ${state.shift % state.size ? "None is 0: pooling softens a shift, it does not undo it." : ""}`;
  };
  const smallBoxes = state.small.map((value, i) => {
    const box = make("input", { type: "number", value, "aria-label": `row ${(i >> 1) + 1}, column ${(i % 2) + 1}` });
    box.addEventListener("input", () => { state.small[i] = Number(box.value) || 0; showSmall(); });
    return box;
  });
  const smallGrid = make("div", { class: "kernel", role: "group", "aria-label": "a window of four numbers" }, ...smallBoxes);
  smallGrid.style.gridTemplateColumns = "repeat(2, 4.2rem)";
  const smallLine = liveLine({ class: "formula", id: "shapes-small" });
  const showSmall = () => {
    const v = state.small;
    smallLine.textContent = `largest ${shown(Math.max(...v))}, mean ${shown(v.reduce((a, b) => a + b, 0) / 4)}, first ${shown(v[0])}. Three numbers of four are gone.`;
  };

  const flat = make("div", { class: "flat", role: "group", "aria-label": "the list after flatten" });
  const boxes = make("div", { class: "side" });
  const flatLine = liveLine({ class: "formula", id: "shapes-flat" });
  const valueAt = (i) => (state.dims[2] === 1 ? KERNELS.guide[2][i] : i);
  const showFlat = () => {
    const [h, w, c] = state.dims;
    const pick = (i) => { state.index = i; showFlat(); };
    const cell = (i) => button(shown(valueAt(i)), () => pick(i), { class: i === state.index ? "cell on" : "cell", "aria-pressed": i === state.index ? "true" : "false",
      "aria-label": `index ${i}, value ${shown(valueAt(i))}` });
    clear(boxes, ...Array.from({ length: c }, (_, k) => {
      const plane = make("div", { class: "cells" }, ...Array.from({ length: h * w }, (_, p) => cell(p * c + k)));
      plane.style.gridTemplateColumns = `repeat(${w}, 3rem)`;
      return make("figure", {}, plane, make("figcaption", {}, `channel ${k}`));
    }));
    clear(flat, ...Array.from({ length: h * w * c }, (_, i) => cell(i)));
    const i = state.index;
    const [row, column, channel] = [Math.floor(i / (w * c)), Math.floor(i / c) % w, i % c];
    flatLine.textContent = `row ${row}, column ${column}, channel ${channel} is number (${row} · ${w} + ${column}) · ${c} + ${channel} = ${i} of the list, and meets row ${i} of the dense layer's weights.`;
  };
  scene(3, "Pooling, stride, flatten", [
    "Three ways make a map smaller, and all three give the same shape. Each throws something else away. Flatten throws away nothing: it only writes the numbers in a row, always in the same order. It is needed because a dense layer takes a row of numbers, with one weight for each.",
  ],
  question({
    ask: "which of these has parameters that training changes?",
    answers: ["max-pooling", "average pooling", "flatten", "none of them"], right: 3,
    why: ["Pooling and flatten learn nothing. They do matter for learning: the gradient goes back through them, in max-pooling to the largest number of each window alone.",
      "A convolution moves its map along when the image moves: that is equivariance. Invariance would be an output that does not change at all. Pooling does not give it: move the picture by one pixel above and look."],
    source: "R. Zhang, Making convolutional networks shift-invariant again, 2019; A. Azulay and Y. Weiss, 2019",
  }),
  make("div", { class: "controls" }, slider("window and stride", { min: 2, max: 4, value: 2 }, (v) => { state.size = v; show(); }),
    slider("move the picture to the right, pixels", { min: 0, max: 4, value: 0 }, (v) => { state.shift = v; show(); })),
  make("div", { class: "side" }, make("figure", {}, before, make("figcaption", {}, "before")), ...results.map((canvas, i) => make("figure", {}, canvas, captions[i]))),
  changes, make("h3", {}, "One window of four numbers"), smallGrid, smallLine,
  make("h3", {}, "Flatten: press a number, here or there"),
  make("div", { class: "controls" }, menu("array", [["3,3,1", "an edge kernel, 3 x 3"], ["2,3,2", "2 x 3 with two channels"]], (v) => { state.dims = v.split(",").map(Number); state.index = 0; showFlat(); })),
  boxes, flat, flatLine);
  showSmall();
  showFlat();
  picture.watch(show);
};
