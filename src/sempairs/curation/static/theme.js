// Light, dark, or as the system has it.

import { $ } from "./dom.js";
import * as store from "./store.js";

const THEMES = ["system", "light", "dark"];
const SIGNS = { system: "◐", light: "☀", dark: "☾" };

function apply(theme) {
  document.documentElement.dataset.theme = theme;
  $("theme").textContent = SIGNS[theme];
  $("theme").setAttribute("aria-label", `Colours: ${theme}`);
  $("theme").title = `Colours: ${theme} (G)`;
}

export const startTheme = () => apply(THEMES.find((theme) => theme === store.load("sempairs/theme")) ?? "system");

export function nextTheme() {
  const next = THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % THEMES.length];
  store.save("sempairs/theme", next);
  apply(next);
}
