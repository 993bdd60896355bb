// Beside the pictures: how far everybody is, and how well the reviewers agree.

import { $, count, el, number } from "./dom.js";

const figure = (value, digits = 2) => (value === null || value === undefined ? "–" : value.toFixed(digits));
/** The server gives shares from 0 to 1. */
const share = (value) => (value === null || value === undefined ? "–" : `${(100 * value).toFixed(1)} %`);

function fact(name, value, note = "") {
  const more = note ? el("span", { className: "soft" }, ` ${note}`) : null;
  return el("div", {}, el("dt", {}, name), el("dd", { className: "figures" }, value, more));
}

function cohenTable(rows) {
  const head = el("tr", {}, ...["Reviewers", "Pairs", "Same", "κ"].map((name) => el("th", { scope: "col" }, name)));
  const body = rows.map((row) =>
    el(
      "tr",
      {},
      el("th", { scope: "row" }, `${row.a} – ${row.b}`),
      ...[String(row.pairs), share(row.percent), figure(row.kappa)].map((text) => el("td", { className: "figures" }, text)),
    ),
  );
  return el("table", {}, el("caption", {}, "Cohen’s κ, two by two"), el("thead", {}, head), el("tbody", {}, ...body));
}

/** state: the answer of /api/state; adjudicate(): opens the queue of conflicts. */
export function fill(state, adjudicate) {
  const { progress, agreement } = state;
  const people = state.reviewers.filter((reviewer) => reviewer.kind === "person");
  const parts = [
    el("h2", {}, "All reviewers"),
    el(
      "dl",
      { className: "facts" },
      fact("Judged", number(progress.judged), `of ${number(progress.pairs)}`),
      fact("Yes", number(progress.yes)),
      fact("No", number(progress.no)),
      fact("Unsure", number(progress.unsure)),
    ),
    el("h2", {}, agreement.pairs ? `Agreement on ${count(agreement.pairs, "pair")}` : "Agreement"),
  ];
  if (!agreement.pairs) {
    const alone = "It appears when a second person judges the same pairs.";
    const why = people.length < 2 ? alone : "No pair has been judged by two persons yet.";
    parts.push(el("p", { className: "soft small" }, why));
  } else {
    const fleiss = agreement.fleiss;
    parts.push(
      el(
        "dl",
        { className: "facts" },
        fact("Same verdict", share(agreement.percent)),
        fleiss ? fact("Fleiss’ κ", figure(fleiss.kappa), `${fleiss.raters} raters, ${count(fleiss.pairs, "pair")}`) : null,
      ),
    );
    if (agreement.cohen.length) parts.push(cohenTable(agreement.cohen));
  }
  if (state.conflicts) {
    const button = el("button", { type: "button", className: "quiet", id: "adjudicate" }, "Adjudicate");
    button.addEventListener("click", adjudicate);
    parts.push(el("p", { className: "small conflict" }, count(state.conflicts, "conflict"), " ", button));
  }
  parts.push(el("h2", {}, "Reviewers"));
  parts.push(
    el(
      "ul",
      { className: "people small" },
      ...state.reviewers.map((one) => {
        const kind = one.kind === "person" ? "" : `${one.kind}, `;
        const said = el("span", { className: "soft figures" }, `${kind}${number(one.verdicts)}`);
        return el("li", {}, el("span", {}, one.name), said);
      }),
    ),
  );
  const focused = document.activeElement?.id === "adjudicate";
  $("panel").replaceChildren(...parts);
  if (focused) $("adjudicate")?.focus();
}
