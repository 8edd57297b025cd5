// Section 6: why did it say that? A patch to drag, the occlusion map, HiResCAM and Grad-CAM.

// A map of evidence from the last feature map A and the gradient G of a logit by it, both [h, w, c].
// HiResCAM sums G * A; Grad-CAM weighs each channel of A by the mean of its gradient.
const evidence = (A, G, [h, w, c], method) => {
  const found = new Float32Array(h * w);
  const mean = new Float64Array(c);
  for (let i = 0; i < h * w; i++) for (let k = 0; k < c; k++) mean[k] += G[i * c + k] / (h * w);
  for (let i = 0; i < h * w; i++) {
    let sum = 0;
    for (let k = 0; k < c; k++) sum += A[i * c + k] * (method === "gradcam" ? mean[k] : G[i * c + k]);
    found[i] = method === "gradcam" ? Math.max(0, sum) : sum;
  }
  return found;
};

// A class of a network with one logit is for or against it.
const towards = (outputs, k) => (outputs === 1 ? [k === 1 ? 1 : -1] : Array.from({ length: outputs }, (_, i) => (i === k ? 1 : 0)));

const meanColour = (pixels, channels) => Array.from({ length: channels }, (_, c) => {
  let sum = 0;
  for (let i = c; i < pixels.length; i += channels) sum += pixels[i];
  return Math.round(sum / (pixels.length / channels));
});

const covered = (pixels, [height, width, channels], [top, left, side], colour) => {
  const found = Uint8Array.from(pixels);
  for (let r = Math.max(0, top); r < Math.min(height, top + side); r++) for (let c = Math.max(0, left); c < Math.min(width, left + side); c++) {
    for (let k = 0; k < channels; k++) found[(r * width + c) * channels + k] = colour[k];
  }
  return found;
};

const ranks = (values) => {
  const order = [...values.keys()].sort((a, b) => values[a] - values[b]);
  const found = new Float64Array(values.length);
  for (let i = 0; i < order.length;) {
    let j = i;
    while (j < order.length && values[order[j]] === values[order[i]]) j++;
    for (let k = i; k < j; k++) found[order[k]] = (i + j - 1) / 2;
    i = j;
  }
  return found;
};
const correlation = (a, b) => {
  const mean = (v) => v.reduce((s, x) => s + x, 0) / v.length;
  const [ma, mb] = [mean(a), mean(b)];
  let [ab, aa, bb] = [0, 0, 0];
  a.forEach((x, i) => { ab += (x - ma) * (b[i] - mb); aa += (x - ma) ** 2; bb += (b[i] - mb) ** 2; });
  return aa && bb ? ab / Math.sqrt(aa * bb) : 0;
};

const sceneWhy = (contents, network) => {
  const shape = contents.shape;
  const [height, width, channels] = shape;
  const ask = question({
    ask: "a map of evidence is bright on the dog's head. What does it prove?",
    answers: ["the network knows what a head is", "the network looks where people look, so it can be trusted", "that changing these places changes the network's number; no more"], right: 2,
    why: ["A map says which places the number depends on, by one way of counting. It does not say what the network takes them for. In a study of clinicians, heat maps did not protect them from a biased model.",
      `So every map should be tested: does it change when the weights are drawn anew? Does covering the bright places change the answer more than covering others? ${network ? "Both can be tried above." : "The command explain does both for every map."}`],
    source: "J. Adebayo et al., Sanity checks for saliency maps, 2018; S. Jabbour et al., JAMA, 2023; R. Draelos and L. Carin, HiResCAM, 2020",
  });
  const intro = ["Cover a part of the picture with a patch of its mean colour: if the probability falls, that part mattered. This is a measurement anybody can understand. The maps below it guess the same from the network's gradients."];
  const about = contents.network;
  if (!network) {
    scene(6, "Why did it say that?", ["Cover a part of the picture with its mean colour: if the number of the class falls, that part mattered. HiResCAM guesses the same from the network's gradients. Orange speaks for the class, blue against it; the scale is the same for all pictures. Both were computed when the page was written."], ask, ...recordedEvidence(contents));
    return;
  }
  const state = { side: Math.max(2, Math.round(height / 4)), top: Math.round(height * 0.375), left: Math.round(width * 0.375), cls: 0, whole: null, painted: null, method: "hirescam", busy: false, begun: null };
  const canvas = canvasOf("the picture with a patch of its mean colour: drag it, or use the arrow keys", width, height, { class: "picture", id: "why-picture" });
  const map = canvasOf("occlusion map painted by your patch", width, height, { class: "picture" });
  const bars = make("div", {});
  const line = liveLine({ class: "formula", id: "why-line" });
  const bar = make("div", {});
  const classMenu = menu("class", contents.classes.map((name, i) => [i, name]), (v) => { state.cls = Number(v); begin(false); });

  const paint = () => {
    // One scale for every picture: a fall by 4 points must not look like one by 50.
    paintMap(map, state.painted, height, width, { low: -1, high: 1, signed: true });
    clear(bar, colourBar(-100, 100, true, "points less when covered"));
  };
  // The state of now may be another picture's when an answer comes.
  const look = newest(async () => {
    const pixels = picture.now.pixels;
    const { top, left, side, cls } = state;
    const colour = meanColour(pixels, channels);
    const patched = covered(pixels, shape, [top, left, side], colour);
    const found = await network.run(patched);
    if (pixels !== picture.now.pixels || cls !== state.cls) return;
    drawField(canvas, patched, shape, [top, left, side, side]);
    const fall = state.whole.p[cls] - found.p[cls];
    for (let r = Math.max(0, top); r < Math.min(height, top + side); r++) for (let c = Math.max(0, left); c < Math.min(width, left + side); c++) {
      const i = r * width + c;
      state.counts[i]++;
      state.painted[i] += (fall - state.painted[i]) / state.counts[i];
    }
    paint();
    clear(bars, probabilityBars(found.p, contents.classes, { before: state.whole.p, label: picture.now.label, most: 4 }));
    line.textContent = `patch at row ${top + 1}, column ${left + 1}: ${contents.classes[cls]} ${percent(state.whole.p[cls])} → ${percent(found.p[cls])}`;
  });
  const move = (top, left) => {
    const reach = Math.floor(state.side / 2);
    state.top = Math.max(-reach, Math.min(height - reach, top));
    state.left = Math.max(-reach, Math.min(width - reach, left));
    look();
  };
  movable(canvas, (r, c, down) => { if (down) move(r - (state.side >> 1), c - (state.side >> 1)); }, (r, c) => move(state.top + r * 2, state.left + c * 2));
  const everywhere = button("cover every place", async () => {
    if (state.busy) return; // not disabled, which would take the focus away
    state.busy = true;
    await state.begun; // of a picture that was just chosen
    const step = Math.max(1, Math.floor(state.side / 2));
    const pixels = picture.now.pixels;
    const begun = { cls: state.cls, side: state.side };
    const colour = meanColour(pixels, channels);
    const counts = new Float64Array(height * width);
    const sums = new Float64Array(height * width);
    for (let top = -(step - 1); top < height; top += step) for (let left = -(step - 1); left < width; left += step) {
      const found = await network.run(covered(pixels, shape, [top, left, begun.side], colour));
      if (pixels !== picture.now.pixels || begun.cls !== state.cls) { state.busy = false; return; }
      const fall = state.whole.p[begun.cls] - found.p[begun.cls];
      for (let r = Math.max(0, top); r < Math.min(height, top + begun.side); r++) for (let c = Math.max(0, left); c < Math.min(width, left + begun.side); c++) {
        counts[r * width + c]++;
        sums[r * width + c] += fall;
      }
      line.textContent = `covering row ${Math.max(1, top + 1)} of ${height} …`;
    }
    state.painted = Float32Array.from(sums, (s, i) => (counts[i] ? s / counts[i] : 0));
    state.counts = counts;
    paint();
    const [, high] = rangeOf(state.painted);
    line.textContent = `Covered everywhere, with a patch of ${begun.side} x ${begun.side}: ${contents.classes[begun.cls]} falls by ${(100 * Math.max(0, high)).toFixed(1)} percentage points at most.`;
    state.busy = false;
  });

  const cam = canvasOf("map of evidence", width, height, { class: "picture", id: "why-cam" });
  cam.style.aspectRatio = `${width} / ${height}`;
  const camPhoto = canvasOf("the picture beside its map of evidence", width, height, { class: "picture" });
  const camBar = make("div", {});
  const camLine = liveLine({ class: "formula", id: "why-cam-line" });
  const testLine = liveLine({ class: "formula", id: "why-test" });
  const mapShape = about.map == null || !about.gradient ? null : about.forward.shapes[about.map].slice(1);
  const camOf = async (net, pixels, cls) => {
    const found = await net.run(pixels, { keep: [about.map] });
    const A = found.values[about.map];
    const G = await net.gradient(A, towards(found.logits.length, cls));
    return { found, map: evidence(A, G, mapShape, state.method) };
  };
  const showCam = newest(async () => {
    if (!mapShape || !state.whole) return;
    const [pixels, cls] = [picture.now.pixels, state.cls];
    const { found, map: values } = await camOf(network, pixels, cls);
    if (pixels !== picture.now.pixels || cls !== state.cls) return;
    const [h, w] = mapShape;
    const most = Math.max(...values.map(Math.abs)) || 1e-6;
    paintMap(cam, values, h, w, { low: -most, high: most, signed: true });
    paintPixels(camPhoto, pixels, shape);
    clear(camBar, colourBar(-most, most, true, "of the class's number"));
    const sum = values.reduce((a, b) => a + b, 0);
    const logit = found.logits.length === 1 ? (cls === 1 ? 1 : -1) * found.logits[0] : found.logits[cls];
    camLine.textContent = state.method === "hirescam"
      ? `The number (logit) of ${contents.classes[cls]} is ${shown(logit)}. The map's ${h} x ${w} places sum to ${shown(sum)}; the rest, ${shown(logit - sum)}, does not come from a place (biases).`
      : "Grad-CAM keeps only what speaks for the class, and weighs every channel the same at all places; it need not add up to the network's number.";
    testLine.textContent = "";
  });
  const redraw = async () => {
    testLine.textContent = "drawing …";
    const [pixels, cls] = [picture.now.pixels, state.cls];
    const engine = engineModule();
    const leaves = about.weights.leaves;
    const bytes = bytesOf(about.weights.data);
    const found = [];
    for (let draw = 1; draw <= 3; draw++) {
      const change = {};
      about.layers.forEach((name, i) => { // every kernel: its own numbers in another order
        if (!name.endsWith("kernel") || leaves[i].size < 2) return;
        const old = engine.unpack([leaves[i]], bytes)[0];
        const order = permutation(old.length, 1000 * draw + i);
        change[i] = Float32Array.from(order, (k) => old[k]);
      });
      const other = await network.changed(`random-${draw}`, change);
      const [kept, drawn] = [await camOf(network, pixels, cls), await camOf(other, pixels, cls)];
      found.push(correlation(ranks(kept.map), ranks(drawn.map)));
    }
    const mean = found.reduce((a, b) => a + b, 0) / found.length;
    testLine.textContent = `With all kernels shuffled, the map correlates by ${shown(Number(mean.toFixed(2)))} with this one (mean of three draws; 1 would be the same map). ${mean > 0.5
      ? "This map hardly depends on what was learned: do not believe it here." : "The map does depend on what was learned."}`;
    testLine.dataset.correlation = mean;
  };

  const begin = (choose) => { state.begun = start(choose); };
  const start = async (choose) => {
    const pixels = picture.now.pixels;
    const found = await network.run(pixels);
    if (pixels !== picture.now.pixels) return;
    state.whole = found;
    if (choose) { state.cls = bestOf(found.p); classMenu.set(state.cls); }
    state.painted = new Float32Array(height * width);
    state.counts = new Float64Array(height * width);
    look();
    showCam();
  };
  scene(6, "Why did it say that?", intro, ask,
    make("div", { class: "controls" }, classMenu, slider("patch, pixels", { min: 1, max: Math.floor(height / 2), value: state.side }, (v) => { state.side = v; look(); })),
    make("div", { class: "side" }, make("figure", {}, canvas, make("figcaption", {}, "drag the patch, of the mean colour, in the orange frame")), make("figure", {}, map, bar, make("figcaption", {}, "painted by the patch; the scale is the same for every picture")), make("div", { class: "grow" }, bars)),
    line, make("div", { class: "controls" }, everywhere, button("paint anew", () => begin(false))),
    make("h3", {}, "A map of evidence, live"),
    ...(mapShape ? [make("div", { class: "controls" }, menu("method", [["hirescam", "HiResCAM: place by place, signed"], ["gradcam", "Grad-CAM: channels weighed, positive part"]], (v) => { state.method = v; showCam(); }),
      button("test: draw the weights anew", redraw)),
    make("div", { class: "side" }, make("figure", {}, camPhoto, make("figcaption", {}, "the picture")), make("figure", {}, cam, camBar, make("figcaption", {}, `${mapShape[0]} x ${mapShape[1]} places of the last feature map`))), camLine, testLine]
      : [make("p", { class: "soft" }, "This network has no last feature map that all of its answer goes through.")]));
  picture.watch(() => begin(true));
};
