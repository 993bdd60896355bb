// The pairs to come: fetched in batches before they run out, their pictures loaded a few pairs ahead.

import { getPairs, place } from "./api.js";
import { sleep } from "./dom.js";

const BATCH = 20;
const LOW = 12; // fetch more when fewer are left
const AHEAD = 6; // pairs whose pictures are loaded in advance
const KEPT = 10; // pictures beyond this place are let go again
const TRIES = 3;

/** Where a picture comes from; small ones as they are, others at 512 pixels until somebody zooms in. */
export function address(image, full = false) {
  const url = place(image.url);
  const small = Math.max(image.width ?? 0, image.height ?? 0) <= 512;
  url.searchParams.set("size", full || small ? "0" : "512");
  return url;
}

const words = (image) => [image.name ?? image.concept, image.category, image.domain].filter(Boolean).join(", ");

/** Text for those who do not see a picture. */
export const altText = (image, side) => `Picture ${side}: ${words(image) || image.id}`;

class Picture {
  constructor(image, side) {
    this.image = image;
    this.state = "loading"; // loading, ready, failed
    this.element = new Image();
    this.element.alt = altText(image, side);
    this.element.draggable = false;
    this.done = this.load();
  }

  async load() {
    for (let attempt = 0; attempt < TRIES && this.state === "loading"; attempt += 1) {
      if (attempt) await sleep(200 * 3 ** attempt);
      const url = address(this.image);
      if (attempt) url.searchParams.set("try", attempt);
      this.element.src = url.href;
      try {
        await this.element.decode();
        this.state = "ready";
      } catch {
        // tried again, or failed for good below
      }
    }
    if (this.state === "loading") this.state = "failed";
  }
}

/** One pair to judge, the queue it came from, and its pictures while they are wanted. */
export class Item {
  constructor(pair, queue) {
    this.pair = pair;
    this.queue = queue;
    this.pictures = null;
  }

  /** Starts loading, again where it failed before. */
  load() {
    if (this.pictures?.some((picture) => picture.state === "failed")) this.pictures = null;
    this.pictures ??= [new Picture(this.pair.anchor, "A"), new Picture(this.pair.partner, "B")];
  }

  release() {
    this.pictures = null;
  }
}

export class Feed {
  /** events: arrived(), failed(error). */
  constructor(events) {
    this.events = events;
    this.close();
  }

  close() {
    this.items = [];
    this.generation = (this.generation ?? 0) + 1; // answers to older questions are dropped
    this.ended = false;
    this.busy = false;
    this.first = true;
    this.done = 0;
    this.size = 0;
  }

  /** judged: ids of pairs whose verdicts the server may not know of yet. */
  open(queue, reviewer, judged) {
    this.close();
    Object.assign(this, { queue, reviewer, judged, cursor: null });
    return this.refill();
  }

  take() {
    const item = this.items.shift() ?? null;
    item?.load();
    this.prefetch();
    this.refill();
    return item;
  }

  putBack(item) {
    this.items.unshift(item);
    this.items.slice(KEPT).forEach((far) => far.release());
  }

  prefetch() {
    this.items.slice(0, AHEAD).forEach((item) => item.load());
  }

  async refill() {
    if (this.busy || this.ended || this.items.length >= LOW) return;
    const generation = this.generation;
    this.busy = true;
    try {
      const answer = await getPairs(this.queue, this.reviewer, this.cursor, BATCH);
      if (generation !== this.generation) return;
      if (this.first) Object.assign(this, { done: answer.done, size: answer.size, first: false });
      const fresh = answer.pairs.filter((pair) => !this.judged.has(pair.id));
      this.done += answer.pairs.length - fresh.length;
      this.items.push(...fresh.map((pair) => new Item(pair, this.queue)));
      this.cursor = answer.next;
      this.ended = answer.next === null;
      this.prefetch();
      this.busy = false;
      this.events.arrived();
      this.refill();
    } catch (error) {
      if (generation !== this.generation) return;
      this.busy = false;
      this.events.failed(error);
    }
  }
}
