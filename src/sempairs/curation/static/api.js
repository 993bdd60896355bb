// Requests to the curation server. Every failure becomes a `Refusal` with one readable line.

const ROOT = new URL("../", import.meta.url); // of the page, whatever path a proxy puts before it
const PATIENCE = 15000; // ms until a request counts as lost

/** The address of what the server calls `/api/…` or `/images/…`. */
export const place = (path) => new URL(path.replace(/^\//, ""), ROOT);

export class Refusal extends Error {
  /** final: asking again would change nothing (the server understood, and said no). */
  constructor(line, status) {
    super(line);
    this.status = status;
    this.final = [400, 404, 409, 413, 422].includes(status);
  }
}

async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(place(path), { credentials: "same-origin", signal: AbortSignal.timeout(PATIENCE), ...options });
  } catch {
    throw new Refusal("The server does not answer", 0);
  }
  let body = null;
  try {
    body = await answer.json();
  } catch {
    if (answer.ok) throw new Refusal("The server's answer was cut off", 0);
  }
  if (answer.ok) return body;
  if (answer.status === 401)
    throw new Refusal("Access has ended: open the address with its token that `sempairs curate` printed", answer.status);
  throw new Refusal(String(body?.error ?? `The server answered ${answer.status}`), answer.status);
}

export const getState = (reviewer) => ask(`/api/state?${new URLSearchParams({ reviewer })}`, { cache: "no-store" });

export function getPairs(queue, reviewer, after, limit) {
  const query = new URLSearchParams({ queue, reviewer, limit });
  if (after !== null) query.set("after", after);
  return ask(`/api/pairs?${query}`, { cache: "no-store" });
}

/** keepalive: a verdict under way survives the closing of the page. */
export const post = (path, body) =>
  ask(path, {
    method: "POST",
    keepalive: true,
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
