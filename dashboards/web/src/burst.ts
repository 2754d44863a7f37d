/** Run now, then at most once per interval however often asked; the last request is never lost. */
export function burst(run: () => Promise<void> | void, interval_ms: number): () => void {
  let busy = false;
  let again = false;
  const go = async (): Promise<void> => {
    busy = true;
    try {
      await Promise.all([run(), new Promise((wake) => setTimeout(wake, interval_ms))]);
    } finally {
      busy = false;
    }
    if (again) {
      again = false;
      void go();
    }
  };
  return () => {
    if (busy) again = true;
    else void go();
  };
}
