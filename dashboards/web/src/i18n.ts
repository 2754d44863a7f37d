/** The language of the screens: Chinese first, English on request, remembered in this browser. */

import { signal } from "@preact/signals";

import { type Word, words } from "./words";

export type Lang = "zh" | "en";

const STORED = "agrigate.lang";

function stored(): Lang {
  try {
    return localStorage.getItem(STORED) === "en" ? "en" : "zh";
  } catch {
    return "zh"; // storage can be forbidden by policy
  }
}

export const lang = signal<Lang>(stored());

export function setLang(next: Lang): void {
  lang.value = next;
  try {
    localStorage.setItem(STORED, next);
  } catch {
    // the choice then lasts as long as the page
  }
}

/** The word in the present language, with `{name}` replaced. */
export function t(word: Word, values?: Record<string, string | number>): string {
  const text: string = words[word][lang.value === "zh" ? 0 : 1];
  return values ? text.replace(/\{(\w+)\}/g, (whole, name: string) => String(values[name] ?? whole)) : text;
}

/** The word `prefix + code`; the code itself when the dictionary lacks it. */
export function term(prefix: string, code: string | null | undefined): string {
  if (!code) return "";
  const word = prefix + code;
  return word in words ? t(word as Word) : code;
}

/** The name in the present language, else the other one, else the last resort. */
export function pick(zh: string | null | undefined, en: string | null | undefined, last = ""): string {
  return (lang.value === "zh" ? zh || en : en || zh) || last;
}
