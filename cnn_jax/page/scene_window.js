// Section 1: a window slides. Section 2: a kernel has depth. Arithmetic of one picture, [h][w].

// The sizes of the formula floor((W - F + 2P) / S) + 1 along one axis.
const outputSize = (input, window, stride, pad) => Math.floor((input + 2 * pad - window) / stride) + 1;

// The cross-correlation of one channel; a kernel that is turned by 180 degrees makes it a convolution.
const slide = (values, rows, columns, kernel, size, stride, pad) => {
  const [outRows, outColumns] = [outputSize(rows, size, stride, pad), outputSize(columns, size, stride, pad)];
  const found = new Float64Array(Math.max(0, outRows * outColumns));
  for (let r = 0; r < outRows; r++) for (let c = 0; c < outColumns; c++) {
    let sum = 0;
    for (let i = 0; i < size; i++) for (let j = 0; j < size; j++) {
      const [y, x] = [r * stride - pad + i, c * stride - pad + j];
      if (y >= 0 && y < rows && x >= 0 && x < columns) sum += values[y * columns + x] * kernel[i * size + j];
    }
    found[r * outColumns + c] = sum;
  }
  return { values: found, rows: outRows, columns: outColumns };
};

const turned = (kernel) => Array.from(kernel).reverse();

const EXAMPLES = {
  guide: { name: "a 5 x 5 image", rows: 5, columns: 5, values: [1, 2, 3, 0, 1, 0, 1, 2, 3, 0, 1, 0, 1, 2, 1, 2, 1, 0, 1, 2, 1, 2, 1, 0, 1] },
  small: { name: "a 3 x 3 image", rows: 3, columns: 3, values: [1, 2, 3, 4, 5, 6, 7, 8, 9] },
  large: { name: "a ring, 28 x 28, with padding 1", rows: 28, columns: 28, pad: 1,
    values: Array.from({ length: 784 }, (_, i) => (Math.abs(Math.hypot(Math.floor(i / 28) - 13.5, (i % 28) - 13.5) - 8) < 2.5 ? 230 : 20)) },
};

const KERNELS = {
  guide: ["edges up, down and aside", 3, [0, -1, 0, -1, 4, -1, 0, -1, 0]],
  corner: ["a 2 x 2 kernel", 2, [0, 1, 1, 0]],
  identity: ["identity", 3, [0, 0, 0, 0, 1, 0, 0, 0, 0]],
  average: ["averaging", 3, new Array(9).fill(1 / 9)],
  edge: ["edges in every direction", 3, [-1, -1, -1, -1, 8, -1, -1, -1, -1]],
  sharpen: ["sharpen", 3, [0, -1, 0, -1, 5, -1, 0, -1, 0]],
  sobelX: ["Sobel x: vertical edges", 3, [-1, 0, 1, -2, 0, 2, -1, 0, 1]],
  sobelY: ["Sobel y: horizontal edges", 3, [-1, -2, -1, 0, 0, 0, 1, 2, 1]],
  shift: ["one step aside (turn it!)", 3, [0, 0, 0, 1, 0, 0, 0, 0, 0]],
};

// What a kernel finds, in words.
const FINDS = {
  guide: "It finds edges: where all numbers under the window are equal, its sum is 0.",
  edge: "It finds edges in every direction: where all numbers under the window are equal, its sum is 0.",
  average: "It blurs: each output is the mean of the window.",
  sharpen: "It sharpens: it adds to the middle what differs from its neighbours.",
  identity: "It changes nothing: only the middle counts.",
  sobelX: "It subtracts left from right, so it finds vertical edges: above 0 where it gets brighter to the right, below 0 where it gets darker.",
  sobelY: "It subtracts above from below, so it finds horizontal edges: above 0 where it gets brighter downwards, below 0 where it gets darker.",
  shift: "It copies the neighbour on the left; turned, the one on the right.",
};

const greyOf = (pixels, [height, width, channels]) => Float64Array.from({ length: height * width }, (_, i) =>
  channels === 1 ? pixels[i] : (pixels[i * channels] + pixels[i * channels + 1] + pixels[i * channels + 2]) / 3);

// The first layer's filters: [kh, kw, in, out], or null where the first layer is no convolution.
const firstFilters = (contents) => {
  const found = contents.network && contents.network.filters;
  if (!found) return null;
  const [kh, kw, inputs, outputs] = found.shape;
  const at = (i, j, c, k) => found.values[((i * kw + j) * inputs + c) * outputs + k];
  return { kh, kw, inputs, outputs, at };
};

const sceneWindow = (contents) => {
  const shape = contents.shape;
  const filters = firstFilters(contents);
  const state = { image: "guide", size: 3, kernel: [...KERNELS.guide[2]], stride: 1, pad: 0, bias: 0, relu: false, turn: false, finds: "guide", row: 0, column: 0 };
  const presets = Object.entries(KERNELS).map(([key, [name]]) => [key, name]);
  if (filters && filters.kh === filters.kw) for (let k = 0; k < Math.min(filters.outputs, 16); k++) presets.push([`own-${k}`, `this network's filter ${k + 1}`]);

  const input = canvasOf("input with the window: drag it, or use the arrow keys", 10, 10, { id: "window-input" });
  const output = canvasOf("output of the window", 10, 10, { id: "window-output" });
  const grid = make("div", { class: "kernel", role: "group", "aria-label": "the kernel's numbers" });
  const formula = make("p", { class: "formula", id: "window-formula" });
  const arithmetic = liveLine({ class: "formula", id: "window-sum" });
  const note = make("p", { class: "soft", id: "window-note" });
  const inputTitle = make("figcaption", {});
  const outputTitle = make("figcaption", {});
  const signBar = make("div", {});

  const source = () => {
    if (state.image !== "picture") return EXAMPLES[state.image];
    return { name: picture.now.name, rows: shape[0], columns: shape[1], values: greyOf(picture.now.pixels, shape) };
  };
  const kernelNow = () => (state.turn ? turned(state.kernel) : state.kernel);

  const showKernel = () => {
    const inputs = state.kernel.map((value, i) => {
      const box = make("input", { type: "number", step: "any", value: Number(value.toFixed(3)),
        "aria-label": `row ${Math.floor(i / state.size) + 1}, column ${(i % state.size) + 1}` });
      box.addEventListener("input", () => { state.kernel[i] = Number(box.value) || 0; state.finds = null; show(); });
      return box;
    });
    grid.style.gridTemplateColumns = `repeat(${state.size}, minmax(0, 4.2rem))`;
    clear(grid, ...inputs);
  };

  const show = () => {
    const image = source();
    const size = state.size;
    const found = slide(image.values, image.rows, image.columns, kernelNow(), size, state.stride, state.pad);
    found.values = found.values.map((x) => (state.relu ? Math.max(0, x + state.bias) : x + state.bias));
    const fits = found.rows > 0 && found.columns > 0;
    const axis = (name, w, result) => `${name} ⌊(W − F + 2P) / S⌋ + 1: ⌊(${w} − ${size} + 2 · ${state.pad}) / ${state.stride}⌋ + 1 = ${result}`;
    formula.textContent = fits
      ? image.rows === image.columns ? axis("size", image.rows, found.rows) : `${axis("height", image.rows, found.rows)};  ${axis("width", image.columns, found.columns)}`
      : "The window is larger than the padded image: there is no output.";
    inputTitle.textContent = `input ${image.rows} x ${image.columns}${state.pad ? `, padded to ${image.rows + 2 * state.pad} x ${image.columns + 2 * state.pad}` : ""}`;
    outputTitle.textContent = fits ? `output ${found.rows} x ${found.columns}` : "no output";
    if (!fits) { arithmetic.textContent = ""; output.width = 1; output.height = 1; return; }
    state.row = Math.max(0, Math.min(state.row, found.rows - 1));
    state.column = Math.max(0, Math.min(state.column, found.columns - 1));
    const [top, left] = [state.row * state.stride, state.column * state.stride];
    const [rows, columns] = [image.rows + 2 * state.pad, image.columns + 2 * state.pad];
    const padded = new Float64Array(rows * columns);
    for (let r = 0; r < image.rows; r++) for (let c = 0; c < image.columns; c++) padded[(r + state.pad) * columns + c + state.pad] = image.values[r * image.columns + c];
    const last = [(found.rows - 1) * state.stride + size, (found.columns - 1) * state.stride + size];
    const skipped = (r, c) => r >= last[0] || c >= last[1];
    const isSmall = image.rows <= 8;
    clear(signBar);
    if (isSmall) {
      paintCells(input, padded, rows, columns, { window: [top, left, size, size], pads: state.pad, unread: skipped });
      paintCells(output, found.values, found.rows, found.columns, { mark: [state.row, state.column, 1, 1], decimals: true });
    } else {
      paintMap(input, padded, rows, columns, { low: 0, high: 255 });
      const [low, high] = rangeOf(found.values);
      const signed = low < 0;
      paintMap(output, found.values, found.rows, found.columns, { low: signed ? low : 0, high: Math.max(high, signed ? 0 : 255), signed });
      const end = signed ? Math.max(-low, high) : Math.max(high, 255);
      clear(signBar, colourBar(signed ? -end : 0, end, signed));
      const box = input.getContext("2d");
      box.strokeStyle = "#ff8c1a";
      box.lineWidth = 1;
      box.strokeRect(left + 0.5, top + 0.5, size - 1, size - 1);
      const dot = output.getContext("2d");
      dot.fillStyle = "#ff8c1a";
      dot.fillRect(state.column, state.row, 1, 1);
    }
    for (const canvas of [input, output]) canvas.classList.toggle("pixels", !isSmall);
    const kernel = kernelNow();
    const products = [];
    let sum = 0;
    for (let i = 0; i < size; i++) for (let j = 0; j < size; j++) {
      const value = padded[(top + i) * columns + left + j];
      const weight = kernel[i * size + j];
      sum += value * weight;
      products.push(`${shown(Math.round(value * 100) / 100)} · ${weight < 0 ? `(${shown(weight)})` : shown(weight)}`);
    }
    arithmetic.textContent = `Place (${state.row + 1}, ${state.column + 1}): ${products.join(" + ")} = ${shown(Math.round(sum * 1e4) / 1e4)}${state.bias
      ? `; with the bias ${shown(sum + state.bias)}` : ""}${state.relu ? `; ReLU makes it ${shown(Math.max(0, sum + state.bias))}` : ""}`;
    const lost = [rows - last[0], columns - last[1]];
    const same = kernel.every((x, i) => x === turned(kernel)[i]);
    note.textContent = [
      lost[0] > 0 || lost[1] > 0 ? `The last ${lost[0]} row(s) and ${lost[1]} column(s) are never read: the formula rounds down.` : "",
      state.turn && same ? "This kernel is equal to itself turned, so turning it changes nothing. Sobel's is not." : "",
      FINDS[state.finds] ?? (state.finds?.startsWith("own-") ? "A filter that this network has learned; its slabs, one for each colour, are added up here, since this picture is grey. Section 2 shows them apart." : ""),
      state.pad > 0 ? "Without padding the output is smaller than the input, layer by layer, and pixels at the edge are under fewer windows than those in the middle. The zeros that padding adds enter the sums at the border, which can make edges there that are not in the image." : "",
      state.stride > 1 ? `With stride ${state.stride} the window skips places: the output is smaller, and so is the work.` : "",
      state.bias && !state.relu ? "The bias is one more number that is learned: it is added to every sum. With ReLU it decides which sums are above zero." : "",
      state.relu && !state.bias ? "ReLU makes every sum below zero 0." : "",
      state.bias && state.relu ? "The bias moves the threshold: with a negative one only a clear find is above zero." : ""].filter(Boolean).join(" ");
  };

  const sizeSlider = slider("kernel size", { min: 1, max: 7, value: 3 }, (size) => {
    const old = state.kernel;
    const before = state.size;
    state.size = size;
    state.finds = null;
    state.kernel = Array.from({ length: size * size }, (_, i) => {
      const [r, c] = [Math.floor(i / size), i % size];
      return r < before && c < before ? old[r * before + c] : 0;
    });
    showKernel();
    show();
  });
  const setKernel = (key) => {
    state.finds = key;
    if (key.startsWith("own-")) {
      const k = Number(key.slice(4));
      state.size = filters.kh;
      state.kernel = Array.from({ length: state.size ** 2 }, (_, i) => {
        let sum = 0;
        for (let c = 0; c < filters.inputs; c++) sum += filters.at(Math.floor(i / state.size), i % state.size, c, k);
        return sum;
      });
    } else { state.size = KERNELS[key][1]; state.kernel = [...KERNELS[key][2]]; }
    sizeSlider.set(state.size);
    showKernel();
    show();
  };
  const move = (row, column) => { [state.row, state.column] = [row, column]; show(); };
  let timer = null;
  const play = button("play", () => {
    if (timer) { clearInterval(timer); timer = null; play.textContent = "play"; return; }
    play.textContent = "stop";
    timer = setInterval(() => stepOn(1), still() ? 1500 : 500);
  });
  const stepOn = (by) => {
    const image = source();
    const [rows, columns] = [outputSize(image.rows, state.size, state.stride, state.pad), outputSize(image.columns, state.size, state.stride, state.pad)];
    if (rows < 1 || columns < 1) return;
    const at = (state.row * columns + state.column + by + rows * columns) % (rows * columns);
    move(Math.floor(at / columns), at % columns);
  };
  movable(input, (y, x) => {
    const cell = input.classList.contains("pixels") ? 1 : Number(input.dataset.cell);
    move(Math.floor((y / cell - state.size / 2 + 0.5) / state.stride), Math.floor((x / cell - state.size / 2 + 0.5) / state.stride));
  }, (r, c) => move(state.row + r, state.column + c));

  const padSlider = slider("padding", { min: 0, max: 3, value: 0 }, (v) => { state.pad = v; show(); });
  const biasSlider = slider("bias", { min: -10, max: 10, value: 0 }, (v) => { state.bias = v; show(); });
  const imageMenu = menu("image", [...Object.entries(EXAMPLES).map(([k, e]) => [k, e.name]), ["picture", "the picture above, in grey"]], (key) => {
    state.image = key;
    state.pad = EXAMPLES[key]?.pad ?? 0;
    padSlider.set(state.pad);
    state.bias = 0;
    const most = source().rows <= 8 ? 10 : 255;
    biasSlider.span(-most, most);
    biasSlider.set(0);
    show();
  });
  scene(1, "A window slides", [
    "A convolution lays a small window of numbers, the kernel, on the image, multiplies what lies on each other and adds the products up. Then the window moves on. The same few numbers are used everywhere.",
  ],
  question({
    ask: "a window of 3 x 3 slides over an image of 5 x 5, with stride 1 and no padding. How large is the output?",
    answers: ["5 x 5", "4 x 4", "3 x 3", "2 x 2"], right: 2,
    why: ["Along each axis the window has ⌊(W − F + 2P) / S⌋ + 1 places: ⌊(5 − 3 + 0) / 1⌋ + 1 = 3. The padding P counts twice, since it is added at both ends, and a half place is no place, so the result is rounded down.",
      "Networks do not turn the kernel; mathematics does. What libraries call a convolution is a correlation. A network learns its numbers, so it does not matter to it, but scipy.signal.convolve2d and a layer give different results for the same kernel unless it is symmetric. The first two kernels of the menu are."],
    source: "V. Dumoulin and F. Visin, A guide to convolution arithmetic for deep learning, 2016",
  }),
  make("div", { class: "controls" }, imageMenu, menu("kernel", presets, setKernel), sizeSlider,
    slider("stride", { min: 1, max: 4, value: 1 }, (v) => { state.stride = v; show(); }),
    padSlider, biasSlider, tick("ReLU", false, (v) => { state.relu = v; show(); }),
    tick("turn the kernel by 180° (convolution of mathematics)", false, (v) => { state.turn = v; show(); })),
  make("div", { class: "side" }, make("figure", {}, input, inputTitle), make("figure", {}, grid, make("figcaption", {}, "kernel: change the numbers")), make("figure", {}, output, outputTitle, signBar)),
  make("div", { class: "controls" }, button("back", () => stepOn(-1)), button("next place", () => stepOn(1)), play),
  make("div", {}, formula, make("p", { class: "soft" }, "W: size of the input along an axis; F: size of the kernel; P: padding at each end; S: stride, by how much the window moves. ⌊ ⌋ rounds down.")), arithmetic, note);
  showKernel();
  picture.watch(show);
  show();
};

const sceneChannels = (contents) => {
  const [height, width, channels] = contents.shape;
  const filters = firstFilters(contents);
  const state = { filter: 0, row: Math.floor(height / 2), column: Math.floor(width / 2), kh: 3, kw: 3, inputs: 3, outputs: 64, bias: true, mix: [0.3, 0.6, 0.1] };
  const colour = channels === 3 ? ["red", "green", "blue"] : ["grey"];
  const own = make("div", {});
  if (filters) {
    const planes = Array.from({ length: filters.inputs }, (_, c) => canvasOf(`plane ${colour[c] ?? c + 1} of the picture with the window: drag it, or use the arrow keys`, width, height, { class: "pixels" }));
    const slabs = planes.map((_, c) => canvasOf(`slab ${c + 1} of the filter`, filters.kw, filters.kh, { class: "pixels tiny" }));
    const line = liveLine({ class: "formula", id: "channels-sum" });
    const show = () => {
      const pixels = picture.now.pixels;
      if (!pixels) return;
      const k = state.filter;
      const sums = [];
      let total = 0;
      for (let c = 0; c < filters.inputs; c++) {
        paintMap(planes[c], pixels, height, width, { low: 0, high: 255, offset: c, step: channels });
        const box = planes[c].getContext("2d");
        box.strokeStyle = "#ff8c1a";
        box.strokeRect(state.column + 0.5, state.row + 0.5, Math.max(1, filters.kw - 1), Math.max(1, filters.kh - 1));
        const slab = Float32Array.from({ length: filters.kh * filters.kw }, (_, i) => filters.at(Math.floor(i / filters.kw), i % filters.kw, c, k));
        const most = Math.max(...Array.from({ length: filters.kh * filters.kw * filters.inputs }, (_, i) =>
          Math.abs(filters.at(Math.floor(i / filters.inputs / filters.kw), Math.floor(i / filters.inputs) % filters.kw, i % filters.inputs, k))));
        paintMap(slabs[c], slab, filters.kh, filters.kw, { low: -most, high: most, signed: true });
        let sum = 0;
        for (let i = 0; i < filters.kh; i++) for (let j = 0; j < filters.kw; j++) {
          const pixel = pixels[((state.row + i) * width + state.column + j) * channels + c] ?? 0;
          sum += (pixel / 255) * filters.at(i, j, c, k);
        }
        total += sum;
        sums.push(sum);
      }
      const words = sums.map((x, c) => `${colour[c] ?? `plane ${c + 1}`} ${shown(Number(x.toFixed(4)))}`).join(" + ");
      line.textContent = `${filters.kh} · ${filters.kw} · ${filters.inputs} = ${filters.kh * filters.kw * filters.inputs} products become ONE number: ${words} = ${shown(Number(total.toFixed(4)))} (pixels from 0 to 1, without bias)`;
    };
    const move = (r, c) => {
      state.row = Math.max(0, Math.min(height - filters.kh, r));
      state.column = Math.max(0, Math.min(width - filters.kw, c));
      show();
    };
    planes.forEach((plane) => movable(plane, (r, c) => move(r - (filters.kh >> 1), c - (filters.kw >> 1)), (r, c) => move(state.row + r, state.column + c)));
    own.append(make("h3", {}, "A filter of this network's first layer on the picture"),
      make("div", { class: "controls" }, slider("filter", { min: 1, max: filters.outputs, value: 1 }, (v) => { state.filter = v - 1; show(); })),
      make("div", { class: "side" }, ...planes.map((plane, c) => make("figure", {}, plane, slabs[c], make("figcaption", {}, `${colour[c] ?? `plane ${c + 1}`} and its slab of the filter`)))),
      line);
    picture.watch(show);
  }

  const count = make("p", { class: "formula", id: "channels-count" });
  const dense = make("p", { class: "soft" });
  const showCount = () => {
    const { kh, kw, inputs, outputs, bias } = state;
    const weights = kh * kw * inputs * outputs;
    count.textContent = `${kh} · ${kw} · ${inputs} · ${outputs}${bias ? ` + ${outputs}` : ""} = ${shown(weights + (bias ? outputs : 0))} parameters, whatever the size of the image`;
    const cells = 32 * 32;
    dense.textContent = `A dense layer from 32 x 32 x ${inputs} to 32 x 32 x ${outputs} numbers has ${(cells * inputs * cells * outputs + (bias ? cells * outputs : 0)).toLocaleString("en")}.`;
  };
  const knob = (label, key, max) => slider(label, { min: 1, max, value: state[key] }, (v) => { state[key] = v; showCount(); });

  const mixed = canvasOf("the picture after a 1 x 1 convolution", width, height, { class: "pixels" });
  const mixLine = make("p", { class: "formula" });
  const showMix = () => {
    const pixels = picture.now.pixels;
    if (!pixels) return;
    const used = Math.min(channels, 3);
    const found = Float32Array.from({ length: height * width }, (_, i) => {
      let sum = 0;
      for (let c = 0; c < used; c++) sum += state.mix[c] * pixels[i * channels + c];
      return sum;
    });
    const [low, high] = rangeOf(found);
    paintMap(mixed, found, height, width, { low: Math.min(low, 0), high: Math.max(255, high), signed: low < 0 });
    mixLine.textContent = `each pixel: ${state.mix.slice(0, used).map((w, c) => `${shown(w)} · ${colour[c] ?? "value"}`).join(" + ")}. A dense layer on the ${used === 1 ? "number" : `${used} numbers`} of one pixel, the same one at every pixel.`;
  };
  scene(2, "Colour and channels", [
    "A colour image is three planes of numbers, and a kernel has a slab for each of them. All products of all slabs are added up to one number. A layer with 64 filters has 64 such kernels, and gives 64 planes: more filters can find more kinds of things, and cost more parameters and more work.",
  ],
  question({
    ask: "a layer has 64 filters of 3 x 3 over the three planes of a colour image. How many parameters has it, biases included?",
    answers: ["9 · 64 + 64 = 640", "3 · 3 · 3 · 64 + 64 = 1,792", "3 · 3 · 64 + 1 = 577", "64 · 3 maps, so 1,728 · 3"], right: 1,
    why: ["Every kernel reaches through all input planes: 3 · 3 · 3 = 27 weights, and one bias a filter. A plane does not get a map of its own: the planes are summed. A published answer key of an online course has 5 · 5 · 100 + 100 = 2,600 where 5 · 5 · 3 · 100 + 100 = 7,600 is right.",
      "The size of the image is not in the formula: the same weights are used at every place."],
    source: "questions of learners on Stack Overflow and Data Science Stack Exchange (85366); CS231n notes on convolutional networks",
  }),
  own, make("h3", {}, "Count the parameters"),
  make("div", { class: "controls" }, knob("kernel height", "kh", 11), knob("kernel width", "kw", 11), knob("input planes", "inputs", 512), knob("filters", "outputs", 512),
    tick("bias", true, (v) => { state.bias = v; showCount(); })), count, dense,
  make("h3", {}, "1 x 1 convolution: it mixes the planes of each pixel"),
  make("div", { class: "controls" }, ...colour.slice(0, Math.min(channels, 3)).map((name, c) =>
    slider(`weight of ${name}`, { min: -1, max: 1, step: 0.1, value: state.mix[c] }, (v) => { state.mix[c] = v; showMix(); }))),
  make("figure", {}, mixed), mixLine);
  showCount();
  picture.watch(showMix);
};
