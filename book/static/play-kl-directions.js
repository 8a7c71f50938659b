// KL(q ‖ p) and KL(p ‖ q) of a Gaussian q and a mixture p of two Gaussians.
(() => {
  const {
    define, show, density, logDensity, expect, climb, last, segment, dot, write, panel, key, bar,
    bell, handles, plane: planeOf,
  } = playgrounds;
  const [WEIGHT, WIDTH] = [0.6, 0.6]; // of the mode on the left; of both modes
  const [FROM, TO] = [-5, 5];
  const MOST = 8; // nats that are drawn

  function logTarget(z, d) {
    const left = Math.log(WEIGHT) + logDensity(z, -d / 2, WIDTH);
    const right = Math.log(1 - WEIGHT) + logDensity(z, d / 2, WIDTH);
    const top = Math.max(left, right);
    return top + Math.log(Math.exp(left - top) + Math.exp(right - top));
  }
  const target = (z, d) => Math.exp(logTarget(z, d));
  function slope(z, d) {
    const right = 1 / (1 + WEIGHT / (1 - WEIGHT) * Math.exp(-z * d / WIDTH ** 2)); // its share
    return (d * (right - 0.5) - z) / WIDTH ** 2;
  }

  // The Gaussian with the least KL(p ‖ q) has p's own mean and standard deviation.
  function moments(d) {
    const mu = (0.5 - WEIGHT) * d;
    return { mu, sigma: Math.sqrt(WIDTH ** 2 + WEIGHT * (1 - WEIGHT) * d ** 2) };
  }
  const entropies = {};
  const negativeEntropy = (d) => entropies[d] ??= expect(0, WIDTH, (z) =>
    WEIGHT * logTarget(z - d / 2, d) + (1 - WEIGHT) * logTarget(z + d / 2, d));
  // KL(q ‖ p) and KL(p ‖ q), in nats.
  const forwards = (d, mu, sigma, step) =>
    expect(mu, sigma, (z) => logDensity(z, mu, sigma) - logTarget(z, d), step);
  function backwards(d, mu, sigma) {
    const p = moments(d);
    return negativeEntropy(d) - logDensity(p.mu, mu, sigma) + 0.5 * (p.sigma / sigma) ** 2;
  }
  const divergences = (d, mu, sigma) =>
    ({ qp: forwards(d, mu, sigma), pq: backwards(d, mu, sigma) });

  // The Gaussian with the least KL(q ‖ p): of the valleys, the deepest.
  const seekers = {};
  function seeker(d) {
    return seekers[d] ??= [-d / 2, 0, d / 2]
      .map((from) => last(climb((z) => slope(z, d), from, WIDTH)))
      .reduce((a, b) => forwards(d, b.mu, b.sigma) < forwards(d, a.mu, a.sigma) - 1e-9 ? b : a);
  }

  function layout(width) {
    const wide = width >= 620;
    const plane = wide ? Math.round(0.54 * width) : width;
    const place = wide ? [0, 46, plane, 202] : [0, 66, plane, 170];
    const left = wide ? plane + 36 : 0;
    const bars = panel(left, wide ? 3 : 284, width - left, 76, [0, MOST], [0, 1]);
    const valley = panel(left + 16, bars.base + 43, width - left - 16, 126, [FROM, TO], [0, MOST]);
    return {
      width, height: valley.base + 34, place, bars, valley,
      drag: [panel(...place, [FROM, TO], [0, 1]), valley],
      own: wide ? [150, 0] : [0, 1], // where the name of q is, ...
      row: wide ? 1 : 2, // ... and those of the best
    };
  }
  const plane = (state, { place }) => planeOf(place, [FROM, TO],
    Math.max(target(-state.d / 2, state.d), target(moments(state.d).mu, state.d)), state);

  const FITS = { qp: ["least KL(q ‖ p)", seeker], pq: ["least KL(p ‖ q)", moments] };
  function draw(state, layout) {
    const { d, mu, sigma, asked } = state;
    const plot = plane(state, layout);
    const marked = Object.keys(FITS).filter((direction) => state[direction]);
    const names = [
      ["posterior area", "p, the target", 0, 0],
      ...marked.map((way) => [`${way} ghost`, FITS[way][0], way === "qp" ? 0 : 150, layout.row]),
    ];
    if (!asked) names.push(["q", `q: μ = ${show(mu)}, σ = ${show(sigma)}`, ...layout.own]);
    let drawn = key(names) +
      plot.curve((z) => target(z, d), "posterior", true) +
      plot.axis([-4, -2, 0, 2, 4], "z") +
      write(2, plot.top + 12, "density", "small");
    if (!asked) drawn += bell(plot, state);
    for (const way of marked) {
      const least = FITS[way][1](d);
      drawn += plot.curve((z) => density(z, least.mu, least.sigma), `${way} ghost`);
    }

    const { bars, valley } = layout;
    const now = divergences(d, mu, sigma);
    [["qp", "KL(q ‖ p), mean over q", "solid"], ["pq", "KL(p ‖ q), mean over p", "striped"]]
      .forEach(([direction, words, kind], k) => {
        const y = bars.top + 43.8 * k;
        const number = asked ? "? nats" : `${show(now[direction])} nats`;
        drawn += write(bars.left, y + 12, words) +
          write(bars.left + bars.width, y + 12, number, `number strong v-${direction}`, "end") +
          (asked ? "" : bar(bars, y + 19, 0, now[direction], `${direction} ${kind}`));
      });

    drawn += write(bars.left, valley.top - 14, "nats, if only μ moves", "small") +
      valley.axis([-4, -2, 0, 2, 4], "μ");
    for (const nats of [0, 4, 8]) {
      drawn += write(valley.left - 6, valley.y(nats) + 4, nats, "small", "end") +
        (nats ? segment(valley.left, valley.y(nats), valley.left + valley.width, valley.y(nats), "grid")
          : "");
    }
    if (!asked) {
      drawn += valley.curve((at) => forwards(d, at, sigma, 0.1), "qp") +
        valley.curve((at) => backwards(d, at, sigma), "pq dashed") +
        ["qp solid", "pq hollow"].map((kind) => now[kind.slice(0, 2)] < MOST
          ? dot(valley.x(mu), valley.y(now[kind.slice(0, 2)]), 5, kind) : "").join("");
    }
    return drawn;
  }

  const at = { one: seeker(4), both: moments(4), between: { mu: 0, sigma: WIDTH } };
  const [one, both, between] = Object.values(at).map(({ mu, sigma }) => {
    const { qp, pq } = divergences(4, mu, sigma);
    return { qp: show(qp), pq: show(pq) };
  });
  const invitation = "Now move q, and find the least of each.";
  const other = `But KL(p ‖ q) is ${one.pq} there and ${both.pq} over both peaks. ${invitation}`;
  const press = (way, back, others) => ({ d, mu, sigma }, { change, follow }) => {
    const [words, fit] = FITS[way];
    const least = fit(d);
    const now = divergences(d, least.mu, least.sigma);
    change({ [way]: true });
    const steps = Array.from({ length: 40 }, (_, k) => {
      const part = (1 - Math.cos(Math.PI * (k + 1) / 40)) / 2;
      return { mu: mu + part * (least.mu - mu), sigma: sigma * (least.sigma / sigma) ** part };
    });
    follow(steps, `The ${words} is ${show(now[way])} nats, where q ${
      way === "pq" ? "has p’s own mean and standard deviation"
        : Math.abs(least.mu) > d / 4 ? "keeps to the taller peak" : "covers all of p"}. ` +
      `There ${others} is ${show(now[back])}.`);
  };

  define("kl-directions", {
    start: { d: 4, mu: 1, sigma: 1, qp: false, pq: false },
    invitation,
    answers: [
      {
        words: "A narrow one, on one peak",
        state: at.one,
        verdict: `Yes. On the taller peak KL(q ‖ p) is ${one.qp} nats, over both it is ${both.qp}. ` +
          other,
      },
      {
        words: "A wide one, over both peaks",
        state: at.both,
        verdict: `No. For your q, KL(q ‖ p) is ${both.qp} nats. On the taller peak alone it is ` +
          `${one.qp}. ${other}`,
      },
      {
        words: "A narrow one, between the peaks",
        state: at.between,
        verdict: `No. Your q is where p has almost nothing: KL(q ‖ p) is ${between.qp} nats. On the ` +
          `taller peak it is ${one.qp}. ${other}`,
      },
    ],
    layout,
    draw,
    handles: handles(plane, [FROM, TO], [0.2, 4]),
    sliders: [{ key: "d", name: "peak distance", min: 0, max: 6, step: 0.1 }],
    buttons: [
      { words: "Least KL(q ‖ p)", press: press("qp", "pq", "KL(p ‖ q)") },
      { words: "Least KL(p ‖ q)", press: press("pq", "qp", "KL(q ‖ p)") },
    ],
    summary: ({ d, mu, sigma }) => {
      const { qp, pq } = divergences(d, mu, sigma);
      return `KL(q ‖ p) ${show(qp)}, KL(p ‖ q) ${show(pq)} nats`;
    },
  }, { divergences, target, moments, seeker });
})();
