"use strict";
{
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const canvas = byId("canvas"), frame = byId("map"), tip = byId("tip"), find = byId("find"), legend = byId("legend");
  const context = canvas.getContext("2d", { alpha: false, willReadFrequently: true });
  const n = data.x.length, COLOURS = 8, SHAPES = 5, MARGIN = 24, REACH = 14;
  const lower = data.names.map((name) => name.toLowerCase());
  const shown = new Uint8Array(n).fill(1);
  let view = { zoom: 1, x: 0, y: 0 };  // pixels = margin + place * scale * zoom + offset
  let width = 0, height = 0, scale = 1, ratio = 1, left = 0, top = 0;
  let over = -1, chosen = -1, only = -1, dirty = false, sprites = [];
  let sounds = null, playing = null, audio = null, image = null, pixels = null;

  // ------------------------------------------------------------------------------------------------ what is drawn
  const outline = (pen, shape, x, y, r) => {
    pen.beginPath();
    if (shape === 0) pen.arc(x, y, r, 0, 2 * Math.PI);
    else if (shape === 1) pen.rect(x - r * 0.9, y - r * 0.9, r * 1.8, r * 1.8);
    else {
      const corners = {
        2: [[0, -1.25], [1.15, 0.85], [-1.15, 0.85]],
        3: [[0, -1.3], [1.3, 0], [0, 1.3], [-1.3, 0]],
        4: [[-0.45, -1.2], [0.45, -1.2], [0.45, -0.45], [1.2, -0.45], [1.2, 0.45], [0.45, 0.45],
            [0.45, 1.2], [-0.45, 1.2], [-0.45, 0.45], [-1.2, 0.45], [-1.2, -0.45], [-0.45, -0.45]],
      }[shape];
      corners.forEach(([dx, dy], index) => pen[index ? "lineTo" : "moveTo"](x + dx * r, y + dy * r));
      pen.closePath();
    }
  };
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const look = (label) => [`--c${label % COLOURS}`, Math.floor(label / COLOURS) % SHAPES];
  const radius = () => Math.min(9, Math.max(2.5, 7 - Math.log10(n + 1)) * Math.pow(view.zoom, 0.25));

  const sprite = (label, r) => {
    const [name, shape] = look(label);
    const size = Math.ceil((2 * r * 1.35 + 3) * ratio);
    const drawn = document.createElement("canvas");
    drawn.width = drawn.height = size;
    const pen = drawn.getContext("2d");
    pen.scale(ratio, ratio);
    outline(pen, shape, size / ratio / 2, size / ratio / 2, r);
    pen.fillStyle = colour(name);
    pen.fill();
    pen.strokeStyle = colour("--ground");
    pen.lineWidth = 0.75;
    pen.stroke();
    return { size, pixels: new Uint32Array(pen.getImageData(0, 0, size, size).data.buffer) };
  };
  const makeSprites = () => {
    const r = radius();
    const many = Math.min(data.labels.length, COLOURS * SHAPES);
    sprites = Array.from({ length: many }, (_, label) => sprite(label, r));
    Object.assign(sprites, { r, ground: plain("--ground"), faint: plain("--line") });
  };

  const px = (i) => left + (data.x[i] / data.steps) * scale * view.zoom + view.x;
  const py = (i) => top + (data.y[i] / data.steps) * scale * view.zoom + view.y;

  // Points are put into the pixels here: ten thousand calls of the canvas take ten times as long without a GPU.
  const put = (drawn, x, y) => {
    const { size, pixels: from } = drawn, wide = image.width, high = image.height;
    const x0 = Math.round(x * ratio - size / 2), y0 = Math.round(y * ratio - size / 2);
    const first = Math.max(0, -x0), last = Math.min(size, wide - x0);
    for (let row = Math.max(0, -y0), end = Math.min(size, high - y0); row < end; row++) {
      let source = row * size + first, target = (y0 + row) * wide + x0 + first;
      for (let k = first; k < last; k++, source++, target++) {
        const ink = from[source], alpha = ink >>> 24;
        if (alpha === 255) pixels[target] = ink;
        else if (alpha) {
          const below = pixels[target], keep = 255 - alpha;
          const even = (((ink & 0xff00ff) * alpha + (below & 0xff00ff) * keep) >>> 8) & 0xff00ff;
          const odd = (((ink >>> 8) & 0xff) * alpha + ((below >>> 8) & 0xff) * keep) & 0xff00;
          pixels[target] = (0xff000000 | even | odd) >>> 0;
        }
      }
    }
  };
  const plain = (name) => {
    context.fillStyle = colour(name);
    context.fillRect(0, 0, 1, 1);
    return new Uint32Array(context.getImageData(0, 0, 1, 1).data.buffer)[0];
  };

  const draw = () => {
    dirty = false;
    if (!sprites.length || Math.abs(sprites.r - radius()) > 0.25) makeSprites();
    context.setTransform(1, 0, 0, 1, 0, 0);
    if (!image || image.width !== canvas.width || image.height !== canvas.height) {
      image = context.createImageData(canvas.width, canvas.height);
      pixels = new Uint32Array(image.data.buffer);
    }
    const many = sprites.length, dot = Math.max(2, Math.round(2 * ratio));
    const faint = { size: dot, pixels: new Uint32Array(dot * dot).fill(sprites.faint) };
    pixels.fill(sprites.ground);
    for (let i = 0; i < n; i++) if (!shown[i]) put(faint, px(i), py(i));
    for (let i = 0; i < n; i++) if (shown[i]) put(sprites[data.label[i] % many], px(i), py(i));
    context.putImageData(image, 0, 0);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    for (const [i, ink] of [[over, "--soft"], [chosen, "--ink"]]) {
      if (i < 0) continue;
      const [name, shape] = look(data.label[i]);
      outline(context, shape, px(i), py(i), sprites.r + 2);
      context.fillStyle = colour(name);
      context.fill();
      context.beginPath();
      context.arc(px(i), py(i), sprites.r + (i === playing ? 9 : 6), 0, 2 * Math.PI);
      context.strokeStyle = colour(ink);
      context.lineWidth = i === playing ? 4 : 2;
      context.stroke();
    }
  };
  const redraw = () => {
    if (dirty) return;
    dirty = true;
    requestAnimationFrame(draw);
  };

  const fit = () => {
    const box = canvas.getBoundingClientRect();
    ratio = window.devicePixelRatio || 1;
    const wider = box.width !== width || box.height !== height;
    width = box.width;
    height = box.height;
    canvas.width = Math.max(1, Math.round(width * ratio));
    canvas.height = Math.max(1, Math.round(height * ratio));
    const [low, high] = spread;
    const spanX = Math.max(1e-6, high[0] - low[0]), spanY = Math.max(1e-6, high[1] - low[1]);
    scale = Math.max(1, Math.min((width - 2 * MARGIN) / spanX, (height - 2 * MARGIN) / spanY));
    left = (width - scale * (low[0] + high[0])) / 2;
    top = (height - scale * (low[1] + high[1])) / 2;
    if (wider) sprites = [];
    redraw();
  };
  const spread = [[1, 1], [0, 0]];
  for (let i = 0; i < n; i++) {
    [data.x[i], data.y[i]].forEach((value, axis) => {
      spread[0][axis] = Math.min(spread[0][axis], value / data.steps);
      spread[1][axis] = Math.max(spread[1][axis], value / data.steps);
    });
  }
  if (n === 1) { spread[0] = [0, 0]; spread[1] = [1, 1]; }

  // ------------------------------------------------------------------------------------------------- view and words
  const zoomAt = (factor, x, y) => {
    const zoom = Math.min(400, Math.max(0.5, view.zoom * factor)), real = zoom / view.zoom;
    view = { zoom, x: x - left - (x - left - view.x) * real, y: y - top - (y - top - view.y) * real };
    redraw();
  };
  const all = () => { view = { zoom: 1, x: 0, y: 0 }; redraw(); };
  const reveal = (i) => {
    const x = px(i), y = py(i);
    if (x < MARGIN || x > width - MARGIN) view.x += width / 2 - x;
    if (y < MARGIN || y > height - MARGIN) view.y += height / 2 - y;
  };
  const clock = (seconds) => {
    const tenths = Math.round(seconds * 10), whole = Math.floor(tenths / 10);
    const two = (value) => String(value).padStart(2, "0");
    const hours = Math.floor(whole / 3600), minutes = Math.floor(whole / 60) % 60;
    return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}.${tenths % 10}`;
  };
  const words = (i) => {
    const part = data.parts && data.parts[i];
    const when = part ? `, ${clock(part[0])} to ${clock(part[1])}` : "";
    return `${data.names[i]}${when} (${data.labels[data.label[i]][0]})`;
  };
  const choose = (i, note = "") => {
    chosen = i;
    if (i >= 0) reveal(i);
    byId("chosen").textContent = i < 0 ? "Nothing is chosen." : words(i) + note;
    byId("play").disabled = i < 0 || !canPlay;
    redraw();
  };
  const at = (x, y) => {
    let best = -1, least = REACH * REACH;
    for (let i = 0; i < n; i++) {
      if (!shown[i]) continue;
      const dx = px(i) - x, dy = py(i) - y, distance = dx * dx + dy * dy;
      if (distance <= least) { least = distance; best = i; }
    }
    return best;
  };
  const hover = (i, x, y) => {
    if (i !== over) { over = i; redraw(); }
    canvas.classList.toggle("over", i >= 0);
    tip.hidden = i < 0;
    if (i < 0) return;
    tip.textContent = words(i);
    const w = tip.offsetWidth, h = tip.offsetHeight;
    tip.style.left = `${Math.max(4, Math.min(width - w - 4, x + 14))}px`;
    tip.style.top = `${y + 18 + h > height ? Math.max(4, y - h - 12) : y + 18}px`;
  };

  // ------------------------------------------------------------------------------------------------------- listening
  const holder = byId("sounds");
  const canPlay = Boolean(holder || data.links);
  const stop = () => {
    if (audio) audio.pause();
    audio = playing = null;
    byId("play").textContent = "Play";
    redraw();
  };
  const play = (i) => {
    stop();
    if (i < 0 || !canPlay) return;
    let source, end = Infinity;
    if (holder) {
      sounds = sounds || JSON.parse(holder.textContent);
      if (!sounds[i]) { choose(i, ": it could not be read"); return; }
      source = `data:audio/mpeg;base64,${sounds[i]}`;
    } else {
      const part = data.parts && data.parts[i];
      source = data.links[data.file[i]] + (part ? `#t=${part[0]},${part[1]}` : "");
      if (part) end = part[1];
    }
    const mine = audio = new Audio(source);
    playing = i;
    byId("play").textContent = "Stop";
    const finished = () => { if (audio === mine) stop(); };
    mine.addEventListener("ended", finished);
    mine.addEventListener("timeupdate", () => { if (mine.currentTime >= end) finished(); });
    mine.addEventListener("error", () => {
      if (audio !== mine) return;
      finished();
      choose(i, ": this browser cannot play it, or the recording is not where it was");
    });
    mine.play().catch(() => finished());
    redraw();
  };

  // -------------------------------------------------------------------------------------------- pointers, wheel, keys
  const pointers = new Map();
  let moved = 0, apart = 0;
  const place = (event) => { const box = canvas.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
  const gap = () => { const [a, b] = [...pointers.values()]; return Math.hypot(a[0] - b[0], a[1] - b[1]); };
  canvas.addEventListener("pointerdown", (event) => {
    pointers.set(event.pointerId, place(event));
    canvas.setPointerCapture(event.pointerId);
    if (pointers.size === 1) moved = 0;
    if (pointers.size === 2) apart = gap();
  });
  canvas.addEventListener("pointermove", (event) => {
    const now = place(event), before = pointers.get(event.pointerId);
    if (!before) { hover(at(...now), ...now); return; }
    pointers.set(event.pointerId, now);
    moved += Math.hypot(now[0] - before[0], now[1] - before[1]);
    if (pointers.size === 2) {
      const [a, b] = [...pointers.values()], wide = gap();
      zoomAt(wide / (apart || wide), (a[0] + b[0]) / 2, (a[1] + b[1]) / 2);
      apart = wide;
      moved = 99;
    }
    if (moved > 5) {
      canvas.classList.add("moving");
      hover(-1);
      view.x += (now[0] - before[0]) / pointers.size;
      view.y += (now[1] - before[1]) / pointers.size;
      redraw();
    }
  });
  const lift = (event) => {
    if (!pointers.delete(event.pointerId)) return;
    canvas.classList.remove("moving");
    if (event.type !== "pointerup" || moved > 5) return;
    const i = at(...place(event));
    choose(i);
    if (i >= 0) play(i); else stop();
  };
  canvas.addEventListener("pointerup", lift);
  canvas.addEventListener("pointercancel", lift);
  canvas.addEventListener("pointerleave", () => hover(-1));
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 30 : 1;
    zoomAt(Math.exp(-event.deltaY * lines * 0.0015), ...place(event));
    hover(-1);
  }, { passive: false });

  const toward = (dx, dy) => {
    if (chosen < 0 || !shown[chosen]) {
      let best = -1, least = Infinity;
      for (let i = 0; i < n; i++) {
        const distance = (px(i) - width / 2) ** 2 + (py(i) - height / 2) ** 2;
        if (shown[i] && distance < least) { least = distance; best = i; }
      }
      return best;
    }
    const x = px(chosen), y = py(chosen);
    let best = -1, least = Infinity;
    for (const cone of [1, Infinity]) {  // first what lies straight that way, else anything on that side
      for (let i = 0; i < n; i++) {
        if (!shown[i] || i === chosen) continue;
        const ax = px(i) - x, ay = py(i) - y, along = ax * dx + ay * dy, aside = Math.abs(ax * dy) + Math.abs(ay * dx);
        if (along <= 0 || aside > along * cone) continue;
        const cost = along + 2 * aside;
        if (cost < least) { least = cost; best = i; }
      }
      if (best >= 0) break;
    }
    return best;
  };
  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const arrow = ARROWS[event.key];
    if (arrow) {
      const i = toward(...arrow);
      if (i >= 0) choose(i);
    } else if (event.key === "Enter" || event.key === " ") play(chosen);
    else if (event.key === "+" || event.key === "=") zoomAt(1.4, ...middle());
    else if (event.key === "-") zoomAt(1 / 1.4, ...middle());
    else if (event.key === "0") all();
    else if (event.key === "Escape") stop();
    else return;
    event.preventDefault();
  });
  const middle = () => chosen >= 0 ? [px(chosen), py(chosen)] : [width / 2, height / 2];
  byId("in").addEventListener("click", () => zoomAt(1.6, ...middle()));
  byId("out").addEventListener("click", () => zoomAt(1 / 1.6, ...middle()));
  byId("all").addEventListener("click", all);
  byId("play").addEventListener("click", () => (audio ? stop() : play(chosen)));

  // --------------------------------------------------------------------------------------------- names and labels
  const filter = () => {
    const wanted = find.value.trim().toLowerCase();
    let left = 0;
    for (let i = 0; i < n; i++) {
      shown[i] = (only < 0 || data.label[i] === only) && (!wanted || lower[i].includes(wanted)) ? 1 : 0;
      left += shown[i];
    }
    byId("count").textContent = left === n ? `${n} points` : `${left} of ${n} points`;
    if (chosen >= 0 && !shown[chosen]) choose(-1);
    redraw();
  };
  find.addEventListener("input", filter);
  find.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    for (let k = 1; k <= n; k++) {
      const i = (Math.max(chosen, -1) + k) % n;
      if (shown[i]) { choose(i); break; }
    }
  });
  const swatches = () => {
    for (const small of legend.querySelectorAll("canvas")) {
      const pen = small.getContext("2d"), [name, shape] = look(Number(small.dataset.label));
      pen.clearRect(0, 0, 32, 32);
      outline(pen, shape, 16, 16, 11);
      pen.fillStyle = colour(name);
      pen.fill();
    }
  };
  data.labels.forEach(([name, count], label) => {
    const button = document.createElement("button"), small = document.createElement("canvas"), text = document.createElement("span");
    button.type = "button";
    button.setAttribute("aria-pressed", "false");
    small.width = small.height = 32;
    small.dataset.label = label;
    small.setAttribute("aria-hidden", "true");
    text.textContent = `${name} ${count}`;
    button.title = name;
    button.append(small, text);
    button.addEventListener("click", () => {
      only = only === label ? -1 : label;
      [...legend.children].forEach((other, index) => other.setAttribute("aria-pressed", String(index === only)));
      filter();
    });
    legend.append(button);
  });

  new ResizeObserver(fit).observe(frame);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { sprites = []; swatches(); redraw(); });
  swatches();
  fit();
  filter();
}
