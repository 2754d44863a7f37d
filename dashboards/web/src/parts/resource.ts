/** Data of one page: kept on screen while it is read again, replaced when its key changes. */

import { useEffect, useRef, useState } from "preact/hooks";

import { ApiError } from "../api/client";

export interface Resource<T> {
  data: T | null;
  error: ApiError | null;
  /** True only while there is nothing to show yet, and only after a moment: no flicker. */
  waiting: boolean;
  /** `data` still belongs to the key before. */
  stale: boolean;
  reload: () => void;
}

const PATIENCE_MS = 150;

interface Options {
  poll_ms?: number;
  /** Show the data of the key before until the new has come. */
  keep?: boolean;
}

/** Read `get` whenever `key` changes, and every `poll_ms` while the page is visible. */
export function useResource<T>(
  key: string,
  get: (signal: AbortSignal) => Promise<T>,
  { poll_ms, keep = false }: Options = {},
): Resource<T> {
  const [held, setHeld] = useState<{ key: string; data: T | null; error: ApiError | null }>({ key, data: null, error: null });
  const [patient, setPatient] = useState(true);
  const [round, setRound] = useState(0);
  const latest = useRef(get);
  latest.current = get;

  useEffect(() => {
    const stop = new AbortController();
    const patience = setTimeout(() => setPatient(false), PATIENCE_MS);
    setPatient(true);
    let timer = 0;
    const read = async (): Promise<void> => {
      try {
        const data = await latest.current(stop.signal);
        if (!stop.signal.aborted) setHeld({ key, data, error: null });
      } catch (error) {
        if (stop.signal.aborted) return;
        if (!(error instanceof ApiError)) throw error;
        setHeld((old) => ({ key, data: old.key === key ? old.data : null, error }));
      }
      if (poll_ms && !stop.signal.aborted) timer = window.setTimeout(again, poll_ms);
    };
    const again = (): void => {
      if (document.hidden) timer = window.setTimeout(again, poll_ms);
      else void read();
    };
    void read();
    return () => {
      stop.abort();
      clearTimeout(timer);
      clearTimeout(patience);
    };
  }, [key, round, poll_ms]);

  const current = held.key === key;
  const data = current || keep ? held.data : null;
  const error = current ? held.error : null;
  return {
    data,
    error,
    waiting: data === null && error === null && !patient,
    stale: !current && data !== null,
    reload: () => setRound((n) => n + 1),
  };
}
