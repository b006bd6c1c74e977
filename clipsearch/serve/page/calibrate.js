// Calibration: shows an image and a question, keeps each answer at once, and fits at the end.

const LARGE = 1024; // pixels
const KEYS = { y: "yes", n: "no", s: "skip", q: "finish" };

const $ = (id) => document.getElementById(id);
let questions = [];
let place = 0;
let busy = false;

const json = async (response) => {
  const value = await response.json();
  if (!response.ok) throw new Error(value.message);
  return value;
};
const post = (address, body) =>
  fetch(address, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) }).then(json);

function say(text, wrong = false) {
  $("say").textContent = text;
  $("say").classList.toggle("wrong", wrong);
}

// Runs one step after another, and shows why one failed.
async function step(work) {
  if (busy) return;
  busy = true;
  try {
    await work();
  } catch (error) {
    say(error instanceof TypeError ? "The server does not answer." : error.message, true);
  } finally {
    busy = false;
  }
}

export function stop() {
  questions = [];
  $("asking").hidden = true;
  $("asked-image").removeAttribute("src");
}

export function start(labels, where) {
  say("Choosing images …");
  return step(async () => {
    const pairs = labels.map((label) => ["labels", label]);
    if (where) pairs.push(["where", where]);
    const found = await fetch(`v1/questions?${new URLSearchParams(pairs)}`).then(json);
    questions = found.questions;
    place = 0;
    if (!questions.length) return say("There is no image left to ask about: name other labels.");
    say("y: yes, n: no, s: skip, q: finish with the answers so far. Each answer is kept at once.");
    $("asking").hidden = false;
    show();
    $("asking").focus();
  });
}

function show() {
  const { path, label } = questions[place];
  $("asked-place").textContent = `${place + 1} of ${questions.length}`;
  $("asked").textContent = `Does it show “${label}”?`;
  $("asked-image").src = `v1/image?${new URLSearchParams({ path, size: LARGE })}`;
  $("asked-image").alt = path.split(/[\\/]/).pop();
}

const reply = (given) =>
  step(async () => {
    const { path, label } = questions[place];
    if (given === "yes" || given === "no") await post("v1/answers", { answers: [{ path, label, holds: given === "yes" }] });
    place += 1;
    if (given !== "finish" && place < questions.length) return show();
    stop();
    say("Fitting …");
    const { pairs, before, after } = await post("v1/calibrate");
    say(`Fitted to ${pairs} answers: mean squared error ${before.brier.toFixed(3)} before, ${after.brier.toFixed(3)} after, on answers that the fit has not seen.`);
  });

$("asking").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button) reply(button.value);
});
addEventListener("keydown", (event) => {
  const given = KEYS[event.key.toLowerCase()];
  const typing = event.target.closest?.("input, dialog");
  if (!given || $("asking").hidden || typing || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  reply(given);
});
