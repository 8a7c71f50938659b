// log p(x) = E[log p(x|z)] − KL(q ‖ p(z)) + KL(q ‖ p(z|x)) for the toy vaelib.NonlinearGaussian.
(() => {
  const {
    define, show, density, logDensity, expect, climb, last, segment, write, panel, key, bar, bell,
    handles, plane: planeOf,
  } = playgrounds;
  const NOISE = 0.25;
  const [FROM, TO] = [-1.5, 3]; // the z that are shown
  const f = (z) => Math.tanh(2 * z) + 0.5 * Math.sin(3 * z);
  const slope = (z) => 2 / Math.cosh(2 * z) ** 2 + 1.5 * Math.cos(3 * z);

  const marginals = {};
  const logMarginal = (x) =>
    marginals[x] ??= Math.log(expect(0, 1, (z) => density(x, f(z), NOISE), 0.005));
  const posterior = (z, x) =>
    Math.exp(logDensity(x, f(z), NOISE) + logDensity(z, 0, 1) - logMarginal(x));

  // In nats; the gap by its own sum, not as what is missing.
  function terms(x, mu, sigma) {
    const logJoint = (z) => logDensity(x, f(z), NOISE) + logDensity(z, 0, 1);
    const reconstruction = expect(mu, sigma, (z) => logDensity(x, f(z), NOISE));
    const kl = 0.5 * (mu ** 2 + sigma ** 2 - 1) - Math.log(sigma);
    const gap = expect(mu, sigma, (z) => logDensity(z, mu, sigma) - logJoint(z)) + logMarginal(x);
    return { reconstruction, kl, gap, elbo: reconstruction - kl, logMarginal: logMarginal(x) };
  }
  const uphill = (x, mu, sigma) =>
    climb((z) => (x - f(z)) / NOISE ** 2 * slope(z) - z, mu, sigma);
  const best = (x, mu, sigma) => last(uphill(x, mu, sigma));
  // Over all modes.
  const smallestGap = (x) => Math.min(...[0, 0.5, 1, 1.5, 2, 2.5].map((from) => {
    const { mu, sigma } = best(x, from, 0.2);
    return terms(x, mu, sigma).gap;
  }));
  // The posterior's own mean and standard deviation.
  function moments(x) {
    const mean = (g) => expect(0, 1, (z) => density(x, f(z), NOISE) * g(z)) / Math.exp(logMarginal(x));
    const mu = mean((z) => z);
    return { mu, sigma: Math.sqrt(mean((z) => (z - mu) ** 2)) };
  }

  function layout(width) {
    const wide = width >= 620;
    const plane = wide ? Math.round(0.55 * width) : width;
    const place = wide ? [0, 26, plane, 196] : [0, 46, plane, 170];
    const left = wide ? plane + 40 : 0;
    const bars = panel(left, wide ? 3 : 264, width - left - 54, 219, [-8, 0.5], [0, 1]);
    return {
      width, height: bars.base + 34, place, bars, drag: [panel(...place, [FROM, TO], [0, 1])],
      own: wide ? [160, 0] : [0, 1], // where the name of q is
    };
  }
  const tops = {};
  function plane(state, { place }) {
    const { x } = state;
    tops[x] ??= Math.max(...Array.from({ length: 451 }, (_, k) => posterior(k / 100 - 1.5, x)));
    return planeOf(place, [FROM, TO], tops[x], state);
  }

  function draw(state, layout) {
    const { x, mu, sigma, asked } = state;
    const plot = plane(state, layout);
    const names = [["posterior area", "p(z|x)", 0, 0], ["prior", "p(z)", 88, 0]];
    if (!asked) names.push(["q", `q(z|x): μ = ${show(mu)}, σ = ${show(sigma)}`, ...layout.own]);
    let drawn = key(names) +
      plot.curve((z) => posterior(z, x), "posterior", true) +
      plot.curve((z) => density(z, 0, 1), "prior") +
      plot.axis([-1, 0, 1, 2], "z") +
      write(2, plot.top + 12, "density", "small") +
      (asked ? "" : bell(plot, state));

    const { bars } = layout;
    const { reconstruction, kl, gap, elbo, logMarginal } = terms(x, mu, sigma);
    const end = bars.x(logMarginal);
    drawn += segment(end, bars.top, end, bars.base, "level");
    [
      ["reconstruction", "E[log p(x|z)]", reconstruction, "decoder solid", 0, reconstruction],
      ["kl", "− KL(q ‖ p(z))", kl, "prior striped", reconstruction, elbo],
      ["elbo", "= ELBO", elbo, "q solid", 0, elbo],
      ["gap", "+ gap, KL(q ‖ p(z|x))", gap, "posterior striped", elbo, logMarginal],
      ["marginal", "= log p(x)", logMarginal, "ink solid", 0, logMarginal],
    ].forEach(([id, words, value, kind, from, to], k) => {
      const y = bars.top + 43.8 * k;
      const bold = words.startsWith("=") ? "strong" : "";
      const known = id === "marginal" || !asked;
      drawn += write(bars.left, y + 12, words, `${bold} halo`) +
        write(layout.width, y + 30, known ? show(value) : "?", `number ${bold} v-${id}`, "end") +
        (known ? bar(bars, y + 19, from, to, kind) : "");
    });
    return drawn + bars.axis([-8, -6, -4, -2, 0], "") +
      write(layout.width, bars.base + 27, "nats", "small", "end");
  }

  const at = { tall: best(0.5, 0.15, 0.1), between: moments(0.5), wide: best(0.5, 1.4, 0.3) };
  const gaps = Object.fromEntries(Object.entries(at).map(([place, { mu, sigma }]) =>
    [place, show(terms(0.5, mu, sigma).gap)]));
  const invitation = "Now move q. Which bar never changes?";

  define("bound", {
    start: { x: 0.5, mu: 1, sigma: 0.5 },
    invitation,
    answers: [
      {
        words: "On the tall, narrow peak",
        state: at.tall,
        verdict: `Close. Your q has a gap of ${gaps.tall} nats. On the low, wide peak it is ` +
          `${gaps.wide}, the smallest there is. ${invitation}`,
      },
      {
        words: "Between the peaks, wide enough for both",
        state: at.between,
        verdict: `No. Your q has the posterior’s own mean and standard deviation, but a gap of ` +
          `${gaps.between} nats. On the low, wide peak it is ${gaps.wide}, the smallest there is. ` +
          invitation,
      },
      {
        words: "On the low, wide peak",
        state: at.wide,
        verdict: `Yes. Your q has a gap of ${gaps.wide} nats, the smallest there is. On the tall ` +
          `peak it is ${gaps.tall}, between the two ${gaps.between}. ${invitation}`,
      },
    ],
    layout,
    draw,
    handles: handles(plane, [FROM, TO], [0.05, 1.5]),
    sliders: [{ key: "x", name: "observation x", min: 0, max: 1.5, step: 0.05 }],
    buttons: [{
      words: "Find the best q from here",
      press: ({ x, mu, sigma }, { follow }) => {
        const top = best(x, mu, sigma);
        const { gap } = terms(x, top.mu, top.sigma);
        const other = smallestGap(x);
        follow(uphill(x, mu, sigma), gap > other + 0.005
          ? `No small step raises the ELBO any more. The gap is ${show(gap)} nats, yet near another ` +
            `peak there is a q with ${show(other)}.`
          : `No Gaussian has a higher ELBO. The gap is ${show(gap)} nats, and no Gaussian closes it.`);
      },
    }],
    summary: ({ x, mu, sigma }) => {
      const { elbo, gap, logMarginal } = terms(x, mu, sigma);
      return `ELBO ${show(elbo)}, gap ${show(gap)}, log p(x) ${show(logMarginal)} nats`;
    },
  }, { f, terms, posterior, best, moments });
})();
