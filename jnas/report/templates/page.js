// What the page does when it is pointed at. Without this file everything can
// be read; with it curves tell their values, zoom, smooth and take logarithms,
// tables sort, a slider goes through the epochs, and figures can be saved.
// Marks and axes are drawn as in chart.py: who changes one looks at the other.
"use strict";
(() => {
const NS = "http://www.w3.org/2000/svg";
const $ = (root, selector) => [...root.querySelectorAll(selector)];

function make(tag, attributes = {}, text = "") {
  const found = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes))
    found.setAttribute(name, value);
  if (text) found.textContent = text;
  return found;
}

function draw(parent, tag, attributes, text = "") {
  const found = document.createElementNS(NS, tag);
  for (const [name, value] of Object.entries(attributes))
    found.setAttribute(name, value);
  if (text) found.textContent = text;
  parent.append(found);
  return found;
}

// A number in one of Python's formats, "{:.2%}" or "{:,.3g}".
function told(value, form) {
  const [, comma, digits, kind] = /{:(,?)\.?(\d*)([gf%]?)}/.exec(form) || [];
  if (kind === "%") return (100 * value).toFixed(digits) + "%";
  const many = { useGrouping: Boolean(comma), maximumFractionDigits: 20 };
  if (kind === "f") return value.toLocaleString("en", { ...many,
    minimumFractionDigits: digits, maximumFractionDigits: digits });
  const short = Number(value.toPrecision(digits || 6));
  const size = Math.abs(short);
  if (size && (size < 1e-4 || size >= 1e15)) return short.toExponential();
  return short.toLocaleString("en", many);
}

function ticks(low, high, most, log, whole) {
  const found = [];
  if (log) {
    const first = Math.floor(Math.log10(low));
    const last = Math.ceil(Math.log10(high));
    const every = Math.max(1, Math.floor((last - first + 1) / 7));
    for (let power = first; power <= last; power++)
      for (const digit of high < 200 * low ? [1, 2, 5] : [1]) {
        const tick = digit * 10 ** power;
        if (power % every === 0 && low <= tick && tick <= high)
          found.push(tick);
      }
    if (found.length > 2) return found;
    found.length = 0;
  }
  const raw = (high - low) / most, power = 10 ** Math.floor(Math.log10(raw));
  let step = [1, 2, 5, 10].find(s => s * power >= raw * 0.999) * power;
  if (whole && high - low > 2) step = Math.max(step, 1);
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high; k++)
    found.push(Number((k * step).toPrecision(12)));
  return found;
}

function labels(found, form) {
  if (!form.includes("%")) return found.map(tick => told(tick, "{:,.6g}"));
  const steps = found.slice(1).map((tick, i) => tick - found[i]);
  const least = 100 * Math.min(1, ...steps);
  const decimals = Math.max(0, -Math.floor(Math.log10(least * 1.001)));
  return found.map(tick => (100 * tick).toFixed(decimals) + "%");
}

// Exponential moving average without a bias towards its beginning.
function smoothed(points, weight) {
  let mean = 0, total = 0;
  return points.map(([x, y]) => {
    mean = weight * mean + (1 - weight) * y;
    total = weight * total + (1 - weight);
    return [x, mean / total];
  });
}

const isLine = mark => mark.kind === "line" || mark.kind === "faint";
const isDots = mark => ["dots", "hollow"].includes(mark.kind);

class Chart {
  constructor(figure, data) {
    this.figure = figure;
    this.data = data;
    this.svg = figure.querySelector("svg.fig");
    this.plot = this.svg.querySelector("svg.plot");
    this.axes = this.svg.querySelector("g.axes");
    this.written = this.plot.innerHTML;
    this.writtenAxes = this.axes.innerHTML;
    this.log = data.log;
    this.weight = 0;
    this.range = null;
    const lines = data.marks.filter(isLine);
    this.lines = lines.length > 0 && !data.rows.length;
    this.dots = data.marks.some(isDots);
    const all = lines.flatMap(mark => mark.points);
    this.canLog = this.lines && all.every(point => point[1] > 0);
    this.measure();
    if (this.lines) {
      figure.dataset.zoom = "";
      this.listen();
    }
    this.plot.addEventListener("pointermove", event => this.point(event));
    this.plot.addEventListener("pointerleave", () => this.leave());
    // The plot itself catches the pointer where nothing is drawn.
    this.ground();
  }

  ground() {
    const [, , width, height] = this.data.box;
    const ground = draw(this.plot, "rect",
      { width, height, fill: "none", "pointer-events": "all" });
    this.plot.prepend(ground);
  }

  // Marks as they are shown: smoothed, and what was there behind them.
  shown() {
    if (!this.weight) return this.data.marks;
    return this.data.marks.flatMap(mark => {
      if (mark.kind === "area") return [];
      if (mark.kind !== "line" || mark.points.length < 3) return [mark];
      const points = smoothed(mark.points, this.weight);
      return [{ ...mark, kind: "faint", raw: true }, { ...mark, points }];
    });
  }

  measure() {
    const marks = this.shown(), box = this.data.box;
    const of = (axis, skip) => marks.filter(m => m.kind !== skip)
      .flatMap(m => m.points.map(point => point[axis]));
    const xs = of(0, "level");
    let low = xs.reduce((a, b) => Math.min(a, b), Infinity);
    let high = xs.reduce((a, b) => Math.max(a, b), -Infinity);
    const bars = marks.some(mark => mark.kind === "bars");
    const room = marks.some(isDots) ? 0.06 : 0.01;
    const pad = bars || low === high ? 0.5 : room * (high - low);
    [low, high] = this.range || [low - pad, high + pad];
    this.across = [low, high];
    const inside = point => low <= point[0] && point[0] <= high;
    let ys = marks.filter(mark => mark.kind !== "upright").flatMap(mark =>
      mark.points.filter(p => !this.range || mark.kind === "level" || inside(p))
        .map(point => point[1]));
    if (!ys.length) ys = of(1, "upright");
    let bottom = ys.reduce((a, b) => Math.min(a, b), Infinity);
    let top = ys.reduce((a, b) => Math.max(a, b), -Infinity);
    if (this.data.rows.length)
      this.up = [this.data.rows.length - 0.5, -0.5];
    else if (this.data.limits.length && !this.range && !this.log)
      this.up = this.data.limits;
    else if (bars) this.up = [0, 1.1 * Math.max(top, 1)];
    else if (this.log) {
      const ratio = Math.max(top / bottom, 1.5) ** 0.05;
      this.up = [bottom / ratio, top * ratio];
    } else {
      const pad = 0.06 * (top - bottom || Math.abs(top) || 1);
      this.up = [bottom - pad, top + pad];
    }
    this.toX = x => (x - low) / (high - low) * box[2];
    const f = this.log ? Math.log10 : v => v, [from, to] = this.up.map(f);
    this.toY = y => box[3] - (f(y) - from) / (to - from) * box[3];
  }

  render() {
    this.measure();
    if (!this.range && !this.weight && this.log === this.data.log) {
      this.plot.innerHTML = this.written;
      this.axes.innerHTML = this.writtenAxes;
    } else {
      this.plot.replaceChildren();
      this.free = 10;
      this.shown().sort((a, b) => a.kind === "level" && b.kind === "level" ?
        b.points[0][1] - a.points[0][1] : 0).forEach(mark => this.mark(mark));
      this.axis();
    }
    this.ground();
  }

  axis() {
    const [left, top, width, height] = this.data.box;
    this.axes.replaceChildren();
    const write = (x, y, text, anchor = "middle") => draw(this.axes, "text",
      { x, y, class: "muted", "text-anchor": anchor }, text);
    const marks = ticks(...this.up, 6, this.log);
    labels(marks, this.data.form).forEach((name, i) => {
      const y = top + this.toY(marks[i]);
      draw(this.axes, "path", { class: "rule", d: `M${left} ${y}h${width}` });
      write(left - 6, y + 3.5, name, "end");
    });
    const across = ticks(...this.across, 7, false, this.data.x === "epoch");
    labels(across, this.data.xForm).forEach((name, i) =>
      write(left + this.toX(across[i]), top + height + 14, name));
    write(left + width / 2, top + height + 30, this.data.x);
    draw(this.axes, "path",
      { class: "rule", d: `M${left} ${top + height}h${width}` });
  }

  mark(mark) {
    const points = mark.points.map(([x, y]) => [this.toX(x), this.toY(y)]);
    const path = points.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`)
      .join("L");
    const line = (kind, d) =>
      draw(this.plot, "path", { class: kind, stroke: mark.colour, d });
    if (mark.kind === "level") {
      line("level", `M-999 ${points[0][1]}H9999`);
      // Below the one before: levels come from the top.
      const y = Math.max(points[0][1] - 4, this.free);
      this.free = y + 12;
      draw(this.plot, "text", { x: 4, y, class: "muted" }, mark.name);
    } else if (mark.kind === "area")
      draw(this.plot, "path",
        { class: "area", fill: mark.colour, d: `M${path}Z` });
    else if (mark.kind === "bars") {
      const half = 0.4 * (this.toX(1) - this.toX(0));
      points.forEach(([x, y]) => draw(this.plot, "rect", { x: x - half, y,
        width: 2 * half, height: Math.max(this.toY(0) - y, 0),
        fill: mark.colour }));
    } else if (isLine(mark) && points.length > 1) line(mark.kind, "M" + path);
    else points.forEach(([cx, cy], i) => {
      const kind = mark.kind === "hollow" ? "hollow" : "dots";
      const paint = kind === "hollow" ? "stroke" : "fill";
      draw(this.plot, "circle",
        { cx, cy, r: 3.4, class: kind, [paint]: mark.colour });
      if (mark.labels?.[i]) draw(this.plot, "text",
        { x: cx + 5, y: cy - 5, class: "ink" }, mark.labels[i]);
    });
  }

  // The pointer in points of the plot.
  place(event) {
    const box = this.plot.getScreenCTM().inverse();
    return new DOMPoint(event.clientX, event.clientY).matrixTransform(box);
  }

  point(event) {
    const at = this.place(event), rows = [];
    this.cross?.remove();
    if (this.start !== undefined) return this.select(at.x);
    if (this.lines && !this.dots) {
      const marks = this.shown().filter(m => m.kind === "line");
      const all = (marks.length ? marks : this.data.marks.filter(isLine));
      const xs = all.flatMap(mark => mark.points.map(point => point[0]));
      const near = xs.reduce((a, b) =>
        Math.abs(this.toX(a) - at.x) <= Math.abs(this.toX(b) - at.x) ? a : b);
      for (const mark of all) {
        const found = mark.points.find(point => point[0] === near);
        if (found) rows.push([mark.colour, mark.name,
          told(found[1], this.data.form)]);
      }
      const x = this.toX(near);
      this.cross = draw(this.plot, "path",
        { class: "cross", d: `M${x} 0V${this.data.box[3]}` });
      return tip(this.figure, event, rows,
        `${this.data.x} ${told(near, this.data.xForm)}`);
    }
    let best = null;
    for (const mark of this.data.marks.filter(m => isDots(m) || m.kind === "bars"))
      mark.points.forEach(([x, y], i) => {
        const flat = mark.kind === "bars" ? 0 : this.toY(y) - at.y;
        const far = Math.hypot(this.toX(x) - at.x, flat);
        if (!best || far < best.far) best = { far, mark, x, y, i };
      });
    if (!best || best.far > 24) return this.leave();
    const { mark, x, y, i } = best, values = [];
    const label = (mark.labels || [])[i];
    if (!this.data.rows.length)
      values.push([mark.colour, this.data.y || mark.name,
        told(y, this.data.form)]);
    values.push(["", this.data.x, told(x, this.data.xForm)]);
    tip(this.figure, event, values, [mark.name, label].filter(Boolean).join(" "));
  }

  leave() {
    this.cross?.remove();
    hide();
  }

  select(x) {
    const from = Math.min(x, this.start), width = Math.abs(x - this.start);
    this.band ||= draw(this.plot, "rect", { class: "select", y: 0,
      height: this.data.box[3] });
    this.band.setAttribute("x", from);
    this.band.setAttribute("width", width);
  }

  listen() {
    const toData = x => {
      const [low, high] = this.across;
      return low + x / this.data.box[2] * (high - low);
    };
    this.plot.addEventListener("pointerdown", event => {
      if (event.button !== 0) return;
      this.start = this.place(event).x;
      this.plot.setPointerCapture(event.pointerId);
      hide();
    });
    this.plot.addEventListener("pointerup", event => {
      if (this.start === undefined) return;
      const ends = [this.start, this.place(event).x].sort((a, b) => a - b);
      this.start = undefined;
      this.band?.remove();
      this.band = null;
      if (ends[1] - ends[0] < 6) return;
      this.range = ends.map(toData);
      this.render();
    });
    this.plot.addEventListener("pointercancel", () => {
      this.start = undefined;
      this.band?.remove();
      this.band = null;
    });
    this.plot.addEventListener("dblclick", () => {
      this.range = null;
      this.render();
    });
  }

  tools(bar) {
    if (!this.lines) return;
    if (this.canLog) button(bar, "log", "logarithmic axis", b => {
      this.log = !this.log;
      b.setAttribute("aria-pressed", this.log);
      this.render();
    }).setAttribute("aria-pressed", this.log);
    if (this.data.marks.some(m => m.kind === "line" && m.points.length > 4)) {
      const label = make("label", { title: "moving average" }, "smooth");
      const input = make("input",
        { type: "range", min: 0, max: 0.98, step: 0.02, value: 0 });
      input.addEventListener("input", () => {
        this.weight = Number(input.value);
        this.render();
      });
      label.append(input);
      bar.append(label);
    }
    button(bar, "reset", "the whole range again; drag over the curves to zoom", () => {
      this.range = null;
      this.render();
    });
  }
}

function heat(figure, data) {
  const svg = figure.querySelector("svg.fig");
  svg.addEventListener("pointermove", event => {
    const at = new DOMPoint(event.clientX, event.clientY)
      .matrixTransform(svg.getScreenCTM().inverse());
    const panel = data.panels.find(({ box: [x, y, w, h] }) =>
      x <= at.x && at.x < x + w && y <= at.y && at.y < y + h);
    if (!panel) return hide();
    const [x, y, w, h] = panel.box;
    const column = Math.floor((at.x - x) / w * data.epochs.length);
    const row = Math.floor((at.y - y) / h * data.ops.length);
    const rows = data.ops.map((op, i) => {
      const value = panel.values[i][column];
      const text = value === null ? "gone" : told(value, "{:.3g}");
      return [i === row ? "currentColor" : "", op, text];
    });
    tip(figure, event, rows, `${panel.name}, epoch ${data.epochs[column]}`);
  });
  svg.addEventListener("pointerleave", hide);
}

let bubble = null;
function hide() {
  bubble?.remove();
  bubble = null;
}

function tip(figure, event, rows, title) {
  hide();
  bubble = make("div", { class: "tip" });
  bubble.append(make("strong", {}, title));
  for (const [colour, name, value] of rows) {
    const row = make("div");
    const patch = make("i");
    patch.style.background = colour || "none";
    row.append(patch, `${name}  ${value}`);
    bubble.append(row);
  }
  figure.append(bubble);
  const frame = figure.getBoundingClientRect();
  const size = bubble.getBoundingClientRect();
  let x = event.clientX - frame.left + 14;
  if (event.clientX + 14 + size.width > innerWidth - 6)
    x = event.clientX - frame.left - size.width - 14;
  x = Math.max(6 - frame.left, x);
  bubble.style.left = x + "px";
  bubble.style.top = event.clientY - frame.top + 14 + "px";
}

function button(bar, name, title, act) {
  const found = make("button", { type: "button", title }, name);
  found.addEventListener("click", () => act(found));
  bar.append(found);
  return found;
}

// The drawing as a file of its own: with its style, size and ground.
function file(figure) {
  const svg = figure.querySelector("svg.fig").cloneNode(true);
  const [, , width, height] = svg.getAttribute("viewBox").split(" ");
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  svg.setAttribute("width", width);
  svg.setAttribute("height", height);
  const style = document.createElementNS(NS, "style");
  style.textContent = document.getElementById("figure-style").textContent;
  const ground = document.createElementNS(NS, "rect");
  ground.setAttribute("width", width);
  ground.setAttribute("height", height);
  ground.setAttribute("fill", dark ? "#171b21" : "#ffffff");
  svg.prepend(style, ground);
  return [new XMLSerializer().serializeToString(svg), width, height];
}

function save(blob, figure, ending) {
  const name = figure.dataset.title.replace(/[^\w.-]+/g, "_") + ending;
  const link = make("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function saveSvg(figure) {
  save(new Blob([file(figure)[0]], { type: "image/svg+xml" }), figure, ".svg");
}

function savePng(figure) {
  const [text, width, height] = file(figure), image = new Image();
  image.onload = () => {
    const canvas = make("canvas", { width: 3 * width, height: 3 * height });
    canvas.getContext("2d")
      .drawImage(image, 0, 0, canvas.width, canvas.height);
    canvas.toBlob(blob => save(blob, figure, ".png"));
  };
  image.src = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(text);
}

function sortable(table) {
  const body = table.tBodies[0], heads = $(table, "thead th");
  const key = row => cell => {
    const text = row.cells[cell].textContent.trim();
    const given = row.cells[cell].dataset.sort;
    const number = parseFloat(given ?? text.replace(/,/g, ""));
    return Number.isNaN(number) ? text : number;
  };
  heads.forEach((head, i) => {
    head.setAttribute("aria-sort", "none");
    head.tabIndex = 0;
    const act = () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach(other => other.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const rows = [...body.rows].map(row => [key(row)(i), row]);
      // Numbers first, then words; what is not known stays at the end.
      const rank = v => v === "–" || v === "" ? 2 : typeof v === "number" ? 0 : 1;
      rows.sort(([a], [b]) => rank(a) - rank(b) || (rank(a) === 2 ? 0 :
        (rank(a) ? a.localeCompare(b) : a - b) * (up ? 1 : -1)));
      body.append(...rows.map(([, row]) => row));
    };
    head.addEventListener("click", act);
    head.addEventListener("keydown", event => {
      if (event.key === "Enter") act();
    });
  });
}

// A slider for the figures of its section, which begins at the last epoch.
function history(root) {
  const { pictures, frames } = JSON.parse(root.firstElementChild.textContent);
  const figures = $(root.closest("section"), "figure.picture");
  const input = make("input", { type: "range", min: 0, "aria-label": "epoch",
    max: frames.length - 1, value: frames.length - 1 });
  const output = make("output"), parser = new DOMParser();
  let timer = null;
  const show = () => {
    const [epoch, cells] = frames[input.value];
    output.textContent = `epoch ${told(epoch, "{:.4g}")}`;
    while (figures.length < cells.length) {
      const copy = figures[0].cloneNode(true);
      copy.querySelector(".tools").remove();
      figures.at(-1).after(copy);
      figures.push(copy);
      equip(copy);
    }
    figures.forEach((figure, i) => {
      figure.hidden = i >= cells.length;
      if (figure.hidden) return;
      const [title, index] = cells[i];
      const svg = parser.parseFromString(pictures[index], "image/svg+xml");
      figure.dataset.title = title;
      figure.querySelector("h3").textContent = title;
      figure.querySelector("svg.fig")
        .replaceWith(document.adoptNode(svg.documentElement));
    });
  };
  const stop = () => {
    clearInterval(timer);
    timer = null;
    play.textContent = "play";
  };
  input.addEventListener("input", () => { stop(); show(); });
  root.append(input, output);
  const play = button(root, "play", "from the first epoch to the last", () => {
    if (timer) return stop();
    if (Number(input.value) >= frames.length - 1) input.value = 0;
    play.textContent = "stop";
    show();
    timer = setInterval(() => {
      input.value = Number(input.value) + 1;
      show();
      if (Number(input.value) >= frames.length - 1) stop();
    }, Math.max(60, Math.min(500, 12000 / frames.length)));
  });
  output.textContent = `epoch ${told(frames.at(-1)[0], "{:.4g}")}`;
  root.classList.add("on");
}

function equip(figure) {
  const data = figure.querySelector('script[type="application/json"]');
  const found = data ? JSON.parse(data.textContent) : {};
  const bar = make("div", { class: "tools" });
  if (found.chart) new Chart(figure, found.chart).tools(bar);
  if (found.heat) heat(figure, found.heat);
  button(bar, "SVG", "save the drawing", () => saveSvg(figure));
  button(bar, "PNG", "save as an image", () => savePng(figure));
  figure.querySelector("h3").after(bar);
}

$(document, "figure.picture").forEach(equip);
$(document, "thead").forEach(head => sortable(head.closest("table")));
$(document, ".history").forEach(history);
})();
