// The search page: asks the server under v1/, shows what it finds. The address holds the question.

import * as calibration from "./calibrate.js";

const PAGE = 120; // images at first, and how many more each time
const MOST = 1000; // what the server gives at most
const START = "Say what to look for, or drop an image here. The key / brings you back to the box.";
const CALIBRATE = "Name labels to ask about, with commas between them, or none for those of the library; then Go.";
const NONE = "none of these"; // the label of an image that shows no label of the list
const THUMBNAIL = 448, LARGE = 1600; // pixels: twice a card, for sharp screens; a large screen

const $ = (id) => document.getElementById(id);
const form = $("ask");
let question = {}; // the query: mode, words, where, exclude, relevant, like (a path), file
let shown = []; // the results in the grid, in its order
let found = []; // all results of the answer
let count = PAGE;
let running = new AbortController();

// --- questions ---------------------------------------------------------------------------------

const split = (text, at) => text.split(at).map((part) => part.trim()).filter(Boolean);
const labels = () => [...new Set(split(question.words, ","))];
const anything = () => question.words || question.like || question.file;

function fields() {
  // What the server is asked, as pairs of a name and a value.
  const pairs = [];
  if (question.where) pairs.push(["where", question.where]);
  if (question.mode === "classify") {
    for (const label of labels()) pairs.push(["labels", label]);
    if (question.like) pairs.push(["path", question.like]);
    return pairs;
  }
  if (question.relevant) pairs.push(["relevant", "true"]);
  pairs.push(["k", count]);
  if (question.like && !question.words && !question.exclude) return [...pairs, ["path", question.like]];
  for (const term of split(question.words, /\s\+\s/)) pairs.push(["text", term]);
  for (const term of split(question.exclude, ",")) pairs.push(["exclude", term]);
  if (question.like) pairs.push(["image", escaped(question.like)]);
  return pairs;
}

// A path that begins like a weight ("2:...") does not, behind a backslash.
const escaped = (path) => (/^\\*[+-]?[\d.]+:/.test(path) ? `\\${path}` : path);

async function ask() {
  const pairs = fields();
  running.abort();
  running = new AbortController();
  const { signal } = running;
  if (question.mode === "search" && !question.file) {
    const where = pairs.some(([name]) => name === "path") ? "similar" : "search";
    return answer(await fetch(`v1/${where}?${new URLSearchParams(pairs)}`, { signal }));
  }
  const body = new FormData();
  for (const [name, value] of pairs) {
    // Images that are sent are classified alone, whatever the filter.
    if (!(question.file && question.mode === "classify" && name === "where")) body.append(name, value);
  }
  if (question.file) body.append("upload", question.file, question.file.name || "image");
  const url = question.mode === "classify" ? "v1/classify" : "v1/search";
  return answer(await fetch(url, { method: "POST", body, signal }));
}

async function answer(response) {
  const value = await response.json();
  if (!response.ok) throw new Error(value.message);
  return value;
}

async function run() {
  showQuestion();
  calibration.stop();
  if (question.mode === "calibrate") {
    running.abort();
    show([], CALIBRATE);
    return;
  }
  if (!anything() || (question.mode === "classify" && !labels().length)) {
    running.abort();
    show([], question.mode === "classify" ? "Name labels, with commas between them." : START);
    return;
  }
  $("grid").setAttribute("aria-busy", "true");
  const start = performance.now();
  try {
    const value = await ask();
    show(value.results, summary(value, performance.now() - start), value);
  } catch (error) {
    if (error.name === "AbortError") return;
    show([], error instanceof TypeError ? "The server does not answer." : error.message);
    $("say").classList.add("wrong");
  }
}

function summary(value, milliseconds) {
  const parts = [];
  if (value.total !== undefined) {
    parts.push(`${number(value.total)} ${value.total === 1 ? "image" : "images"} labelled`);
    if (value.results.length < value.total) parts.push(`the first ${number(value.results.length)} are shown`);
  } else {
    if (value.relevant !== null) parts.push(`${value.estimated ? "about " : ""}${number(value.relevant)} relevant of ${number(value.searched)}`);
    parts.push(`${number(value.results.length)} shown`);
  }
  parts.push(`${Math.round(milliseconds)} ms`);
  return [parts.join(" · "), ...value.warnings].join("\n");
}

// --- the address -------------------------------------------------------------------------------

const KEPT = ["mode", "words", "where", "exclude", "like"];

function address() {
  const pairs = KEPT.filter((name) => question[name] && question[name] !== "search").map((name) => [name, question[name]]);
  if (question.relevant) pairs.push(["relevant", "1"]);
  return pairs.length ? `?${new URLSearchParams(pairs)}` : location.pathname;
}

function fromAddress() {
  const given = new URLSearchParams(location.search);
  question = Object.fromEntries(KEPT.map((name) => [name, given.get(name) ?? ""]));
  question.mode = ["classify", "calibrate"].includes(question.mode) ? question.mode : "search";
  question.relevant = given.has("relevant");
  count = PAGE;
  run();
}

function go(change) {
  question = { ...question, ...change };
  count = PAGE;
  const to = address();
  if (to !== location.search && to !== location.pathname + location.search) history.pushState(null, "", to);
  run();
}

function fromForm() {
  const value = (name) => form.elements[name].value.trim();
  return {
    mode: value("mode"), words: value("words"), where: value("where"), exclude: value("exclude"),
    relevant: form.elements.relevant.checked,
  };
}

let preview = ""; // the address of the image in the box

function showQuestion() {
  for (const name of ["mode", "words", "where", "exclude"]) form.elements[name].value = question[name];
  form.elements.relevant.checked = question.relevant;
  const classify = question.mode !== "search"; // or calibrate: labels both
  document.body.classList.toggle("classifying", classify);
  const like = question.like || question.file;
  $("words").placeholder = classify ? "cat, dog, horse" : like ? "and words, if you like" : "a dog on the beach";
  $("words").ariaLabel = classify ? "Labels, with commas between them" : "What to find";
  URL.revokeObjectURL(preview);
  preview = question.file ? URL.createObjectURL(question.file) : question.like ? imageAddress(question.like, THUMBNAIL) : "";
  $("image").hidden = !preview;
  $("image").firstElementChild.src = preview;
  document.title = `${question.words || (preview ? "similar images" : "")} – clipsearch`.replace(/^ – /, "");
}

// --- results -----------------------------------------------------------------------------------

const imageAddress = (path, size) => `v1/image?${new URLSearchParams(size ? { path, size } : { path })}`;
const number = (n) => n.toLocaleString("en");
const percent = (share) => `${Math.round(100 * share)} %`;
const base = (path) => path.split(/[\\/]/).pop();

function facts(one) {
  const size = one.width ? `${one.width} × ${one.height}` : "";
  const taken = one.taken_at ? one.taken_at.slice(0, 16).replace("T", " ") : "";
  const saved = one.labels?.every?.((label) => typeof label === "string") ? one.labels.join(", ") : "";
  return { size, taken, saved };
}

function note(one) {
  const { size, taken, saved } = facts(one);
  if (one.label === undefined) return [one.score.toFixed(3), size, taken.slice(0, 10), saved].filter(Boolean).join(" · ");
  const others = one.labels.filter(({ label }) => label !== one.label);
  // "None of these" may be likelier than the best label and still less likely than not.
  if (one.label !== NONE && one.none > one.probability) others.unshift({ label: NONE, probability: one.none });
  return others.slice(0, 2).map(({ label, probability }) => `${label} ${percent(probability)}`).join(" · ");
}

// The share that the bar shows, and what stands for it; a search that is not judged has cosines.
function share(one) {
  if (one.label !== undefined) return [one.probability, percent(one.probability)];
  if (one.relevance !== null) return [one.relevance, percent(one.relevance)];
  return [Math.max(0, one.score), one.score.toFixed(3)];
}

function card(one, place) {
  const made = $("card").content.cloneNode(true);
  const item = made.firstElementChild;
  const [part, text] = share(one);
  const thumbnail = made.querySelector("img");
  const name = one.label ?? base(one.path);
  item.dataset.place = place;
  item.classList.toggle("likely", part >= 0.5 && one.score !== null); // none of these has no score
  const known = one.path !== base(one.path); // an image that was sent has no path here
  thumbnail.src = known ? imageAddress(one.path, THUMBNAIL) : $("image").firstElementChild.src;
  thumbnail.addEventListener("error", () => thumbnail.parentElement.classList.add("gone"));
  made.querySelector(".view").ariaLabel = `${base(one.path)}, ${text}`;
  made.querySelector(".similar").ariaLabel = `Images similar to ${base(one.path)}`;
  made.querySelector(".similar").hidden = !known;
  made.querySelector(".name").textContent = name;
  made.querySelector(".name").title = one.path;
  made.querySelector(".number").textContent = text;
  made.querySelector(".number").title = one.label !== undefined ? "probability" : one.relevance !== null ? "relevance" : "cosine";
  made.querySelector(".bar i").style.width = `${(100 * part).toFixed(1)}%`;
  made.querySelector(".note").textContent = note(one);
  return made;
}

function show(results, text, value = {}) {
  found = value.counts ? [...results].sort((a, b) => b.probability - a.probability) : results;
  $("say").textContent = text;
  $("say").classList.remove("wrong");
  showCounts(value.counts ?? {});
  fill(found);
  $("further").hidden = value.counts !== undefined || results.length < count || count >= MOST;
  $("grid").removeAttribute("aria-busy");
}

function fill(results) {
  shown = results;
  $("grid").replaceChildren(...shown.map(card));
}

function showCounts(counts) {
  const entries = Object.entries(counts);
  $("counts").hidden = !entries.length;
  const all = ["all", entries.reduce((sum, [, n]) => sum + n, 0), null];
  $("counts").replaceChildren(...[all, ...entries.map(([label, n]) => [label, n, label])].map(chip));
}

function chip([text, n, label]) {
  const item = document.createElement("li");
  const button = document.createElement("button");
  const small = document.createElement("small");
  button.type = "button";
  button.setAttribute("aria-pressed", String(label === null));
  small.textContent = number(n);
  button.append(text, small);
  button.addEventListener("click", () => {
    for (const other of $("counts").querySelectorAll("button")) other.setAttribute("aria-pressed", String(other === button));
    fill(label === null ? found : found.filter((one) => one.label === label));
  });
  item.append(button);
  return item;
}

// --- one image -------------------------------------------------------------------------------

let viewed = 0;

function view(place) {
  if (!shown[place]) return;
  viewed = place;
  const one = shown[place];
  const { size, saved } = facts(one);
  const bytes = !one.bytes ? "" : one.bytes < 1e6 ? `${(one.bytes / 1e3).toFixed(1)} kB` : `${(one.bytes / 1e6).toFixed(1)} MB`;
  const [, text] = share(one);
  const judged = one.label !== undefined ? `${one.label} ${text}` : one.relevance !== null ? `${text} relevant` : "";
  const cosine = one.score === null ? "" : `cosine ${one.score.toFixed(3)}`;
  const known = one.path !== base(one.path);
  $("large").src = known ? imageAddress(one.path, LARGE) : $("image").firstElementChild.src;
  $("large").alt = base(one.path);
  $("large-name").textContent = base(one.path);
  const line = (details) => {
    const known = details.map(({ label, text }) => Object.assign(document.createElement("span"), { title: label, textContent: text }));
    const parts = [judged, cosine, size, bytes, ...known, saved].filter(Boolean);
    $("large-facts").replaceChildren(...parts.flatMap((part, i) => (i ? [" · ", part] : [part])));
  };
  line([]);
  if (known) {
    fetch(`v1/details?${new URLSearchParams({ path: one.path })}`).then(answer).then(
      ({ details }) => shown[viewed] === one && line(details),
      () => {}, // the image is shown without them
    );
  }
  $("large-path").textContent = known ? one.path : "";
  $("original").href = known ? imageAddress(one.path) : "";
  $("original").hidden = $("like").hidden = !known;
  $("previous").disabled = place === 0;
  $("next").disabled = place === shown.length - 1;
  if (!$("viewer").open) $("viewer").showModal();
}

const similarTo = (path) => {
  $("viewer").close();
  scrollTo({ top: 0 });
  go({ mode: "search", words: "", exclude: "", like: path, file: undefined });
};

// --- what the user does ------------------------------------------------------------------------

form.addEventListener("submit", (event) => {
  event.preventDefault();
  go(fromForm());
  if (question.mode === "calibrate") calibration.start(labels(), question.where);
});
form.addEventListener("change", (event) => {
  if (event.target.name === "mode") go({ mode: event.target.value, words: "" });
  else if (event.target.name === "relevant") go(fromForm());
  else if (event.target.id === "file" && event.target.files.length) {
    const [file] = event.target.files;
    event.target.value = "";
    searchByImage(file);
  }
});
$("image").lastElementChild.addEventListener("click", () => {
  go({ like: "", file: undefined });
  $("words").focus();
});
$("further").addEventListener("click", () => {
  count = Math.min(MOST, count + PAGE);
  run();
});

$("grid").addEventListener("click", (event) => {
  const item = event.target.closest("li");
  if (!item || !event.target.closest("button")) return;
  const place = Number(item.dataset.place);
  if (event.target.closest(".similar")) similarTo(shown[place].path);
  else view(place);
});
$("grid").addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns(), ArrowUp: -columns() }[event.key];
  const item = event.target.closest("li");
  if (!step || !item) return;
  event.preventDefault();
  $("grid").children[Number(item.dataset.place) + step]?.querySelector(".view").focus();
});
const columns = () => getComputedStyle($("grid")).gridTemplateColumns.split(" ").length;

$("like").addEventListener("click", () => similarTo(shown[viewed].path));
$("previous").addEventListener("click", () => view(viewed - 1));
$("next").addEventListener("click", () => view(viewed + 1));
$("close").addEventListener("click", () => $("viewer").close());
$("viewer").addEventListener("click", (event) => event.target === $("viewer") && $("viewer").close());
$("viewer").addEventListener("close", () => {
  $("large").removeAttribute("src");
  $("grid").children[viewed]?.querySelector(".view").focus();
});
$("viewer").addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (step) view(viewed + step);
});
addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input, dialog");
  if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  $("words").select();
});

// An image of the user's: dropped, pasted or chosen.
const searchByImage = (file) => go({ ...fromForm(), words: question.mode === "classify" ? fromForm().words : "", like: "", file });
const imageIn = (data) => [...(data?.files ?? [])].find((file) => file.type.startsWith("image/") || /\.(hei[cf]|avif|jp2|ppm|pgm|tiff?)$/i.test(file.name));
let depth = 0;

addEventListener("paste", (event) => {
  const file = imageIn(event.clipboardData);
  if (file) searchByImage(file);
});
addEventListener("dragenter", (event) => {
  if (!event.dataTransfer?.types.includes("Files")) return;
  depth += 1;
  $("drop").hidden = false;
});
addEventListener("dragleave", () => {
  depth = Math.max(0, depth - 1);
  $("drop").hidden = depth === 0;
});
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  depth = 0;
  $("drop").hidden = true;
  const file = imageIn(event.dataTransfer);
  if (file) searchByImage(file);
});

addEventListener("popstate", fromAddress);
fetch("v1/status").then(answer).then(
  (status) => { $("library").textContent = `${number(status.files)} images · ${status.model}`; $("library").title = status.path; $("may-calibrate").hidden = !status.calibrates; },
  (error) => { $("library").textContent = error.message; },
);
fromAddress();
