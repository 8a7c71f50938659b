// d/dμ E[f(z)], z ~ N(μ, σ²), estimated from draws z = μ + σε in two ways.
(() => {
  const {
    define, show, expect, line, segment, rect, dot, write, panel, plane, key, bell,
    handles,
  } = playgrounds;
  const [DRAWS, REPETITIONS] = [10, 1000];
  const [FROM, TO] = [-2.5, 5];
  const SQUARE = {
    words: "(z − 2)²", value: (z) => (z - 2) ** 2, slope: (z) => 2 * (z - 2),
    range: [0, 20], ticks: [0, 10, 20], exact: (mu) => 2 * (mu - 2),
  };
  const FUNCTIONS = {
    square: SQUARE,
    raised: {
      ...SQUARE, words: "(z − 2)² + 10", value: (z) => (z - 2) ** 2 + 10,
      range: [0, 30], ticks: [0, 10, 20, 30],
    },
    wave: {
      words: "sin 4z", value: (z) => Math.sin(4 * z), slope: (z) => 4 * Math.cos(4 * z),
      range: [-1.5, 1.5], ticks: [-1, 0, 1],
      exact: (mu, sigma) => 4 * Math.cos(4 * mu) * Math.exp(-8 * sigma ** 2),
    },
  };

  // Standard normal numbers: mulberry32 (Tommy Ettinger, public domain), then Box and Muller.
  function noise(seed, n) {
    let a = seed;
    const uniform = () => {
      a = (a + 0x6d2b79f5) | 0;
      let t = Math.imul(a ^ (a >>> 15), 1 | a);
      t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
      return (((t ^ (t >>> 14)) >>> 0) + 0.5) / 2 ** 32;
    };
    return Float64Array.from({ length: n }, () =>
      Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform()));
  }
  const drawn = {};
  const fixed = (seed) => drawn[seed] ??= noise(seed, DRAWS * REPETITIONS);

  // One estimate from every ten of eps, in both ways.
  function estimates(name, mu, sigma, eps) {
    const { value, slope } = FUNCTIONS[name];
    const [pathwise, score] = [[], []];
    for (let from = 0; from + DRAWS <= eps.length; from += DRAWS) {
      let [a, b] = [0, 0];
      for (let k = from; k < from + DRAWS; k++) {
        const z = mu + sigma * eps[k];
        a += slope(z);
        b += value(z) * eps[k] / sigma;
      }
      pathwise.push(a / DRAWS);
      score.push(b / DRAWS);
    }
    return { pathwise, score };
  }
  const exact = (name, mu, sigma) => FUNCTIONS[name].exact(mu, sigma);
  function deviation(values) {
    const mean = values.reduce((a, b) => a + b) / values.length;
    return Math.sqrt(values.reduce((a, b) => a + (b - mean) ** 2, 0) / (values.length - 1));
  }
  // What the deviations of one draw are, without chance.
  function deviations(name, mu, sigma) {
    const { value, slope } = FUNCTIONS[name];
    const centre = exact(name, mu, sigma);
    const spread = (g) => Math.sqrt(expect(mu, sigma, (z, t) => (g(z, t) - centre) ** 2));
    return { pathwise: spread(slope), score: spread((z, t) => value(z) * t / sigma) };
  }
  let cache = {};
  function measured({ name, mu, sigma, seed }) {
    const at = [name, mu, sigma, seed].join();
    if (cache.at !== at) {
      const both = estimates(name, mu, sigma, fixed(seed));
      cache = { at, both, pathwise: deviation(both.pathwise), score: deviation(both.score) };
    }
    return cache;
  }

  function layout(width) {
    const wide = width >= 620;
    const column = wide ? Math.round(0.54 * width) : width;
    const curve = [22, 46, column - 22, wide ? 118 : 100];
    const bell = [22, 86 + curve[3], column - 22, 66];
    const left = wide ? column + 36 : 0;
    const [first, each] = wide ? [38, 86] : [bell[1] + 154, 66];
    const histograms = [first, first + each + 60].map((top) => [left, top, width - left, each]);
    return {
      width, height: histograms[1][1] + histograms[1][3] + 54, curve, bell, histograms,
      drag: [bell, curve].map((place) => panel(...place, [FROM, TO], [0, 1])),
    };
  }
  const bellPlane = (state, { bell }) =>
    plane(bell, [FROM, TO], 0.5, { ...state, asked: false });

  // A scale that holds both histograms, and changes only now and then.
  function scale({ name, mu, sigma }) {
    const { pathwise, score } = deviations(name, mu, sigma);
    const half = 3.4 * Math.max(pathwise, score) / Math.sqrt(DRAWS);
    const power = 10 ** Math.floor(Math.log10(half / 2));
    const unit = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= half / 2);
    const middle = Math.round(exact(name, mu, sigma) / unit);
    const marks = [-2, -1, 0, 1, 2].map((k) => (middle + k) * unit);
    return { marks, from: (middle - 2.5) * unit, to: (middle + 2.5) * unit };
  }

  function draw(state, layout) {
    const { name, mu, sigma, seed, asked } = state;
    const { words, value, slope, range, ticks } = FUNCTIONS[name];
    const plot = panel(...layout.curve, [FROM, TO], range);
    const low = bellPlane(state, layout);
    const z = [...fixed(seed).subarray(0, DRAWS)].map((e) => mu + sigma * e);
    let out = key([["ink", `f(z) = ${words}`, 0, 0]]) + dot(10, 28, 3.5, "noise solid") +
      write(26, 32, "draws z = μ + σε, slopes f′(z)");
    for (const tick of ticks) {
      out += segment(plot.left, plot.y(tick), plot.left + plot.width, plot.y(tick), "grid") +
        write(plot.left - 6, plot.y(tick) + 4, show(tick, 0), "small", "end");
    }
    out += plot.curve(value, "ink");
    const unit = [plot.x(1) - plot.x(0), plot.y(1) - plot.y(0)];
    out += plot.inside(z.map((at) => {
      // 26 px along the tangent, to where a larger μ takes the draw; above the curve, to be seen.
      const along = Math.hypot(unit[0], slope(at) * unit[1]) / 26;
      const [dx, dy] = [unit[0] / along, slope(at) * unit[1] / along];
      const [x, y] = [plot.x(at), plot.y(value(at))];
      const place = (a, b) => [x + a * dx + b * dy, y + a * dy - b * dx];
      return line([place(0, 0.3), place(1, 0.3)], "noise") +
        line([place(0.75, 0.43), place(1, 0.3), place(0.75, 0.17)], "noise") +
        dot(x, y, 3.5, "noise solid");
    }).join(""));

    out += write(0, low.top - 12, `q(z): μ = ${show(mu)}, σ = ${show(sigma)}`) +
      bell(low, state) +
      low.axis([-2, -1, 0, 1, 2, 3, 4], "z") +
      low.inside(z.map((at) => segment(low.x(at), low.base, low.x(at), low.base - 14, "noise"))
        .join(""));

    const { from, to, marks } = scale(state);
    const both = measured(state);
    const truth = exact(name, mu, sigma);
    [
      ["pathwise", "Pathwise gradient", "mean of f′(z)"],
      ["score", "Score function", "mean of f(z) ε/σ"],
    ].forEach(([way, title, mean], k) => {
      const [left, top, width, height] = layout.histograms[k];
      const box = panel(left, top, width, height, [from, to], [0, 1]);
      const bins = new Array(75).fill(0);
      for (const estimate of both.both[way]) {
        const bin = Math.floor((estimate - from) / (to - from) * bins.length);
        if (bin in bins) bins[bin] += 1;
      }
      const most = Math.max(...bins);
      const wide = box.width / bins.length;
      const number = `<tspan class="strong v-${way}">${asked ? "?" : show(both[way])}</tspan>`;
      out += write(left, top - 27, title, "strong") +
        write(left, top - 9, `${mean}, standard deviation ${number}`, "small number");
      if (!asked) {
        out += bins.map((count, bin) => count ? rect(left + bin * wide,
          box.base - count / most * height, wide, count / most * height, way) : "").join("");
      }
      out += segment(box.x(truth), top - 4, box.x(truth), box.base, "level") +
        (k ? "" : write(left + width, top - 27, `exact ${show(truth)}`, "small v-exact", "end"));
      const step = marks[1] - marks[0];
      out += box.axis(k ? marks : [], "", step < 0.099 ? 2 : step < 0.99 ? 1 : 0);
      if (k) {
        out += write(left + width / 2, box.base + 46, "estimate of d/dμ E[f(z)]", "small", "middle");
      }
    });
    return out;
  }

  const START = { name: "square", mu: 0.5, sigma: 0.8, seed: 1 };
  const before = measured(START);
  const invitation = "Now move q and change f. When is it the other way round?";
  const numbers = `From ${DRAWS} draws each, pathwise estimates have a standard deviation of ` +
    `${show(before.pathwise)}, those of the score function ${show(before.score)}. ${invitation}`;

  define("gradient", {
    start: START,
    invitation,
    answers: [
      {
        words: "The pathwise gradient’s",
        verdict: `No, the score function’s. ${numbers}`,
      },
      {
        words: "The score function’s",
        verdict: `Yes. ${numbers}`,
      },
      {
        words: "Both about the same",
        verdict: `No, only their means agree. ${numbers}`,
      },
    ],
    layout,
    draw,
    handles: handles(bellPlane, [-2, 4], [0.1, 1.5]),
    options: [{
      key: "name", name: "f(z) =",
      values: Object.fromEntries(Object.entries(FUNCTIONS).map(([id, { words }]) => [id, words])),
    }],
    buttons: [{
      words: "Draw new noise ε",
      press: ({ seed }, { change }) => change({ seed: seed + 1 }),
    }],
    summary: (state) => {
      const { pathwise, score } = measured(state);
      return `exact gradient ${show(exact(state.name, state.mu, state.sigma))}, standard deviations ` +
        `${show(pathwise)} pathwise, ${show(score)} score function`;
    },
    note: (state) => {
      const { pathwise, score } = deviations(state.name, state.mu, state.sigma);
      const times = Math.max(pathwise / score, score / pathwise) ** 2;
      if (times < 1.2) return "Both need about as many draws for the same precision.";
      const worse = score > pathwise ? "score function" : "pathwise gradient";
      const about = Number(times.toPrecision(2)).toLocaleString("en");
      return `For the same precision the ${worse} needs about ${about} times as many draws.`;
    },
  }, { noise, estimates, exact, deviations, deviation });
})();
