/* Asks the engine for its status once a second; page_board.js, which stands before this file, shows
   it. The token stays in this tab: in sessionStorage and in a request header. */

const EVERY_MS = 1000;
const PATIENCE_MS = 5000;
const ARMED_MS = 4000;
const DOUBLE_CLICK_MS = 400;
const KEPT = "cellseg-token";

let token = "";
let timer = 0;
let round = 0;
let lastSeen = null;

/* --- the token ------------------------------------------------------------------------------ */

function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    history.replaceState(null, "", location.pathname + location.search);
    keepToken(given);
  } else if (!token) {
    token = keptToken();
  }
}

/* A browser that blocks the data of sites keeps nothing: then the token lives until a reload. */
function keepToken(given) {
  token = given;
  try {
    if (given) sessionStorage.setItem(KEPT, given);
    else sessionStorage.removeItem(KEPT);
  } catch (error) {
    console.info("The token is not kept: " + error.message);
  }
}

function keptToken() {
  try {
    return sessionStorage.getItem(KEPT) || "";
  } catch {
    return "";
  }
}

/* Gives the token in what somebody pasted: it alone, or the whole address of the page. */
function readToken(text) {
  const given = text.trim();
  const start = given.indexOf("#token=");
  return start < 0 ? given : new URLSearchParams(given.slice(start + 1)).get("token") || "";
}

function refuseToken(text) {
  keepToken("");
  askForToken(text, "error");
}

/* --- asking --------------------------------------------------------------------------------- */

/* Gives the status and the body of an answer; rejects if they are not all here in time. */
async function ask(path, options = {}, read = readJson) {
  const stop = new AbortController();
  const patience = setTimeout(() => stop.abort(), PATIENCE_MS);
  try {
    const answer = await fetch(path, {
      ...options,
      headers: {"X-CellSeg-Token": token},
      cache: "no-store",
      redirect: "error",
      signal: stop.signal,
    });
    return {ok: answer.ok, status: answer.status, body: await read(answer)};
  } finally {
    clearTimeout(patience);
  }
}

/* Gives the JSON of an answer, or null: what stands before the engine may answer something else. */
async function readJson(answer) {
  const text = await answer.text();
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

async function refresh() {
  clearTimeout(timer);
  const mine = ++round;
  if (!token) {
    askForToken("Which token does this engine have?", "question");
    return;
  }
  const odd = token.match(/[^!-~]/u);
  if (odd) {
    refuseToken("No token has the character \u201c" + odd[0] + "\u201d in it.");
    return;
  }
  let answer = null;
  try {
    answer = await ask("v1/status");
  } catch {
    answer = null;
  }
  if (mine !== round) return;
  if (answer && answer.status === 401) {
    refuseToken("This token is not the engine's.");
    return;
  }
  timer = setTimeout(refresh, EVERY_MS); // before it is shown: whatever happens there, it goes on
  try {
    showAnswer(answer);
  } catch (error) {
    console.error(error);
    showTrouble("This page does not understand what the engine answered.", "Load it anew.");
  }
}

function showAnswer(answer) {
  if (answer && !answer.ok) {
    const error = (answer.body && answer.body.error) || {};
    const text = words(error.message, "The engine answered with status " + answer.status + ".");
    showTrouble(text, words(error.hint, "This page goes on asking."));
  } else if (!answer || answer.body === null || typeof answer.body !== "object") {
    showGone();
  } else {
    lastSeen = new Date();
    showStatus(answer.body);
  }
}

async function cancel(id, button) {
  if (button.dataset.armed !== "yes") {
    button.dataset.armed = "yes";
    button.dataset.since = performance.now();
    setButton(button, "Really cancel?");
    setTimeout(() => disarm(button), ARMED_MS);
    return;
  }
  if (performance.now() - button.dataset.since < DOUBLE_CLICK_MS) return; // meant as one click
  button.disabled = true;
  setButton(button, "Cancelling");
  let answer = null;
  try {
    answer = await ask("v1/jobs/" + encodeURIComponent(id), {method: "DELETE"});
  } catch {
    answer = null;
  }
  if (!answer || (!answer.ok && answer.status !== 404)) {
    button.disabled = false;
    button.dataset.armed = "no";
    setButton(button, "Could not cancel, try again");
  }
}

function disarm(button) {
  if (button.disabled || button.dataset.armed !== "yes") return;
  button.dataset.armed = "no";
  setButton(button, "Cancel");
}

async function loadPicture(job, place) {
  if (pictures.has(job.id)) return;
  const path = String(job.thumbnail).replace(/^\/+/, "");
  if (!path.startsWith("v1/thumbnails/")) return;
  pictures.set(job.id, "");
  try {
    const answer = await ask(path, {}, (found) => found.blob());
    if (!answer.ok) throw new Error(String(answer.status));
    const address = URL.createObjectURL(answer.body);
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
  setText(byId("state"), text);
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

function showTrouble(text, hint) {
  setState("gone", "trouble");
  setMessage(text, hint, "error");
  setStale(true);
  document.title = "trouble - CellSeg engine";
}

function setStale(stale) {
  byId("board").classList.toggle("stale", stale);
  byId("board").inert = stale;
}

/* --- start ---------------------------------------------------------------------------------- */

byId("login").addEventListener("submit", (event) => {
  event.preventDefault();
  keepToken(readToken(byId("token").value));
  byId("token").value = "";
  refresh();
});
addEventListener("hashchange", () => {
  takeToken();
  refresh();
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && token) refresh();
});
takeToken();
refresh();
