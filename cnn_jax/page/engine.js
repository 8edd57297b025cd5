// Computes a network, operation by operation, with typed arrays.
//
// Arrays have the order that JAX gives them: [1, height, width, channels], row by row; kernels are
// [height, width, in, out]. The page starts this function in a worker, and the tests call it.
function engineModule() {
  const size = (shape) => shape.reduce((a, b) => a * b, 1);

  const stridesOf = (shape) => {
    const strides = new Array(shape.length);
    let step = 1;
    for (let i = shape.length - 1; i >= 0; i--) {
      strides[i] = step;
      step *= shape[i];
    }
    return strides;
  };

  // The error function: a series with positive terms for small |x|, a continued fraction beyond.
  const erfc = (x) => {
    if (x < 0) return 2 - erfc(-x);
    if (x > 27) return 0;
    const gauss = Math.exp(-x * x);
    if (x < 2.5) {
      let term = x;
      let sum = x;
      for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(sum) && n < 80; n++) {
        term *= (2 * x * x) / (2 * n + 1);
        sum += term;
      }
      return 1 - (2 / Math.sqrt(Math.PI)) * gauss * sum;
    }
    let fraction = x;
    for (let n = 40; n > 0; n--) fraction = x + n / 2 / fraction;
    return gauss / (Math.sqrt(Math.PI) * fraction);
  };

  const roundHalfEven = (x) => {
    const floor = Math.floor(x);
    const rest = x - floor;
    if (rest !== 0.5) return Math.round(x);
    return floor % 2 === 0 ? floor : floor + 1;
  };

  const UNARY = {
    abs: Math.abs, cbrt: Math.cbrt, ceil: Math.ceil, cos: Math.cos, erf: (x) => 1 - erfc(x), erfc,
    exp: Math.exp, exp2: (x) => 2 ** x, expm1: Math.expm1, floor: Math.floor,
    is_finite: (x) => (Number.isFinite(x) ? 1 : 0), log: Math.log, log1p: Math.log1p,
    logistic: (x) => 1 / (1 + Math.exp(-x)), neg: (x) => -x, not: (x) => (x ? 0 : 1),
    round: roundHalfEven, rsqrt: (x) => 1 / Math.sqrt(x), sign: Math.sign, sin: Math.sin,
    sqrt: Math.sqrt, square: (x) => x * x, tan: Math.tan, tanh: Math.tanh, trunc: Math.trunc,
    copy: (x) => x,
  };

  const BINARY = {
    add: (x, y) => x + y, add_any: (x, y) => x + y, sub: (x, y) => x - y, mul: (x, y) => x * y,
    div: (x, y) => x / y, quotient: (x, y) => Math.trunc(x / y), rem: (x, y) => x % y,
    max: (x, y) => (x > y || x !== x ? x : y), min: (x, y) => (x < y || x !== x ? x : y),
    pow: (x, y) => x ** y, atan2: Math.atan2,
    eq: (x, y) => (x === y ? 1 : 0), ne: (x, y) => (x !== y ? 1 : 0),
    gt: (x, y) => (x > y ? 1 : 0), ge: (x, y) => (x >= y ? 1 : 0),
    lt: (x, y) => (x < y ? 1 : 0), le: (x, y) => (x <= y ? 1 : 0),
    and: (x, y) => (x && y ? 1 : 0), or: (x, y) => (x || y ? 1 : 0), xor: (x, y) => (!x !== !y ? 1 : 0),
  };

  const FOLDS = {
    sum: [0, BINARY.add], prod: [1, BINARY.mul], max: [-Infinity, BINARY.max], min: [Infinity, BINARY.min],
  };

  // Rounds to bfloat16, the nearest number with eight binary digits, ties to even.
  const roundToBfloat16 = (y) => {
    const bits = new Uint32Array(y.buffer, y.byteOffset, y.length);
    for (let i = 0; i < y.length; i++) {
      if (y[i] === y[i]) bits[i] = (bits[i] + 0x7fff + ((bits[i] >>> 16) & 1)) & 0xffff0000;
    }
  };

  // Calls visit(index in the array of this shape, strides[0] * i + strides[1] * j + ...) in order.
  const walk = (shape, strides, visit, start = 0) => {
    const index = new Array(shape.length).fill(0);
    const total = size(shape);
    let other = start;
    for (let i = 0; i < total; i++) {
      visit(i, other);
      for (let axis = shape.length - 1; axis >= 0; axis--) {
        index[axis]++;
        other += strides[axis];
        if (index[axis] < shape[axis]) break;
        other -= strides[axis] * shape[axis];
        index[axis] = 0;
      }
    }
  };

  // sums[to + k] += sum over c of x[from + c] * w[first + c * step + k], for `count` sums. Zeros, of
  // which there are many after ReLU, are left out; the others are taken four at a time.
  const addProducts = (sums, to, count, x, from, each, w, first, step) => {
    let [used, a, b, c, va, vb, vc] = [0, 0, 0, 0, 0, 0, 0];
    for (let i = 0; i < each; i++) {
      const value = x[from + i];
      if (value === 0) continue;
      const at = first + i * step;
      if (used === 0) { a = at; va = value; used = 1; }
      else if (used === 1) { b = at; vb = value; used = 2; }
      else if (used === 2) { c = at; vc = value; used = 3; }
      else {
        for (let k = 0; k < count; k++) sums[to + k] += va * w[a + k] + vb * w[b + k] + vc * w[c + k] + value * w[at + k];
        used = 0;
      }
    }
    if (used > 0) for (let k = 0; k < count; k++) sums[to + k] += va * w[a + k];
    if (used > 1) for (let k = 0; k < count; k++) sums[to + k] += vb * w[b + k];
    if (used > 2) for (let k = 0; k < count; k++) sums[to + k] += vc * w[c + k];
  };

  // Each operation gets its operands (arrays or numbers), their shapes, the result's array and
  // shape, and its settings.
  const OPERATIONS = {
    unary([x], _, y, shape, { f }) {
      const g = UNARY[f];
      if (typeof x === "number") y.fill(g(x));
      else for (let i = 0; i < y.length; i++) y[i] = g(x[i]);
    },

    binary([a, b], [as, bs], y, shape, { f }) {
      const g = BINARY[f];
      const [x, z] = [a, b].map((v) => (typeof v === "number" ? null : v));
      const n = y.length;
      if (x && z && x.length === n && z.length === n) for (let i = 0; i < n; i++) y[i] = g(x[i], z[i]);
      else if (!z) for (let i = 0; i < n; i++) y[i] = g(x ? x[i] : a, b);
      else if (!x) for (let i = 0; i < n; i++) y[i] = g(a, z[i]);
      else {
        const last = shape[shape.length - 1];
        if (x.length === n && z.length === last && bs[bs.length - 1] === last) {
          for (let i = 0; i < n; i += last) for (let c = 0; c < last; c++) y[i + c] = g(x[i + c], z[c]);
          return;
        }
        const steps = (s) => stridesOf(s).map((step, i) => (s[i] === 1 ? 0 : step));
        const [sx, sz] = [steps(as), steps(bs)];
        const wide = new Int32Array(n);
        walk(shape, sz, (i, j) => { wide[i] = j; });
        walk(shape, sx, (i, j) => { y[i] = g(x[j], z[wide[i]]); });
      }
    },

    select([which, no, yes], _, y) {
      const at = (v, i) => (typeof v === "number" ? v : v.length === 1 ? v[0] : v[i]);
      for (let i = 0; i < y.length; i++) y[i] = at(which, i) ? at(yes, i) : at(no, i);
    },

    conv([x, w], [xs, ws], y, ys, { strides, pads, spread, dilation, groups }) {
      let [, height, width, inputs] = xs;
      if (spread[0] !== 1 || spread[1] !== 1) { // zeros between the pixels: in gradients
        const [h, v] = [(height - 1) * spread[0] + 1, (width - 1) * spread[1] + 1];
        const wide = new Float32Array(xs[0] * h * v * inputs);
        walk(xs, [h * v * inputs, spread[0] * v * inputs, spread[1] * inputs, 1], (i, j) => { wide[j] = x[i]; });
        [x, height, width] = [wide, h, v];
      }
      const [batch, rows, columns, outputs] = ys;
      const [kh, kw, each] = ws;
      const filters = outputs / groups;
      const sums = new Float64Array(outputs);
      for (let n = 0; n < batch; n++) for (let row = 0; row < rows; row++) for (let column = 0; column < columns; column++) {
        sums.fill(0);
        for (let ky = 0; ky < kh; ky++) {
          const iy = row * strides[0] - pads[0][0] + ky * dilation[0];
          if (iy < 0 || iy >= height) continue;
          for (let kx = 0; kx < kw; kx++) {
            const ix = column * strides[1] - pads[1][0] + kx * dilation[1];
            if (ix < 0 || ix >= width) continue;
            const pixel = ((n * height + iy) * width + ix) * inputs;
            for (let group = 0; group < groups; group++) {
              const to = group * filters;
              const from = pixel + group * each;
              const first = (ky * kw + kx) * each * outputs + to;
              addProducts(sums, to, filters, x, from, each, w, first, outputs);
            }
          }
        }
        y.set(sums, ((n * rows + row) * columns + column) * outputs);
      }
    },

    matmul([x, z], [xs], y, [batch, rows, columns]) {
      const inner = xs[2];
      const sums = new Float64Array(columns);
      for (let b = 0; b < batch; b++) for (let row = 0; row < rows; row++) {
        sums.fill(0);
        addProducts(sums, 0, columns, x, (b * rows + row) * inner, inner, z, b * inner * columns, columns);
        y.set(sums, (b * rows + row) * columns);
      }
    },

    window([x], [xs], y, ys, { f, window, strides, pads }) {
      const [start, fold] = FOLDS[f];
      const [, height, width, channels] = xs;
      const [batch, rows, columns] = ys;
      for (let n = 0; n < batch; n++) for (let row = 0; row < rows; row++) for (let column = 0; column < columns; column++) {
        const to = ((n * rows + row) * columns + column) * channels;
        y.fill(start, to, to + channels);
        for (let ky = 0; ky < window[0]; ky++) {
          const iy = row * strides[0] - pads[0][0] + ky;
          if (iy < 0 || iy >= height) continue;
          for (let kx = 0; kx < window[1]; kx++) {
            const ix = column * strides[1] - pads[1][0] + kx;
            if (ix < 0 || ix >= width) continue;
            const from = ((n * height + iy) * width + ix) * channels;
            for (let c = 0; c < channels; c++) y[to + c] = fold(y[to + c], x[from + c]);
          }
        }
      }
    },

    // The gradient of a max-pool: operands are dL/dy and x.
    scatter([g, x], [gs, xs], y, ys, { window, strides, pads }) {
      const [, height, width, channels] = xs;
      const [batch, rows, columns] = gs;
      y.fill(0);
      for (let n = 0; n < batch; n++) for (let row = 0; row < rows; row++) for (let column = 0; column < columns; column++) for (let c = 0; c < channels; c++) {
        let [best, place] = [-Infinity, -1];
        for (let ky = 0; ky < window[0]; ky++) for (let kx = 0; kx < window[1]; kx++) {
          const [iy, ix] = [row * strides[0] - pads[0][0] + ky, column * strides[1] - pads[1][0] + kx];
          if (iy < 0 || iy >= height || ix < 0 || ix >= width) continue;
          const from = ((n * height + iy) * width + ix) * channels + c;
          if (place < 0 || x[from] > best) [best, place] = [x[from], from];
        }
        if (place >= 0) y[place] += g[((n * rows + row) * columns + column) * channels + c];
      }
    },

    reduce([x], [xs], y, ys, { axes, f }) {
      const [start, fold] = FOLDS[f];
      const kept = xs.map((_, i) => i).filter((i) => !axes.includes(i));
      const to = new Array(xs.length).fill(0);
      stridesOf(kept.map((i) => xs[i])).forEach((step, i) => { to[kept[i]] = step; });
      const found = new Float64Array(y.length).fill(start);
      walk(xs, to, (i, j) => { found[j] = fold(found[j], x[i]); });
      y.set(found);
    },

    broadcast([x], [xs], y, shape, { axes }) {
      if (typeof x === "number") { y.fill(x); return; }
      const steps = new Array(shape.length).fill(0);
      stridesOf(xs).forEach((step, i) => { if (xs[i] !== 1) steps[axes[i]] = step; });
      walk(shape, steps, (i, j) => { y[i] = x[j]; });
    },

    reshape([x], _, y) {
      if (typeof x === "number") y.fill(x);
      else y.set(x);
    },

    // In evaluation a dropout passes everything; `run` drops where it is asked to.
    dropout([x], _, y) {
      if (typeof x === "number") y.fill(x);
      else y.set(x);
    },

    transpose([x], [xs], y, shape, { order }) {
      const steps = stridesOf(xs);
      walk(shape, order.map((axis) => steps[axis]), (i, j) => { y[i] = x[j]; });
    },

    rev([x], [xs], y, shape, { dimensions }) {
      const steps = stridesOf(xs);
      const start = dimensions.reduce((sum, axis) => sum + (xs[axis] - 1) * steps[axis], 0);
      walk(shape, steps.map((step, axis) => (dimensions.includes(axis) ? -step : step)), (i, j) => { y[i] = x[j]; }, start);
    },

    slice([x], [xs], y, shape, { start, strides }) {
      const steps = stridesOf(xs);
      const first = start.reduce((sum, at, i) => sum + at * steps[i], 0);
      walk(shape, steps.map((step, i) => step * strides[i]), (i, j) => { y[i] = x[j]; }, first);
    },

    pad([x, value], [xs], y, shape, { config }) {
      y.fill(typeof value === "number" ? value : value[0]);
      const steps = stridesOf(shape);
      const index = new Array(xs.length).fill(0);
      for (let i = 0; i < x.length; i++) {
        let [to, inside] = [0, true];
        for (let axis = 0; axis < xs.length; axis++) {
          const at = config[axis][0] + index[axis] * (config[axis][2] + 1);
          inside = inside && at >= 0 && at < shape[axis];
          to += at * steps[axis];
        }
        if (inside) y[to] = x[i];
        for (let axis = xs.length - 1; axis >= 0 && ++index[axis] === xs[axis]; axis--) index[axis] = 0;
      }
    },

    concat(parts, shapes, y, shape, { axis }) {
      const inner = size(shape.slice(axis + 1));
      const outer = size(shape.slice(0, axis));
      let at = 0;
      parts.forEach((x, p) => {
        const run = shapes[p][axis] * inner;
        for (let i = 0; i < outer; i++) y.set(x.subarray(i * run, (i + 1) * run), i * shape[axis] * inner + at);
        at += run;
      });
    },
  };

  // Numbers from 0 to 1, the same for the same seed: a counter, mixed as MurmurHash3 ends.
  const randomFrom = (seed) => {
    let counter = Math.imul(seed, 0x85ebca6b);
    return () => {
      let x = (counter = (counter + 0x9e3779b9) | 0);
      x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
      x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
      return ((x ^ (x >>> 16)) >>> 0) / 2 ** 32;
    };
  };

  // Sets a share of the numbers to zero and scales the rest up; along `shared` axes together.
  const dropFrom = (y, shape, shared, rate, random) => {
    const kept = shape.map((n, axis) => (shared.includes(axis) ? 1 : n));
    const factors = Float32Array.from({ length: size(kept) }, () => (random() < rate ? 0 : 1 / (1 - rate)));
    walk(shape, stridesOf(kept).map((step, axis) => (kept[axis] === 1 ? 0 : step)), (i, j) => { y[i] *= factors[j]; });
  };

  // A program that is ready to run. `leaves` are the variables, as Float32Array by their number.
  const prepare = (program, leaves) => {
    const number = (x) => (typeof x === "string" ? Number(x) : x);
    const fixed = new Map();
    for (const [value, leaf] of program.leaves) fixed.set(value, leaves[leaf]);
    for (const [value, , numbers] of program.arrays) fixed.set(value, Float32Array.from(numbers, number));
    const steps = program.operations.map((operation) => ({
      ...operation, in: operation.in.map((x) => (Array.isArray(x) ? { scalar: number(x[0]) } : x)),
    }));
    const ready = { ...program, fixed, steps: steps.filter((each) => !each.once) };
    for (const each of steps) if (each.once) compute(ready, each, fixed, fixed);
    return ready;
  };

  const compute = (program, operation, values, into) => {
    const shape = program.shapes[operation.out];
    const y = new Float32Array(size(shape));
    const operands = operation.in.map((x) => (typeof x === "number" ? values.get(x) ?? program.fixed.get(x) : x.scalar));
    const shapes = operation.in.map((x) => (typeof x === "number" ? program.shapes[x] : []));
    OPERATIONS[operation.name](operands, shapes, y, shape, operation);
    if (operation.round) roundToBfloat16(y);
    into.set(operation.out, y);
    return y;
  };

  // Returns {value: array} of the outputs and of the values in `keep`. `off` is {value: channels to
  // set to zero}, a filter that is switched off. `drop` is {seed, rate} where dropout is on as in
  // training; without a rate, each has its own.
  const run = (program, inputs, { keep = [], off = {}, drop = null } = {}) => {
    const random = drop && randomFrom(drop.seed);
    const values = new Map(program.inputs.map((value, i) => [value, inputs[i]]));
    for (const operation of program.steps) {
      const y = compute(program, operation, values, values);
      if (drop && operation.name === "dropout") dropFrom(y, program.shapes[operation.out], operation.shared, drop.rate ?? operation.rate, random);
      const silent = off[operation.out];
      if (silent) {
        const shape = program.shapes[operation.out];
        const channels = shape[shape.length - 1];
        for (const c of silent) for (let i = c; i < y.length; i += channels) y[i] = 0;
      }
    }
    const found = {};
    for (const value of [...program.outputs, ...keep]) found[value] = values.get(value) ?? program.fixed.get(value);
    return found;
  };

  const halfToFloat = (bits) => {
    const sign = bits & 0x8000 ? -1 : 1;
    const exponent = (bits >> 10) & 31;
    const fraction = bits & 1023;
    if (exponent === 31) return fraction ? NaN : sign * Infinity;
    return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -24 * fraction);
  };

  // The variables of a network, from one buffer. A leaf is {type, at, size, scales}.
  const unpack = (leaves, bytes) => leaves.map(({ type, at, size: count, scales }) => {
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    const found = new Float32Array(count);
    if (type === "float32") for (let i = 0; i < count; i++) found[i] = view.getFloat32(at + 4 * i, true);
    if (type === "float16") for (let i = 0; i < count; i++) found[i] = halfToFloat(view.getUint16(at + 2 * i, true));
    if (type === "int8") {
      const channels = scales.length;
      for (let i = 0; i < count; i++) found[i] = Math.fround(view.getInt8(at + i) * scales[i % channels]);
    }
    return found;
  });

  return { prepare, run, unpack, OPERATIONS, UNARY };
}
