"use strict";

/* Shows the status of the engine. Every text that arrives is put in as text, never as HTML. */

const STATUS_WORDS = {ok: "done", refused: "refused", failed: "failed", cancelled: "cancelled"};
const STATES = {starting: ["waiting", "starting"], failed: ["gone", "cannot segment"]};
const WAITING_SHOWN = 20;

const byId = (id) => document.getElementById(id);
const pictures = new Map(); // job id -> address of the loaded thumbnail, "" while it is on its way

/* --- what is shown: the status -------------------------------------------------------------- */

function showStatus(status) {
  const running = [...list(status.running), ...trainings(status.training)];
  const queued = list(status.queued);
  const recent = [...list(status.recent), ...list(status.recent_trainings)];
  recent.sort((one, other) => (other.ended_at || 0) - (one.ended_at || 0));
  setState(...(STATES[status.state] || ["ready", running.length ? "working" : "ready"]));
  setMessage("", "", "");
  byId("login").hidden = true;
  byId("board").hidden = false;
  setStale(false);
  byId("version").textContent = words(status.version, "") && "version " + status.version;
  showFacts(status);
  keepFocus(() => {
    show("running", running, makeJob, updateRunning);
    show("queued", queued.slice(0, WAITING_SHOWN), makeJob, updateQueued);
  });
  show("recent", recent, makeCard, updateCard);
  byId("running-count").textContent = running.length || "";
  byId("queued-count").textContent = queued.length || "";
  const more = queued.length - WAITING_SHOWN;
  byId("queued-more").hidden = more <= 0;
  setText(byId("queued-more"), "and " + more + " more");
  const busy = running.length + queued.length;
  document.title = (busy ? "(" + busy + ") " : "") + "CellSeg engine";
  forgetPictures(new Set(recent.map((job) => job.id)));
}

/* Gives the training that runs as an entry beside the images. */
function trainings(training) {
  if (!training) return [];
  const stage = training.epochs
    ? "epoch " + training.epoch + " of " + training.epochs
    : words(training.stage, "preparing");
  return [{...training, title: trainingTitle(training), stage}];
}

function trainingTitle(training) {
  return "Training of " + words(training.model, "a model");
}

function showFacts(status) {
  const memory = status.memory || {};
  const gpu = memory.gpu || null;
  const counters = status.counters || {};
  const facts = [
    ["Device", words(status.device, "not chosen yet")],
    ["Memory", part(memory.rss_bytes, memory.total_bytes)],
    ["GPU memory", gpu ? part(gpu.used_bytes, gpu.total_bytes) : null],
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

/* A job that goes from Waiting to Running gets a new button, which takes over the focus. */
function keepFocus(change) {
  const button = document.activeElement;
  const entry = button && button.closest(".jobs li");
  change();
  if (!entry || document.activeElement === button) return;
  const now = [...document.querySelectorAll(".jobs li")];
  const place = now.find((other) => other.dataset.id === entry.dataset.id);
  if (place) place.querySelector("button").focus({preventScroll: true});
}

/* Keeps one element per entry, so that buttons keep their focus and pictures are not reloaded. */
function show(name, entries, make, update) {
  const place = byId(name);
  const there = new Map([...place.children].map((child) => [child.dataset.id, child]));
  const wanted = new Set(entries.map((entry) => String(entry.id)));
  // First what is over: then nothing that stays has to move, which would take its focus.
  there.forEach((child, id) => wanted.has(id) || child.remove());
  entries.forEach((entry, index) => {
    const id = String(entry.id);
    const child = there.get(id) || make(entry);
    child.dataset.id = id;
    update(child, entry);
    if (place.children[index] !== child) place.insertBefore(child, place.children[index] || null);
  });
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
  const button = place.querySelector("button");
  button.dataset.of = setTitle(place, job);
  setButton(button, button.textContent);
  setText(place.querySelector(".detail"), details.filter(Boolean).join(" · "));
}

/* What a button says and what a screen reader hears are one. */
function setButton(button, text) {
  setText(button, text);
  button.setAttribute("aria-label", text + ": " + button.dataset.of);
}

function setTitle(place, job) {
  const title = words(job.title, "untitled image");
  const shown = place.querySelector(".title");
  setText(shown, title);
  shown.title = title; // all of it, where the style shows three lines
  return title;
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
  const status = words(STATUS_WORDS[job.status], "unknown");
  const found = job.status === "ok" ? findings(job) : "";
  place.querySelector(".status").dataset.status = words(job.status, "");
  setTitle(place, job.model ? {title: trainingTitle(job)} : job);
  setText(place.querySelector(".status"), status + (found && ": " + found));
  const diameter = job.diameter_px > 0 ? "diameter " + job.diameter_px.toFixed(1) + " px" : "";
  const details = [clock(job.ended_at), duration(job.seconds), diameter, words(job.client, "")];
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

function findings(job) {
  const images = Number.isFinite(job.images) ? plural(job.images, "image") + ", " : "";
  return Number.isFinite(job.objects) ? images + plural(job.objects, "object") : "";
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

function plural(count, thing) {
  return count + " " + thing + (count === 1 ? "" : "s");
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

/* Gives the time of day, with the day where it is not today. */
function clock(seconds) {
  if (!Number.isFinite(seconds)) return "";
  const time = new Date(seconds * 1000);
  const isToday = time.toDateString() === new Date().toDateString();
  const day = isToday ? {} : {month: "short", day: "numeric"};
  return time.toLocaleString([], {...day, hour: "2-digit", minute: "2-digit"});
}
