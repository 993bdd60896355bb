// Small helpers for the page. Data only ever becomes text nodes and properties, never markup.

export const $ = (id) => document.getElementById(id);

/** An element with properties and children; strings become text nodes. */
export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "data") Object.assign(element.dataset, value);
    else if (name.startsWith("aria-") || name === "role") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** 12345 as "12,345". */
export const number = (n) => n.toLocaleString("en");

export const count = (n, one) => `${number(n)} ${n === 1 ? one : `${one}s`}`;

export const plain = (name) => String(name).replaceAll("-", " ");

export const percent = (done, size) => (size ? Math.floor((100 * done) / size) : 0);

/** Seconds as people say them: "40 s", "12 min", "3 h 20 min". */
export function duration(seconds) {
  if (seconds < 60) return `${Math.max(1, Math.round(seconds))} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** A random (version 4) UUID; `crypto.randomUUID` exists only on loopback and https. */
export function uuid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}
