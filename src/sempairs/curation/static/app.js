// The page: wires the parts together. Plain modules, no framework, nothing from elsewhere.

import { Refusal, getState } from "./api.js";
import { $, count, duration, number, plain } from "./dom.js";
import { Draft } from "./draft.js";
import { Judge } from "./judge.js";
import { listen } from "./keys.js";
import { known } from "./known.js";
import { Outbox } from "./outbox.js";
import * as panel from "./panel.js";
import { Queues, suggestion, title } from "./queues.js";
import { showInstead } from "./no_pictures.js";
import * as store from "./store.js";
import { nextTheme, startTheme } from "./theme.js";
import { View } from "./view.js";

const OFTEN = 4000; // ms between two looks at the state while judging
const NAME = /^[\p{L}\p{M}\p{N}\p{P}\p{S} ]+$/u;
const SELDOM = 15000; // ms between two looks while nothing happens

const view = new View();
const draft = new Draft();
const queues = new Queues(begin);
let state = null;
let outbox = null;
let judge = null;
let reviewer = null;
let evidence = false;
let savingTimer = 0;
let looked = 0;
let lookTimer = 0;

function say(where, line) {
  $(where).textContent = line;
}

function warn(line) {
  $("message-text").textContent = line;
  $("message").hidden = !line;
}

function show() {
  if (!judge) return;
  const { feed, current } = judge;
  const size = Math.max(feed.size, feed.done);
  $("queue-name").textContent = title(judge.queue, state);
  $("bar").max = Math.max(1, size);
  $("bar").value = judge.queue === "mine" ? 0 : feed.done;
  $("count").textContent = judge.queue === "mine" ? count(size, "verdict") : `${number(feed.done)} of ${number(size)}`;
  const pace = judge.pace.perMinute;
  const left = judge.left ? `, ${duration(judge.left)} left` : "";
  $("pace").textContent = pace ? `${Math.round(pace)} a minute${left}` : "";
  $("question").textContent = judge.queue === "conflicts" ? "Your decision: same meaning?" : "Same meaning?";
  $("which").textContent = current ? `Pair ${number(judge.place)}` : "";
  $("controls").hidden = !current;
  document.querySelector(".tools").hidden = !current;
  $("evidence").setAttribute("aria-pressed", String(evidence));
  known($("known"), current, evidence);
  showInstead(judge, state, { begin, choose: openQueues, say });
}

function showSaved() {
  const write = (name, text) => {
    $("saved").dataset.state = name;
    $("saved-text").textContent = text;
  };
  clearTimeout(savingTimer);
  if (outbox.failures) {
    write("offline", `Offline, ${outbox.size} kept here`);
    $("saved").title = outbox.trouble;
    if (outbox.failures === 2) warn(`${outbox.trouble}. Verdicts are kept in this browser and sent as soon as they can be.`);
  } else if (outbox.size) {
    savingTimer = setTimeout(() => write("saving", `Saving ${outbox.size}`), 250);
  } else {
    if ($("saved").dataset.state === "offline") {
      warn("");
      judge.retry();
    }
    write("saved", "Saved");
    $("saved").title = "";
    look();
  }
}

/** Fresh figures of all reviewers, not too often. */
function look(soon = false) {
  clearTimeout(lookTimer);
  const wait = soon ? 0 : Math.max(0, looked + OFTEN - Date.now());
  lookTimer = setTimeout(async () => {
    looked = Date.now();
    const mark = outbox.size ? -1 : outbox.last;
    try {
      const answer = await getState(reviewer);
      if (answer.set.manifest_hash !== state.set.manifest_hash)
        return warn("The server has another set of pairs open now: reload the page");
      state = answer;
      const mine = state.queues.find((queue) => queue.id === judge.queue);
      const still = !outbox.size && outbox.last === mark; // no verdict in between: the server's count is ours
      if (mine && still && judge.queue !== "mine" && !judge.feed.first)
        Object.assign(judge.feed, { done: mine.done, size: mine.size });
      showState();
    } catch (error) {
      if (error.final) warn(error.message);
    }
  }, wait);
}

function showState() {
  panel.fill(state, () => begin("conflicts"));
  $("set-name").textContent = state.set.name;
  document.title = `${state.set.name}: same meaning?`;
  if ($("queues").open) queues.renew(state);
  show();
}

function saved(entry, answer) {
  const { about } = entry;
  if (entry.path === "/api/undo") {
    judge.undone(about, answer);
    say("said", about.place ? `Pair ${about.place}, taken back` : "Taken back");
  } else {
    say("said", `Pair ${about.place}, saved ${about.verdict}`);
  }
}

function refused(entry, error) {
  if (entry.path === "/api/undo" && error.status === 409) return warn("Nothing left to undo");
  return warn(`Not accepted${entry.about.place ? ` (pair ${entry.about.place})` : ""}: ${error.message}`);
}

async function verify() {
  const answer = await getState(reviewer);
  if (answer.set.manifest_hash !== state.set.manifest_hash)
    throw new Refusal("The server has another set of pairs open; your verdicts wait here for this one", 0);
}

function begin(queue) {
  store.save(`sempairs/queue/${state.set.manifest_hash}`, queue);
  warn("");
  judge.start(queue, reviewer);
  show();
  $("judge").focus({ preventScroll: true });
}

function openQueues() {
  if (!state) return;
  queues.open(state, judge.queue, reviewer);
  look(true);
}

function askName() {
  $("name").value = reviewer ?? "";
  $("name-error").textContent = "";
  if (!$("naming").open) $("naming").showModal();
  $("name").select();
}

/** Asks for the name; behind a token the server says which one it was started with. */
async function offerName() {
  askName();
  const answer = await getState("").catch(() => null);
  if (answer?.reviewer && !$("name").value) $("name").value = answer.reviewer;
}

/** Starts, or starts anew, as this reviewer. Raises: Refusal. */
async function enter(name) {
  const answer = await getState(name);
  const kind = answer.reviewers.find((one) => one.name === name)?.kind ?? "person";
  if (kind !== "person") throw new Refusal(`${name} is a ${kind} here: choose another name`, 400);
  if (!NAME.test(name)) throw new Refusal("A name has letters, digits, signs and blanks only", 400);
  reviewer = name;
  state = answer;
  looked = Date.now();
  store.save("sempairs/reviewer", name);
  $("who-name").textContent = name;
  draft.offer(state.reasons.map((reason) => ({ id: reason, shown: plain(reason) })));
  if (!outbox) {
    outbox = new Outbox(state.set.manifest_hash, { changed: showSaved, saved, refused, verify });
    judge = new Judge({ outbox, view, draft }, { show, say, warn });
  }
  const remembered = store.load(`sempairs/queue/${state.set.manifest_hash}`);
  const first = suggestion(state, null) ?? state.queues[0];
  begin(remembered ?? first.id);
  showState();
  showSaved();
  outbox.run();
}

function wire() {
  const on = (id, run) => $(id).addEventListener("click", run);
  for (const button of document.querySelectorAll("button.verdict")) {
    button.addEventListener("click", (event) => {
      judge?.verdict(button.dataset.verdict);
      if (event.detail) $("judge").focus({ preventScroll: true }); // clicked, not pressed: Space is free again
    });
  }
  const togglePanel = (open = $("panel").hidden) => {
    $("panel").hidden = !open;
    $("panel-switch").setAttribute("aria-expanded", String(open));
    store.save("sempairs/panel", open);
  };
  const toggleEvidence = () => {
    evidence = !evidence;
    show();
  };
  const undo = () => judge?.undo();
  const help = () => $("help").showModal();
  on("open-queues", openQueues);
  on("who", askName);
  on("theme", nextTheme);
  on("open-help", help);
  on("panel-switch", () => togglePanel());
  on("message-close", () => warn(""));
  on("flicker", () => view.change("flicker"));
  on("pause", () => view.pause());
  on("larger", () => view.zoom(1));
  on("smaller", () => view.zoom(-1));
  on("fit", () => view.zoom(0));
  on("background", () => view.nextBack());
  on("labels", () => view.change("labels"));
  on("evidence", toggleEvidence);
  on("undo", undo);
  on("skip", () => judge?.later());
  for (const button of document.querySelectorAll("[data-close]"))
    button.addEventListener("click", () => button.closest("dialog").close());
  togglePanel(store.load("sempairs/panel", innerWidth > 1000));

  $("naming").addEventListener("cancel", (event) => reviewer ?? event.preventDefault());
  $("naming-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      await enter($("name").value.trim());
      $("naming").close();
      $("judge").focus({ preventScroll: true });
    } catch (error) {
      $("name-error").textContent = error.message;
    }
  });
  addEventListener("beforeunload", (event) => outbox?.size && event.preventDefault());
  addEventListener("online", () => outbox?.hurry());
  setInterval(() => {
    if (judge && document.visibilityState === "visible" && Date.now() - looked > SELDOM) look();
  }, SELDOM);

  const verdict = (name) => () => judge?.verdict(name);
  const flickers = () => view.wants.flicker;
  const zoomed = () => view.scale > 1;
  listen([
    { keys: ["y", "1"], shown: "Y or 1", name: "Yes, the same meaning", run: verdict("yes") },
    { keys: ["n", "2"], shown: "N or 2", name: "No, another meaning", run: verdict("no") },
    { keys: ["u", "3"], shown: "U or 3", name: "Unsure", run: verdict("unsure") },
    { keys: ["z", "backspace"], shown: "Z or Backspace", name: "Undo, as often as you like (also Ctrl+Z)", run: undo },
    { keys: ["s"], shown: "S", name: "Leave this pair for later", run: () => judge?.later() },
    ...draft.actions(),
    { keys: ["t"], shown: "T", name: "Write a note; Esc or Enter leads back", run: () => $("note").focus() },
    { keys: ["f"], shown: "F", name: "Flicker or side by side", run: () => view.change("flicker") },
    { keys: [" "], shown: "Space", name: "Flicker: stop and go, or swap by hand", run: () => view.pause(), when: flickers },
    { keys: ["+", "="], shown: "+", name: "Zoom in (also the mouse wheel)", run: () => view.zoom(1), repeat: true },
    { keys: ["-"], shown: "-", name: "Zoom out", run: () => view.zoom(-1), repeat: true },
    { keys: ["0"], shown: "0", name: "Whole picture again", run: () => view.zoom(0) },
    { keys: [], shown: "Arrows", name: "Move the zoomed picture (or drag it)" },
    { keys: ["arrowleft"], run: () => view.move(40, 0), repeat: true, when: zoomed },
    { keys: ["arrowright"], run: () => view.move(-40, 0), repeat: true, when: zoomed },
    { keys: ["arrowup"], run: () => view.move(0, 40), repeat: true, when: zoomed },
    { keys: ["arrowdown"], run: () => view.move(0, -40), repeat: true, when: zoomed },
    { keys: ["p"], shown: "P", name: "Sharp or smooth pixels", run: () => view.change("smooth") },
    { keys: ["b"], shown: "B", name: "Background: checker, white, dark", run: () => view.nextBack() },
    { keys: ["l"], shown: "L", name: "Labels and file names on or off", run: () => view.change("labels") },
    { keys: ["e"], shown: "E", name: "Evidence of the audit on or off", run: toggleEvidence },
    { keys: ["q"], shown: "Q", name: "Choose a queue", run: openQueues },
    { keys: ["a"], shown: "A", name: "Progress and agreement on or off", run: () => togglePanel() },
    { keys: ["g"], shown: "G", name: "Light, dark, or as the system", run: nextTheme },
    { keys: ["?"], shown: "?", name: "This help", run: help },
  ]);
}

/** Tries until the server is there. */
async function start(name) {
  try {
    await enter(name);
  } catch (error) {
    if (error.status === 400) return askName();
    warn(`${error.message}. Trying again …`);
    setTimeout(start, 1500, name);
  }
}

startTheme();
wire();
const given = new URLSearchParams(location.search).get("reviewer"); // `sempairs curate --reviewer`
if (given) history.replaceState(null, "", location.pathname);
const name = given ?? store.load("sempairs/reviewer");
if (name) start(name);
else offerName();
