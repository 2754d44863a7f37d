// The arithmetic behind the pages. Run by `npm test` on a Node that strips types (22.18 or later; the one from PyPI is).
import assert from "node:assert/strict";
import test from "node:test";

import { indent, rawOf, split } from "../src/parts/body.ts";
import { byNeed, problemsOf } from "../src/parts/problems.ts";
import { breaks, brokenBy, risers, shape, spread, summary, valueRange } from "../src/trend/shape.ts";

const every = (n, step, from = 0) => Array.from({ length: n }, (_, i) => [from + i * step, i, 1, 0]);

test("a silence breaks the line, a steady series does not", () => {
  const steady = shape(every(50, 5000));
  assert.equal(steady.y.includes(null), false);
  const broken = shape([...every(20, 5000), ...every(20, 5000, 200_000)]);
  assert.equal(broken.y.filter((v) => v === null).length, 1);
  assert.equal(broken.x[20], (95_000 + 200_000) / 2000);
});

test("failed and missing points leave the line and the scale, suspect ones stay", () => {
  const points = [[0, 1, 1, 0], [1000, 99_999, 4, 16], [2000, null, 9, 8], [3000, 2, 3, 0]];
  const s = shape(points);
  assert.deepEqual([s.y, s.failed, s.suspect], [[1, null, null, 2], [1, 2], [3]]);
  const sum = summary(points);
  assert.deepEqual([sum.min, sum.max, sum.failed, sum.suspect], [1, 2, 2, 1]);
});

test("the axis takes in a near limit and leaves out a far one unless asked", () => {
  const s = summary([[0, 0.2, 1, 0], [1, 0.25, 1, 0]]);
  const [near, far] = [{ limit: 0.4 }, { limit: 20 }];
  assert.ok(valueRange(s, [near, far], false)[1] > 0.4);
  assert.ok(valueRange(s, [near, far], false)[1] < 1);
  assert.ok(valueRange(s, [near, far], true)[1] > 20);
});

test("labels never overlap nor leave the plot", () => {
  const placed = spread([-50, 10, 12, 300], 20, 200);
  const sorted = [...placed].sort((a, b) => a - b);
  sorted.forEach((y, i) => {
    assert.ok(y >= 10 && y <= 190);
    if (i > 0) assert.ok(y - sorted[i - 1] >= 20);
  });
});

test("the body is cut at its records without changing a byte", () => {
  const body = '{"readings":[{"n":"a","v":1.0},{"n":"b ],[ \\" {","v":3e-7,"x":[1,{"y":2}]}],"clk":"sync"}';
  const parts = split(body);
  assert.deepEqual(parts.records, ['{"n":"a","v":1.0}', '{"n":"b ],[ \\" {","v":3e-7,"x":[1,{"y":2}]}']);
  assert.equal(parts.before + parts.records.join(",") + parts.after, body);
  assert.equal(split('{"lost":{"from":1}}'), null);
  assert.equal(split("not JSON"), null);
});

test("laying out keeps every token, raw slips are found", () => {
  const record = '{"value":"61.20","n":1.0,"s":"a, {b}: \\"c\\""}';
  assert.equal(indent(record).replace(/\n\s*/g, "").replace(/": /g, '":'), record);
  assert.equal(rawOf('{"tests":[{"raw":"QUI="}]}', 0), "QUI=");
  assert.equal(rawOf('{"tests":[{"raw":"QUI="}]}', 1), "");
});

test("the comparator says what breaks a limit", () => {
  const broken = [">", ">=", "<", "<=", "detected", null].map((c) => [4, 5, 6].filter((v) => breaks(v, c, 5)));
  assert.deepEqual(broken, [[6], [5, 6], [4], [4, 5], [], []]);
});

test("a point is over the gravest limit that held when it was measured; a failed one never", () => {
  const screening = { level: "screening", comparator: ">", limit: 1, from_ms: 0, to_ms: 1_000_000 };
  const intervention = { ...screening, level: "intervention", limit: 4 };
  const limits = [screening, intervention];
  assert.equal(brokenBy([500, 2, 1, 0], limits), screening);
  assert.equal(brokenBy([500, 5, 1, 0], limits), intervention);
  assert.equal(brokenBy([500, 1, 1, 0], limits), null);
  assert.equal(brokenBy([500, 5, 4, 0], limits), null);
  assert.equal(brokenBy([500, null, 9, 0], limits), null);
  assert.equal(brokenBy([2_000_000, 5, 1, 0], limits), null);
});

const station = (code, more = {}) => ({ code, state: "online", key_state: "approved", queue: 0, oldest_unreceipted_ms: null, gaps: 0, lost: 0, alarms: [], open_alerts: 0, ...more });

test("each kind of problem is found, and a station that is well has none", () => {
  const kinds = (more) => [...problemsOf(station("a", more))];
  assert.deepEqual(kinds({ queue: 3, oldest_unreceipted_ms: 60_000 }), []);
  assert.deepEqual(kinds({ state: "stale" }), ["silent"]);
  assert.deepEqual(kinds({ queue: 3, oldest_unreceipted_ms: 601_000 }), ["backlog"]);
  assert.deepEqual(kinds({ gaps: 1 }), ["loss"]);
  assert.deepEqual(kinds({ key_state: "pending" }), ["key"]);
  assert.deepEqual(kinds({ key_state: "none", state: "never" }), []);
  assert.deepEqual(kinds({ alarms: ["gateway_cloned", "disk_full", "clock_unset", "certificate_7d", "not_known"] }), ["key", "storage", "clock", "certificate"]);
});

test("the worst station comes first", () => {
  const order = [
    station("f", { alarms: ["disk_full"] }),
    station("e", { state: "offline" }),
    station("d", { key_state: "pending" }),
    station("c", { alarms: ["clock_off"] }),
    station("b", { queue: 9, oldest_unreceipted_ms: 9_000_000 }),
    station("a", { queue: 9, oldest_unreceipted_ms: 700_000 }),
    station("w", { lost: 4 }),
    station("v"),
    station("z"),
    station("u", { state: "never" }),
  ];
  assert.deepEqual([...order].reverse().sort(byNeed).map((s) => s.code), order.map((s) => s.code));
});

test("a limit that changes is drawn as a step, one that ends is not", () => {
  const limit = { level: "screening", comparator: ">" };
  const lines = [
    { ...limit, limit: 0.3, from_ms: 0, to_ms: 10 },
    { ...limit, limit: 0.4, from_ms: 10, to_ms: 20 },
    { ...limit, limit: 0.4, from_ms: 20, to_ms: 30 },
    { ...limit, limit: 0.6, from_ms: 40, to_ms: 50 },
    { ...limit, level: "intervention", limit: 2, from_ms: 20, to_ms: 30 },
  ];
  assert.deepEqual(risers(lines), [[10, 0.3, 0.4]]);
});

test("a limit that asks for more than the value, or a value of a window, is not called broken", () => {
  const line = { level: "standard", comparator: "<=", limit: 5, from_ms: 0, to_ms: 10, note: "" };
  assert.equal(brokenBy([1, 5, 1, 0], [line]), line);
  assert.equal(brokenBy([1, 5.1, 1, 0], [line]), null);
  assert.equal(brokenBy([1, 4, 1, 0], [{ ...line, note: "连续 24 h … | above this for …" }]), null);
  assert.equal(brokenBy([1, 4, 2, 8192], [line]), null);
});
