// Whichever script comes first starts what is on the page: not every notebook says which is whose.
for (const root of document.querySelectorAll(".latent-explorer:not([data-started])")) {
  root.setAttribute("data-started", "");
  const find = (selector) => root.querySelector(selector);
  const data = JSON.parse(find("script[type='application/json']").textContent);
  const [plane, point] = [find(".le-plane"), find(".le-point")];
  const number = (x, digits) => x.toFixed(digits).replace(/^-/, "−");

  // --- networks -------------------------------------------------------------------------------

  // Seven characters hold three weights: see `_pack` in explorer.py.
  const digit = Object.fromEntries([...data.alphabet].map((c, i) => [c.charCodeAt(0), i]));
  function unpack({ text, columns, scale }) {
    const values = new Float32Array(scale.length * columns);
    for (let i = 0, at = 0; i < values.length; at += 7) {
      let number = 0;
      for (let k = at; k < at + 7; k++) {
        number = number * data.alphabet.length + digit[text.charCodeAt(k)];
      }
      for (const end = Math.min(i + 3, values.length); i < end; i++) {
        const level = number % data.levels;
        values[i] = (level - (data.levels - 1) / 2) * scale[Math.floor(i / columns)];
        number = (number - level) / data.levels;
      }
    }
    return values;
  }

  const activations = {
    relu: (x) => Math.max(0, x),
    tanh: Math.tanh,
    sigmoid: (x) => 1 / (1 + Math.exp(-x)),
  };
  function linear(packed) {
    const [weight, bias] = [unpack(packed.weight), unpack(packed.bias)];
    return (x) => bias.map((sum, row) => {
      for (let i = 0; i < x.length; i++) sum += weight[row * x.length + i] * x[i];
      return sum;
    });
  }
  const layersOf = (packed) => packed.map((layer) =>
    typeof layer === "string" ? (x) => x.map(activations[layer]) : linear(layer));
  const apply = (layers, x) => layers.reduce((x, layer) => layer(x), Float32Array.from(x));

  // Each view is a plane: codes in it, and the network that decodes its points.
  const views = data.views.map((view) => ({ ...view, decoder: layersOf(view.layers) }));
  let view = views[0];

  // --- pictures -------------------------------------------------------------------------------

  const [channels, height, width] = data.shape;
  function paint(context, x, left, top) {
    const image = context.createImageData(width, height);
    for (let i = 0; i < image.data.length; i++) {
      const channel = Math.min(i % 4, channels - 1);
      const value = x[channel * width * height + Math.floor(i / 4)];
      image.data[i] = i % 4 === 3 ? 255 : 255 * value; // rounded and clipped by the array
    }
    context.putImageData(image, left, top);
  }
  const decoded = find(".le-decoded");
  [decoded.width, decoded.height] = [width, height];

  const tiles = find(".le-tiles"), across = 15;
  [tiles.width, tiles.height] = [across * width, across * height];
  function paintManifold() {
    const context = tiles.getContext("2d");
    for (let row = 0; row < across; row++) {
      for (let column = 0; column < across; column++) {
        const at = (i) => view.extent * ((2 * i + 1) / across - 1); // the middle of a tile
        const x = apply(view.decoder, [at(column), -at(row)]);
        paint(context, x, column * width, row * height);
      }
    }
  }

  // --- the plane ------------------------------------------------------------------------------

  const right = (x) => 200 + 200 * x / view.extent, down = (y) => 200 - 200 * y / view.extent;
  function drawPlane() {
    const far = view.extent, lines = [], names = [];
    for (let t = -view.tick * Math.floor(far / view.tick); t <= far; t += view.tick) {
      const stroke = t === 0 ? "#888" : "#ddd";
      lines.push(`<path d="M${right(t)} 0V400M0 ${down(t)}H400" stroke="${stroke}"/>`);
      if (t < -0.87 * far || t > 0.96 * far) continue; // the corner, the border
      names.push(`<text x="${right(t)}" y="395" text-anchor="middle">${number(t, 0)}</text>`);
      names.push(`<text x="5" y="${down(t) + 4}">${number(t, 0)}</text>`);
    }
    names.push('<text x="395" y="194" text-anchor="end" font-style="italic">z₁</text>');
    names.push('<text x="206" y="14" font-style="italic">z₂</text>');
    const label = (lower) => ([kind, x, y]) => `<text x="${right(x)}" y="${down(y) + lower}"
      fill="${data.colours[kind]}">${data.kinds[kind]}</text>`;
    const circles = find(".le-prior").checked ? [1, 2, 3].map((r) =>
      `<circle cx="200" cy="200" r="${200 * r / far}"/><text x="200" y="${down(r) - 3}"
        fill="#1f1f1f" stroke="#fff" stroke-width="3" paint-order="stroke">${r}σ</text>`) : [];
    find("svg").innerHTML = `<g class="le-lines">${lines.join("")}</g>
      <g class="le-codes" font-size="9" text-anchor="middle">${view.codes.map(label(3)).join("")}</g>
      <g stroke="#fff" stroke-width="3" paint-order="stroke">
      <g class="le-names" font-size="12" fill="#1f1f1f">${names.join("")}</g>
      <g class="le-codes" font-size="23" font-weight="bold" text-anchor="middle">
      ${view.medians.map(label(8)).join("")}</g></g>
      <g class="le-circles" fill="none" stroke="#007a5a" stroke-width="2" stroke-dasharray="6 4"
        font-size="12" text-anchor="middle">${circles.join("")}</g>
      <g class="le-q" fill="none" stroke-width="3"></g>`;
    drawEllipse();
  }

  let z;
  function moveTo(...to) {
    const far = view.extent;
    // The numbers that are shown are those that are decoded.
    z = to.map((x) => Math.max(-far, Math.min(far, Math.round(100 * x) / 100)) || 0);
    const distance = ([, x, y]) => Math.hypot(x - z[0], y - z[1]);
    const nearest = view.codes.reduce((a, b) => (distance(b) < distance(a) ? b : a));
    const near = `nearest training code: ${data.kinds[nearest[0]]}`;
    const [z1, z2] = z.map((x) => number(x, 2));
    point.style.left = `${right(z[0]) / 4}%`;
    point.style.top = `${down(z[1]) / 4}%`;
    point.setAttribute("aria-valuemin", -far);
    point.setAttribute("aria-valuemax", far);
    point.setAttribute("aria-valuenow", z[0]);
    point.setAttribute("aria-valuetext", `z₁ = ${z1}, z₂ = ${z2}, ${near}`);
    find(".le-z").textContent = `z = (${z1}, ${z2})`;
    find(".le-nearest").textContent = near;
    paint(decoded.getContext("2d"), apply(view.decoder, z), 0, 0);
  }
  function inBox(box, event) {
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  }
  function follow(event) {
    const [x, y] = inBox(plane.getBoundingClientRect(), event);
    moveTo((2 * x - 1) * view.extent, (1 - 2 * y) * view.extent);
  }
  let held = null; // the pointer that drags; a finger is captured by what it touches anyway
  plane.addEventListener("pointerdown", (event) => {
    const scrolls = event.pointerType !== "mouse" && event.target !== point;
    if (event.button !== 0 || scrolls) return;
    event.preventDefault(); // no selection of text
    plane.setPointerCapture(event.pointerId);
    held = event.pointerId;
    point.focus({ preventScroll: true });
    follow(event);
  });
  plane.addEventListener("pointermove", (event) => {
    if (event.pointerId === held) follow(event);
  });
  plane.addEventListener("lostpointercapture", () => { held = null; });
  plane.addEventListener("click", follow); // a finger's tap
  const arrows = {
    ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowDown: [0, -1], ArrowUp: [0, 1],
  };
  function onArrows(element, move) {
    element.addEventListener("keydown", (event) => {
      if (!(event.key in arrows) || event.altKey || event.ctrlKey || event.metaKey) return;
      event.preventDefault(); // no scrolling, ...
      event.stopPropagation(); // ... no walk to the notebook's next cell
      move(arrows[event.key], event.shiftKey);
    });
  }
  onArrows(point, (arrow, far) => {
    const step = (far ? 0.2 : 0.02) * view.extent;
    moveTo(...arrow.map((d, i) => z[i] + step * d));
  });

  // --- what is shown in the plane -------------------------------------------------------------

  function drawTiles() {
    const shown = find(".le-manifold").checked;
    if (shown) paintManifold();
    tiles.hidden = !shown;
    plane.toggleAttribute("data-tiled", shown);
  }
  find(".le-manifold").addEventListener("change", drawTiles);
  find(".le-prior").addEventListener("change", drawPlane);
  find(".le-autoencoder").closest("label").hidden = views.length === 1;
  find(".le-autoencoder").addEventListener("change", (event) => {
    view = views[event.target.checked ? 1 : 0];
    drawPlane();
    drawTiles();
    moveTo(...view.start);
  });

  // --- a digit of one's own -------------------------------------------------------------------

  let q = null; // q(z|x) of what is drawn
  function drawEllipse() {
    find(".le-q").innerHTML = q && view === views[0] ? [["#fff", 6], ["#0072b2", 3]].map(
      ([colour, thick]) => `<ellipse cx="${right(q.mu[0])}" cy="${down(q.mu[1])}"
        rx="${400 * q.sigma[0] / view.extent}" ry="${400 * q.sigma[1] / view.extent}"
        stroke="${colour}" stroke-width="${thick}"/>`).join("") : "";
  }
  drawPlane();
  moveTo(...view.start);
  if (data.encoder) {
    const encoder = layersOf(data.encoder);
    const logits = views[0].decoder.slice(0, -1); // without the sigmoid, of which logs are taken
    const pad = find(".le-pad"), ink = pad.getContext("2d");
    [pad.width, pad.height] = [width, height];
    for (const part of [".le-drawing", ".le-drawing-caption"]) find(part).hidden = false;

    let x = new Uint8Array(width * height), pen = [width >> 1, height >> 1], penIsDown = false;
    const softplus = (a) => Math.max(a, 0) + Math.log1p(Math.exp(-Math.abs(a)));
    function logLikelihood(z) {
      const a = apply(logits, z);
      return a.reduce((sum, a, i) => sum + (x[i] ? a : 0) - softplus(a), 0);
    }
    function encode() {
      const h = apply(encoder, x);
      q = { mu: [h[0], h[1]], sigma: [Math.exp(h[2] / 2), Math.exp(h[3] / 2)] };
      const kl = [0, 1].reduce((sum, k) => sum +
        0.5 * (q.sigma[k] ** 2 + q.mu[k] ** 2 - 1 - h[2 + k]), 0);
      const draws = data.noise.map((eps) => logLikelihood(q.mu.map((m, k) => m + q.sigma[k] * eps[k])));
      const reconstruction = draws.reduce((a, b) => a + b) / draws.length;
      const show = (name, text) => { find(name).textContent = text; };
      show(".le-mu", `(${q.mu.map((m) => number(m, 2)).join(", ")})`);
      show(".le-sigma", `(${q.sigma.map((s) => number(s, 2)).join(", ")})`);
      show(".le-reconstruction", number(reconstruction, 1));
      show(".le-kl", number(kl, 1));
      show(".le-elbo", number(reconstruction - kl, 1));
    }
    function changed() {
      paint(ink, x, 0, 0);
      encode();
      drawEllipse();
      if (view === views[0]) moveTo(...q.mu);
    }
    // A round pen of three pixels.
    function dot([column, row]) {
      for (const [dx, dy] of [[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]]) {
        const [i, j] = [Math.round(column) + dx, Math.round(row) + dy];
        if (i >= 0 && i < width && j >= 0 && j < height) x[j * width + i] = 1;
      }
    }
    function line(to) {
      const steps = Math.max(1, Math.ceil(2 * Math.hypot(to[0] - pen[0], to[1] - pen[1])));
      for (let s = 1; s <= steps; s++) dot(pen.map((p, k) => p + (to[k] - p) * s / steps));
      pen = to;
      changed();
    }
    const onPad = (event) => {
      const [u, v] = inBox(pad.getBoundingClientRect(), event);
      return [u * width - 0.5, v * height - 0.5];
    };
    pad.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      event.preventDefault();
      pad.setPointerCapture(event.pointerId);
      pen = onPad(event);
      line(pen);
    });
    pad.addEventListener("pointermove", (event) => {
      if (pad.hasPointerCapture(event.pointerId)) line(onPad(event));
    });
    onArrows(pad, (arrow) => {
      const to = [pen[0] + arrow[0], pen[1] - arrow[1]];
      if (penIsDown) line(to); else pen = to;
      showPen();
    });
    pad.addEventListener("keydown", (event) => {
      if (event.key !== " ") return;
      event.preventDefault();
      event.stopPropagation();
      penIsDown = !penIsDown;
      if (penIsDown) line(pen);
      showPen();
    });
    function showPen() {
      paint(ink, x, 0, 0);
      ink.fillStyle = penIsDown ? "#d55e00" : "#888";
      ink.fillRect(Math.round(pen[0]), Math.round(pen[1]), 1, 1);
    }

    const choice = find(".le-example");
    choice.innerHTML = data.examples.map(([kind], i) =>
      `<option value="${i}">${kind}</option>`).join("") + '<option value="-1">your own</option>';
    function take(i) {
      x = Uint8Array.from(data.examples[i][1], Number);
      changed();
    }
    choice.addEventListener("change", () => { if (choice.value >= 0) take(choice.value); });
    find(".le-clear").addEventListener("click", () => {
      x.fill(0);
      choice.value = -1;
      changed();
    });
    pad.addEventListener("pointerdown", () => { choice.value = -1; });
    let drawn = 0;
    find(".le-sample").addEventListener("click", () => {
      if (view !== views[0]) find(".le-autoencoder").click();
      const eps = data.noise[drawn++ % data.noise.length];
      moveTo(...q.mu.map((m, k) => m + q.sigma[k] * eps[k]));
    });
    choice.value = data.example;
    take(data.example);
  }
}
