// What the playgrounds share: sums over a Gaussian, panels drawn as SVG, handles, and the question
// that a reader answers first. Each play-NAME.js calls `playgrounds.define`. Classic scripts, since
// browsers load no modules from files.
window.playgrounds = (() => {
  const { abs, exp, log, max, min, PI, sqrt } = Math;

  // --- numbers ---

  const clamp = (x, low, high) => min(high, max(low, x));
  const round = (x, digits) => Number(x.toFixed(digits));
  const show = (x, digits = 2) => (round(x, digits) || 0).toFixed(digits).replace("-", "−");
  const logDensity = (z, mu, sigma) =>
    -0.5 * ((z - mu) / sigma) ** 2 - log(sigma) - 0.5 * log(2 * PI);
  const density = (z, mu, sigma) => exp(logDensity(z, mu, sigma));

  // E[g(z, t)], z = μ + σt, t from N(0, 1): the trapezoidal rule, which for analytic functions
  // converges exponentially (see vaelib.NonlinearGaussian).
  const rules = {};
  function expect(mu, sigma, g, step = 0.01) {
    rules[step] ||= Array.from({ length: 2 * Math.round(9 / step) + 1 }, (_, k) => {
      const t = k * step - 9;
      return [t, density(t, 0, 1) * step];
    });
    let sum = 0;
    for (const [t, weight] of rules[step]) sum += weight * g(mu + sigma * t, t);
    return sum;
  }

  // The Gaussian with the least KL to a target, uphill from (μ, σ): natural gradient, in short
  // steps, so that it stays with the mode where it is. `slope` is d/dz log target.
  function* climb(slope, mu, sigma) {
    for (let k = 0; k < 300; k++) {
      const right = clamp(0.3 * sigma * expect(mu, sigma, slope, 0.02), -0.3, 0.3);
      const wider = 0.15 * (1 + sigma * expect(mu, sigma, (z, t) => t * slope(z), 0.02));
      mu += sigma * right;
      sigma *= exp(clamp(wider, -0.15, 0.15));
      yield { mu, sigma };
      if (abs(right) + abs(wider) < 1e-7) return;
    }
  }
  const last = (steps) => [...steps].at(-1);

  // --- drawing: strings of SVG, so that the still picture is the same drawing ---

  const px = (x) => round(x, 1);
  const line = (points, kind) =>
    `<path class="${kind}" d="M${points.map(([x, y]) => `${px(x)} ${px(y)}`).join("L")}"/>`;
  const segment = (x1, y1, x2, y2, kind) => line([[x1, y1], [x2, y2]], kind);
  const rect = (x, y, width, height, kind) =>
    `<rect class="${kind}" x="${px(x)}" y="${px(y)}" width="${px(width)}" height="${px(height)}"/>`;
  const dot = (x, y, r, kind) => `<circle class="${kind}" cx="${px(x)}" cy="${px(y)}" r="${r}"/>`;
  const write = (x, y, words, kind = "", anchor = "start") =>
    `<text class="${kind}" x="${px(x)}" y="${px(y)}" text-anchor="${anchor}">${words}</text>`
      .replace(' class=""', "").replace(' text-anchor="start"', "");
  const clip = (x, y, width, height, content) =>
    `<svg x="${x}" y="${y}" width="${width}" height="${height}" ` +
    `viewBox="${x} ${y} ${width} ${height}">${content}</svg>`;

  // A place with two scales. What lies beyond it is cut off.
  function panel(left, top, width, height, [from, to], [low, high]) {
    const x = (value) => left + (value - from) / (to - from) * width;
    const y = (value) => top + height - (value - low) / (high - low) * height;
    const curve = (f, kind, filled) => {
      const points = [];
      const steps = Math.round(width / 1.6);
      for (let k = 0; k <= steps; k++) {
        const at = from + (to - from) * k / steps;
        points.push([x(at), clamp(y(f(at)), top - 99, top + height + 99)]);
      }
      const area = [[left, top + height], ...points, [left + width, top + height]];
      const drawn = (filled ? line(area, `${kind} area`) : "") + line(points, kind);
      return clip(left, top - 2, width, height + 4, drawn);
    };
    const base = top + height;
    const axis = (ticks, label, digits = 0) => segment(left, base, left + width, base, "axis") +
      ticks.map((tick) => segment(x(tick), base, x(tick), base + 4, "axis") +
        write(x(tick), base + 27, show(tick, digits), "small", "middle")).join("") +
      (label && write(left + width, base + 27, label, "small", "end"));
    const inside = (content) => clip(left, top, width, height, content);
    return { left, top, width, height, base, from, to, x, y, curve, axis, inside };
  }

  // Names of lines, each at its place, so that none moves when a number in another gets longer.
  const key = (entries) => entries.map(([kind, words, x, row]) => {
    const y = 12 + 20 * row;
    const sample = kind.includes(" area")
      ? rect(x, y - 9, 20, 9, kind) + segment(x, y - 9, x + 20, y - 9, kind.replace(" area", ""))
      : segment(x, y - 4, x + 20, y - 4, kind);
    return sample + write(x + 26, y, words);
  }).join("");

  // A panel as high as q, and as `least`.
  const plane = (place, across, least, { mu, sigma, asked }) =>
    panel(...place, across, [0, 1.12 * max(least, asked ? 0 : density(mu, mu, sigma))]);

  // q on a panel, with arms to its two handles.
  function bell(plot, { mu, sigma }) {
    const q = (z) => density(z, mu, sigma);
    const [middle, side, height] = [plot.x(mu), plot.x(mu + sigma), plot.y(q(mu + sigma))];
    return plot.curve(q, "q", true) +
      plot.inside(segment(middle, plot.base, middle, plot.y(q(mu)), "q thin") +
        segment(middle, height, side, height, "q thin"));
  }
  const handles = (plane, [muMin, muMax], [sigmaMin, sigmaMax]) => [
    {
      key: "mu", letter: "μ", name: "mean of q", min: muMin, max: muMax,
      place: (state, layout) => [plane(state, layout).x(state.mu), plane(state, layout).base],
    },
    {
      key: "sigma", letter: "σ", name: "standard deviation of q", min: sigmaMin, max: sigmaMax,
      place: (state, layout) => {
        const plot = plane(state, layout);
        const z = state.mu + state.sigma;
        const x = min(plot.x(z), plot.left + plot.width);
        return [x, plot.y(density(z, state.mu, state.sigma))];
      },
    },
  ];

  // A bar on a horizontal scale of a panel; an arrow where it goes on beyond.
  function bar(scale, y, start, end, kind) {
    const [low, high] = [min(start, end), max(start, end)];
    const [a, b] = [low, high].map((value) => scale.x(clamp(value, scale.from, scale.to)));
    let body = rect(a, y, max(b - a, 0.5), 13, kind);
    if (kind.endsWith("striped")) body += segment(a, y + 6.5, b, y + 6.5, kind.replace("striped", "stripes"));
    const tip = (at, back) => line([[back, y - 2], [at, y + 6.5], [back, y + 15]], "beyond");
    return body + (low < scale.from ? tip(a, a + 9) : high > scale.to ? tip(b, b - 9) : "");
  }

  // --- the page ---

  function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) made[name] = value;
      else made.setAttribute(name, value);
    }
    made.append(...children);
    return made;
  }

  // Words for the reader, with symbols in italics.
  function say(place, words) {
    if (place.dataset.said === words) return;
    place.dataset.said = words;
    place.innerHTML = words.replace(/(?<![\p{L}’])[pqxzfμσε](?!\p{L})/gu, "<i>$&</i>");
  }

  const HINT = () => "Drag μ, σ or q itself; on a handle, the arrow keys work, too.";
  const STEPS = {
    ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10,
    Home: -Infinity, End: Infinity,
  };

  function start(figure, name, game) {
    const still = figure.querySelector(".play-still");
    const question = figure.querySelector(".play-question");
    const state = { ...game.start, asked: Boolean(question) };
    let [layout, frame] = [null, 0];

    // --- parts ---
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("aria-hidden", "true");
    const knobs = game.handles.map((handle) => element("div", {
      class: "play-handle", role: "slider", tabindex: 0, "aria-label": handle.name,
      "aria-valuemin": handle.min, "aria-valuemax": handle.max,
      onkeydown: (event) => press(event, handle),
    }, handle.letter));
    const stage = element("div", { class: "play-stage" }, svg, ...knobs);
    const sliders = (game.sliders || []).map(({ key, name, min, max, step }) => {
      const input = element("input", {
        type: "range", min, max, step, oninput: () => change({ [key]: Number(input.value) }),
      });
      const output = element("span", { class: "play-value", "aria-hidden": "true" });
      const label = element("label", { class: "play-slider" }, name, input, output);
      return { key, input, output, label };
    });
    const group = `play-${name}-${start.count = (start.count || 0) + 1}`;
    const radios = [];
    const options = (game.options || []).map(({ key, name, values }) => element("fieldset",
      { class: "play-options" }, element("legend", {}, name),
      ...Object.entries(values).map(([value, words]) => {
        const input = element("input", {
          type: "radio", name: `${group}-${key}`, value, onchange: () => change({ [key]: value }),
        });
        radios.push({ key, input });
        return element("label", {}, input, words);
      })));
    const button = (words, onclick, kind = "") =>
      element("button", { type: "button", class: kind, onclick }, words);
    const buttons = game.buttons.map(({ words, press }) =>
      button(words, () => press(state, { change, follow })));
    const reset = button("Start again", () => change(game.start), "play-plain");
    const controls = element("div", { class: "play-controls" }, ...options,
      ...sliders.map(({ label }) => label),
      element("div", { class: "play-buttons" }, ...buttons, reset));
    const note = element("p", { class: "play-note" });
    const verdict = element("p", { class: "play-verdict", tabindex: -1 });
    const live = element("div", {
      class: "play-live", role: "group",
      "aria-label": still.firstElementChild.getAttribute("aria-label"),
    });
    if (question) {
      const answers = game.answers.map((answer) => button(answer.words, () => reply(answer)));
      const skip = button("Skip the question", () => reply({ verdict: game.invitation }), "play-plain");
      live.append(element("div", { class: "play-ask" }, question,
        element("div", { class: "play-buttons" }, ...answers, skip)));
    }
    live.append(verdict, stage, controls, note);
    still.after(live);
    figure.classList.add("is-live");

    // --- what happens ---
    function change(changes) {
      cancelAnimationFrame(frame);
      Object.assign(state, { said: "" }, changes);
      render();
    }
    function reply(answer) {
      live.querySelector(".play-ask").remove();
      say(verdict, answer.verdict);
      change({ ...answer.state, asked: false });
      verdict.focus({ preventScroll: true });
    }
    // Step by step, or at once for a reader who prefers no motion; then what is to be said.
    function follow(steps, words) {
      const all = [...steps];
      const { mu, sigma } = all.at(-1);
      const shown = matchMedia("(prefers-reduced-motion: reduce)").matches ? [] : all.slice(0, 60);
      const next = () => {
        if (!shown.length) return change({ mu: round(mu, 3), sigma: round(sigma, 3), said: words });
        change(shown.shift());
        frame = requestAnimationFrame(next);
      };
      next();
    }
    function set(handle, value) {
      const { min: low, max: high } = handle;
      change({ [handle.key]: round(clamp(value, low, high), 2) });
    }
    function press(event, handle) {
      if (!(event.key in STEPS) || event.altKey || event.ctrlKey || event.metaKey) return;
      event.preventDefault(); // no scrolling
      event.stopPropagation();
      const steps = STEPS[event.key] * (event.shiftKey ? 10 : 1);
      set(handle, state[handle.key] + 0.02 * steps);
    }
    // A handle is dragged; beside the handles, in a panel, q as a whole is. Each finger has its own.
    const drags = new Map();
    stage.onpointerdown = (event) => {
      if (event.button !== 0 || state.asked) return;
      const box = stage.getBoundingClientRect();
      const [x, y] = [event.clientX - box.left, event.clientY - box.top];
      const held = knobs.indexOf(event.target);
      const panels = held < 0
        ? layout.drag.filter(({ left, top, width, base }) =>
          x >= left && x <= left + width && y >= top && y <= base + 20)
        : layout.drag;
      if (!panels.length) return;
      const [{ from, to, width }] = panels;
      const handle = game.handles[max(held, 0)];
      const origin = state[handle.key];
      event.preventDefault(); // no selection of text
      stage.setPointerCapture(event.pointerId);
      knobs[max(held, 0)].focus({ preventScroll: true });
      drags.set(event.pointerId, ({ clientX }) =>
        set(handle, origin + (clientX - event.clientX) * (to - from) / width));
    };
    stage.onpointermove = (event) => drags.get(event.pointerId)?.(event);
    stage.onlostpointercapture = ({ pointerId }) => drags.delete(pointerId);

    function render() {
      svg.innerHTML = game.draw(state, layout);
      live.classList.toggle("is-asking", state.asked);
      const summary = game.summary(state);
      game.handles.forEach(({ key, letter, place }, k) => {
        const [x, y] = place(state, layout);
        knobs[k].style.transform = `translate(${px(x)}px, ${px(y)}px)`;
        knobs[k].setAttribute("aria-valuenow", state[key]);
        knobs[k].setAttribute("aria-valuetext", `${letter} = ${show(state[key])}; ${summary}`);
      });
      for (const { key, input, output } of sliders) {
        input.value = state[key];
        output.textContent = show(state[key]);
        input.setAttribute("aria-valuetext", `${show(state[key])}; ${summary}`);
      }
      for (const { key, input } of radios) input.checked = state[key] === input.value;
      note.setAttribute("aria-live", state.said ? "polite" : "off");
      say(note, state.said || (game.note || HINT)(state));
    }
    new ResizeObserver(([{ contentRect }]) => {
      const width = Math.round(contentRect.width);
      if (!width || width === layout?.width) return;
      layout = game.layout(width);
      svg.setAttribute("viewBox", `0 0 ${width} ${layout.height}`);
      svg.style.height = `${layout.height}px`;
      render();
    }).observe(stage);
  }

  // --- what play-NAME.js calls ---

  function define(name, game, functions) {
    playgrounds[name] = functions;
    // The picture for paper and for pages without scripts, see book/playgrounds.py.
    functions.still = () => {
      const layout = game.layout(640);
      const size = `width="640" height="${layout.height}" viewBox="0 0 640 ${layout.height}"`;
      return `<svg xmlns="http://www.w3.org/2000/svg" ${size}>${game.draw(game.start, layout)}</svg>`;
    };
    const begin = () => {
      for (const figure of document.querySelectorAll(`[data-playground="${name}"]:not(.is-live)`)) {
        start(figure, name, game);
      }
    };
    if (document.readyState === "loading") addEventListener("DOMContentLoaded", begin);
    else begin();
  }

  return {
    define, show, density, logDensity, expect, climb, last,
    line, segment, rect, dot, write, panel, plane, key, bar, bell, handles,
  };
})();
