// The two pictures: side by side or flickering on one spot, zoomed and moved together.

import { $, el } from "./dom.js";
import { address } from "./feed.js";
import * as store from "./store.js";

const SCALES = [1, 1.5, 2, 3, 4, 6, 8, 12, 16];
const MARGIN = 16; // px around both sides of a picture together
const HALF_CYCLE = 250; // ms a picture is shown: both twice a second, below three flashes a second
const BACKS = ["checker", "white", "dark"];
const FIELDS = ["name", "concept", "category", "domain", "file", "licence", "source"];
const PREFERENCES = "sempairs/view";

export class View {
  constructor() {
    this.stage = $("stage");
    this.frames = [...this.stage.querySelectorAll(".frame")];
    this.captions = [...this.stage.querySelectorAll("figcaption")];
    this.item = null;
    this.scale = 1;
    this.shift = { x: 0, y: 0 };
    this.calm = matchMedia("(prefers-reduced-motion: reduce)");
    this.calm.addEventListener("change", () => this.arrange());
    this.paused = false;
    this.wants = { flicker: false, back: "checker", smooth: false, ...store.load(PREFERENCES, {}), labels: false };
    const watch = new ResizeObserver(() => this.fit());
    this.frames.forEach((frame) => watch.observe(frame));
    this.frames.forEach((frame) => this.listen(frame));
    this.arrange();
  }

  /** Shows a pair, or nothing. The returned promise holds when both pictures are there, or failed. */
  async show(item) {
    this.item = item;
    this.shift = { x: 0, y: 0 };
    this.stage.hidden = item === null;
    this.stage.setAttribute("aria-busy", "true");
    if (item === null) {
      this.frames.forEach((frame) => frame.replaceChildren());
      this.arrange();
      return;
    }
    item.load();
    [item.pair.anchor, item.pair.partner].forEach((image, side) => {
      this.captions[side].replaceChildren(this.caption(image, "AB"[side]));
      this.place(side);
    });
    if (this.paused && this.wants.flicker) this.front(0);
    this.arrange();
    await Promise.all(item.pictures.map((picture) => picture.done));
    if (this.item !== item) return;
    item.pictures.forEach((_, side) => this.place(side));
    this.stage.setAttribute("aria-busy", "false");
  }

  /** "ready" when both pictures can be seen, "failed" if one cannot be loaded, else "loading". */
  get state() {
    const states = this.item?.pictures.map((picture) => picture.state) ?? ["loading"];
    return states.includes("failed") ? "failed" : states.includes("loading") ? "loading" : "ready";
  }

  place(side) {
    const picture = this.item.pictures[side];
    const lost = picture.state === "failed" ? `Picture ${"AB"[side]} could not be loaded` : "";
    const shown = lost ? el("p", { className: "lost" }, lost) : picture.element;
    if (this.frames[side].firstChild !== shown) this.frames[side].replaceChildren(shown);
    this.fit();
  }

  caption(image, side) {
    const list = el("dl");
    for (const field of FIELDS) {
      const value = image[field];
      if (value === null || value === undefined || value === "") continue;
      if (field === "source" && image.domain) continue;
      list.append(el("div", {}, el("dt", {}, field), el("dd", { title: String(value) }, String(value))));
    }
    const size = el("span", { className: "soft" }, ` ${image.width} × ${image.height}`);
    return el("div", {}, el("p", { className: "side" }, `Picture ${side}`, size), list);
  }

  /** Sizes, pixel rendering and position. Small pictures grow by whole steps, so that all their pixels are alike. */
  fit() {
    if (!this.item) return;
    this.item.pictures.forEach((picture, side) => {
      const frame = this.frames[side];
      const { naturalWidth: width, naturalHeight: height } = picture.element;
      if (!width || !height || !frame.clientWidth) return;
      const most = Math.min((frame.clientWidth - MARGIN) / width, (frame.clientHeight - MARGIN) / height);
      const grown = most >= 3 ? Math.floor(most) : most;
      const style = picture.element.style;
      style.width = `${width * grown}px`;
      style.height = `${height * grown}px`;
      style.transform = `translate(${this.shift.x}px, ${this.shift.y}px) scale(${this.scale})`;
      picture.element.classList.toggle("sharp", !this.wants.smooth && grown * this.scale >= 2);
      if (this.scale > 1.5 && !picture.full && Math.max(picture.image.width, picture.image.height) > 512) {
        picture.full = true;
        picture.element.src = address(picture.image, true).href;
      }
    });
    $("fit").textContent = `${Math.round(this.scale * 100)} %`;
    $("fit").setAttribute("aria-label", `Zoom: ${Math.round(this.scale * 100)} %, back to fit`);
    this.stage.classList.toggle("zoomed", this.scale > 1);
  }

  zoom(step) {
    const at = SCALES.indexOf(this.scale) + step;
    const next = step === 0 ? 1 : SCALES[Math.max(0, Math.min(SCALES.length - 1, at))];
    const ratio = next / this.scale;
    this.scale = next;
    this.move(this.shift.x * (ratio - 1), this.shift.y * (ratio - 1));
  }

  move(x, y) {
    const reach = (this.frames[0].clientWidth / 2) * Math.max(0, this.scale - 1);
    const within = (value) => Math.max(-reach, Math.min(reach, value));
    this.shift = { x: within(this.shift.x + x), y: within(this.shift.y + y) };
    this.fit();
  }

  listen(frame) {
    frame.addEventListener(
      "wheel",
      (event) => {
        if (event.deltaY > 0 && this.scale === 1) return; // the page scrolls on
        event.preventDefault();
        if (event.timeStamp - (this.turned ?? 0) < 60) return;
        this.turned = event.timeStamp;
        this.zoom(event.deltaY < 0 ? 1 : -1);
      },
      { passive: false },
    );
    frame.addEventListener("pointerdown", (event) => {
      if (this.scale === 1) return;
      event.preventDefault();
      frame.setPointerCapture(event.pointerId);
    });
    frame.addEventListener("pointermove", (event) => {
      if (frame.hasPointerCapture(event.pointerId)) this.move(event.movementX, event.movementY);
    });
  }

  /** Brings the page in line with what is wanted: mode, background, labels, the beat of the flicker. */
  arrange() {
    const { flicker, back, labels, smooth } = this.wants;
    store.save(PREFERENCES, { flicker, back, smooth }); // labels are asked for anew: judging is blind
    const steady = this.paused || this.calm.matches;
    this.stage.classList.toggle("flicker", flicker);
    this.stage.classList.toggle("bare", !labels);
    this.stage.dataset.back = back;
    $("flicker").setAttribute("aria-pressed", String(flicker));
    $("labels").setAttribute("aria-pressed", String(labels));
    $("background-name").textContent = back;
    $("pause").hidden = !flicker;
    $("pause").firstChild.textContent = `${this.calm.matches ? "Swap" : this.paused ? "Play" : "Pause"} `;
    clearInterval(this.beat);
    if (flicker && !steady && this.item) this.beat = setInterval(() => this.front(), HALF_CYCLE);
    this.fit();
  }

  /** Which picture lies on top in flicker view; without an argument, the other one. */
  front(side = this.stage.dataset.front === "0" ? 1 : 0) {
    this.stage.dataset.front = String(side);
  }

  change(name, value = !this.wants[name]) {
    this.wants[name] = value;
    this.arrange();
  }

  nextBack() {
    this.change("back", BACKS[(BACKS.indexOf(this.wants.back) + 1) % BACKS.length]);
  }

  /** Space: the other picture by hand where motion is unwanted, otherwise stop and go. */
  pause() {
    if (!this.wants.flicker) return;
    if (this.calm.matches) this.front();
    else this.paused = !this.paused;
    this.arrange();
  }
}
