// What is known about a pair beforehand. Judging is blind: shown only in adjudication, or when asked for.

import { $, el, plain } from "./dom.js";

const said = (one) =>
  el(
    "li",
    {},
    el("b", {}, one.reviewer),
    one.kind === "person" ? null : el("span", { className: "soft" }, ` (${one.kind})`),
    " ",
    el("span", { className: `badge ${one.verdict}` }, one.verdict),
    one.reasons.length ? el("span", {}, ` ${one.reasons.map(plain).join(", ")}`) : null,
    one.note ? el("q", {}, one.note) : null,
  );

/** place: filled, or hidden when there is nothing to show. */
export function known(place, item, evidence) {
  const parts = [];
  if (item) {
    const { pair, queue } = item;
    if (queue === "conflicts" && pair.others?.length)
      parts.push(el("div", {}, el("h3", {}, "What the reviewers said"), el("ul", {}, ...pair.others.map(said))));
    if (pair.verdict) {
      const own = said({ reviewer: "You", kind: "person", ...pair.verdict });
      parts.push(el("div", {}, el("h3", {}, "Your verdict until now"), el("ul", {}, own)));
    }
    if (evidence) {
      const facts = [...(pair.evidence ?? [])];
      const doubt = pair.doubt === null || pair.doubt === undefined ? null : `Doubt ${pair.doubt.toFixed(2)} of 1`;
      parts.push(
        el(
          "div",
          {},
          el("h3", {}, "Evidence of the audit"),
          doubt || facts.length
            ? el("ul", {}, ...[doubt, ...facts].filter(Boolean).map((fact) => el("li", {}, fact)))
            : el("p", { className: "soft" }, "None for this pair: run sempairs pairs audit first."),
        ),
      );
    }
  }
  place.hidden = !parts.length;
  $("stage").classList.toggle("with-known", parts.length > 0); // smaller, so that all stays in sight
  place.replaceChildren(...parts);
}
