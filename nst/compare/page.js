// Sort and draw the page's data. Every text is inserted as text, never as HTML.
const SVG = "http://www.w3.org/2000/svg";

function make(name, attributes = {}, text = "", namespace = SVG) {
  const node = document.createElementNS(namespace, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.textContent = text;
  return node;
}
const html = (name, text = "", attributes = {}) => make(name, attributes, text, "http://www.w3.org/1999/xhtml");

// Sort: numbers before words, missing values last; equal values keep their original order.
let sorted = { key: "", down: false };

function compare(a, b, down = false) {
  const missing = (value) => value === null || value === undefined;
  if (missing(a) || missing(b)) return missing(a) - missing(b);
  const words = (typeof a !== "number") - (typeof b !== "number");
  const rise = words || (typeof a === "number" ? a - b : String(a).localeCompare(String(b), undefined, { numeric: true }));
  return down ? -rise : rise;
}

function sort(key, down = false) {
  sorted = { key, down };
  const order = runs.map((_, number) => number);
  if (key) order.sort((a, b) => compare(runs[a].values[key], runs[b].values[key], down) || a - b);
  const kinds = places[0].map((node) => node.parentNode);
  kinds.forEach((parent, kind) => parent.append(...order.map((number) => places[number][kind])));
  $("sort").value = key;
  for (const button of all("[data-sort]")) {
    const state = button.dataset.sort === key ? (down ? "descending" : "ascending") : "none";
    button.parentNode.setAttribute("aria-sort", state);
  }
}

// Curves: drawn once in (evaluation, log10 of the loss); afterwards only the group is moved and scaled.
const EDGE = { left: 58, right: 12, top: 10, bottom: 28 };
let view = null;

function draw() {
  const loss = $("loss").value;
  $("lines").replaceChildren(...runs.map((run) => {
    const [at, losses] = run.curves[loss];
    const points = at.map((x, i) => `${x} ${-Math.log10(losses[i])}`);
    return make("path", { d: points.length ? `M${points.join("L")}` : "" });
  }));
  paint();
  scale();
}

function scale() {
  const lines = $("lines").children;
  const loss = $("loss").value;
  let [right, low, high] = [1, Infinity, -Infinity];
  runs.forEach((run, number) => {
    lines[number].toggleAttribute("hidden", !shown[number]);
    if (!shown[number]) return;
    const [at, losses] = run.curves[loss];
    for (let i = 0; i < at.length; i++) {
      right = Math.max(right, at[i]);
      low = Math.min(low, losses[i]);
      high = Math.max(high, losses[i]);
    }
  });
  if (low > high) [low, high] = [0.1, 1];
  const [bottom, top] = [Math.log10(low) - 0.05, Math.log10(high) + 0.05];
  const width = plotWidth - EDGE.left - EDGE.right;
  const height = 320 - EDGE.top - EDGE.bottom;
  view = { sx: width / right, sy: height / (top - bottom), top, bottom, right };
  $("lines").setAttribute("transform", `translate(${EDGE.left} ${EDGE.top + top * view.sy}) scale(${view.sx} ${view.sy})`);
  axes();
}

const x = (evaluation) => EDGE.left + evaluation * view.sx;
const y = (loss) => EDGE.top + (view.top - Math.log10(loss)) * view.sy;

function axes() {
  const nodes = [];
  const [left, right] = [EDGE.left, x(view.right)];
  for (const value of decades()) {
    nodes.push(make("line", { x1: left, x2: right, y1: y(value), y2: y(value) }));
    nodes.push(make("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, Number(value.toPrecision(2)).toString().replace("e+", "e")));
  }
  for (const value of ticks(view.right).filter((tick) => x(tick) < right - 80)) {
    nodes.push(make("text", { x: x(value), y: 320 - 10, "text-anchor": "middle" }, String(value)));
  }
  nodes.push(make("text", { x: right, y: 320 - 10, "text-anchor": "end", class: "unit" }, "evaluations"));
  $("axes").replaceChildren(...nodes);
}

function decades() {
  const span = view.top - view.bottom;
  const factors = span > 3.5 ? [1] : span > 0.8 ? [1, 2, 5] : [1, 1.5, 2, 3, 4, 5, 6, 8];
  const step = Math.ceil(span / 8);
  const found = [];
  for (let power = Math.floor(view.bottom); power <= view.top; power++) {
    if (span > 3.5 && power % step) continue;
    for (const factor of factors) {
      const value = factor * 10 ** power;
      if (Math.log10(value) >= view.bottom && Math.log10(value) <= view.top) found.push(value);
    }
  }
  return found;
}

function ticks(end) {
  const rough = end / 8;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = Math.max(1, [1, 2, 5, 10].map((f) => f * power).find((s) => s >= rough));
  return Array.from({ length: Math.floor(end / step) + 1 }, (_, i) => Number((i * step).toPrecision(6)));
}

// Colours: few values get colours that everyone can distinguish, many get evenly spaced hues.
const FEW = ["#3477c2", "#d9711c", "#2f9e6e", "#c2528f", "#8b6fd0", "#a08a16", "#3aa4b8", "#b5483a"];

function paint() {
  const key = $("colour").value;
  const inOrder = [...runs].sort((a, b) => compare(a.values[key], b.values[key]));
  const values = [...new Set(inOrder.map((run) => run.texts[key]))];
  const colours = values.map((_, i) => (values.length <= FEW.length ? FEW[i] : `hsl(${(i * 360) / values.length} 60% 50%)`));
  runs.forEach((run, number) => {
    const colour = colours[values.indexOf(run.texts[key])];
    $("lines").children[number].style.stroke = colour;
    const spark = places[number][0].querySelector(".spark path");
    spark.style.stroke = colour;
  });
  $("legend").replaceChildren(...(values.length > 12 ? [] : values.map((value, i) => {
    const entry = html("span");
    const dash = html("i");
    dash.style.background = colours[i];
    entry.append(dash, value);
    return entry;
  })));
}

function spark(run, path) {
  const [at, losses] = run.curves.total;
  if (at.length < 2) return;
  const logs = losses.map(Math.log10);
  const [low, high] = [Math.min(...logs), Math.max(...logs)];
  const points = at.map((e, i) => `${((e / at.at(-1)) * 100).toFixed(1)} ${(2 + (20 * (high - logs[i])) / (high - low || 1)).toFixed(1)}`);
  path.setAttribute("d", `M${points.join("L")}`);
}

function light(number) {
  for (const node of all(".lit")) node.classList.remove("lit");
  $("lines").classList.toggle("some", number !== null);
  if (number === null) return;
  $("lines").children[number].classList.add("lit");
  for (const node of places[number]) node.classList.add("lit");
}

function nearest(event) {
  const box = $("plot").getBoundingClientRect();
  const [px, py] = [event.clientX - box.left, event.clientY - box.top];
  const evaluation = (px - EDGE.left) / view.sx;
  const loss = $("loss").value;
  let best = { distance: 40 };
  runs.forEach((run, number) => {
    const [at, losses] = run.curves[loss];
    if (!shown[number] || !at.length) return;
    let i = at.findIndex((e) => e >= evaluation);
    if (i < 0) i = at.length - 1;
    const distance = Math.hypot(Math.max(0, Math.abs(x(at[i]) - px) - 12), y(losses[i]) - py);
    if (distance < best.distance) best = { distance, number, at: at[i], loss: losses[i] };
  });
  return best;
}

// Details of one run.
function list(title, pairs) {
  const terms = html("dl");
  for (const [key, value] of Object.entries(pairs)) terms.append(html("dt", key), html("dd", value));
  return Object.keys(pairs).length ? [html("h3", title), terms] : [];
}

function details(number) {
  const run = runs[number];
  const card = places[number][0];
  const left = html("div");
  const thumbnail = card.querySelector("img");
  const link = card.querySelector("a");
  if (thumbnail) {
    const picture = html("img", "", { alt: run.label, src: link ? link.href : thumbnail.src });
    picture.addEventListener("error", () => { picture.src = thumbnail.src; }, { once: true });
    left.append(picture);
  }
  const right = html("div");
  right.append(...run.marks.map((text) => html("p", text, { class: "warned" })));
  const isResult = ([key]) => common.results.includes(key) || key === "run" || key === "status";
  const texts = Object.entries(run.texts);
  const results = Object.fromEntries(texts.filter(isResult));
  const differing = Object.fromEntries(texts.filter((each) => !isResult(each)));
  right.append(...list("Results", results), ...list("Differs", differing));
  const strip = html("p", "", { class: "inputs" });
  for (const [name, number] of Object.entries(run.inputs)) {
    const title = `${name}: ${textOf(run, name) ?? ""}`.replace(/: $/, "");
    strip.append(html("img", "", { alt: title, title, src: common.inputs[number] }));
  }
  left.append(strip, ...list("Provenance", run.provenance));
  $("dialog-title").textContent = run.label;
  $("dialog-body").replaceChildren(left, right);
  $("dialog").showModal();
}

// Light and dark: the system's choice, until the user makes another one.
function theme(dark) {
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  $("theme").setAttribute("aria-pressed", String(dark));
  $("theme").textContent = dark ? "Light" : "Dark";
}
const system = matchMedia("(prefers-color-scheme: dark)");
theme(system.matches);
system.addEventListener("change", (event) => theme(event.matches));
$("theme").addEventListener("click", () => theme(document.documentElement.dataset.theme !== "dark"));

function reset() {
  $("toolbar").reset();
  sort("");
  filter();
}
$("toolbar").addEventListener("submit", (event) => event.preventDefault());
$("filter").addEventListener("input", filter);
for (const select of all("select[data-key]")) select.addEventListener("change", filter);
$("sort").addEventListener("change", () => sort($("sort").value));
for (const button of all("[data-filter]")) button.addEventListener("click", () => narrow(button.dataset.filter));
for (const button of all("[data-sort]")) {
  button.addEventListener("click", () => sort(button.dataset.sort, sorted.key === button.dataset.sort && !sorted.down));
}
$("all").addEventListener("click", reset);
$("all-too").addEventListener("click", reset);
$("loss").addEventListener("change", draw);
$("colour").addEventListener("change", paint);
$("plot").addEventListener("pointermove", (event) => {
  const { number = null, at, loss } = nearest(event);
  light(number);
  $("hover").textContent = number === null ? "" : `${runs[number].label} · evaluation ${at} · ${loss}`;
});
$("plot").addEventListener("pointerleave", () => { light(null); $("hover").textContent = ""; });
all(".card").forEach((card, number) => {
  card.addEventListener("pointerenter", () => light(number));
  card.addEventListener("pointerleave", () => light(null));
  card.querySelector(".details").addEventListener("click", () => details(number));
  spark(runs[number], card.querySelector(".spark path"));
});
$("dialog").addEventListener("click", (event) => { if (event.target === $("dialog")) $("dialog").close(); });

let plotWidth = $("plot").clientWidth || 800;
new ResizeObserver(() => {
  if ($("plot").clientWidth === plotWidth) return;
  plotWidth = $("plot").clientWidth;
  scale();
}).observe($("plot"));
draw();
filter();
