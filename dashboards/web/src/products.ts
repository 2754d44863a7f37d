/** English names of products, learnt from the tests that carry them. */

import { signal } from "@preact/signals";

import type { Test } from "./api/types";
import { pick } from "./i18n";

const products = signal<ReadonlyMap<string, string>>(new Map());

export function learnProducts(tests: readonly Test[]): void {
  const known = new Map(products.peek());
  for (const test of tests) if (test.product_name_en) known.set(test.product_name, test.product_name_en);
  if (known.size > products.peek().size) products.value = known;
}

export const knowsProduct = (zh: string): boolean => products.peek().has(zh);

/** The name in the present language; Chinese where there is no English one. */
export function productName(zh: string | undefined, en = ""): string {
  return pick(zh, en || products.value.get(zh ?? ""), "");
}
