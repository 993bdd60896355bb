// Verdicts on their way to the server: sent one after the other, in order, until each is acknowledged.
//
// An entry lies in the browser's storage from before the page moves on until the server has it, so neither a
// dead server nor a closed page loses one. Every entry has a uuid and the server takes it once, so sending it
// twice (an answer lost, two tabs that both adopted it) is harmless. Undo is an entry like any other: order is all.

import { post } from "./api.js";
import { uuid } from "./dom.js";
import * as store from "./store.js";

const LONGEST_WAIT = 3000; // ms between two tries

export class Outbox {
  /**
   * space: what the entries belong to (the manifest hash), so that another set never gets them.
   * events: changed(), saved(entry, answer), refused(entry, error); verify() throws if the server has other pairs.
   */
  constructor(space, events) {
    this.prefix = `sempairs/unsent/${space}/`;
    this.events = events;
    this.entries = store.keys(this.prefix).map((key) => ({ key, ...store.load(key) }));
    this.failures = 0;
    this.trouble = "";
    this.running = false;
    this.wake = () => {};
    this.last = 0;
  }

  get size() {
    return this.entries.length;
  }

  /** Pairs whose verdict the server may not have yet. */
  pairs() {
    return new Set(this.entries.filter((entry) => entry.path === "/api/verdicts").map((entry) => entry.body.pair));
  }

  /** path, body: the request, without its uuid; about: whatever `saved` and `refused` want back. */
  add(path, body, about) {
    const event = uuid();
    this.last = Math.max(this.last + 1, Date.now() * 1000);
    const entry = { key: `${this.prefix}${this.last}-${event}`, path, body: { ...body, event }, about };
    store.save(entry.key, { path, body: entry.body, about });
    this.entries.push(entry);
    this.events.changed();
    this.run();
  }

  /** Tries at once instead of waiting for the next try. */
  hurry() {
    this.wake();
    this.run();
  }

  async run() {
    if (this.running) return;
    this.running = true;
    while (this.entries.length) {
      const entry = this.entries[0];
      try {
        if (this.failures) await this.events.verify();
        const answer = await post(entry.path, entry.body);
        this.settle(entry);
        this.events.saved(entry, answer);
      } catch (error) {
        const lasting = await this.lasting(error);
        if (lasting === null) {
          this.settle(entry);
          this.events.refused(entry, error);
        } else {
          this.failures += 1;
          this.trouble = lasting;
          this.events.changed();
          await this.pause(Math.min(LONGEST_WAIT, 250 * 2 ** this.failures));
        }
      }
    }
    this.running = false;
  }

  /** Why an entry must wait; null if the server that knows its pairs refused it for good. */
  async lasting(error) {
    if (!error.final) return error.message;
    try {
      await this.events.verify();
      return null;
    } catch (other) {
      return other.message;
    }
  }

  settle(entry) {
    this.entries.shift();
    store.remove(entry.key);
    this.failures = 0;
    this.trouble = "";
    this.events.changed();
  }

  pause(ms) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}
