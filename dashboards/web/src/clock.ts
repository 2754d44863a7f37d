/** Time that components can watch: `second` for the clock, `coarse` for "3 min ago". */

import { signal } from "@preact/signals";

export const second = signal(Date.now());
export const coarse = signal(Date.now());

setInterval(() => {
  second.value = Date.now();
  if (second.value - coarse.value >= 5000) coarse.value = second.value;
}, 1000);
