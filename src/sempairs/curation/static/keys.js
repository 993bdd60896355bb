// Keys: one table for what they do, the help that lists them, and when they are not ours.

import { $, el } from "./dom.js";
import * as store from "./store.js";

const SETTING = "sempairs/keys";

/**
 * actions: [{keys: ["y", "1"], shown: "Y or 1", name, run, repeat, when}]. keys: `event.key` in lower case.
 * shown and name: for the help. repeat: also while held down. when(): whether the key is ours just now.
 */
export function listen(actions) {
  const table = new Map(actions.flatMap((action) => action.keys.map((key) => [key, action])));
  const box = $("keys-on");
  box.checked = store.load(SETTING, true);
  box.addEventListener("change", () => store.save(SETTING, box.checked));

  document.addEventListener("keydown", (event) => {
    const target = event.target;
    const button = target.closest?.("button, a, summary");
    const pressing = ["Enter", " "].includes(event.key) && target.matches?.("button.verdict");
    if (pressing && event.repeat) event.preventDefault();
    if (document.querySelector("dialog[open]") || event.isComposing || event.altKey) return;
    if (target.matches?.("input, textarea, select")) {
      if (["Escape", "Enter"].includes(event.key) && target.id === "note") {
        event.preventDefault();
        $("judge").focus({ preventScroll: true });
      }
      return;
    }
    const key = event.key.toLowerCase();
    const undoing = key === "z" && (event.ctrlKey || event.metaKey) && !event.shiftKey;
    if ((event.ctrlKey || event.metaKey) && !undoing) return;
    if (key === " " && button) return; // the button's own key
    const action = table.get(key);
    if (!action || (event.repeat && !action.repeat) || (action.when && !action.when())) return;
    if (!box.checked && key.length === 1 && key !== " " && !undoing) return;
    event.preventDefault();
    action.run();
  });

  $("key-list").replaceChildren(
    ...actions
      .filter((action) => action.shown)
      .map((action) => el("div", {}, el("dt", {}, ...caps(action.shown)), el("dd", {}, action.name))),
  );
}

const caps = (shown) => shown.split(" ").map((word) => (word === "or" ? " or " : el("kbd", {}, word)));
