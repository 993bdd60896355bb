// Choosing what to judge: the dialog of queues, and what to offer when one is done.

import { $, el, number, percent } from "./dom.js";

const ABOUT = {
  sample: "A random sample of all pairs. The false-pair rate is estimated from these.",
  doubtful: "Sorted by the audit, most likely false first. Says nothing about the rate.",
  all: "Every pair, in random order.",
  conflicts: "Adjudication: pairs that reviewers disagree on. Their verdicts are shown; yours decides.",
  mine: "Look back at your own verdicts, newest first, and change them.",
};
const MOST = 60; // classes shown at once

export function title(queue, state) {
  const known = state?.queues.find((one) => one.id === queue);
  if (known?.title) return known.title;
  if (queue.startsWith("class:")) return `Class ${queue.slice(6)}`;
  return queue;
}

const plainQueue = (queue) => !queue.id.startsWith("class:") && !queue.id.startsWith("by:");

/** The queue to offer next: the first of the plain ones with something left. */
export function suggestion(state, queue) {
  const order = ["sample", "doubtful", "conflicts", "all"];
  const open = state.queues.filter((one) => order.includes(one.id) && one.id !== queue && one.done < one.size);
  return open.sort((a, b) => order.indexOf(a.id) - order.indexOf(b.id))[0] ?? null;
}

export class Queues {
  /** choose(queue id) is called when somebody picks one. */
  constructor(choose) {
    this.choose = choose;
    this.dialog = $("queues");
    $("class-search").addEventListener("input", () => this.classes());
  }

  open(state, queue, reviewer) {
    Object.assign(this, { state, queue, reviewer });
    $("class-search").value = "";
    this.fill();
    if (!this.dialog.open) this.dialog.showModal();
    this.dialog.querySelector('[aria-current="true"]')?.focus({ preventScroll: true });
    this.dialog.scrollTop = 0;
  }

  /** Newer figures while the dialog is open; what is focused stays so. */
  renew(state) {
    this.state = state;
    const focused = document.activeElement?.dataset?.queue;
    this.fill();
    if (focused) [...this.dialog.querySelectorAll("[data-queue]")].find((one) => one.dataset.queue === focused)?.focus();
  }

  fill() {
    const { state, reviewer } = this;
    const queues = state.queues.filter(plainQueue);
    $("queue-list").replaceChildren(...queues.map((one) => this.choice(one.id, title(one.id, state), ABOUT[one.id] ?? "", one)));
    $("hints").replaceChildren(...(state.hints ?? []).map((hint) => el("li", {}, hint)));
    const others = state.reviewers.filter((one) => one.name !== reviewer && one.verdicts);
    const figures = (id, size) => state.queues.find((one) => one.id === id) ?? { size };
    $("reviewer-list").replaceChildren(
      ...(others.length
        ? others.map((one) => {
            const id = `by:${one.name}`;
            return this.choice(id, one.name, one.kind === "person" ? "" : one.kind, figures(id, one.verdicts));
          })
        : [el("p", { className: "soft small" }, "Nobody else has judged yet.")]),
    );
    this.classes();
  }

  classes() {
    const wanted = $("class-search").value.trim().toLowerCase();
    const found = this.state.classes.filter((one) => one.name.toLowerCase().includes(wanted));
    $("class-list").replaceChildren(
      ...found.slice(0, MOST).map((one) => this.choice(`class:${one.name}`, one.name, "", { size: one.pairs })),
    );
    const more = found.length > MOST ? `${found.length - MOST} more: search to narrow them down.` : "";
    $("class-more").textContent = found.length ? more : "No class of that name.";
  }

  choice(id, name, about, { done, size }) {
    const open = done !== undefined && id !== "mine";
    const figures = open ? `${number(done)} of ${number(size)}` : number(size);
    const state = !open || !size ? "" : done >= size ? "done" : `${percent(done, size)} %`;
    const button = el(
      "button",
      { type: "button", className: "choice", data: { queue: id }, "aria-current": String(id === this.queue) },
      el("span", { className: "choice-name" }, name),
      el("span", { className: "figures soft" }, figures, state ? ` · ${state}` : ""),
      about ? el("span", { className: "soft small about" }, about) : null,
    );
    button.disabled = size === 0;
    button.addEventListener("click", () => {
      this.dialog.close();
      this.choose(id);
    });
    return button;
  }
}
