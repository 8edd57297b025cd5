// The networks of the page, each in the worker; where a browser has no worker, here.

const softmax = (logits, temperature = 1) => {
  if (logits.length === 1) {
    const p = 1 / (1 + Math.exp(-logits[0] / temperature));
    return [1 - p, p];
  }
  const largest = Math.max(...logits);
  const found = Array.from(logits, (z) => Math.exp((z - largest) / temperature));
  const sum = found.reduce((a, b) => a + b, 0);
  return found.map((x) => x / sum);
};

// The index of the largest.
const bestOf = (p) => p.indexOf(Math.max(...p));

const bytesOf = (base64) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));

function workerMain(engine, answer) {
  const networks = {};
  return (job) => {
    try {
      if (job.load) {
        const leaves = engine.unpack(job.load.weights.leaves, job.bytes);
        networks[job.name] = {
          leaves, forwardProgram: job.load.forward, forward: engine.prepare(job.load.forward, leaves),
          gradient: job.load.gradient ? engine.prepare(job.load.gradient, leaves) : null,
        };
        answer({ id: job.id, found: {} });
      } else if (job.change) { // new weights: leaf by leaf
        const old = networks[job.name];
        const leaves = old.leaves.map((leaf, i) => job.change[i] ?? leaf);
        networks[job.to] = { ...old, leaves, forward: engine.prepare(old.forwardProgram, leaves),
          gradient: job.gradient ? engine.prepare(job.gradient, leaves) : null };
        answer({ id: job.id, found: {} });
      } else {
        const found = engine.run(networks[job.name][job.which], job.inputs, job.options);
        answer({ id: job.id, found });
      }
    } catch (error) {
      answer({ id: job.id, error: String(error) });
    }
  };
}

const workshop = (() => {
  const waiting = new Map();
  let last = 0;
  const receive = ({ id, found, error }) => {
    const [resolve, reject] = waiting.get(id) ?? [() => {}, () => {}];
    waiting.delete(id);
    if (error) reject(new Error(error)); else resolve(found);
  };
  let send;
  const here = () => {
    const main = workerMain(engineModule(), receive);
    send = (job) => setTimeout(() => main(job), 0);
    waiting.forEach(([, , job]) => send(job));
  };
  try {
    const source = `"use strict";${engineModule};${workerMain};const main = workerMain(engineModule(), (m) => postMessage(m));onmessage = (event) => main(event.data);`;
    const address = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
    const worker = new Worker(address);
    let heard = false;
    worker.onmessage = (event) => { heard = true; receive(event.data); };
    worker.onerror = () => { if (!heard) here(); }; // a browser may forbid workers later than here
    send = (job) => worker.postMessage(job);
  } catch (error) {
    here();
  }
  return (job) => new Promise((resolve, reject) => {
    const id = ++last;
    waiting.set(id, [resolve, reject, { ...job, id }]);
    send({ ...job, id });
  });
})();

// A network of the page: `about` is what the page holds of it.
class Network {
  constructor(name, about, range) {
    this.name = name;
    this.about = about;
    this.range = range;
    this.output = about.forward.outputs[0];
    this.loaded = workshop({ load: about, name, bytes: bytesOf(about.weights.data) });
  }

  // The network with other leaves, {number: Float32Array}, under another name.
  async changed(to, change) {
    await this.loaded;
    const other = Object.create(Network.prototype);
    Object.assign(other, this, { name: to, loaded: workshop({ name: this.name, change, to, gradient: this.about.gradient }) });
    return other;
  }

  input(pixels) {
    const [low, high] = this.range;
    return Float32Array.from(pixels, (p) => low + (p / 255) * (high - low));
  }

  // Returns {logits, p, values}; `options` are those of the engine.
  async run(pixels, options = {}) {
    await this.loaded;
    const values = await workshop({ name: this.name, which: "forward", inputs: [this.input(pixels)], options });
    const logits = values[this.output];
    return { logits, p: softmax(logits), values };
  }

  // The gradient of sum(weights * logits) by the last feature map.
  async gradient(map, weights) {
    await this.loaded;
    const found = await workshop({ name: this.name, which: "gradient", inputs: [map, Float32Array.from(weights)], options: {} });
    return found[this.about.gradient.outputs[0]];
  }
}
