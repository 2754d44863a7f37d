/** The body of a pack as text: cut at its records, laid out, every token as it was sent. */

interface Split {
  before: string;
  records: string[];
  after: string;
  list: "readings" | "tests";
}

/** The body cut at its records; the text of each stays as it was sent (1.0 does not become 1). Null when it is no such body. */
export function split(body: string): Split | null {
  try {
    JSON.parse(body);
  } catch {
    return null;
  }
  const head = /"(readings|tests)"\s*:\s*\[/.exec(body);
  if (!head) return null;
  const records: string[] = [];
  let start = head.index + head[0].length;
  let depth = 0;
  let quoted = false;
  for (let i = start; i < body.length; i++) {
    const c = body[i];
    if (quoted) {
      if (c === "\\") i++;
      else if (c === '"') quoted = false;
    } else if (c === '"') quoted = true;
    else if (c === "{" || c === "[") depth++;
    else if (depth > 0 && (c === "}" || c === "]")) depth--;
    else if (depth === 0 && (c === "," || c === "]")) {
      const record = body.slice(start, i).trim();
      if (record) records.push(record);
      start = i + 1;
      if (c === "]") return { before: body.slice(0, head.index + head[0].length), records, after: body.slice(i), list: head[1] as Split["list"] };
    }
  }
  return null;
}

/** JSON on several lines, every token as it was. */
export function indent(json: string): string {
  let out = "";
  let depth = 0;
  const line = (): string => `\n${"  ".repeat(depth)}`;
  for (const [token] of json.matchAll(/"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s"{}[\],:]+/g)) {
    if (token === "{" || token === "[") {
      depth++;
      out += token + line();
    } else if (token === "}" || token === "]") {
      depth--;
      out += line() + token;
    } else if (token === ",") out += token + line();
    else out += token === ":" ? ": " : token;
  }
  return out;
}

/** The raw bytes of test `position` in the body, as base64; blank when none were kept. */
export function rawOf(body: string, position: number): string {
  const text = split(body)?.records[position];
  const record: unknown = text === undefined ? null : JSON.parse(text);
  if (typeof record !== "object" || record === null || !("raw" in record)) return "";
  return typeof record.raw === "string" ? record.raw : "";
}
