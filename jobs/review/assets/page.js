"use strict";
// Shows one pair after the other. A key press shows the next pair at once; its verdict waits in an outbox that outlives
// the page until the server says that it is on disk.

const element = (id) => document.getElementById(id);
const page = element("page"), stage = element("stage");
const {choice, reviewer} = page.dataset;
const sizes = page.dataset.sizes.split(",").map(Number);
const titles = [...document.querySelectorAll("template.part")].map((each) => each.innerHTML);
const WORDS = {du: "duplicate", di: "distinct", un: "undecided"};
const verdicts = (page.dataset.verdicts.match(/../g) || []).map((code) => WORDS[code] || "");
const total = verdicts.length;
const AHEAD = 8, BEHIND = 8;
const ready = new Map();  // number → its element, with all pictures decoded; or the promise of it
let at = Number(page.dataset.number);
let resting = false;  // at the end of a part, or of all

// ---- pairs ----

async function load(number) {
  const answer = await fetch(`/pair/${number}`);
  if (!answer.ok) throw new Error(await answer.text());
  const holder = document.createElement("template");
  holder.innerHTML = await answer.text();
  return prepare(document.importNode(holder.content, true).firstElementChild);  // in a template no picture is loaded
}

async function prepare(pair) {
  await Promise.all([...pair.querySelectorAll("img")].map((image) => image.decode()));
  pair.dataset.ready = "";
  return pair;
}

function want(number) {
  if (!ready.has(number)) {
    const coming = load(number);
    ready.set(number, coming);
    coming.then((pair) => ready.set(number, pair), () => ready.delete(number));
  }
  return ready.get(number);
}

function prefetch() {
  for (const number of ready.keys()) if (number < at - BEHIND || number > at + AHEAD) ready.delete(number);
  for (let number = at + 1; number <= Math.min(at + AHEAD, total - 1); number++) want(number);
}

async function show(number) {
  at = number;
  resting = false;
  element("end").hidden = true;
  const pair = want(number);
  if (pair instanceof Promise) {
    stage.replaceChildren();
    try {
      await pair;
    } catch (error) {
      if (at !== number) return;
      tell();
      problem("pair", `Pair ${number + 1} can't be shown: ${error.message.trim()} (trying again)`);
      setTimeout(() => { if (at === number && !resting && !stage.firstElementChild) show(number); }, 1000);
      return;
    }
    if (at !== number || resting) return;
  }
  stage.replaceChildren(ready.get(number));
  problem("pair", "");
  tell();
  setTimeout(prefetch, 20);  // after the pair is painted: fetching more must not delay it
}

function rest(title, words, next) {
  resting = true;
  stage.replaceChildren();
  element("end").hidden = false;
  element("end-title").textContent = title;
  element("end-words").textContent = words;
  element("go-on").hidden = next === null;
  element("go-on").onclick = () => show(next);
  tell();
}

function next(after) {  // in this part where there is one, later ones first
  const [first, stop] = partRange(partOf(at));
  const places = [...Array(stop - first).keys()].map((place) => (after - first + place) % (stop - first) + first);
  const number = places.find((place) => !verdicts[place]);
  return number === undefined ? verdicts.indexOf("") : number;
}

const partOf = (number) => {
  let part = 0;
  for (let first = 0; part < sizes.length - 1 && number >= first + sizes[part]; part++) first += sizes[part];
  return part;
};
const partRange = (part) => {
  const first = sizes.slice(0, part).reduce((sum, size) => sum + size, 0);
  return [first, first + sizes[part]];
};
const judgedIn = (part) => verdicts.slice(...partRange(part)).filter(Boolean).length;

function advance() {
  const part = partOf(at), number = next(at + 1);
  if (number < 0) return rest("That was the last pair.", "Thank you. `ganlab measure` now uses your verdicts.", null);
  const finished = judgedIn(part) === sizes[part] && partOf(number) !== part;
  if (finished) {
    rest(`Done: ${titles[part]}.`, `Your verdicts so far are of use as they are. Next: ${sizes[partOf(number)]} pairs, `
      + `${titles[partOf(number)]}.`, number);
  } else show(number);
}

function tell() {
  const part = partOf(Math.min(at, total - 1)), done = judgedIn(part);
  element("part").textContent = titles.length > 1 ? `${part + 1} of ${titles.length}, ${titles[part]}` : titles[part];
  element("done").textContent = `${done} of ${sizes[part]}`;
  element("progress").max = sizes[part];
  element("progress").value = done;
  const given = resting ? "" : verdicts[at];
  for (const button of document.querySelectorAll("#keys [data-verdict]")) {
    button.setAttribute("aria-pressed", String(button.dataset.verdict === given));
    button.disabled = resting;
  }
  element("back").disabled = at === 0;
}

// ---- verdicts ----

const prefix = `ganlab ${choice} ${reviewer} `;
// Saved verdicts are kept for a minute: this page may have left the server before another tab had its own ones saved.
const KEPT_MS = 60000;
const kept = [];  // {id, verdict, number} or {id}, in the order of the key presses; `saved` says when the server had it
for (const key of Object.keys(localStorage).filter((key) => key.startsWith(prefix))) {
  const entry = JSON.parse(localStorage.getItem(key));
  if (entry.saved < Date.now() - KEPT_MS) localStorage.removeItem(key);
  else kept.push(entry);
}
kept.sort((one, other) => one.order - other.order);
const outbox = kept.filter((entry) => !entry.saved);
let sending = false, saved = 0;

function name() {
  // Not randomUUID: it is missing where a page comes from another machine without TLS.
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function post(item) {
  const entry = {...item, id: name(), order: Date.now() + outbox.length / 1000};
  localStorage.setItem(prefix + entry.id, JSON.stringify(entry));
  return new Promise((done) => {
    outbox.push({...entry, done});
    status();
    setTimeout(send);
  });
}

async function send() {
  if (sending) return;
  sending = true;
  let wait = 250;
  while (outbox.length) {
    const {done, ...entry} = outbox[0], {id, verdict, number} = entry;
    const fields = new URLSearchParams({id, choice, reviewer});
    if (verdict) fields.set("verdict", verdict), fields.set("number", number);
    try {
      const answer = await fetch(verdict ? "/verdict" : "/undo", {method: "POST", body: fields, keepalive: true});
      if (!answer.ok) throw new Error((await answer.text()).trim() + (answer.status === 401 ? ". Your verdicts wait here." : ""));
      const told = await answer.json();
      const place = verdict ? number : told.number;  // of an undone verdict the server says it
      localStorage.setItem(prefix + id, JSON.stringify({...entry, number: place, saved: Date.now()}));
      setTimeout(() => localStorage.removeItem(prefix + id), KEPT_MS);
      outbox.shift();
      saved += 1;
      status();
      wait = 250;
      problem("saving", "");
      if (done) done(told.number);
    } catch (error) {
      const words = error instanceof TypeError ? "the page's server does not answer" : error.message;
      problem("saving", `Not saved yet: ${words} (trying again)`);
      await new Promise((resume) => setTimeout(resume, wait));
      wait = Math.min(2 * wait, 5000);
    }
  }
  sending = false;
  status();
}

function status() {
  element("saved").textContent = outbox.length ? `saving ${outbox.length} …` : saved ? "all saved" : "";
}

const problems = {};
function problem(kind, words) {
  problems[kind] = words;
  const all = Object.values(problems).filter(Boolean).join(" ");
  element("problem").textContent = all;
  element("problem").hidden = !all;
}

function judge(verdict) {
  if (resting || !("ready" in (stage.firstElementChild?.dataset ?? {}))) return;  // nothing unseen is judged
  post({verdict, number: at});
  verdicts[at] = verdict;
  advance();
}

function back() {
  if (at > 0 || resting) show(resting && at < total && verdicts[at] ? at : Math.max(0, at - 1));
}

async function undo() {
  const number = await post({});
  if (number === null) return problem("pair", "There is nothing to undo.");
  verdicts[number] = "";
  show(number);
}

// ---- keys, buttons ----

const KEYS = {
  y: () => judge("duplicate"), n: () => judge("distinct"), u: () => judge("undecided"),
  b: back, ArrowLeft: back, z: undo, Backspace: undo,
  Enter: () => { if (resting && !element("go-on").hidden) element("go-on").click(); },
};
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  if (event.key === "Enter" && event.target.closest("button, a")) return;
  const act = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (act) {
    event.preventDefault();
    act();
  }
});
for (const button of document.querySelectorAll("#keys [data-verdict]")) {
  button.addEventListener("click", () => judge(button.dataset.verdict));
}
element("back").addEventListener("click", back);
element("undo").addEventListener("click", undo);
element("invite").addEventListener("click", async () => {
  const answer = await fetch("/invite", {method: "POST"});
  element("invitation").textContent = answer.ok ? `Good for one browser: ${await answer.text()}` : "The server does not answer.";
});
addEventListener("beforeunload", (event) => { if (outbox.length) event.preventDefault(); });

// ---- begin ----

for (const {verdict, number} of kept) if (number !== null && number !== undefined) verdicts[number] = verdict ?? "";
send();
if (at < total && !verdicts[at]) {
  const first = stage.firstElementChild;
  ready.set(at, first);
  prepare(first).catch(() => problem("pair", "A picture of this pair can't be read."));
  tell();
  prefetch();
} else {
  at = Math.max(0, Math.min(at, total) - 1);
  advance();
}
