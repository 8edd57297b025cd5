// Reads what the page holds, checks the network against JAX, and builds the sections.

const start = async () => {
  const contents = JSON.parse(document.getElementById("contents").textContent);
  const size = contents.shape.reduce((a, b) => a * b, 1);
  const made = ["stripes", "a slope", "a disc", "a checkerboard", "noise", "a cross"];
  contents.images.forEach((image, i) => {
    image.pixels = bytesOf(image.data).subarray(0, size);
    image.name = image.label == null ? made[i % made.length] : contents.classes[image.label];
  });
  const main = document.querySelector("main");
  const check = liveLine({ id: "check" });
  main.append(
    make("p", {}, `A page to touch: ${contents.network.live ? "the trained network of this run runs in your browser" : "what was recorded of a trained network"}, and answers by being tried. Each section asks first, then lets you do something, then says why. Nothing is loaded and nothing is sent.`),
    make("p", {}, "To see whether it teaches you anything, answer ", make("a", { href: "#scene-9" }, "the twelve questions"), " first, and once more at the end."),
    check,
    make("nav", { "aria-label": "sections" }, ...["A window slides", "Colour and channels", "Pooling, stride, flatten", "Through this network", "Dense against convolution", "Why did it say that?", "When should it be silent?", "Freeze or fine-tune?", "Twelve questions"]
      .map((title, i) => make("a", { href: `#scene-${i + 1}` }, `${i + 1}. ${title}`))));

  const live = contents.network.live ? new Network("own", contents.network, contents.span) : null;
  const baseline = contents.baseline?.live ? new Network("baseline", contents.baseline, contents.span) : null;
  pictureChooser(contents, live);
  // The first picture is one that the network gets right, so that a reader sees it work first.
  let [first] = contents.images;
  for (const image of live ? contents.images : []) {
    if (image.label == null) break;
    const { p } = await live.run(image.pixels);
    if (bestOf(p) === image.label) { first = image; break; }
  }
  picture.set(first.pixels, first.label == null ? first.name : `picture ${contents.images.indexOf(first) + 1}`, first.label);
  sceneWindow(contents);
  sceneChannels(contents);
  sceneShapes(contents);
  sceneWalk(contents, live);
  sceneDense(contents, live, baseline);
  sceneWhy(contents, live);
  sceneTrust(contents, live);
  sceneFreeze(contents);
  sceneQuiz();
  main.append(make("footer", {}, make("p", { class: "soft" },
    `Network ${contents.model}, trained on ${contents.data}, checkpoint of step ${contents.step}. Written by cnn_jax. The reader's pictures and answers do not leave this browser.`)));

  let worst = 0;
  let far = false;
  let milliseconds = 0;
  for (const [net, about] of [[live, contents.network], [baseline, contents.baseline]]) {
    if (!net) continue;
    for (const [i, expected] of about.check.entries()) {
      const begun = performance.now();
      const { logits } = await net.run(contents.images[i].pixels);
      if (net === live) milliseconds = performance.now() - begun;
      const largest = Math.max(1, ...expected.map(Math.abs));
      const difference = Math.max(...expected.map((z, k) => Math.abs(z - logits[k]))) / largest;
      if (!(difference <= about.tolerance)) far = true; // a NaN is far too
      worst = Math.max(worst, difference);
    }
  }
  check.dataset.worst = worst;
  check.dataset.milliseconds = milliseconds;
  if (!live) { check.textContent = `This network is too large to run here: what it makes of ${contents.network.recorded.length} pictures was computed when the page was written.`; check.className = "soft"; } else if (!far) {
    check.textContent = `Checked: on ${contents.network.check.length} pictures the network says here what it says in JAX (largest difference ${worst.toExponential(0)} of the largest number${contents.network.tolerance > 1e-3 ? "; it computes in bfloat16, whose last digit depends on the machine" : ""}).`;
    check.className = "verdict good";
  } else {
    check.textContent = `Do not trust this page: on pictures that JAX has computed the network says something else here (difference ${worst.toExponential(1)}).`;
    check.setAttribute("role", "alert");
    check.className = "banner";
  }
  // Drawings on canvases have the colours of the day or the night.
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => picture.set(picture.now.pixels, picture.now.name, picture.now.label));
  document.documentElement.dataset.ready = "true";
};

// Nobody can press anything on paper: a print shows all reasons.
let opened = [];
window.addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details:not([open])")];
  opened.forEach((details) => { details.open = true; });
});
window.addEventListener("afterprint", () => { opened.forEach((details) => { details.open = false; }); });

start();
