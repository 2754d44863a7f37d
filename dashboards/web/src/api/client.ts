/** Requests to the API: one function per address, errors as ApiError. */

import { withMeans } from "../trend/shape";
import type {
  AlertDetail,
  AlertPage,
  Case,
  CreatedEndpoint,
  DecisionList,
  Delivery,
  DeviceWindow,
  Endpoint,
  InForce,
  Indicator,
  LaboratoryReport,
  LimitPage,
  NearName,
  Overview,
  Pack,
  PlotRow,
  Readings,
  ReportEntry,
  ReportTaken,
  Sample,
  Station,
  StationDetail,
  ShownKey,
  StepTaken,
  TestPage,
  Tried,
} from "./types";

/** An answer that is not 2xx (`status`), or no answer at all (`status` 0). */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
    /** Of the problem: "stale" when somebody else changed it meanwhile. */
    readonly code = "",
    /** Of the problem: why, as "中文 | English"; blank when the message says it. */
    readonly reason = "",
  ) {
    super(message);
  }
}

const ROOT = new URL("/api/v1/", location.origin);
const TIMEOUT_MS = 20_000;

type Query = Record<string, string | number | null | undefined>;

/** The address of an API path below /api/v1, without blank parameters. */
export function address(path: string, query: Query = {}): string {
  const url = new URL(path, ROOT);
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== "") url.searchParams.set(name, String(value));
  }
  return url.href;
}

/** One line for each fault of a form or a sheet. */
function faultLines(faults: unknown): string {
  if (!Array.isArray(faults)) return "";
  return (faults as { row?: number | null; column?: string; what?: string }[])
    .map((f) => [f.row ? `#${f.row}` : "", f.column ?? "", f.what ?? ""].filter(Boolean).join(" · "))
    .join("\n");
}

function detail(body: unknown, fallback: string): string {
  if (typeof body === "object" && body !== null && "detail" in body) {
    const text = (body as { detail: unknown }).detail;
    const faults = "faults" in body ? `\n${faultLines((body as { faults: unknown }).faults)}` : "";
    return (typeof text === "string" ? text : JSON.stringify(text)) + faults;
  }
  return fallback;
}

function member(body: unknown, name: string): string {
  const found: unknown = typeof body === "object" && body !== null ? (body as Record<string, unknown>)[name] : "";
  return typeof found === "string" ? found : "";
}

async function request<T>(url: string, init: RequestInit, signal?: AbortSignal): Promise<T> {
  // One controller for both reasons to stop: AbortSignal.any is younger than many office browsers.
  const stop = new AbortController();
  const abort = (): void => stop.abort();
  const timer = setTimeout(abort, TIMEOUT_MS);
  signal?.addEventListener("abort", abort);
  try {
    const response = await fetch(url, { ...init, signal: stop.signal });
    const body: unknown = await response.json().catch((error: unknown) => {
      if (stop.signal.aborted || response.ok) throw error;
      return null;
    });
    if (!response.ok) throw new ApiError(response.status, detail(body, response.statusText), member(body, "code"), member(body, "reason"));
    return body as T;
  } catch (error) {
    if (error instanceof ApiError || signal?.aborted) throw error;
    throw new ApiError(0, "");
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", abort);
  }
}

const get = <T>(path: string, query?: Query, signal?: AbortSignal): Promise<T> =>
  request<T>(address(path, query), { headers: { accept: "application/json" } }, signal);

const post = <T>(path: string, key: string, body: unknown): Promise<T> =>
  request<T>(address(path), {
    method: "POST",
    headers: { accept: "application/json", "content-type": "application/json", "X-API-Key": key },
    body: JSON.stringify(body),
  });

const remove = <T>(path: string, key: string, query: Query = {}): Promise<T> =>
  request<T>(address(path, query), { method: "DELETE", headers: { accept: "application/json", "X-API-Key": key } });

const part = encodeURIComponent;

export const api = {
  overview: (signal?: AbortSignal) => get<Overview>("overview", {}, signal),
  stations: (signal?: AbortSignal) => get<{ stations: Station[] }>("stations", {}, signal),
  station: (code: string, signal?: AbortSignal) => get<StationDetail>(`stations/${part(code)}`, {}, signal),
  readings: async (query: Query, signal?: AbortSignal) => withMeans(await get<Readings>("readings", query, signal)),
  tests: (query: Query, signal?: AbortSignal) => get<TestPage>("tests", query, signal),
  sample: (recordId: string, signal?: AbortSignal) => get<Sample>(`tests/${part(recordId)}/sample`, {}, signal),
  alerts: (query: Query, signal?: AbortSignal) => get<AlertPage>("alerts", query, signal),
  alert: (id: string, signal?: AbortSignal) => get<AlertDetail>(`alerts/${part(id)}`, {}, signal),
  deliveries: (id: string, signal?: AbortSignal) =>
    get<{ deliveries: Delivery[] }>(`alerts/${part(id)}/deliveries`, {}, signal),
  pack: (station: string, epoch: string, seq: number, signal?: AbortSignal) =>
    get<Pack>(`packs/${part(station)}/${part(epoch)}/${seq}`, {}, signal),
  indicators: (signal?: AbortSignal) => get<{ indicators: Indicator[] }>("indicators", {}, signal),
  limits: (query: Query, signal?: AbortSignal) => get<LimitPage>("limits", query, signal),
  inForce: (query: Query, signal?: AbortSignal) => get<InForce>("limits/in-force", query, signal),
  limitNames: (kind: "product" | "substance", text: string, signal?: AbortSignal) => get<{ names: NearName[] }>("limits/names", { kind, text }, signal),
  plots: (signal?: AbortSignal) => get<{ plots: PlotRow[] }>("plots", {}, signal),
  windows: (station: string, signal?: AbortSignal) => get<{ windows: DeviceWindow[] }>(`stations/${part(station)}/windows`, {}, signal),
  setWindow: (station: string, key: string, body: { device: string; kind: string; from: string; to: string; note: string; actor: string }) =>
    post<unknown>(`stations/${part(station)}/windows`, key, body),
  cancelWindow: (station: string, key: string, id: string) => remove<unknown>(`stations/${part(station)}/windows/${part(id)}`, key),
  ack: (id: string, key: string, actor: string) => post<unknown>(`alerts/${part(id)}/ack`, key, { actor }),
  decisions: (id: string, signal?: AbortSignal) => get<DecisionList>(`alerts/${part(id)}/decisions`, {}, signal),
  decide: (id: string, key: string, body: Record<string, string | number>) => post<unknown>(`alerts/${part(id)}/transitions`, key, body),
  caseOf: (id: string, signal?: AbortSignal) => get<Case>(`alerts/${part(id)}/case`, {}, signal),
  takeStep: (id: string, key: string, body: StepTaken) => post<unknown>(`alerts/${part(id)}/case/steps`, key, body),
  laboratoryReports: (query: Query, signal?: AbortSignal) => get<{ reports: LaboratoryReport[] }>("laboratory/reports", query, signal),
  enterReport: (key: string, body: ReportEntry) => post<ReportTaken>("laboratory/reports", key, body),
  endpoints: (signal?: AbortSignal) => get<{ endpoints: Endpoint[] }>("endpoints", {}, signal),
  makeEndpoint: (key: string, body: { id: string; name: string; url: string; key_kind: string; actor: string }) => post<CreatedEndpoint>("endpoints", key, body),
  removeEndpoint: (id: string, key: string, version: number) => remove<Endpoint>(`endpoints/${part(id)}`, key, { version }),
  tryEndpoint: (id: string, how: "verify" | "test", key: string, actor: string) => post<Tried>(`endpoints/${part(id)}/${how}`, key, { actor }),
  switchEndpoint: (id: string, how: "suspend" | "resume", key: string, body: { actor: string; reason?: string }) => post<unknown>(`endpoints/${part(id)}/${how}`, key, body),
  rotateKey: (id: string, key: string, body: { overlap_h: number; revoke_old_now: boolean; actor: string }) => post<ShownKey>(`endpoints/${part(id)}/rotate`, key, body),
  replay: (id: string, key: string, actor: string) => post<{ events: number; left: number }>(`endpoints/${part(id)}/replay`, key, { undelivered: true, actor }),
  dismiss: (id: string, key: string, actor: string, reason: string) =>
    post<unknown>(`alerts/${part(id)}/dismiss`, key, { actor, reason }),
  decideKey: (decision: "approve" | "replace" | "refuse", station: string, key: string, gatewayKey: string) =>
    post<unknown>(`stations/${part(station)}/keys/${decision}`, key, { key: gatewayKey }),
};
