"use strict";

/* Asks the engine for its status once a second and shows it. Every text that arrives is put in as
   text, never as HTML. The token stays in this tab: in sessionStorage and in a request header. */

const EVERY_MS = 1000;
const PATIENCE_MS = 5000;
const ARMED_MS = 4000;
const STATUS_WORDS = {ok: "done", refused: "refused", failed: "failed", cancelled: "cancelled"};

const byId = (id) => document.getElementById(id);
const pictures = new Map(); // job id -> address of the loaded thumbnail, "" while it is on its way
let token = takeToken();
let timer = 0;
let round = 0;
let lastSeen = null;

/* --- the token ------------------------------------------------------------------------------ */

function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem("cellseg-token", given);
    history.replaceState(null, "", location.pathname + location.search);
  }
  return sessionStorage.getItem("cellseg-token") || "";
}

function forgetToken() {
  token = "";
  sessionStorage.removeItem("cellseg-token");
}

/* --- asking --------------------------------------------------------------------------------- */

function ask(path, options = {}) {
  const stop = new AbortController();
  const patience = setTimeout(() => stop.abort(), PATIENCE_MS);
  return fetch(path, {
    ...options,
    headers: {"X-CellSeg-Token": token},
    cache: "no-store",
    redirect: "error",
    signal: stop.signal,
  }).finally(() => clearTimeout(patience));
}

async function refresh() {
  clearTimeout(timer);
  const mine = ++round;
  if (!token) {
    askForToken("Which token does this engine have?", "question");
    return;
  }
  let answer = null;
  let status = null;
  try {
    answer = await ask("v1/status");
    status = await answer.json();
  } catch {
    status = null;
  }
  if (mine !== round) return;
  if (answer && answer.status === 401) {
    forgetToken();
    askForToken("This token is not the engine's.", "error");
    return;
  }
  if (answer && !answer.ok) showTrouble(answer.status, status);
  else if (status === null || typeof status !== "object") showGone();
  else showStatus(status);
  timer = setTimeout(refresh, EVERY_MS);
}

async function cancel(id, button) {
  if (button.dataset.armed !== "yes") {
    button.dataset.armed = "yes";
    button.textContent = "Really cancel?";
    setTimeout(() => disarm(button), ARMED_MS);
    return;
  }
  button.disabled = true;
  button.textContent = "Cancelling";
  let answer = null;
  try {
    answer = await ask("v1/jobs/" + encodeURIComponent(id), {method: "DELETE"});
  } catch {
    answer = null;
  }
  if (!answer || (!answer.ok && answer.status !== 404)) {
    button.disabled = false;
    button.dataset.armed = "no";
    button.textContent = "Could not cancel, try again";
  }
}

function disarm(button) {
  if (button.disabled || button.dataset.armed !== "yes") return;
  button.dataset.armed = "no";
  button.textContent = "Cancel";
}

async function loadPicture(job, place) {
  if (pictures.has(job.id)) return;
  const path = String(job.thumbnail).replace(/^\/+/, "");
  if (!path.startsWith("v1/thumbnails/")) return;
  pictures.set(job.id, "");
  try {
    const answer = await ask(path);
    if (!answer.ok) throw new Error(String(answer.status));
    const address = URL.createObjectURL(await answer.blob());
    pictures.set(job.id, address);
    const image = document.createElement("img");
    image.alt = "Outlines of the objects in " + words(job.title, "the image");
    image.src = address;
    place.replaceChildren(image);
  } catch {
    pictures.delete(job.id); // asked for again with the next status
  }
}

/* --- what is shown: states ------------------------------------------------------------------ */

function setState(state, text) {
  byId("state").dataset.state = state;
  byId("state").textContent = text;
}

function setMessage(text, hint, kind) {
  byId("message").hidden = !text;
  if (byId("message-text").textContent !== text) byId("message-text").textContent = text;
  if (byId("message-hint").textContent !== hint) byId("message-hint").textContent = hint;
  byId("message").dataset.kind = kind;
}

function askForToken(text, kind) {
  setState(kind === "error" ? "refused" : "waiting", kind === "error" ? "wrong token" : "no token");
  setMessage(
    text,
    "It changes each time the engine starts. The command \"cellseg serve\" prints the address of " +
      "this page with the token in it; \"python -m cellseg_client ensure\" prints the token.",
    kind,
  );
  byId("login").hidden = false;
  byId("board").hidden = true;
  byId("version").textContent = "";
  document.title = "CellSeg engine";
}

function showGone() {
  setState("gone", "no answer");
  const seen = lastSeen ? " It was last seen at " + lastSeen.toLocaleTimeString() + "." : "";
  setMessage(
    "The engine does not answer." + seen,
    "It ends by itself when it has been idle for long, or somebody stopped it. Fiji and " +
      "CellProfiler start a new one when they need it; that one has another address and token. " +
      "This page goes on asking.",
    "error",
  );
  setStale(true);
  document.title = "no answer - CellSeg engine";
}

function showTrouble(code, body) {
  const error = (body && body.error) || {};
  setState("gone", "trouble");
  setMessage(
    words(error.message, "The engine answered with status " + code + "."),
    words(error.hint, "This page goes on asking."),
    "error",
  );
  setStale(true);
}

function setStale(stale) {
  byId("board").classList.toggle("stale", stale);
  byId("board").inert = stale;
}

/* --- what is shown: the status -------------------------------------------------------------- */

function showStatus(status) {
  lastSeen = new Date();
  const running = list(status.running);
  const queued = list(status.queued);
  const recent = list(status.recent);
  const starting = status.state === "starting";
  setState(starting ? "waiting" : "ready", starting ? "starting" : running.length ? "working" : "ready");
  setMessage("", "", "");
  byId("login").hidden = true;
  byId("board").hidden = false;
  setStale(false);
  byId("version").textContent = words(status.version, "") && "version " + status.version;
  showFacts(status);
  show("running", running, makeJob, updateRunning);
  show("queued", queued, makeJob, updateQueued);
  show("recent", recent, makeCard, updateCard);
  byId("running-count").textContent = running.length || "";
  byId("queued-count").textContent = queued.length || "";
  const busy = running.length + queued.length;
  document.title = (busy ? "(" + busy + ") " : "") + "CellSeg engine";
  forgetPictures(new Set(recent.map((job) => job.id)));
}

function showFacts(status) {
  const memory = status.memory || {};
  const gpu = memory.gpu || null;
  const counters = status.counters || {};
  const facts = [
    ["Device", words(status.device, "not chosen yet")],
    ["Memory", part(memory.rss_bytes, memory.total_bytes)],
    ["GPU memory", gpu ? part(gpu.used_bytes, gpu.total_bytes) : null],
    ["Training", status.training ? describeTraining(status.training) : null],
    ["Up for", duration(status.uptime_s)],
    ["Models loaded", counters.models_loaded],
    ["Images done", counters.jobs_done],
    ["Refused", counters.jobs_refused],
    ["Failed", counters.jobs_failed],
    ["Cancelled", counters.jobs_cancelled],
  ].filter(([, value]) => value !== null && value !== undefined && value !== "");
  show("facts", facts.map(([id, value]) => ({id, value})), makeFact, (place, fact) => {
    setText(place.lastChild, fact.value);
  });
}

function describeTraining(training) {
  const epochs = training.epochs ? "epoch " + training.epoch + " of " + training.epochs : training.stage;
  return words(training.model, "a model") + (epochs ? ", " + epochs : "");
}

/* Keeps one element per entry, so that buttons keep their focus and pictures are not reloaded. */
function show(name, entries, make, update) {
  const place = byId(name);
  const there = new Map([...place.children].map((child) => [child.dataset.id, child]));
  entries.forEach((entry, index) => {
    const id = String(entry.id);
    const child = there.get(id) || make(entry);
    there.delete(id);
    child.dataset.id = id;
    update(child, entry);
    if (place.children[index] !== child) place.insertBefore(child, place.children[index] || null);
  });
  there.forEach((child) => child.remove());
  const empty = byId(name + "-empty");
  if (empty) empty.hidden = entries.length > 0;
}

function makeFact(fact) {
  const place = document.createElement("div");
  place.append(element("dt", "", fact.id), element("dd", ""));
  return place;
}

function makeJob(job) {
  const place = element("li", "");
  const button = element("button", "", "Cancel");
  button.type = "button";
  button.addEventListener("click", () => cancel(job.id, button));
  place.append(element("p", "title"), element("p", "detail"), button);
  return place;
}

function updateJob(place, job, details) {
  setText(place.querySelector(".title"), words(job.title, "untitled image"));
  setText(place.querySelector(".detail"), details.filter(Boolean).join(" · "));
  const button = place.querySelector("button");
  button.setAttribute("aria-label", button.textContent + ": " + words(job.title, "untitled image"));
}

function updateRunning(place, job) {
  let bar = place.querySelector("progress");
  if (!bar) {
    bar = document.createElement("progress");
    bar.max = 1;
    bar.setAttribute("aria-label", "Progress");
    place.append(bar);
  }
  const known = Number.isFinite(job.fraction);
  if (known) bar.value = Math.min(1, Math.max(0, job.fraction));
  else bar.removeAttribute("value");
  const share = known ? Math.round(bar.value * 100) + " %" : "";
  const plane = job.planes > 1 ? "plane " + (job.plane + 1) + " of " + job.planes : "";
  const details = [plane, words(job.stage, ""), share, duration(job.seconds), words(job.client, "")];
  updateJob(place, job, details);
}

function updateQueued(place, job) {
  const position = Number.isFinite(job.position) ? "place " + (job.position + 1) + " in the queue" : "";
  updateJob(place, job, [position, words(job.client, "")]);
}

function makeCard() {
  const place = element("li", "");
  const body = element("div", "body");
  body.append(element("p", "title"), element("p", "status"), element("p", "detail"));
  place.append(element("div", "picture"), body);
  return place;
}

function updateCard(place, job) {
  const error = job.error || {};
  const objects = Number.isFinite(job.objects) && job.status === "ok";
  const status = words(STATUS_WORDS[job.status], "unknown");
  place.querySelector(".status").dataset.status = words(job.status, "");
  setText(place.querySelector(".title"), words(job.title, "untitled image"));
  setText(
    place.querySelector(".status"),
    status + (objects ? ": " + job.objects + (job.objects === 1 ? " object" : " objects") : ""),
  );
  const diameter = job.diameter_px > 0 ? "diameter " + job.diameter_px.toFixed(1) + " px" : "";
  const details = [duration(job.seconds), diameter, words(job.client, "")];
  setText(place.querySelector(".detail"), details.filter(Boolean).join(" · "));
  const notes = list(job.warnings).map((text) => ["warning", String(text)]);
  if (error.message) {
    notes.unshift(["error", [error.message, error.hint].filter(Boolean).join(" ")]);
  }
  const body = place.querySelector(".body");
  if (body.dataset.notes !== JSON.stringify(notes)) {
    body.dataset.notes = JSON.stringify(notes);
    body.querySelectorAll(".note").forEach((note) => note.remove());
    body.append(...notes.map(([kind, text]) => element("p", "note " + kind, text)));
  }
  const picture = place.querySelector(".picture");
  picture.hidden = !job.thumbnail;
  if (job.thumbnail) loadPicture(job, picture);
}

function forgetPictures(kept) {
  for (const [id, address] of pictures) {
    if (kept.has(id) || !address) continue;
    URL.revokeObjectURL(address);
    pictures.delete(id);
  }
}

/* --- words and numbers ---------------------------------------------------------------------- */

function element(tag, name, text = "") {
  const made = document.createElement(tag);
  if (name) made.className = name;
  made.textContent = text;
  return made;
}

function setText(place, text) {
  if (place.textContent !== String(text)) place.textContent = text;
}

function list(value) {
  return Array.isArray(value) ? value : [];
}

function words(value, otherwise) {
  return typeof value === "string" && value.trim() ? value : otherwise;
}

function part(used, total) {
  if (!Number.isFinite(used)) return null;
  if (!(total > 0)) return bytes(used);
  return (used >= 1e9 ? (used / 1e9).toFixed(1) : bytes(used)) + " of " + bytes(total);
}

function bytes(count) {
  if (count >= 1e9) return (count / 1e9).toFixed(1) + " GB";
  return Math.round(count / 1e6) + " MB";
}

function duration(seconds) {
  if (!Number.isFinite(seconds) || seconds < 0) return "";
  if (seconds < 10) return seconds.toFixed(1) + " s";
  const whole = Math.round(seconds);
  if (whole < 60) return whole + " s";
  if (whole < 3600) return Math.floor(whole / 60) + " min " + (whole % 60) + " s";
  return Math.floor(whole / 3600) + " h " + Math.floor((whole % 3600) / 60) + " min";
}

/* --- start ---------------------------------------------------------------------------------- */

byId("login").addEventListener("submit", (event) => {
  event.preventDefault();
  token = byId("token").value.trim();
  byId("token").value = "";
  if (!token) return;
  sessionStorage.setItem("cellseg-token", token);
  refresh();
});
addEventListener("hashchange", () => {
  token = takeToken();
  refresh();
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && token) refresh();
});
refresh();
