// Sections 4, 5 and 6 of a network that is too large for the page: what was computed beforehand.

// Buttons of the pictures that were recorded; `choose` gets what was recorded of one.
const recordedThumbs = (contents, choose) => {
  const buttons = contents.network.recorded.map((seen) => {
    const image = contents.images[seen.picture];
    const canvas = make("canvas", { "aria-hidden": "true" });
    paintPixels(canvas, image.pixels, contents.shape);
    return button(canvas, () => { press(seen); choose(seen); }, { class: "thumb", "aria-label": `picture ${seen.picture + 1}: ${image.name}` });
  });
  const press = (now) => contents.network.recorded.forEach((seen, i) => buttons[i].setAttribute("aria-pressed", seen === now ? "true" : "false"));
  press(contents.network.recorded[0]);
  return make("div", { class: "thumbs", role: "group", "aria-label": "recorded pictures" }, ...buttons);
};

const recordedWalk = (contents) => {
  const { shape, network: about } = contents;
  const ask = question(WHY_WALK);
  const state = { seen: about.recorded[0], layer: 0, place: [0, 0] };
  const list = make("div", { class: "layers", role: "group", "aria-label": "layers of the network" });
  const maps = make("div", { class: "maps" });
  const facts = make("p", { class: "formula", id: "walk-facts" });
  const pointed = liveLine({ class: "formula", id: "walk-pointed" });
  const small = canvasOf("the picture, with what the pointed place sees", shape[1], shape[0], { class: "picture", id: "walk-picture" });
  const bars = make("div", { id: "walk-bars" });
  const bar = make("div", {});
  const pixels = () => contents.images[state.seen.picture].pixels;
  const watchers = [];

  const point = (layer, values, k, row, column) => {
    const [h, w, c] = layer.kept;
    state.place = [Math.max(0, Math.min(h - 1, row)), Math.max(0, Math.min(w - 1, column))];
    const [r, q] = state.place.map((at) => at * layer.every);
    const value = layer.low + (values[(state.place[0] * w + state.place[1]) * c + k] / 255) * (layer.high - layer.low);
    const box = layer.field ? fieldOf(layer.field, r, q) : null;
    drawField(small, pixels(), shape, box);
    pointed.textContent = `map ${k + 1}, row ${r + 1} of ${layer.shape[0]}, column ${q + 1} of ${layer.shape[1]}: about ${shown(value)}.${box ? ` ${dependsOn(box, shape)}` : ""}`;
  };
  const show = () => {
    const { seen } = state;
    clear(list, ...seen.layers.map((layer, i) => button(make("b", {}, layer.name), () => { state.layer = i; show(); list.children[i].focus(); }, { class: "layer", "aria-pressed": i === state.layer ? "true" : "false" })));
    seen.layers.forEach((layer, i) => list.children[i].append(make("span", {}, layer.shape.join(" x "))));
    drawField(small, pixels(), shape, null);
    pointed.textContent = "";
    const layer = seen.layers[state.layer];
    if (layer) {
      const values = bytesOf(layer.data);
      const [h, w, c] = layer.kept;
      facts.textContent = [`${layer.name}${layer.titles.length ? `: ${layer.titles.join(", ")}` : ""}`, `shape ${layer.shape.join(" x ")}`,
        layer.parameters ? `${bytesAmount(layer.parameters)} parameters` : "", layer.macs ? `${bytesAmount(layer.macs)} multiply-adds` : "",
        layer.field ? `receptive field ${shown(layer.field.size[0])} x ${shown(layer.field.size[1])}` : "",
        `${c} of its ${layer.shape[2]} maps are here${layer.every > 1 ? `, every ${layer.every === 2 ? "second" : `${layer.every}th`} position of them` : ""}`].filter(Boolean).join("; ");
      clear(bar, colourBar(layer.low, layer.high, false));
      clear(maps, ...Array.from({ length: c }, (_, k) => {
        const canvas = canvasOf(`map ${k + 1} of ${layer.name}: point at a place, or use the arrow keys`, w, h, { class: "pixels" });
        paintMap(canvas, values, h, w, { low: 0, high: 255, offset: k, step: c });
        movable(canvas, (row, column) => point(layer, values, k, row, column), (dr, dc) => point(layer, values, k, state.place[0] + dr, state.place[1] + dc));
        return make("div", { class: "tile" }, canvas);
      }));
    }
    clear(bars, probabilityBars(seen.p, contents.classes, { label: contents.images[seen.picture].label }));
  };
  scene(4, "Through this network", [
    `This network does not run in the page: ${about.why}. What it makes of ${about.recorded.length} pictures was computed when the page was written. Choose a picture and a layer, and point at a place of a map.`],
  ask, recordedThumbs(contents, (seen) => { state.seen = seen; show(); watchers.forEach((each) => each()); }), list, facts,
  make("div", { class: "side" }, make("div", {}, small, bars), make("div", { class: "grow" }, bar, maps)), pointed, ask.reveal,
  ...dropoutPart(contents.classes, about.dropout, async (drop) => {
    const { seen } = state;
    return drop ? seen.passes[(drop.seed - 1) % seen.passes.length] : seen.p;
  }, (each) => { watchers.push(each); each(); }, true));
  show();
};

// Returns what section 5 shows: the number of a class while the picture moves.
const recordedShifts = (contents) => {
  const { network: about, classes } = contents;
  const curve = make("div", { id: "dense-curve" });
  const line = liveLine({ class: "formula", id: "dense-line" });
  const show = (seen) => {
    const name = classes[seen.occlusion.class];
    const { p, z } = seen.shifted;
    const [low, high] = rangeOf(z);
    const edge = Math.max(0.05 * Math.abs(high), 0.15 * (high - low), 1e-3);
    clear(curve, lineChart([{ name: `number (logit) of ${name}`, values: about.shifts.map((dx, i) => [dx, z[i]]) }], { x: "pixels to the right", y: "its number (logit)", low: low - edge, high: high + edge }),
      table(["pixels to the right", "number (logit)", "probability"], about.shifts.map((dx, i) => [dx, z[i], percent(p[i])])));
    line.textContent = `${name}: its number goes from ${shown(low)} to ${shown(high)} when the picture moves by up to ${Math.max(...about.shifts)} pixels, its probability from ${percent(Math.min(...p))} to ${percent(Math.max(...p))}. The maps move along with the picture; the answer is not exactly the same.`;
  };
  show(about.recorded[0]);
  return [recordedThumbs(contents, show), line, curve];
};

// Returns what section 6 shows: occlusion and HiResCAM over each picture.
const recordedEvidence = (contents) => {
  const { shape, network: about, classes } = contents;
  // One scale of each kind of map for all pictures, so that they can be compared.
  const mostOf = (all) => Math.max(...all.map(Math.abs)) || 1e-6;
  const most = {
    falls: mostOf(about.recorded.flatMap((seen) => seen.occlusion.falls)),
    evidence: mostOf(about.recorded.flatMap((seen) => seen.evidence?.values ?? [0])),
  };
  return about.recorded.map((seen) => {
    const { pixels, label } = contents.images[seen.picture];
    const found = seen.occlusion;
    const name = classes[found.class];
    const p = seen.p[found.class];
    const figure = (title, values, [h, w], most, caption) => {
      const canvas = canvasOf(title, shape[1], shape[0], { class: "picture" });
      paintOver(canvas, pixels, shape, values, h, w, most);
      return make("figure", {}, canvas, colourBar(-most, most, true), make("figcaption", {}, caption));
    };
    const photo = canvasOf(`picture ${seen.picture + 1}`, shape[1], shape[0], { class: "picture" });
    paintPixels(photo, pixels, shape);
    const wrong = label != null && label !== found.class ? `, but its label is ${classes[label]}` : "";
    return make("div", { class: "side recorded" },
      make("figure", {}, photo, make("figcaption", {}, `The network says ${name}, ${percent(p)}${wrong}. Its number (logit) is ${shown(found.z)}.`)),
      figure(`occlusion map of picture ${seen.picture + 1}`, found.falls, [found.side, found.side], most.falls, `Occlusion: by how much that number falls under a patch of the picture's mean colour. The probability ${p - found.least < 0.001 ? `stays at ${percent(p)}` : `falls to ${percent(found.least)} at the least`}.`),
      seen.evidence ? figure(`HiResCAM's map of picture ${seen.picture + 1}`, seen.evidence.values, seen.evidence.shape, most.evidence,
        `HiResCAM: what each of ${seen.evidence.shape.join(" x ")} places adds to it, by the gradient at the last feature map.`) : null);
  });
};
