// Twelve questions whose wrong answers are ones that people have given. Answers stay in this browser.

const QUIZ = [
  { ask: "How many parameters has a layer of 100 filters of 5 x 5 over a colour image (3 planes), with biases?", answers: ["2,600", "7,500", "7,600", "2,501"], right: 2, see: 2 },
  { ask: "And the same layer, if the image is twice as high and twice as wide?", answers: ["four times as many", "twice as many", "as many as before"], right: 2, see: 2 },
  { ask: "32 x 32 x 3 goes through 10 filters of 5 x 5, stride 2, no padding. What comes out?", answers: ["14 x 14 x 10", "15 x 15 x 10", "14 x 14 x 3", "28 x 28 x 10"], right: 0, see: 1 },
  { ask: "63 x 63 x 16 goes through 32 filters of 7 x 7, stride 1, with padding that keeps the size. How much padding, on each side?", answers: ["1", "2", "3", "7"], right: 2, see: 1 },
  { ask: "15 x 15 x 8, padding 2 on each side. What is the size?", answers: ["17 x 17 x 10", "19 x 19 x 8", "19 x 19 x 12", "17 x 17 x 8"], right: 1, see: 1 },
  { ask: "A colour image and one filter of 3 x 3: how many maps come out?", answers: ["one", "three, one a colour", "nine"], right: 0, see: 2 },
  { ask: "scipy.signal.convolve2d and a convolutional layer get the same image and the same kernel, Sobel x. Do they agree?", answers: ["yes", "no, SciPy turns the kernel by 180°", "only without padding"], right: 1, see: 1 },
  { ask: "Max-pooling: what is true?", answers: ["it learns which value to keep", "it has no parameters, and the gradient goes to the largest value", "it does not take part in backpropagation"], right: 1, see: 3 },
  { ask: "A network of convolutions and pools sees the picture shifted by one pixel. Its probabilities …", answers: ["are exactly the same: it is translation invariant", "usually change a little: its maps move along, and pooling is not exact", "are random"], right: 1, see: 5 },
  { ask: "A unit in the fourth layer, kernels 3 x 3, two pools of 2 x 2 before it. It can see …", answers: ["3 x 3 pixels", "a much wider part of the picture", "the whole picture, always"], right: 1, see: 4 },
  { ask: "Softmax says 0.99. That means …", answers: ["it is right with a chance of 99 %", "it is the largest of numbers that sum to one; how often 0.99 is right has to be measured", "the picture is one of the classes"], right: 1, see: 7 },
  { ask: "A heat map is bright on the animal. So …", answers: ["the network is right for the right reason", "these places matter for its number, by one way of counting", "the network can be trusted on other pictures"], right: 1, see: 6 },
];

const remembered = (key, value) => {
  try {
    if (value === undefined) return JSON.parse(localStorage.getItem(key));
    localStorage.setItem(key, JSON.stringify(value));
  } catch (error) { /* a browser may forbid it; then answers last as long as the page */ }
  return null;
};

const sceneQuiz = () => {
  const key = "cnn_jax-quiz";
  const state = remembered(key) ?? { round: "before", before: {}, after: {} };
  const list = make("div", {});
  const score = liveLine({ class: "formula", id: "quiz-score" });
  const keep = () => remembered(key, state);
  const scoreOf = (round) => QUIZ.filter((q, i) => state[round][i] === q.right).length;
  const show = () => {
    const given = state[state.round];
    const done = Object.keys(given).length === QUIZ.length;
    clear(list, ...QUIZ.map((q, i) => {
      const name = newId("quiz");
      const choices = q.answers.map((text, k) => {
        const id = `${name}-${k}`;
        const input = make("input", { type: "radio", name, id, value: k });
        input.checked = given[i] === k;
        input.addEventListener("change", () => { given[i] = k; keep(); tell(); });
        return make("div", { class: "answer" }, input, make("label", { for: id }, text));
      });
      const note = done && state.round === "after" ? make("p", { class: given[i] === q.right ? "verdict good" : "verdict bad" },
        given[i] === q.right ? "right" : `the answer is: ${q.answers[q.right]}. `, given[i] === q.right ? null : make("a", { href: `#scene-${q.see}` }, `see section ${q.see}`)) : null;
      return make("fieldset", { class: "question" }, make("legend", {}, `${i + 1}. ${q.ask}`), ...choices, note);
    }));
    tell();
  };
  const tell = () => {
    const answeredCount = Object.keys(state[state.round]).length;
    const done = answeredCount === QUIZ.length;
    score.textContent = state.round === "before"
      ? done ? "All twelve are answered. Your score is shown after the second time: go through the sections, then press the first button." : `${answeredCount} of 12 answered.`
      : done ? `Before: ${scoreOf("before")} of 12. After: ${scoreOf("after")} of 12.` : `Second time: ${answeredCount} of 12 answered.`;
  };
  // What a button did is said below the buttons; the score stays where it is.
  const did = liveLine({ id: "quiz-did" });
  const copy = make("pre", {});
  const missing = () => {
    const given = state[state.round];
    const open = QUIZ.map((q, i) => i).filter((i) => given[i] === undefined);
    if (!open.length) { did.textContent = state.round === "before" ? "Nothing is missing. The right answers are told after the second time." : "Nothing is missing: right and wrong stand below each question."; return; }
    did.textContent = `Not answered yet: ${open.map((i) => i + 1).join(", ")}.`;
  };
  const toTop = () => {
    const first = list.querySelector("input");
    first.focus({ preventScroll: true });
    document.querySelector("#scene-9").scrollIntoView({ behavior: still() ? "auto" : "smooth" });
  };
  const again = button("start the second time", () => {
    clear(copy);
    if (state.round === "after") { did.textContent = "This is the second time already. Forget your answers to begin anew."; return; }
    Object.assign(state, { round: "after", after: {} });
    keep();
    show();
    did.textContent = "";
    toTop();
  });
  let sure = false;
  const forget = button("forget my answers", () => {
    clear(copy);
    if (!sure) { // nothing brings them back
      sure = true;
      forget.textContent = "really forget them?";
      did.textContent = "Both rounds of answers would be gone. Press once more to forget them.";
      return;
    }
    calm();
    Object.assign(state, { round: "before", before: {}, after: {} });
    keep();
    show();
    did.textContent = "Forgotten. You can begin anew.";
  });
  const calm = () => { sure = false; forget.textContent = "forget my answers"; };
  forget.addEventListener("blur", calm);
  scene(9, "Twelve questions, before and after", [
    "Their wrong answers are ones that learners, teachers and even answer keys have given. Answer them before you go through the sections, and once more after. Nothing is sent: the answers stay in this browser.",
  ], list, score, make("div", { class: "controls" }, again, button("check", () => { clear(copy); show(); missing(); }),
    button("copy my answers", async () => {
      const text = JSON.stringify({ before: state.before, after: state.after });
      clear(copy);
      try { await navigator.clipboard.writeText(text); did.textContent = "Copied."; } catch (error) {
        did.textContent = "This browser does not let a page copy. Here they are, to be copied by hand:";
        clear(copy, text);
      }
    }), forget), did, copy);
  show();
};
