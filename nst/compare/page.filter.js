"use strict";
// The page's data and their filter: lists to choose a value from, and words that must all be found. A word KEY=VALUE,
// KEY<NUMBER or the like compares the value of a key, as --where does (nst/compare/keys.py).
const $ = (id) => document.getElementById(id);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const runs = JSON.parse($("data").textContent);
const common = JSON.parse($("common").textContent);
const keys = [...Object.keys(runs[0].texts), ...Object.keys(common.shared)];

const WORD = /(?:[^\s"]|"(?:[^"\\]|\\.)*"?)+/g;
const QUOTED = /"((?:[^"\\]|\\.)*)"?/g;
const CONDITION = /^([^<>=]+)(<=|>=|<|>|=)(.*)$/s;
const SIGNS = { "=": (a, b) => a === b, "<": (a, b) => a < b, ">": (a, b) => a > b, "<=": (a, b) => a <= b, ">=": (a, b) => a >= b };

const textOf = (run, key) => run.texts[key] ?? common.shared[key];
const isNumber = (text) => text.trim() !== "" && !Number.isNaN(Number(text));

function parsed(text) {
  return (text.match(WORD) ?? []).filter((part) => part !== "and").map((part) => {
    const word = part.replace(QUOTED, (_, quoted) => quoted.replace(/\\(.)/gs, "$1"));
    const [, key, sign, wanted] = CONDITION.exec(word) ?? [];
    return { word, key, sign, wanted };
  });
}

function meets(run, { word, key, sign, wanted }) {
  if (key === undefined) return run.search.toLowerCase().includes(word.toLowerCase());
  if (!keys.includes(key)) return false;
  if (wanted === "") return true; // not typed yet
  const text = textOf(run, key);
  const held = key in run.values ? run.values[key] : isNumber(text) ? Number(text) : text;
  if (typeof held === "number" && isNumber(wanted)) return SIGNS[sign](held, Number(wanted)) || (sign === "=" && wanted === text);
  const whole = typeof held === "string" ? held : text; // a run's name, which is shown shortened
  return sign === "=" && [text, whole].some((each) => each.toLowerCase() === wanted.toLowerCase());
}

// What is wrong with a condition, or an empty text.
function mistake(condition) {
  const { word, key, sign, wanted } = condition;
  if (key === undefined) return "";
  if (!keys.includes(key)) return unknown(key);
  if (wanted === "") return "";
  if (sign !== "=") return isNumber(wanted) ? "" : `${word}: ${wanted} must be a number`;
  if (runs.some((run) => meets(run, condition))) return "";
  return `${word}: no run has this value; choices: ${some([...new Set(runs.map((run) => textOf(run, key)))])}`;
}

function unknown(key) {
  const ends = keys.filter((each) => each.endsWith(`.${key}`));
  const near = keys.map((each) => [distance(key.toLowerCase(), each), each]).filter(([d, each]) => d <= 0.3 * each.length);
  const best = ends.length ? ends : near.sort(([a], [b]) => a - b).map(([, each]) => each);
  const offered = all("#sort option").map((option) => option.value).filter(Boolean);
  return `${key}: there is no such key; ${best.length ? `did you mean ${best.slice(0, 3).join(" or ")}?` : `choices: ${some(offered)}`}`;
}

const some = (texts) => (texts.length > 40 ? [...texts.slice(0, 40), `and ${texts.length - 40} more`] : texts).join(", ");

// The least number of characters to insert, remove or replace.
function distance(a, b) {
  let row = [...Array(b.length + 1).keys()];
  for (let i = 0; i < a.length; i++) {
    const next = [i + 1];
    for (let j = 0; j < b.length; j++) next.push(Math.min(next[j] + 1, row[j + 1] + 1, row[j] + (a[i] !== b[j])));
    row = next;
  }
  return row[b.length];
}

// The elements that represent a run, by the run's number.
const places = runs.map(() => []);
for (const node of all("[data-run]")) places[node.dataset.run].push(node);
const shown = runs.map(() => true);

function filter() {
  const conditions = parsed($("filter").value);
  const picked = all("select[data-key]").filter((s) => s.value).map((s) => [s.dataset.key, s.value]);
  let count = 0;
  runs.forEach((run, number) => {
    const isPicked = picked.every(([key, value]) => `=${run.texts[key]}` === value);
    shown[number] = isPicked && conditions.every((each) => meets(run, each));
    count += shown[number];
    for (const node of places[number]) node.hidden = !shown[number];
  });
  const wrong = conditions.map(mistake).find(Boolean) ?? "";
  $("wrong").textContent = wrong;
  $("wrong").hidden = !wrong;
  $("count").textContent = `${count} of ${runs.length} runs`;
  $("none").hidden = count > 0;
  scale();
  scatter();
}

// Add a condition to the filter.
function narrow(condition) {
  $("filter").value = `${$("filter").value} ${condition}`.trim();
  filter();
  $("toolbar").scrollIntoView();
}
