// The heart of the page: the pair in front, verdicts, undo, and what comes next.

import { Feed, Item, altText } from "./feed.js";

const REMEMBERED = 500; // verdicts that can be undone without asking the server for the pair; beyond, it is asked
const PAUSE = 30; // s: longer gaps between verdicts are breaks and count as this much

/** Verdicts a minute, from the last forty. */
class Pace {
  constructor() {
    this.times = [];
  }

  tick() {
    this.times = [...this.times.slice(-39), performance.now() / 1000];
  }

  /** null until five verdicts have been given. */
  get perMinute() {
    if (this.times.length < 5) return null;
    const gaps = this.times.slice(1).map((time, i) => Math.min(PAUSE, time - this.times[i]));
    return (60 * gaps.length) / Math.max(0.001, gaps.reduce((sum, gap) => sum + gap, 0));
  }
}

export class Judge {
  /**
   * parts: outbox, view, draft (reasons and note of the next verdict).
   * show(): the pair in front, or that there is none, has changed. say(line), warn(line).
   */
  constructor(parts, { show, say, warn }) {
    Object.assign(this, parts, { show, say, warn });
    this.pace = new Pace();
    this.feed = new Feed({ arrived: () => this.arrived(), failed: (error) => this.failed(error) });
    this.current = null;
    this.history = [];
    this.trouble = null;
  }

  start(queue, reviewer) {
    if (reviewer !== this.reviewer) this.history = [];
    Object.assign(this, { queue, reviewer, skipped: 0, passed: 0, trouble: null });
    clearTimeout(this.again);
    this.put(null);
    this.feed.open(queue, reviewer, queue === "mine" ? new Set() : this.outbox.pairs());
  }

  get finished() {
    return this.current === null && this.feed.ended && !this.feed.items.length;
  }

  /** Which pair of the queue this is, from 1. */
  get place() {
    return (this.queue === "mine" ? this.passed : this.feed.done + this.skipped) + 1;
  }

  /** Seconds left in the queue at this pace, or null. */
  get left() {
    const pace = this.pace.perMinute;
    return pace && this.queue !== "mine" ? (60 * Math.max(0, this.feed.size - this.feed.done)) / pace : null;
  }

  put(item) {
    const before = this.current;
    this.current = item;
    this.held = null;
    this.draft.set(item?.pair.verdict ?? null);
    this.view.show(item).then(() => item === this.current && this.seen());
    if (before && before !== item && !this.feed.items.includes(before)) before.release();
    this.show();
  }

  /** Both pictures are there: a key that was pressed before counts now. */
  seen() {
    const { held } = this;
    this.held = null;
    if (held) this.warn("");
    this.show();
    if (held?.counts && this.view.state === "ready") this.verdict(held.verdict);
  }

  /** The server is back: what could not be loaded is asked for again. */
  retry() {
    if (this.view.state === "failed") this.put(this.current);
    this.feed.refill();
  }

  advance() {
    this.put(this.feed.take());
    this.tell();
  }

  tell() {
    if (!this.current) return;
    const { anchor, partner } = this.current.pair;
    this.say("next", `Pair ${this.place}. ${altText(anchor, "A")}. ${altText(partner, "B")}.`);
  }

  /**
   * Returns whether the verdict was taken; a picture nobody saw is not judged. On the first pair of a queue, where
   * pictures still load, a verdict waits for them; later it would be a key pressed twice.
   */
  verdict(verdict) {
    if (!this.current) return false;
    if (this.view.state === "loading") {
      const counts = this.passed === 0;
      const line = counts ? `${verdict} counts as soon as they are there` : "that key did not count";
      this.held = { verdict, counts };
      this.warn(`The pictures are still loading: ${line}`);
      return false;
    }
    if (this.view.state === "failed" && verdict !== "unsure") {
      this.warn("A picture could not be loaded: answer unsure (U), or come back to this pair later (S)");
      return false;
    }
    const item = this.current;
    const { reasons, note } = this.draft.get();
    this.remember({ item, place: this.place, verdict: { verdict, reasons, note } });
    this.pace.tick();
    this.passed += 1;
    if (item.queue === this.queue) this.feed.done += 1;
    this.outbox.add(
      "/api/verdicts",
      { reviewer: this.reviewer, pair: item.pair.id, verdict, reasons, note, queue: item.queue },
      { place: this.place - 1, verdict },
    );
    this.advance();
    return true;
  }

  later() {
    if (!this.current) return;
    this.remember({ item: this.current, place: this.place, verdict: null });
    this.skipped += 1;
    this.passed += 1;
    this.advance();
  }

  remember(entry) {
    this.history.push(entry);
    if (this.history.length > REMEMBERED) this.history.shift();
  }

  /** Back to the pair before; its verdict, if it got one, is taken back. */
  undo() {
    const entry = this.history.pop();
    if (!entry) {
      this.outbox.add("/api/undo", { reviewer: this.reviewer }, { remote: true });
      return;
    }
    const { item } = entry;
    this.passed = Math.max(0, this.passed - 1);
    if (entry.verdict) {
      if (item.queue === this.queue) this.feed.done = Math.max(0, this.feed.done - 1);
      this.outbox.add("/api/undo", { reviewer: this.reviewer }, { place: entry.place, pair: item.pair.id });
    } else {
      this.skipped = Math.max(0, this.skipped - 1);
    }
    this.back(item, entry.verdict);
  }

  back(item, draft) {
    if (this.current) this.feed.putBack(this.current);
    this.put(item);
    if (draft) this.draft.set(draft);
    this.tell();
  }

  /** The server took an undo. Its answer is the pair, which may be another one if a second window was at work. */
  undone(about, { pair, queue }) {
    if (about.pair === pair.id) return;
    if (!about.remote) this.warn("Another window of yours judged in between: its verdict was taken back");
    if (this.current?.pair.id === pair.id) return;
    if (about.remote && queue === this.queue && !pair.verdict) this.feed.done = Math.max(0, this.feed.done - 1);
    this.feed.items = this.feed.items.filter((item) => item.pair.id !== pair.id);
    this.back(new Item(pair, queue), pair.verdict);
  }

  arrived() {
    this.trouble = null;
    if (!this.current) this.advance();
    else this.show();
  }

  failed(error) {
    this.trouble = error;
    if (!error.final) {
      clearTimeout(this.again);
      this.again = setTimeout(() => this.feed.refill(), 1500);
    }
    this.show();
  }
}
