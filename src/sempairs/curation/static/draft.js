// Reasons and note of the next verdict.

import { $, el } from "./dom.js";

const KEYS = { "near-duplicate": "d", "wrong-label": "w", offensive: "o", unclear: "c" };

export class Draft {
  constructor() {
    this.chosen = new Set();
  }

  /** reasons: [{id, shown}], as the server has them. */
  offer(reasons) {
    this.buttons = new Map(
      reasons.map(({ id, shown }) => {
        const key = KEYS[id];
        const cap = key ? el("kbd", {}, key.toUpperCase()) : null;
        const button = el("button", { type: "button", className: "quiet reason", "aria-pressed": "false" }, shown, " ", cap);
        button.addEventListener("click", () => this.toggle(id));
        return [id, button];
      }),
    );
    $("reasons").replaceChildren(...this.buttons.values());
  }

  actions() {
    return Object.entries(KEYS).map(([id, key]) => ({
      keys: [key],
      shown: key.toUpperCase(),
      name: `Reason: ${id.replaceAll("-", " ")}`,
      run: () => this.buttons?.has(id) && this.toggle(id),
    }));
  }

  toggle(id) {
    if (!this.chosen.delete(id)) this.chosen.add(id);
    this.mark();
  }

  mark() {
    this.buttons?.forEach((button, id) => button.setAttribute("aria-pressed", String(this.chosen.has(id))));
  }

  get() {
    return { reasons: [...this.chosen], note: $("note").value.trim() };
  }

  /** given: {reasons, note} or null. */
  set(given) {
    this.chosen = new Set(given?.reasons ?? []);
    $("note").value = given?.note ?? "";
    this.mark();
  }
}
