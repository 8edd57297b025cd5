// Draws pictures and maps on canvases.

const isDark = () => window.matchMedia("(prefers-color-scheme: dark)").matches;

const canvasOf = (label, width, height, attributes = {}) => make("canvas", { role: "img", "aria-label": label, width, height, ...attributes });

// Shows pixels [height, width, channels] of 0 to 255.
const paintPixels = (canvas, pixels, [height, width, channels]) => {
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const data = context.createImageData(width, height);
  for (let i = 0; i < width * height; i++) {
    for (let c = 0; c < 3; c++) data.data[4 * i + c] = pixels[i * channels + (channels >= 3 ? c : 0)];
    data.data[4 * i + 3] = 255;
  }
  context.putImageData(data, 0, 0);
};

// Colours: negative blue, zero the page's middle grey, positive orange; or dark to light.
const signedColour = (x) => {
  const strength = Math.min(1, Math.abs(x));
  const end = x < 0 ? [0, 90, 200] : [230, 110, 0];
  const zero = isDark() ? [28, 32, 37] : [247, 247, 247];
  return end.map((e, i) => zero[i] + (e - zero[i]) * strength);
};

// Shows a map [height, width] from -most to most (signed), or from low to high in grey.
const paintMap = (canvas, values, height, width, { low = 0, high = 1, signed = false, offset = 0, step = 1 } = {}) => {
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const data = context.createImageData(width, height);
  const most = Math.max(Math.abs(low), Math.abs(high)) || 1;
  for (let i = 0; i < width * height; i++) {
    const x = values[offset + i * step];
    const grey = 255 * (high > low ? (x - low) / (high - low) : 0);
    const colour = signed ? signedColour(x / most) : [grey, grey, grey];
    for (let c = 0; c < 3; c++) data.data[4 * i + c] = colour[c];
    data.data[4 * i + 3] = 255;
  }
  context.putImageData(data, 0, 0);
};

// Shows a map [h, w] from -most to most over a picture in grey; where it is 0 the picture is seen.
const paintOver = (canvas, pixels, [height, width, channels], values, h, w, most) => {
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const data = context.createImageData(width, height);
  for (let r = 0; r < height; r++) for (let c = 0; c < width; c++) {
    const i = r * width + c;
    const x = values[Math.floor((r * h) / height) * w + Math.floor((c * w) / width)] / most;
    const grey = 60 + 0.6 * (channels >= 3 ? (pixels[i * channels] + pixels[i * channels + 1] + pixels[i * channels + 2]) / 3 : pixels[i * channels]);
    const share = 0.8 * Math.min(1, Math.abs(x));
    (x < 0 ? [0, 90, 200] : [230, 110, 0]).forEach((end, k) => { data.data[4 * i + k] = grey + share * (end - grey); });
    data.data[4 * i + 3] = 255;
  }
  context.putImageData(data, 0, 0);
};

const rangeOf = (values) => {
  let [low, high] = [Infinity, -Infinity];
  for (const x of values) { if (x < low) low = x; if (x > high) high = x; }
  return [low, high];
};

// A colour bar with its numbers.
const colourBar = (low, high, signed, unit = "") => {
  const canvas = make("canvas", { width: 64, height: 1, class: "scale", "aria-hidden": "true" });
  const ramp = Float32Array.from({ length: 64 }, (_, i) => low + ((high - low) * i) / 63);
  paintMap(canvas, ramp, 1, 64, { low, high, signed });
  return make("div", { class: "scalebar" }, make("span", {}, shown(low)), canvas, make("span", {}, shown(high)),
    unit || signed ? make("span", { class: "signs" }, [unit, signed ? "blue: below 0, orange: above" : ""].filter(Boolean).join("; ")) : null);
};

// Draws numbers in cells (small arrays), with a window and cells that no window reads.
const paintCells = (canvas, values, rows, columns, { window: box = null, pads = 0, unread = null, decimals = false, mark = null } = {}) => {
  const cell = Math.max(26, Math.min(44, Math.floor(340 / columns)));
  canvas.width = columns * cell + 2;
  canvas.height = rows * cell + 2;
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const context = canvas.getContext("2d");
  context.fillStyle = colour("--back");
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.font = `${Math.round(cell * 0.38)}px system-ui, sans-serif`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  for (let r = 0; r < rows; r++) for (let c = 0; c < columns; c++) {
    const inPad = r < pads || c < pads || r >= rows - pads || c >= columns - pads;
    const [x, y] = [c * cell + 1, r * cell + 1];
    context.fillStyle = unread && unread(r, c) ? colour("--bad-back") : inPad ? colour("--card") : colour("--back");
    context.fillRect(x, y, cell, cell);
    context.strokeStyle = colour("--line");
    context.lineWidth = 1;
    context.strokeRect(x + 0.5, y + 0.5, cell, cell);
    context.fillStyle = inPad ? colour("--soft") : colour("--text");
    const value = values[r * columns + c];
    context.fillText(decimals ? shown(Math.round(value * 100) / 100) : shown(value), x + cell / 2, y + cell / 2 + 1);
  }
  const outline = ([r, c, h, w], name) => {
    context.strokeStyle = colour(name);
    context.lineWidth = 3;
    context.strokeRect(c * cell + 2, r * cell + 2, w * cell - 2, h * cell - 2);
  };
  if (box) outline(box, "--a");
  if (mark) outline(mark, "--b");
  canvas.dataset.cell = cell;
};

// The position of a pointer in the pixels of a canvas: [row, column].
const placeOn = (canvas, event) => {
  const box = canvas.getBoundingClientRect();
  return [
    Math.floor(((event.clientY - box.top) / box.height) * canvas.height),
    Math.floor(((event.clientX - box.left) / box.width) * canvas.width),
  ];
};

const ARROWS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }; // rows, columns

// Moves something over a canvas: by pointer and by arrow keys. `move(row, column)` gets pixels of
// the canvas; `step(dRow, dColumn)` gets -1, 0 or 1.
const movable = (canvas, move, step) => {
  canvas.tabIndex = 0;
  canvas.classList.add("movable");
  let down = false;
  canvas.addEventListener("pointerdown", (event) => {
    down = true;
    canvas.setPointerCapture(event.pointerId);
    move(...placeOn(canvas, event), true);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (down || event.pointerType === "mouse") move(...placeOn(canvas, event), down);
  });
  for (const kind of ["pointerup", "pointercancel"]) canvas.addEventListener(kind, () => { down = false; });
  canvas.addEventListener("keydown", (event) => {
    const found = ARROWS[event.key];
    if (!found) return;
    event.preventDefault();
    step(...found);
  });
};
