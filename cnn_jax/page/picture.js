// The picture that all scenes look at: one of the run's, a file of one's own, or a drawing.

const picture = (() => {
  const watchers = [];
  const now = { pixels: null, name: "", label: null };
  return {
    now,
    watch(watcher) { watchers.push(watcher); if (now.pixels) watcher(now); },
    set(pixels, name, label = null) {
      Object.assign(now, { pixels, name, label });
      watchers.forEach((watcher) => watcher(now));
    },
  };
})();

// Reduces what a canvas shows to pixels [height, width, channels].
const pixelsOf = (source, [height, width, channels]) => {
  // By halves, since one large step would leave out most of the picture.
  let [w, h, from] = [source.width, source.height, source];
  while (w > 2 * width || h > 2 * height) {
    const [nw, nh] = [Math.max(width, w >> 1), Math.max(height, h >> 1)];
    const half = make("canvas", { width: nw, height: nh });
    half.getContext("2d").drawImage(from, 0, 0, w, h, 0, 0, nw, nh);
    [w, h, from] = [nw, nh, half];
  }
  const canvas = make("canvas", { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(from, 0, 0, w, h, 0, 0, width, height);
  const { data } = context.getImageData(0, 0, width, height);
  const found = new Uint8Array(height * width * channels);
  for (let i = 0; i < width * height; i++) {
    const [r, g, b] = [data[4 * i], data[4 * i + 1], data[4 * i + 2]];
    if (channels === 1) found[i] = Math.round(0.299 * r + 0.587 * g + 0.114 * b);
    else for (let c = 0; c < channels; c++) found[i * channels + c] = [r, g, b][c % 3];
  }
  return found;
};

// The answer of the network to the picture of now stands beside it, since every section is about it.
const pictureChooser = (contents, network) => {
  const shape = contents.shape;
  const names = contents.classes;
  const big = canvasOf("the picture that all sections use", shape[1], shape[0], { class: "picture", id: "picture" });
  const line = liveLine({ id: "picture-line" });
  const thumbnails = contents.images.map((image, i) => {
    const canvas = make("canvas", { "aria-hidden": "true" });
    paintPixels(canvas, image.pixels, shape);
    const title = image.label == null ? image.name : `picture ${i + 1}: ${names[image.label]}`;
    return button(canvas, () => picture.set(image.pixels, image.label == null ? image.name : `picture ${i + 1}`, image.label), { class: "thumb", "aria-label": title, title });
  });

  const file = make("input", { type: "file", accept: "image/*", id: "own-file" });
  file.addEventListener("change", async () => {
    const [chosen] = file.files;
    if (!chosen) return;
    try {
      const bitmap = await createImageBitmap(chosen);
      const canvas = make("canvas", { width: bitmap.width, height: bitmap.height });
      canvas.getContext("2d").drawImage(bitmap, 0, 0);
      picture.set(pixelsOf(canvas, shape), chosen.name);
    } catch (error) {
      line.textContent = `${chosen.name} cannot be read as a picture.`;
    }
  });

  const pad = make("canvas", { width: 224, height: Math.round((224 * shape[0]) / shape[1]), class: "pad", tabindex: "0", role: "application",
    id: "pad", "aria-label": "Drawing: drag to draw; with the keyboard, arrow keys move the pen and the space bar puts it down or lifts it" });
  const context = pad.getContext("2d");
  const pen = { x: 112, y: 112, down: false, colour: "#ffffff", paper: "#000000" };
  const show = () => picture.set(pixelsOf(pad, shape), "your drawing");
  const blank = () => { context.fillStyle = pen.paper; context.fillRect(0, 0, pad.width, pad.height); };
  const line2 = (x, y) => {
    context.strokeStyle = pen.colour;
    context.lineWidth = Math.max(18, (1.5 * pad.width) / shape[1]); // else it vanishes in large pixels
    context.lineCap = "round";
    context.beginPath();
    context.moveTo(pen.x, pen.y);
    context.lineTo(x, y);
    context.stroke();
    [pen.x, pen.y] = [x, y];
  };
  blank();
  pad.addEventListener("pointerdown", (event) => {
    [pen.y, pen.x] = placeOn(pad, event);
    pad.setPointerCapture(event.pointerId);
    pen.down = true;
    line2(pen.x + 0.1, pen.y);
  });
  pad.addEventListener("pointermove", (event) => { if (pen.down && event.buttons) { const [y, x] = placeOn(pad, event); line2(x, y); } });
  pad.addEventListener("pointerup", () => { pen.down = false; show(); });
  pad.addEventListener("keydown", (event) => {
    const step = { ArrowUp: [0, -14], ArrowDown: [0, 14], ArrowLeft: [-14, 0], ArrowRight: [14, 0] }[event.key];
    if (event.key === " ") { pen.down = !pen.down; event.preventDefault(); if (pen.down) line2(pen.x + 0.1, pen.y); }
    if (!step) { if (event.key === " ") show(); return; }
    event.preventDefault();
    const [x, y] = [Math.max(0, Math.min(pad.width, pen.x + step[0])), Math.max(0, Math.min(pad.height, pen.y + step[1]))];
    if (pen.down) { line2(x, y); show(); } else [pen.x, pen.y] = [x, y];
    line.textContent = `pen at ${Math.round((100 * x) / pad.width)} %, ${Math.round((100 * y) / pad.height)} %, ${pen.down ? "down" : "lifted"}`;
  });
  const drawing = make("details", { class: "drawing" }, make("summary", {}, "Draw one"),
    make("div", { class: "controls" },
      menu("pen", [["#ffffff", "white"], ["#000000", "black"], ["#d02020", "red"], ["#208030", "green"], ["#2050c0", "blue"], ["#c09030", "brown"]], (c) => { pen.colour = c; }),
      menu("paper", [["#000000", "black"], ["#ffffff", "white"], ["#80b0e0", "sky blue"]], (c) => { pen.paper = c; blank(); show(); }),
      button("clear", () => { blank(); show(); })), pad);

  const bars = make("div", {});
  const verdict = liveLine({ id: "picture-answer" });
  const answer = newest(async () => {
    if (!network) return;
    const { pixels, label } = picture.now;
    const { p } = await network.run(pixels);
    if (pixels !== picture.now.pixels) return;
    const best = bestOf(p);
    clear(bars, probabilityBars(p, names, { label, most: 3 }));
    verdict.textContent = `The network says: ${names[best]}, ${percent(p[best])}${label == null ? "." : best === label ? ". That is right." : `. That is wrong: the label is ${names[label]}.`}`;
    verdict.className = label == null ? "" : best === label ? "good" : "bad";
  });

  picture.watch((seen) => {
    paintPixels(big, seen.pixels, shape);
    line.textContent = `Now: ${seen.name}${seen.label == null ? "" : `, with the label ${names[seen.label]}`}.`;
    answer();
  });
  document.querySelector("main").append(make("section", { id: "chooser", "aria-labelledby": "chooser-title" },
    make("h2", { id: "chooser-title" }, "The picture"),
    make("p", {}, `${contents.network.live ? "Every section below looks at this picture." : "Sections 1 to 3 look at this picture, the later ones at pictures that were recorded."} The network takes ${shape.join(" x ")} numbers; a file or a drawing is made as small as that.`),
    make("div", { class: "side" }, make("div", { class: "grow" }, big, line, verdict, bars),
      make("div", {}, make("div", { class: "thumbs", role: "group", "aria-label": contents.synthetic ? "made pictures" : "pictures of the run" }, ...thumbnails),
        button("noise", () => { // the same noise for everybody: what is seen can be seen again
          const random = permutation(shape.reduce((a, b) => a * b, 1), 7);
          picture.set(Uint8Array.from(random, (x) => x % 256), "noise");
        }), make("div", { class: "control file" }, make("label", { for: "own-file" }, "your own file"), file), drawing))));
};
