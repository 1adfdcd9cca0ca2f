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

function decades({ bottom, top } = view) {
  const span = top - bottom;
  const factors = span > 3.5 ? [1] : span > 0.8 ? [1, 2, 5] : [1, 1.5, 2, 3, 4, 5, 6, 8];
  const step = Math.ceil(span / 8);
  const found = [];
  for (let power = Math.floor(bottom); power <= top; power++) {
    if (span > 3.5 && power % step) continue;
    for (const factor of factors) {
      const value = factor * 10 ** power;
      if (Math.log10(value) >= bottom && Math.log10(value) <= top) found.push(value);
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
    $("points").children[number].style.fill = colour;
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

// One result against another. A point is placed when the axes change or the filter does.
const [side, high] = [{ left: 58, right: 16, top: 14, bottom: 40 }, 320];

function axisOf(key, numbers, from, to) {
  const held = numbers.map((number) => runs[number].values[key]);
  let [low, top] = [Math.min(...held), Math.max(...held)];
  const log = low > 0 && top / low > 30;
  const at = log ? Math.log10 : (value) => value;
  [low, top] = [at(low), at(top)];
  const room = (top - low || Math.abs(top) || 1) * 0.05;
  [low, top] = [low - room, top + room];
  const place = (value) => from + ((at(value) - low) / (top - low)) * (to - from);
  const values = log ? decades({ bottom: low, top }) : steps(low, top);
  return { place, values };
}

function steps(low, top) {
  const power = 10 ** Math.floor(Math.log10((top - low) / 5));
  const step = [1, 2, 5, 10].map((f) => f * power).find((s) => s >= (top - low) / 6);
  const first = Math.ceil(low / step);
  return Array.from({ length: Math.max(0, Math.floor(top / step) - first + 1) }, (_, i) => Number(((first + i) * step).toPrecision(6)));
}

// The runs that no other one beats in both results, by the first of them.
function pareto(numbers, keys) {
  const signs = keys.map((key) => (common.better[key] === "higher" ? -1 : 1));
  const value = (number, i) => signs[i] * runs[number].values[keys[i]];
  const found = [];
  for (const number of [...numbers].sort((a, b) => value(a, 0) - value(b, 0) || value(a, 1) - value(b, 1))) {
    if (!found.length || value(number, 1) < value(found.at(-1), 1)) found.push(number);
  }
  return found;
}

function scatter() {
  const keys = [$("axis-x").value, $("axis-y").value];
  const known = (number) => keys.every((key) => typeof runs[number].values[key] === "number");
  const numbers = [...runs.keys()].filter((number) => shown[number] && known(number));
  const points = $("points").children;
  const drawn = new Set(numbers);
  runs.forEach((_, number) => points[number].toggleAttribute("hidden", !drawn.has(number)));
  if (!numbers.length) {
    $("cloud-axes").replaceChildren();
    $("front").setAttribute("d", "");
    return;
  }
  const [across, up] = [axisOf(keys[0], numbers, side.left, cloudWidth - side.right), axisOf(keys[1], numbers, high - side.bottom, side.top)];
  for (const number of numbers) {
    points[number].setAttribute("cx", across.place(runs[number].values[keys[0]]));
    points[number].setAttribute("cy", up.place(runs[number].values[keys[1]]));
  }
  const best = keys.every((key) => common.better[key]) ? pareto(numbers, keys) : [];
  $("front-text").hidden = !best.length;
  const front = new Set(best);
  runs.forEach((_, number) => points[number].classList.toggle("front", front.has(number)));
  $("front").setAttribute("d", best.length ? `M${best.map((n) => `${points[n].getAttribute("cx")} ${points[n].getAttribute("cy")}`).join("L")}` : "");
  const nodes = [];
  const brief = (value) => Number(value.toPrecision(3)).toString().replace("e+", "e");
  for (const value of up.values) {
    nodes.push(make("line", { x1: side.left, x2: cloudWidth - side.right, y1: up.place(value), y2: up.place(value) }));
    nodes.push(make("text", { x: side.left - 6, y: up.place(value) + 4, "text-anchor": "end" }, brief(value)));
  }
  for (const value of across.values) {
    nodes.push(make("line", { x1: across.place(value), x2: across.place(value), y1: side.top, y2: high - side.bottom }));
    nodes.push(make("text", { x: across.place(value), y: high - side.bottom + 15, "text-anchor": "middle" }, brief(value)));
  }
  const order = (key) => common.better[key] ? ` (${common.better[key]} is better)` : "";
  const told = (key) => `${key}${common.apart.includes(key) ? " (can't be compared here)" : order(key)}`;
  nodes.push(make("text", { x: cloudWidth - side.right, y: high - 6, "text-anchor": "end" }, told(keys[0])));
  nodes.push(make("text", { x: 6, y: 10 }, told(keys[1])));
  $("cloud-axes").replaceChildren(...nodes);
}

function near(number) {
  light(number);
  $("near").hidden = number === null;
  if (number === null) return;
  const thumbnail = places[number][0].querySelector("img");
  const text = `${runs[number].label} · ${["x", "y"].map((axis) => $(`axis-${axis}`).value).map((key) => `${key} ${runs[number].texts[key]}`).join(" · ")}`;
  $("near").replaceChildren(...(thumbnail ? [html("img", "", { src: thumbnail.src, alt: "" })] : []), html("p", text));
  const point = $("points").children[number];
  const [cx, cy] = ["cx", "cy"].map((name) => Number(point.getAttribute(name)));
  $("near").style.left = `${cx > cloudWidth / 2 ? cx - 205 : cx + 25}px`;
  $("near").style.top = `${Math.min(cy, 160)}px`;
}

// Pictures side by side, or two below a divider. All of them show the same place.
const place = { zoom: 1, x: 0, y: 0 };
let pictures = [];

function pictureOf(number) {
  const [thumbnail, link] = ["img", "a"].map((name) => places[number][0].querySelector(name));
  return thumbnail && { title: runs[number].label, src: link ? link.href : thumbnail.src, small: thumbnail.src };
}

function inputOf(number, name) {
  const at = runs[number].inputs[name];
  return at === undefined ? null : { title: `${name}: ${textOf(runs[number], name) ?? ""}`, src: common.inputs[at] };
}

// Look at pictures; the inputs of the runs can be chosen, too.
function look(numbers, mode) {
  const inputs = numbers.flatMap((number) => ["content", "style"].map((name) => inputOf(number, name)));
  const results = numbers.map(pictureOf).filter(Boolean);
  const different = inputs.filter((each, i) => each && inputs.findIndex((other) => other?.src === each.src) === i);
  pictures = [...results, ...different];
  for (const [id, chosen] of [["left", results.length > 1 ? 1 : results.length], ["right", 0]]) {
    $(id).replaceChildren(...pictures.map((each, i) => html("option", each.title, { value: i })));
    $(id).value = String(Math.min(chosen, pictures.length - 1));
  }
  $("mode").value = mode;
  panes(results);
  move({ zoom: 1, x: 0, y: 0 });
  if (!$("viewer").open) $("viewer").showModal();
}

function imageOf({ title, src, small }) {
  const image = html("img", "", { alt: title, src, draggable: "false" });
  if (small) image.addEventListener("error", () => { image.src = small; }, { once: true });
  return image;
}

function panes(results = pictures.filter((each) => each.small)) {
  const slider = $("mode").value === "slider";
  for (const node of all(".sliding")) node.hidden = !slider;
  const figure = (title, ...nodes) => {
    const [whole, pane] = [html("figure"), html("div", "", { class: "pane" })];
    pane.append(...nodes);
    whole.append(pane, html("figcaption", title));
    return whole;
  };
  if (!slider) {
    $("panes").replaceChildren(...results.map((each) => figure(each.title, imageOf(each))));
    return;
  }
  const [left, right] = ["left", "right"].map((id) => pictures[Number($(id).value)]);
  const over = html("div", "", { class: "over" });
  over.append(imageOf(right));
  $("panes").replaceChildren(figure(`${left.title} | ${right.title}`, imageOf(left), over, html("div", "", { class: "edge" })));
  divide();
}

function divide() {
  const [over, edge] = [".over", ".edge"].map((name) => $("panes").querySelector(name));
  if (!over) return;
  over.style.clipPath = `inset(0 0 0 ${$("divider").value}%)`;
  edge.style.left = `${$("divider").value}%`;
}

function move({ zoom = place.zoom, x = place.x, y = place.y }) {
  place.zoom = Math.min(32, Math.max(1, zoom));
  const most = 50 * (place.zoom - 1);
  [place.x, place.y] = [x, y].map((value) => Math.min(most, Math.max(-most, value)));
  for (const [name, value] of Object.entries(place)) $("panes").style.setProperty(`--${name}`, value);
  $("zoom").textContent = `${Math.round(100 * place.zoom)} %`;
}

// Zoom by a factor around a spot, given in percent of a pane from its middle.
function zoomAt(factor, px = 0, py = 0) {
  const zoom = Math.min(32, Math.max(1, place.zoom * factor));
  const by = zoom / place.zoom;
  move({ zoom, x: px - (px - place.x) * by, y: py - (py - place.y) * by });
}

// Selected runs.
const picks = () => [...runs.keys()].filter((number) => places[number][0].querySelector(".pick").checked);

function select() {
  const picked = picks();
  $("selection").hidden = !picked.length;
  $("selected").textContent = `${picked.length} selected`;
  $("copy").disabled = !picked.some((number) => runs[number].command);
  $("copy").textContent = "Copy their commands";
}

function commands() {
  return picks().map((number) => runs[number].command).filter(Boolean).join("\n");
}

async function copy() {
  const text = commands();
  try {
    await navigator.clipboard.writeText(text);
  } catch { // a page from the disk may not be allowed to
    const field = html("textarea");
    field.value = text;
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  }
  $("copy").textContent = "Copied";
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
  left.append(strip);
  if (pictureOf(number) && inputOf(number, "content")) {
    const beside = html("button", "Compare with its content", { type: "button" });
    beside.addEventListener("click", () => look([number], "slider"));
    left.append(beside);
  }
  if (run.film) {
    const film = run.film.endsWith(".gif") ? html("img", "", { src: run.film, alt: "film", class: "film" }) : html("video", "", { src: run.film, controls: "", preload: "none" });
    left.append(html("h3", "Film"), film);
  }
  left.append(...list("Command", run.command ? { "": run.command } : {}), ...list("Provenance", run.provenance));
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
  card.querySelector(".pick").addEventListener("change", select);
  spark(runs[number], card.querySelector(".spark path"));
});
for (const id of ["dialog", "viewer"]) $(id).addEventListener("click", (event) => { if (event.target === $(id)) $(id).close(); });

for (const axis of ["x", "y"]) $(`axis-${axis}`).addEventListener("change", scatter);
$("points").replaceChildren(...runs.map((run, number) => {
  const point = make("circle", { r: 5, tabindex: "0", role: "button", "aria-label": run.label });
  point.addEventListener("pointerenter", () => near(number));
  point.addEventListener("focus", () => near(number));
  for (const kind of ["pointerleave", "blur"]) point.addEventListener(kind, () => near(null));
  point.addEventListener("click", () => details(number));
  point.addEventListener("keydown", (event) => { if (event.key === "Enter") details(number); });
  return point;
}));
$("side").addEventListener("click", () => look(picks(), "side"));
$("copy").addEventListener("click", copy);
$("none-selected").addEventListener("click", () => { for (const box of all(".pick")) box.checked = false; select(); });
$("mode").addEventListener("change", () => panes());
for (const id of ["left", "right"]) $(id).addEventListener("change", () => panes());
$("divider").addEventListener("input", divide);
$("closer").addEventListener("click", () => zoomAt(1.5));
$("farther").addEventListener("click", () => zoomAt(1 / 1.5));
$("whole").addEventListener("click", () => move({ zoom: 1, x: 0, y: 0 }));
$("panes").addEventListener("wheel", (event) => {
  const pane = event.target.closest(".pane");
  if (!pane) return;
  event.preventDefault();
  const box = pane.getBoundingClientRect();
  const [px, py] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  zoomAt(1.2 ** -Math.sign(event.deltaY), 100 * (px - 0.5), 100 * (py - 0.5));
}, { passive: false });
$("panes").addEventListener("pointerdown", (event) => {
  const pane = event.target.closest(".pane");
  if (!pane) return;
  const [box, start] = [pane.getBoundingClientRect(), { ...place }];
  const drag = (moved) => move({ x: start.x + (100 * (moved.clientX - event.clientX)) / box.width, y: start.y + (100 * (moved.clientY - event.clientY)) / box.height });
  pane.setPointerCapture(event.pointerId);
  pane.addEventListener("pointermove", drag);
  pane.addEventListener("pointerup", () => pane.removeEventListener("pointermove", drag), { once: true });
});

let plotWidth = $("plot").clientWidth || 800;
let cloudWidth = $("cloud").clientWidth || 800;
new ResizeObserver(() => {
  if ($("plot").clientWidth === plotWidth && $("cloud").clientWidth === cloudWidth) return;
  [plotWidth, cloudWidth] = [$("plot").clientWidth, $("cloud").clientWidth];
  scale();
  scatter();
}).observe($("plot"));
draw();
filter();
