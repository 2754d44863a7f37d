/** Shapes of the HTTP API under /api/v1; times `*_ms` are UTC milliseconds. */

export interface Overview {
  tests_today: number;
  suspects_open: number;
  exceedances_open: number;
  stations_online: number;
  stations_total: number;
  pass_rate_rapid: number | null;
  samples_rapid: number;
  undetermined_rapid: number;
  pass_rate_quantitative: number | null;
  samples_quantitative: number;
  undetermined_quantitative: number;
  readings_total: number;
  generated_at: string;
}

export type StationState = "online" | "stale" | "offline" | "never";
export type KeyState = "approved" | "pending" | "none";

export interface Station {
  code: string;
  name: string;
  name_en: string;
  station_type: string;
  region_code: string;
  region_name: string;
  region_name_en: string;
  lon: number | null;
  lat: number | null;
  base_name: string;
  state: StationState;
  seen_ms: number | null;
  key_state: KeyState;
  queue: number;
  /** Age, as the edge last said. */
  oldest_unreceipted_ms: number | null;
  clock_offset_ms: number | null;
  version: string;
  devices_ok: number;
  devices_total: number;
  open_alerts: number;
  lost: number;
  gaps: number;
  alarms: string[];
}

/** QARTOD: 1 pass, 2 not evaluated, 3 suspect, 4 fail, 9 missing. */
export type Quality = number;

export interface SeriesHead {
  indicator: string;
  name_zh: string;
  name_en: string;
  unit: string;
  decimals: number;
  t_ms: number;
  v: number | null;
  q: Quality;
  count: number;
}

export interface Device {
  path: string;
  name: string;
  model: string;
  serial_no: string;
  plot_id: string | null;
  plot_name: string | null;
  seen_ms: number | null;
  ok: boolean;
  series: SeriesHead[];
}

export interface Loss {
  epoch: string;
  from_seq: number;
  through_seq: number;
  readings: number;
  reason: "gap" | "cap" | "corrupt";
  at_ms: number;
}

export interface GatewayKey {
  key: string;
  state: "approved" | "pending" | "replaced" | "refused";
  first_seen_ms: number;
  /** Of a replaced key: what it began until then is still taken. */
  replaced_ms: number | null;
}

export interface StationDetail extends Station {
  devices: Device[];
  losses: Loss[];
  keys: GatewayKey[];
}

export type Conditions = Record<string, unknown>;

export interface LimitLine {
  standard: string;
  clause: string;
  level: string;
  comparator: string;
  limit: number;
  unit: string;
  verified: boolean;
  conditions: Conditions | null;
  from_ms: number;
  to_ms: number;
  clause_en?: string;
  /** What else it asks for, "中文 | English"; blank when the value alone decides. */
  note?: string;
}

/** t_ms, value, quality, bit mask of flags. */
export type Point = [number, number | null, Quality, number];

/** start_ms, minimum, mean, maximum, count, share of good readings. */
export type Bucket = [number, number | null, number | null, number | null, number, number];

export type RollUp = "minute" | "hour" | "day";

export interface Readings {
  station: string;
  device: string;
  indicator: string;
  name_zh: string;
  name_en: string;
  unit: string;
  decimals: number;
  start_ms: number;
  end_ms: number;
  total: number;
  returned: number;
  downsampling: "none" | "min_max" | RollUp;
  /** With roll-ups: the mean of each, at its middle. */
  points: Point[];
  buckets: Bucket[];
  limits: LimitLine[];
}

/** What a pass of a test says: nothing but organophosphates and carbamates, a negative strip, inside the limits. */
export type PassScope = "op_carbamate" | "strip" | "limit";
export type Verdict = "pass" | "exceed" | "suspect" | "undetermined" | "invalid";
export type Severity = "info" | "warning" | "major" | "critical";

/** The limit or rule; fields are null where a rule has none. The comparator says what breaks it. */
export interface Citation {
  standard: string | null;
  title_zh?: string | null;
  clause: string | null;
  level: string | null;
  comparator: string | null;
  limit: number | string | null;
  unit: string | null;
  exceeded: boolean | null;
  ratio: number | null;
  conditions: Conditions | null;
  verified: boolean | null;
  limit_version?: string | null;
  /** The clause in English, where the catalogue has one. */
  clause_en?: string | null;
  note?: string | null;
  averaging?: string | null;
}

export interface Test {
  record_id: string;
  station: string;
  station_name: string;
  station_name_en: string;
  device: string;
  device_name: string;
  tested_ms: number;
  received_ms: number;
  sample_no: string;
  product_name: string;
  product_name_en: string;
  parameter: string;
  parameter_zh: string;
  parameter_en: string;
  method: string;
  method_standard: string;
  result_kind: string;
  value: string | null;
  unit: string;
  value_text: string;
  screen_result: string;
  device_verdict: string;
  verdict: Verdict;
  pass_scope: PassScope;
  severity: Severity;
  reason: string;
  findings: Citation[];
  flags: string[];
  incomplete: boolean;
  /** The record that this one completes, corrects or repeats. */
  parent_record_id: string | null;
  /** The record that completed or corrected this one and counts in its place. */
  superseded_by: string | null;
  source: string;
  attempt: number;
  subject: string;
  alert_id: string | null;
  qualifier: string;
  lod: string | null;
  loq: string | null;
  basis: string;
  components: Component[];
}

/** A member of a residue that is defined as a sum. */
export interface Component {
  parameter: string;
  parameter_zh: string;
  parameter_en: string;
  value: string | null;
  unit: string;
  qualifier: string;
  lod: string | null;
  loq: string | null;
}

/** What the first test and the repeats of one item say together. */
export interface SampleItem {
  parameter: string;
  parameter_zh: string;
  parameter_en: string;
  verdict: Verdict;
  first: Verdict;
  repeats: Verdict[];
  repeats_due: number;
  confirmed: boolean;
}

export interface Sample {
  station: string;
  sample_no: string;
  verdict: Verdict;
  items: SampleItem[];
  tests: Test[];
}

export interface TestPage {
  tests: Test[];
  next: string | null;
}

export type AlertState =
  | "suspected"
  | "confirmed"
  | "cleared"
  | "dismissed"
  | "refuted"
  | "open"
  | "resolved"
  | "retest_ordered"
  | "handed_over"
  | "in_enforcement"
  | "closed"
  | "superseded";

export interface Alert {
  alert_id: string;
  kind: string;
  rule_id: string;
  state: AlertState;
  seq: number;
  severity: Severity;
  certainty: string;
  station: string;
  station_name: string;
  station_name_en: string;
  region_code: string;
  device: string;
  device_name: string;
  plot_id: string;
  plot_name: string;
  indicator: string;
  indicator_zh: string;
  indicator_en: string;
  product_name: string;
  product_name_en: string;
  sample_no: string;
  value: number | null;
  unit: string;
  citation: Partial<Citation>;
  first_seen_ms: number;
  last_seen_ms: number;
  occurrence_count: number;
  acked_by: string;
  acked_ms: number | null;
  flags: string[];
  raised_ms: number;
  changed_ms: number;
  purpose: string;
  sampling_stage: string;
  due_ms: number | null;
  silenced_until_ms: number | null;
  inhibited_by: string[];
  retest: Partial<Record<"order_id" | "laboratory" | "result" | "report_no" | "reason", string>>;
  handover: { agency?: string; at_ms?: number; case_no?: string };
  outcome: string;
  related: { relation: string; alert_id: string }[];
}

export interface AlertPage {
  alerts: Alert[];
  next: string | null;
}

export interface Transition {
  seq: number;
  from_state: string;
  to_state: string;
  actor: string;
  reason: string;
  at_ms: number;
  event: string;
  data: Record<string, unknown>;
  hash: string;
}

/** Something that must or may be said with a decision or a step. */
export interface Need {
  field: string;
  title_zh: string;
  title_en: string;
  kind: "text" | "choice" | "yes_no";
  choices: string[];
  required: boolean;
}

export interface Decision {
  trigger: string;
  title_zh: string;
  title_en: string;
  needs: Need[];
}

export interface DecisionList {
  alert_id: string;
  seq: number;
  state: AlertState;
  decisions: Decision[];
}

export interface ClockDay {
  date: string;
  counted: boolean;
  number: number | null;
  reason_zh: string;
  reason_en: string;
}

export interface LawClock {
  id: number;
  name: string;
  title_zh: string;
  title_en: string;
  basis: string;
  who: "party" | "agency" | "laboratory" | "police";
  length: string;
  started_at: string;
  due_at: string | null;
  missing_year: number | null;
  message_zh: string;
  message_en: string;
  state: "running" | "overdue" | "met" | "met_late" | "void";
  ended_at: string | null;
  days: ClockDay[];
}

export interface StepDocument {
  type: string;
  no: string;
  sha256: string;
}

export interface CaseStep {
  step: string;
  title_zh: string;
  title_en: string;
  at: string;
  actor: string;
  note: string;
  document: StepDocument;
  data: Record<string, unknown>;
  alert_seq: number;
}

export interface NextStep {
  step: string;
  title_zh: string;
  title_en: string;
  first: boolean;
  needs: Need[];
}

export interface Case {
  alert_id: string;
  alert_seq: number;
  case_id: string | null;
  side: "farm" | "market" | "";
  opened_at: string | null;
  closed_at: string | null;
  steps: CaseStep[];
  clocks: LawClock[];
  next: NextStep[];
}

export interface StepTaken {
  step: string;
  at: string | null;
  seq: number;
  actor: string;
  note: string;
  document: StepDocument;
  data: Record<string, string | boolean>;
}

export type Saying = "confirms" | "refutes" | "incomplete" | "nothing" | "refused" | "waits";

export interface LaboratoryReport {
  report_id: string;
  laboratory: string;
  report_no: string;
  method: string;
  entered_by: string;
  entered_ms: number;
  reported_ms: number;
  state: "awaiting" | "paired" | "superseded";
  note: string;
  pairing: { alert_id: string; result: Saying; missing: string[]; reason: string }[];
}

export interface ResultEntry {
  indicator: string;
  value: string;
  unit: string;
}

export interface ReportEntry {
  station: string;
  sample_no: string;
  laboratory: string;
  report_no: string;
  method: string;
  complete: boolean;
  reported_at: string;
  received_at: string;
  alert_id: string;
  product_name: string;
  results: ResultEntry[];
  entered_by: string;
  source: "page";
  note: string;
}

export interface ReportTaken {
  report_id: string;
  state: "taken" | "known" | "checked";
}

export interface EvidencePack {
  received_ms: number;
  sha256: string;
  topic: string;
  body: string;
}

export interface Evidence {
  finding_id: string;
  station: string;
  epoch: string;
  seq: number;
  position: number;
  inbox_pos: number;
  record_id: string;
  test: Test | null;
  pack: EvidencePack | null;
}

export interface Finding {
  finding_id: string;
  t_ms: number;
  value: number | null;
  unit: string;
  device: string;
  indicator: string;
  citation: Partial<Citation>;
}

export interface AlertDetail extends Alert {
  transitions: Transition[];
  evidence: Evidence;
  findings: Finding[];
}

export interface Pack {
  station: string;
  epoch: string;
  seq: number;
  pos: number;
  topic: string;
  header: string;
  received_ms: number;
  sha256: string;
  body: string;
  quarantined: { position: number; field: string; reason: string }[];
}

export interface Attempt {
  attempt: number;
  at_ms: number;
  duration_ms: number;
  status_code: number | null;
  error: string;
  response: string;
}

export interface Delivery {
  webhook_id: string;
  endpoint_id: string;
  endpoint_name: string;
  event_type: string;
  alert_seq: number;
  state: "pending" | "delivered" | "undelivered";
  created_ms: number;
  delivered_ms: number | null;
  next_ms: number | null;
  attempts: Attempt[];
}

export interface Indicator {
  code: string;
  name_zh: string;
  name_en: string;
  medium: string;
  unit: string;
  decimals: number;
}

export type Medium = "soil" | "irrigation" | "fishery" | "surface" | "livestock" | "product" | "method" | "notice";

/** One row of a table of a standard or notice. */
export interface StandardEntry {
  standard: string;
  title_zh: string;
  clause: string;
  level: string;
  medium: Medium;
  subject: string;
  subject_zh: string;
  subject_en: string;
  product_zh: string;
  product_en: string;
  kind: "numeric" | "presence" | "never_alone";
  comparator: string;
  limit: string;
  unit: string;
  conditions_zh: string;
  conditions_en: string;
  from_ms: number;
  to_ms: number | null;
  in_force: boolean;
  verified: boolean;
  temporary: boolean;
  source: string;
  place: string;
  limit_version: string;
}

export interface StandardCount {
  standard: string;
  title_zh: string;
  medium: Medium;
  rows: number;
  unverified: number;
}

export interface NearName {
  code: string;
  zh: string;
  en: string;
}

export interface LimitPage {
  version: string;
  at_ms: number | null;
  total: number;
  offset: number;
  limits: StandardEntry[];
  media: Partial<Record<Medium, number>>;
  standards: StandardCount[];
  nearest: NearName[];
}

export interface AppliedRule {
  subject: string;
  subject_zh: string;
  subject_en: string;
  medium: Medium;
  level: string;
  /** The rows are the ones that apply; else those that it could be. */
  known: boolean;
  missing: string[];
  wrong: Record<string, string>;
  complete: boolean;
  rows: StandardEntry[];
}

export interface PlotRow {
  id: string;
  name: string;
  base_name: string;
  conditions: Record<string, string | number>;
  devices: string[];
}

export interface PlotLimits {
  plot: PlotRow;
  /** Companion readings that go before what is registered, by indicator. */
  measured: Record<string, number>;
  rules: AppliedRule[];
  missing: { key: string; rules: number }[];
}

export interface ResidueRow {
  substance: NearName;
  limit: StandardEntry;
  matched_level: "commodity" | "group";
  matched_zh: string;
  matched_en: string;
  fallback_zh: string;
  fallback_en: string;
  definition_zh: string;
  is_sum: boolean;
  components: NearName[];
}

export interface SampleLimits {
  product: NearName | null;
  near_products: NearName[];
  substance: NearName | null;
  near_substances: NearName[];
  residues: ResidueRow[];
  bans: { entry: StandardEntry; reach: "inside" | "open" }[];
  methods: StandardEntry[];
  reason_zh: string;
  reason_en: string;
}

export interface InForce {
  version: string;
  at_ms: number;
  plots: PlotLimits[];
  sample: SampleLimits | null;
}

/** A time in which a device is worked on: its readings alarm nobody. */
export interface DeviceWindow {
  id: string;
  station: string;
  device: string;
  device_name: string;
  kind: "maintenance" | "calibration";
  from_ms: number;
  to_ms: number;
  note: string;
  set_by: string;
  set_ms: number;
  cancelled_ms: number | null;
  state: "upcoming" | "active" | "past" | "cancelled";
}

/** What the event stream carries; the fields depend on `type`. */
export interface EventData {
  at_ms: number;
  type: string;
  station: string;
  alert_id?: string;
  state?: string;
  previous_state?: string;
  severity?: Severity;
  indicator?: string;
  value?: number | null;
  unit?: string;
  record_id?: string;
  verdict?: Verdict;
  pass_scope?: PassScope;
  product_name?: string;
  parameter?: string;
  webhook_id?: string;
  status_code?: number | null;
}

export interface EndpointKey {
  id: string;
  kind: "hmac" | "ed25519" | "receipt";
  public: string;
  created_ms: number;
  ends_ms: number | null;
}

/** A receiver of webhooks. */
export interface Endpoint {
  id: string;
  name: string;
  url: string;
  source: "config" | "api";
  state: "active" | "unverified" | "suspended" | "off";
  version: number;
  concurrency: number;
  rate_per_min: number | null;
  verified_ms: number | null;
  suspended_ms: number | null;
  failing_since_ms: number | null;
  pending: number;
  undelivered: number;
  keys: EndpointKey[];
}

export interface ShownKey {
  id: string;
  kind: "hmac" | "ed25519" | "receipt";
  secret: string;
  public: string;
}

export interface CreatedEndpoint {
  endpoint: Endpoint;
  signing_key: ShownKey;
  receipt_key: ShownKey;
}

/** What a receiver answered at once. */
export interface Tried {
  ok: boolean;
  status_code: number | null;
  error: string;
  response: string;
  duration_ms: number;
}
