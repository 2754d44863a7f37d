/** Shapes that say the same as the colours, for readers who do not see the colours. */

import type { Severity, StationState, Verdict } from "../api/types";

interface Props {
  size?: number;
}

const box = (size: number) => ({ width: size, height: size, viewBox: "0 0 16 16", "aria-hidden": true }) as const;

/** Octagon, triangle, diamond, circle: from grave to slight. */
export function SeverityIcon({ severity, size = 16 }: Props & { severity: Severity }) {
  switch (severity) {
    case "critical":
      return (
        <svg class={`icon sev-${severity}`} {...box(size)}>
          <path d="M5 1h6l4 4v6l-4 4H5l-4-4V5z" fill="currentColor" />
          <path d="M8 4v5M8 11v1.2" stroke="#fff" stroke-width="1.8" />
        </svg>
      );
    case "major":
      return (
        <svg class={`icon sev-${severity}`} {...box(size)}>
          <path d="M8 1.2 15.4 14.5H.6z" fill="currentColor" />
          <path d="M8 6v4M8 11.6v1.2" stroke="#fff" stroke-width="1.6" />
        </svg>
      );
    case "warning":
      return (
        <svg class={`icon sev-${severity}`} {...box(size)}>
          <path d="M8 1.4 14.6 8 8 14.6 1.4 8z" fill="none" stroke="currentColor" stroke-width="1.8" />
          <path d="M8 5v3.4M8 9.8v1.3" stroke="currentColor" stroke-width="1.5" />
        </svg>
      );
    case "info":
      return (
        <svg class={`icon sev-${severity}`} {...box(size)}>
          <circle cx="8" cy="8" r="6.2" fill="none" stroke="currentColor" stroke-width="1.5" />
          <path d="M8 7v4.4M8 4.4v1.3" stroke="currentColor" stroke-width="1.5" />
        </svg>
      );
  }
}

/** Full disc, half disc, crossed square, dashed ring. */
export function StateIcon({ state, size = 14 }: Props & { state: StationState }) {
  switch (state) {
    case "online":
      return (
        <svg class={`icon state-${state}`} {...box(size)}>
          <circle cx="8" cy="8" r="5.5" fill="currentColor" />
        </svg>
      );
    case "stale":
      return (
        <svg class={`icon state-${state}`} {...box(size)}>
          <circle cx="8" cy="8" r="5.5" fill="none" stroke="currentColor" stroke-width="1.6" />
          <path d="M8 2.5a5.5 5.5 0 0 1 0 11z" fill="currentColor" />
        </svg>
      );
    case "offline":
      return (
        <svg class={`icon state-${state}`} {...box(size)}>
          <rect x="2" y="2" width="12" height="12" rx="1.5" fill="currentColor" />
          <path d="m5 5 6 6m0-6-6 6" stroke="#fff" stroke-width="1.8" />
        </svg>
      );
    case "never":
      return (
        <svg class={`icon state-${state}`} {...box(size)}>
          <circle cx="8" cy="8" r="5.5" fill="none" stroke="currentColor" stroke-width="1.6" stroke-dasharray="2.6 2.2" />
        </svg>
      );
  }
}

const VERDICT_PATHS: Record<Verdict, string> = {
  pass: "m3 8.5 3.2 3.2L13 4.6",
  exceed: "M8 13V3.2M3.8 7.2 8 3l4.2 4.2",
  suspect: "M5.6 6a2.5 2.5 0 1 1 3.6 2.3c-.8.4-1.2.8-1.2 1.7M8 12v1.4",
  undetermined: "M3 8h10",
  invalid: "m4 4 8 8m0-8-8 8",
};

/** Tick, arrow up, question mark, dash, cross. */
export function VerdictIcon({ verdict, size = 12 }: Props & { verdict: Verdict }) {
  return (
    <svg class="icon" {...box(size)}>
      <path d={VERDICT_PATHS[verdict]} fill="none" stroke="currentColor" stroke-width="2.2" stroke-linecap="round" stroke-linejoin="round" />
    </svg>
  );
}

const OTHER = {
  delivery: "M1.5 8.2 14.5 2l-3.6 12-3.4-4.6zM7.5 9.4 14.5 2",
  chevron: "m6 3.5 4.5 4.5L6 12.5",
  back: "M10 3.5 5.5 8l4.5 4.5",
  key: "M6.4 9.6a3.4 3.4 0 1 1 2-2l5.2 5.2v1.7h-2v-1.6h-1.6v-1.6z",
  search: "M7 2.2a4.8 4.8 0 1 1 0 9.6 4.8 4.8 0 0 1 0-9.6M10.6 10.6 14 14",
  signal: "M2 12.5v1M6 10v3.5M10 6.5v7M14 2.5v11",
} as const;

export function Icon({ name, size = 14 }: Props & { name: keyof typeof OTHER }) {
  return (
    <svg class="icon" {...box(size)}>
      <path d={OTHER[name]} fill="none" stroke="currentColor" stroke-width="1.5" stroke-linejoin="round" stroke-linecap="round" />
    </svg>
  );
}
