/** The bytes that the edge sent: the body laid out by record, the one in question marked; raw slips decoded. */

import { useEffect, useRef, useState } from "preact/hooks";

import { t } from "../i18n";
import { indent, split } from "./body";

/** SHA-256 of the text as hex; null where the browser offers none (plain HTTP on a network). */
async function sha256(text: string): Promise<string | null> {
  const subtle = (globalThis.crypto as Crypto | undefined)?.subtle;
  if (!subtle) return null;
  const digest = await subtle.digest("SHA-256", new TextEncoder().encode(text));
  return [...new Uint8Array(digest)].map((b) => b.toString(16).padStart(2, "0")).join("");
}

/** Recomputed here, so that the reader need not take the server's word. */
export function Digest({ body, sha256: said }: { body: string; sha256: string }) {
  const [ours, setOurs] = useState<string | null>(null);
  useEffect(() => {
    let gone = false;
    void sha256(body).then((digest) => gone || setOurs(digest));
    return () => {
      gone = true;
    };
  }, [body]);
  return (
    <span class="digest">
      <span class="mono">{said}</span>
      {ours !== null && <span class={ours === said ? "good" : "bad"}>{t(ours === said ? "hash_checked" : "hash_differs")}</span>}
    </span>
  );
}

export function PackBody({ body, position }: { body: string; position: number }) {
  const here = useRef<HTMLLIElement>(null);
  const box = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const [row, outer] = [here.current, box.current];
    if (row && outer) outer.scrollTop = row.offsetTop - outer.clientHeight / 3;
  }, [body, position]);
  const parts = split(body);
  if (!parts) {
    return (
      <div class="pack-body scroll" tabIndex={0} data-testid="pack-body">
        <pre>{body}</pre>
      </div>
    );
  }
  return (
    <div class="pack-body scroll" tabIndex={0} ref={box} data-testid="pack-body" role="region" aria-label={t("pack_body")}>
      <pre class="pack-list">{parts.before}</pre>
      <ol start={0}>
        {parts.records.map((record, i) => (
          <li key={i} ref={i === position ? here : undefined} class={i === position ? "marked" : undefined} data-testid={i === position ? "pack-record" : undefined}>
            <span class="pack-index num">{i}</span>
            <pre>{parts.list === "tests" ? indent(record) : record}</pre>
            {i === position && <span class="tag this">{t("this_record")}</span>}
          </li>
        ))}
      </ol>
      <pre class="pack-list">{parts.after}</pre>
    </div>
  );
}

function bytes(base64: string): Uint8Array | null {
  try {
    return Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  } catch {
    return null;
  }
}

/** What the instrument printed; most in the field speak GBK. */
export function RawSlip({ raw }: { raw: string }) {
  const data = bytes(raw);
  if (!data) return null;
  return (
    <figure class="slip">
      <figcaption>
        {t("raw_slip")} <small class="dim">{t("raw_bytes", { n: data.length })}</small>
      </figcaption>
      <pre lang="zh-CN" data-testid="raw-slip">
        {new TextDecoder("gbk").decode(data).trimEnd()}
      </pre>
    </figure>
  );
}
