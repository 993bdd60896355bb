// What stands where the pictures would be when there are none, and what one can do next.

import { place } from "./api.js";
import { $, count, el } from "./dom.js";
import { suggestion, title } from "./queues.js";

let sign = "";

/** Fills the place, or empties it while a pair is shown. can: begin(queue), choose() and say(where, line). */
export function showInstead(judge, state, can) {
  $("instead").hidden = judge.current !== null;
  const [heading, text, offers] = judge.current ? ["", "", []] : words(judge, state, can);
  const wanted = [heading, text, ...offers.map(([name]) => name)].join("|");
  if (wanted === sign) return; // what is focused or being read stays
  sign = wanted;
  const buttons = offers.map(([name, run], i) => {
    const button = el("button", { type: "button", className: i ? "quiet" : "main" }, name);
    button.addEventListener("click", run);
    return button;
  });
  if (judge.finished) buttons.push(el("a", { href: place("/api/export").href, download: "verdicts.jsonl" }, "Download all verdicts"));
  $("instead").replaceChildren(el("h3", {}, heading), el("p", {}, text), el("p", { className: "offers" }, ...buttons));
  if (text) can.say("next", `${heading} ${text}`);
}

/** Title, text, and what to offer: [name, run], the first of them first. */
function words(judge, state, { begin, choose }) {
  const { feed, queue, skipped, trouble } = judge;
  const offers = [["Choose a queue", choose]];
  if (trouble?.final) return ["This queue cannot be shown", trouble.message, offers];
  if (trouble) {
    const text = `${trouble.message}. Your verdicts are kept here; the page tries again by itself.`;
    return ["Waiting for the server", text, []];
  }
  if (!judge.finished) return ["", "Loading pairs …", []];
  const next = suggestion(state, queue);
  if (queue !== "mine") offers.push(["Look at my verdicts", () => begin("mine")]);
  if (next) offers.unshift([`Next: ${title(next.id, state)}`, () => begin(next.id)]);
  if (!feed.size) {
    const text = queue === "conflicts" ? "No conflicts are open." : "There are no pairs in this queue.";
    return ["Nothing to judge", text, offers];
  }
  if (queue === "mine") return ["Queue done", "These were all your verdicts.", offers];
  if (skipped) {
    offers.unshift(["Judge those now", () => begin(queue)]);
    return ["Nearly done", `${count(skipped, "pair")} left for later.`, offers];
  }
  const text = feed.size === 1 ? "The one pair here is judged." : `All ${count(feed.size, "pair")} here are judged.`;
  return ["Queue done", text, offers];
}
