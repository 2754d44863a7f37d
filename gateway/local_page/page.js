"use strict";
// The agent's own page. Text from instruments and people goes to the screen as text nodes only.

const WORDS = {
  skip: ["跳到内容", "Skip to content"],
  title: ["农产品速测点", "Rapid-test station"],
  station: ["站点", "Station"],
  language: ["语言", "Language"],
  records: ["最近检测", "Last tests"],
  enter: ["录入检测", "Enter a test"],
  queue: ["待上传（包）", "Waiting (packs)"],
  oldest: ["最早一包已等待", "Oldest waits for"],
  receipt: ["上次回执", "Last receipt"],
  ago: ["{0}前", "{0} ago"],
  none: ["无", "none"],
  never: ["从未", "never"],
  last_records: ["最近的检测记录", "The last tests"],
  only_incomplete: ["只看信息不全的", "Incomplete ones only"],
  no_records: ["还没有检测记录。仪器上传或手工录入后显示在这里。", "No tests yet. They are shown here when an instrument sends one or one is entered."],
  tested_at: ["检测时间", "Tested at"],
  sample_no: ["样品编号", "Sample no."],
  product_name: ["样品名称", "Product"],
  parameter: ["检测项目", "Item"],
  result: ["结果", "Result"],
  source: ["来源", "Source"],
  state: ["状态", "State"],
  refused: ["无法识别的仪器数据", "Instrument data that could not be read"],
  refused_why: ["原始字节保存在网关的 refused 目录中，请把它交给技术人员。", "The bytes are kept in the gateway's folder “refused”; hand them to the support."],
  complete: ["补全", "Complete"],
  slip: ["打印", "Print"],
  receipted: ["已上传", "Delivered"],
  on_disk: ["已保存，待上传", "Saved, to be sent"],
  superseded: ["已有补全记录", "Completed by another"],
  lacks: ["缺：{0}", "Lacks: {0}"],
  comma: ["、", ", "],
  well: ["一切正常", "All is well"],
  not_well: ["需要处理", "Needs attention"],
  loading: ["正在读取……", "Loading …"],
  away: ["网关程序没有应答", "The agent does not answer"],
  away_why: ["请检查网关是否在运行；刚录入但未保存的内容仍在本页。", "Check that the agent runs; what you have typed is still on this page."],
  delivered: ["记录都已送达服务器。", "Every record is with the server."],
  not_connected: ["未连接服务器；记录保存在本机，恢复后自动补传。", "Not connected; records are kept here and sent when the link is back."],
  on_the_way: ["记录正在上传。", "Records are on their way."],
  no_receipt: ["服务器没有回执；记录保存在本机，恢复后自动补传。", "The server does not confirm; records are kept here and sent when it is back."],
  silent: ["仪器无应答：{0}。", "No answer from {0}."],
  key_pending: ["服务器尚未批准本网关。", "The server has not approved this gateway yet."],
  server_holds: ["服务器暂停接收。", "The server takes nothing for now."],
  seen: ["{0}前", "{0} ago"],
  not_seen: ["启动后尚无新数据", "nothing new since the start"],
  unread: ["{0} 条无法识别", "{0} could not be read"],
  s: ["{0} 秒", "{0} s"], min: ["{0} 分钟", "{0} min"], h: ["{0} 小时", "{0} h"], d: ["{0} 天", "{0} d"],
  group_sample: ["样品", "Sample"],
  group_test: ["检测", "Test"],
  group_why: ["任务与责任", "Purpose and people"],
  origin_text: ["产地", "Origin"],
  tested_subject_name: ["被检单位", "Tested party"],
  plot_id: ["地块编号", "Plot id"],
  lot_id: ["批次号", "Lot"],
  method: ["检测方法", "Method"],
  method_standard: ["检测依据", "Method standard"],
  result_kind: ["结果类型", "Kind of result"],
  qualifier: ["符号", "Sign"],
  value: ["检测值", "Value"],
  unit: ["单位", "Unit"],
  screen_result: ["判读", "Reading"],
  purpose: ["监测类型", "Purpose"],
  sampling_stage: ["抽样环节", "Stage"],
  sampling_sheet_no: ["抽样单号", "Sampling sheet no."],
  tester: ["检测员", "Tester"],
  device_id: ["仪器", "Instrument"],
  auto_number: ["留空自动编号", "blank: numbered by itself"],
  by_hand: ["手工（无仪器）", "By hand, no instrument"],
  choose: ["请选择", "Choose"],
  submit: ["保存记录", "Save the test"],
  submit_completion: ["保存补全", "Save the completion"],
  cancel: ["放弃", "Discard"],
  entry_title: ["录入一次检测", "Enter a test"],
  entry_hint: ["带 * 的必须填写", "Fields with * are needed"],
  completion_title: ["补全记录 {0}", "Complete test {0}"],
  completion_hint: ["另存为一条新记录并指向原记录；仪器测得的内容不能改。", "Saved as a new record that points to the old one; what the instrument measured stands."],
  saved: ["已保存 {0}", "Saved {0}"],
  not_saved: ["没有保存，请再按一次", "Not saved, press again"],
  look_at_fields: ["请检查标红的项目", "Look at the fields in red"],
  slip_title: ["检测小票", "Test slip"],
  slip_note: ["快速检测结果，仅供筛查。", "A rapid test screens; it does not confirm."],
  print: ["打印小票", "Print the slip"],
  close: ["关闭", "Close"],
  source_device: ["仪器", "Instrument"], source_typed: ["手工", "Typed"], source_app: ["App", "App"], source_imported: ["导入", "Imported"],
  result_kind_inhibition: ["抑制率", "Inhibition"], result_kind_quantitative: ["定量", "Quantitative"], result_kind_qualitative: ["定性", "Qualitative"],
  qualifier_eq: ["=", "="], qualifier_lt: ["<（低于）", "< (below)"], qualifier_gt: [">（高于）", "> (above)"], qualifier_not_detected: ["未检出", "Not detected"],
  screen_result_negative: ["阴性", "Negative"], screen_result_positive: ["阳性", "Positive"], screen_result_doubtful: ["可疑", "Doubtful"], screen_result_invalid: ["无效", "Invalid"],
  purpose_self: ["自检", "Self-test"], purpose_commissioned: ["委托", "Commissioned"], purpose_routine: ["例行监测", "Routine"], purpose_special: ["专项", "Special"], purpose_supervision: ["监督抽查", "Supervision"], purpose_risk: ["风险监测", "Risk"],
  sampling_stage_base: ["生产基地", "Base"], sampling_stage_transport: ["运输车", "Transport"], sampling_stage_wholesale: ["批发市场", "Wholesale"], sampling_stage_retail: ["农贸市场", "Retail"], sampling_stage_slaughter: ["屠宰场", "Slaughter"], sampling_stage_storage: ["收储企业", "Storage"], sampling_stage_canteen: ["食堂", "Canteen"],
  method_enzyme_inhibition: ["酶抑制率法", "Enzyme inhibition"], method_enzyme_inhibition_card: ["酶抑制速测卡法", "Enzyme inhibition card"], method_colloidal_gold: ["胶体金免疫层析", "Colloidal gold"], method_fluorescence_strip: ["荧光免疫层析", "Fluorescence strip"], method_elisa: ["酶联免疫吸附法", "ELISA"], method_photometry: ["分光光度快检", "Photometry"], method_xrf: ["X射线荧光快检", "X-ray fluorescence"],
  f_clock_suspect: ["仪器时钟不对", "Instrument's clock is wrong"],
  f_time_missing: ["仪器没给时间", "No time from the instrument"],
  f_result_missing: ["没有结果", "No result"],
  f_sample_missing: ["不知是哪个样品", "Sample not known"],
  f_value_unreadable: ["数值看不懂", "Value cannot be read"],
  f_unit_unknown: ["单位不认识", "Unknown unit"],
  f_verdict_unknown: ["结论不认识", "Unknown verdict"],
  f_parameter_unknown: ["项目不认识", "Unknown item"],
  f_out_of_range: ["数值不可能", "Impossible value"],
  f_text_damaged: ["文字残缺", "Damaged text"],
  f_manual: ["手工", "By hand"],
  wrong_required: ["必须填写", "Needed"],
  wrong_not_a_number: ["不是数字，例如 12.5", "Not a number; write it as 12.5"],
  wrong_unit_unknown: ["不认识的单位", "Not a unit we know"],
  wrong_not_a_time: ["不是时间", "Not a time"],
  wrong_in_future: ["晚于现在的时间，请改正", "Later than now, please correct"],
  wrong_too_old: ["早于一年前，请改正", "More than a year ago, please correct"],
  wrong_unknown: ["不认识，请另选", "Not known, choose another"],
  wrong_out_of_range: ["不可能的数值", "Not a possible value"],
  wrong_measured: ["仪器测得，不能改", "Measured, it stands"],
  wrong_nothing_new: ["没有新的内容", "There is nothing new"],
  wrong_control_character: ["含有控制字符", "Has a control character"],
  wrong_too_large: ["内容太长", "Too long"],
};
const ITEMS = {
  op_carbamate_inhibition: ["农药残留（酶抑制率）", "OP and carbamate inhibition"],
  clenbuterol: ["克伦特罗", "Clenbuterol"], ractopamine: ["莱克多巴胺", "Ractopamine"], salbutamol: ["沙丁胺醇", "Salbutamol"],
  chloramphenicol: ["氯霉素", "Chloramphenicol"], "malachite green": ["孔雀石绿", "Malachite green"], carbofuran: ["克百威", "Carbofuran"],
};
const UNITS = ["mg/kg", "ug/kg", "%", "mg/L", "ug/L"];
const KINDS = { result_kind: ["inhibition", "qualitative", "quantitative"], qualifier: ["eq", "lt", "gt", "not_detected"], screen_result: ["negative", "positive", "doubtful", "invalid"], purpose: ["self", "commissioned", "routine", "special", "supervision", "risk"], sampling_stage: ["base", "transport", "wholesale", "retail", "slaughter", "storage", "canteen"], method: ["enzyme_inhibition", "enzyme_inhibition_card", "colloidal_gold", "fluorescence_strip", "elisa", "photometry", "xrf"] };
const GROUPS = [
  ["group_sample", ["sample_no", "product_name", "origin_text", "plot_id", "lot_id"]],
  ["group_test", ["device_id", "parameter", "method", "method_standard", "result_kind", "qualifier", "value", "unit", "screen_result", "tested_at"]],
  ["group_why", ["purpose", "sampling_stage", "sampling_sheet_no", "tested_subject_name", "tester"]],
];
const ALWAYS = new Set(["product_name", "parameter", "method", "result_kind", "tested_at", "purpose", "tested_subject_name", "tester"]);
const REMEMBERED = ["parameter", "method", "method_standard", "result_kind", "unit", "purpose", "sampling_stage", "tested_subject_name", "tester", "device_id"];
const FIRST = { parameter: "op_carbamate_inhibition", method: "enzyme_inhibition", result_kind: "inhibition", purpose: "self" };
const REFRESH_MS = 2000;

const $ = (id) => document.getElementById(id);
let lang = localStorage.getItem("lang") === "en" ? 1 : 0;
let station = "";
let state = null;
let lists = { records: [], refused: [] };
let parent = null;
let entryId = newId();
let sent = false;
let slipOf = null;
let view = "records";

function say(key, ...values) {
  const pair = WORDS[key];
  let text = pair ? pair[lang] : key;
  values.forEach((value, n) => { text = text.replace(`{${n}}`, () => value); });
  return text;
}

function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function make(tag, text, attributes = {}) {
  const made = document.createElement(tag);
  if (text !== undefined && text !== null) made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function age(ms) {
  const s = Math.max(0, Math.floor(ms / 1000));
  if (s < 120) return say("s", s);
  if (s < 7200) return say("min", Math.floor(s / 60));
  if (s < 172800) return say("h", Math.floor(s / 3600));
  return say("d", Math.floor(s / 86400));
}

function item(code) { return ITEMS[code] ? ITEMS[code][lang] : code; }
function clock(text) { return text.slice(0, 16).replace("T", " "); }

function result(record) {
  const parts = [];
  if (record.qualifier === "not_detected") parts.push(say("qualifier_not_detected"));
  else if (record.value !== undefined && record.value !== null) {
    const sign = { lt: "<", gt: ">" }[record.qualifier] || "";
    parts.push(`${sign}${record.value} ${record.unit || ""}`.trim());
  }
  if (record.screen_result) parts.push(say(`screen_result_${record.screen_result}`));
  if (!parts.length && (record.device_verdict || record.value_text)) parts.push(record.device_verdict || record.value_text);
  return parts.join(" ") || "—";
}

// ---------------------------------------------------------------- the tick

function drawTick(answers) {
  const card = state && state.stations.find((one) => one.code === station);
  const box = $("tick");
  if (!answers) {
    box.dataset.well = "false";
    $("tick-title").textContent = say("away");
    $("tick-why").textContent = say("away_why");
    return;
  }
  if (!card) return;
  box.dataset.well = String(card.well);
  $("tick-title").textContent = say(card.well ? "well" : "not_well");
  const silent = card.devices.filter((device) => !device.ok).map((device) => device.path);
  const alarms = Object.entries(card.alarms).map(([name, words]) => `${lang ? words.en || name : words.zh || name}${lang ? "." : "。"}`);
  const why = [...alarms];
  if (!card.connected) why.push(say("not_connected"));
  if (WORDS[card.server_says]) why.push(say(card.server_says));
  if (silent.length) why.push(say("silent", silent.join(say("comma"))));
  if (!why.length) why.push(say(!card.well ? "no_receipt" : card.queue ? "on_the_way" : "delivered"));
  $("tick-why").textContent = why.join(lang ? " " : "");
  $("queue").textContent = card.queue;
  $("oldest").textContent = card.oldest_unreceipted_ms === null ? say("none") : age(state.at_ms - card.oldest_unreceipted_ms);
  $("receipt").textContent = card.last_receipt_ms === null ? say("never") : say("ago", age(state.at_ms - card.last_receipt_ms));
  $("devices").replaceChildren(...card.devices.map((device) => {
    const line = make("li", null, { "data-ok": device.ok, "data-testid": "device" });
    const seen = device.seen_ms === null ? say("not_seen") : say("seen", age(state.at_ms - device.seen_ms));
    line.append(make("b", device.path), make("span", device.refused ? `${seen} · ${say("unread", device.refused)}` : seen));
    return line;
  }));
}

// ---------------------------------------------------------------- the list

function drawRecords() {
  const only = $("only-incomplete").checked;
  const shown = lists.records.filter((line) => !only || (line.missing.length && !line.completed_by));
  $("rows").replaceChildren(...shown.map(row));
  $("empty").hidden = shown.length > 0;
  $("refused-box").hidden = lists.refused.length === 0;
  $("refused-count").textContent = lists.refused.length;
  $("refused").replaceChildren(...lists.refused.map((one) => {
    const line = make("li", null, { "data-testid": "refused-row" });
    line.append(`${clock(beijing(one.at_ms))} ${one.device}${one.origin ? ` (${one.origin})` : ""}: ${one.reason}`, make("code", one.first_bytes));
    return line;
  }));
}

function row(line) {
  const { record } = line;
  const tr = make("tr", null, { "data-testid": "record-row", "data-record": record.record_id, "data-old": Boolean(line.completed_by), "data-incomplete": line.missing.length > 0 });
  const when = make("td");
  when.append(make("time", clock(record.tested_at), { datetime: record.tested_at }));
  const status = make("td");
  status.append(line.receipted ? make("span", say("receipted"), { class: "tag good" }) : make("span", say("on_disk"), { class: "tag wait" }));
  if (line.completed_by) status.append(" ", make("span", say("superseded"), { class: "tag" }));
  else if (line.missing.length) status.append(make("small", say("lacks", line.missing.map((name) => say(name)).join(say("comma")))));
  for (const flag of record.quality_flags || []) {
    if (flag !== "manual") status.append(" ", make("span", say(WORDS[`f_${flag}`] ? `f_${flag}` : flag), { class: "tag wait", "data-flag": flag }));
  }
  const acts = make("td");
  if (!line.completed_by) {
    const complete = make("button", say("complete"), { type: "button", class: "do", "data-testid": "complete" });
    complete.addEventListener("click", () => openForm(line));
    acts.append(complete);
  }
  const print = make("button", say("slip"), { type: "button", class: "do", "data-testid": "print" });
  print.addEventListener("click", () => openSlip(record));
  acts.append(print);
  const outcome = make("td", null, { class: "num" });
  outcome.append(record.screen_result === "positive" ? make("span", `▲ ${result(record)}`, { class: "tag bad" }) : result(record));
  tr.append(when, make("td", record.sample_no || "—", { class: "code" }), make("td", record.product_name || "—"), make("td", item(record.parameter || "—")),
    outcome, make("td", say(`source_${record.source || "device"}`), { class: "short" }), status, acts);
  return tr;
}

function beijing(ms) { return new Date(ms + 8 * 3600000).toISOString(); }

// ---------------------------------------------------------------- the form

function options(name, chosen) {
  const select = make("select", null, { name });
  const blank = name === "device_id" ? say("by_hand") : name === "qualifier" ? "=" : say("choose");
  select.append(make("option", blank, { value: "" }));
  const card = state && state.stations.find((one) => one.code === station);
  const codes = name === "device_id" ? (card ? card.devices.map((device) => device.path) : []) : KINDS[name].filter((code) => code !== "eq");
  if (chosen && chosen !== "eq" && !codes.includes(chosen)) codes.push(chosen);
  for (const code of codes) select.append(make("option", name === "device_id" ? code : say(`${name}_${code}`) === `${name}_${code}` ? code : say(`${name}_${code}`), { value: code }));
  select.value = chosen === "eq" ? "" : chosen || "";
  return select;
}

function control(name, value) {
  if (name === "device_id" || KINDS[name]) return options(name, value);
  const input = make("input", null, { name });
  if (name === "tested_at") { input.type = "datetime-local"; input.step = "1"; input.value = value ? value.slice(0, 19) : ""; return input; }
  input.type = "text";
  input.maxLength = name === "sample_no" ? 40 : 80;
  if (name === "value") input.inputMode = "decimal";
  if (name === "sample_no" && !parent) input.placeholder = say("auto_number");
  const choices = name === "parameter" ? Object.keys(ITEMS).map((code) => item(code)) : name === "unit" ? UNITS : null;
  if (choices) {
    const list = make("datalist", null, { id: `list-${name}` });
    list.append(...choices.map((choice) => make("option", null, { value: choice })));
    input.setAttribute("list", list.id);
    input.choices = list;
  }
  input.value = name === "parameter" && value ? item(value) : value ?? "";
  return input;
}

function drawForm(values) {
  const old = parent && parent.record;
  const form = $("form");
  form.replaceChildren(...GROUPS.map(([title, names]) => {
    const group = make("fieldset");
    group.append(make("legend", say(title)));
    for (const name of names) {
      const label = make("label", null, { class: "field", "data-field": name, "data-testid": `field-${name}` });
      const caption = make("span", say(name));
      caption.append(make("b", "", { "data-star": "" }));
      const input = control(name, values[name]);
      if (parent && parent.locked.includes(name)) input.disabled = true;
      if (old) label.dataset.lacks = String(parent.missing.includes(name));
      label.append(caption, input);
      if (input.choices) label.append(input.choices);
      label.append(make("em"));
      group.append(label);
    }
    return group;
  }));
  const actions = make("div", null, { class: "actions" });
  const save = make("button", say(parent ? "submit_completion" : "submit"), { type: "submit", class: "main", "data-testid": "save" });
  const cancel = make("button", say("cancel"), { type: "button", "data-testid": "cancel" });
  cancel.addEventListener("click", () => { parent = null; show("records"); });
  actions.append(save, cancel, make("p", "", { id: "form-wrong", role: "alert" }));
  form.append(actions);
  $("entry-title").textContent = parent ? say("completion_title", old.sample_no || clock(old.tested_at)) : say("entry_title");
  $("entry-hint").textContent = say(parent ? "completion_hint" : "entry_hint");
  follow();
}

function follow() {
  const form = $("form");
  const kind = form.elements.result_kind.value;
  const purpose = form.elements.purpose.value;
  const needed = new Set(parent ? ["sample_no"] : ALWAYS);
  if (!parent) {
    if (kind === "qualitative") needed.add("screen_result");
    else if (kind) needed.add("value");
    if (kind === "quantitative") needed.add("unit");
  }
  if (purpose && purpose !== "self") needed.add("sampling_stage");
  if (purpose === "supervision") needed.add("sampling_sheet_no");
  for (const field of form.querySelectorAll(".field")) {
    const name = field.dataset.field;
    field.querySelector("[data-star]").textContent = needed.has(name) ? " *" : "";
    if (["qualifier", "unit"].includes(name)) field.hidden = Boolean(kind || !parent) && kind !== "quantitative";
    if (name === "value") field.hidden = kind === "qualitative";
    if (name === "screen_result") field.hidden = kind === "quantitative";
    if (name === "sampling_sheet_no") field.hidden = purpose !== "supervision";
    const input = field.querySelector("input, select");
    if (input.disabled && !input.value) field.hidden = true; // measured, and nothing to show
  }
}

function values() {
  const all = {};
  for (const field of $("form").querySelectorAll(".field")) {
    const input = field.querySelector("input, select");
    if (!input.disabled && !field.hidden) all[field.dataset.field] = input.value.trim();
  }
  // The list offers names in the language of the screen; the record holds the code.
  const known = Object.keys(ITEMS).find((code) => ITEMS[code].includes(all.parameter));
  if (known) all.parameter = known;
  return all;
}

function defaults() {
  let kept = {};
  try { kept = JSON.parse(localStorage.getItem(`last:${station}`)) || {}; } catch { kept = {}; }
  return { ...FIRST, ...kept, tested_at: beijing(state ? state.at_ms : Date.now()).slice(0, 19) };
}

function openForm(line) {
  parent = line;
  entryId = newId();
  sent = false;
  drawForm(line ? line.record : defaults());
  show("entry");
  const first = line ? $("form").querySelector("[data-lacks=true] input:enabled, [data-lacks=true] select:enabled") : $("form").elements.product_name;
  if (!first) return;
  first.focus({ preventScroll: true });
  if (line) first.scrollIntoView({ block: "center" });
}

function mark(faults) {
  for (const field of $("form").querySelectorAll(".field")) {
    const what = faults[field.dataset.field];
    field.dataset.wrong = String(Boolean(what));
    field.querySelector("em").textContent = what ? say(WORDS[`wrong_${what}`] ? `wrong_${what}` : what) : "";
  }
  const general = faults[""] || faults.station || faults.parent_record_id;
  $("form-wrong").textContent = general ? say(WORDS[`wrong_${general}`] ? `wrong_${general}` : general) : Object.keys(faults).length ? say("look_at_fields") : "";
  const wrong = $("form").querySelector("[data-wrong=true] input, [data-wrong=true] select");
  if (!wrong) return;
  wrong.focus({ preventScroll: true });
  wrong.scrollIntoView({ block: "center" }); // not under the bar with the buttons
}

async function submit(event) {
  event.preventDefault();
  const save = $("form").querySelector("[type=submit]");
  const given = values();
  const body = { ...given, station, entry_id: entryId };
  if (parent) {
    body.parent_record_id = parent.record.record_id;
    // Only what is new is said; the rest stays as the old record has it.
    for (const name of Object.keys(given)) {
      const before = parent.record[name] ?? "";
      const shown = name === "tested_at" ? before.slice(0, 19) : name === "qualifier" && before === "eq" ? "" : String(before);
      if (given[name] === shown) delete body[name];
    }
  }
  save.disabled = true;
  sent = true;
  try {
    const answer = await fetch("/api/records", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
    if (answer.status === 422) { mark((await answer.json()).faults); return; }
    if (!answer.ok) throw new Error(String(answer.status));
    const { record } = await answer.json();
    if (!parent) {
      const kept = Object.fromEntries(REMEMBERED.filter((name) => given[name]).map((name) => [name, name === "parameter" ? record.parameter : given[name]]));
      localStorage.setItem(`last:${station}`, JSON.stringify(kept));
    }
    toast(say("saved", record.sample_no || ""));
    parent = null;
    await refresh();
    show("records");
    openSlip(record);
  } catch {
    mark({});
    toast(say("not_saved"), true);
  } finally {
    save.disabled = false;
  }
}

// ---------------------------------------------------------------- the slip

function openSlip(record) {
  slipOf = record;
  $("slip-station").textContent = station;
  const facts = [["sample_no", record.sample_no], ["product_name", record.product_name], ["parameter", item(record.parameter || "")], ["result", result(record)], ["method", record.method ? say(`method_${record.method}`).replace(/^method_/, "") : ""], ["tested_at", clock(record.tested_at)], ["tested_subject_name", record.tested_subject_name], ["tester", record.tester]];
  $("slip-fields").replaceChildren(...facts.filter(([, value]) => value).map(([name, value]) => {
    const line = make("div");
    line.append(make("dt", say(name)), make("dd", value));
    return line;
  }));
  $("slip-qr").src = `/qr/${station}/${record.record_id}.svg`;
  $("slip-code").textContent = record.record_id;
  if (!$("slip").open) $("slip").showModal();
}

// ---------------------------------------------------------------- the frame

function toast(text, bad = false) {
  const box = $("toast");
  box.textContent = text;
  box.dataset.bad = String(bad);
  box.hidden = false;
  clearTimeout(toast.timer);
  toast.timer = setTimeout(() => { box.hidden = true; }, 5000);
}

function show(which) {
  view = which;
  $("view-records").hidden = which !== "records";
  $("view-entry").hidden = which !== "entry";
  for (const name of ["records", "entry"]) {
    if (name === which) $(`tab-${name}`).setAttribute("aria-current", "page");
    else $(`tab-${name}`).removeAttribute("aria-current");
  }
}

function drawAll() {
  document.documentElement.lang = lang ? "en" : "zh-CN";
  document.title = `${say("title")} · Agrigate`;
  for (const node of document.querySelectorAll("[data-word]")) node.textContent = say(node.dataset.word);
  for (const node of document.querySelectorAll("[data-label]")) node.setAttribute("aria-label", say(node.dataset.label));
  for (const button of document.querySelectorAll("[data-lang]")) button.setAttribute("aria-pressed", String((button.dataset.lang === "en") === Boolean(lang)));
  if (!state) $("tick-title").textContent = say("loading");
  drawTick(true);
  drawRecords();
}

async function refresh() {
  let answers = true;
  try {
    const answer = await fetch("/api/state");
    if (!answer.ok) throw new Error(String(answer.status));
    state = await answer.json();
    const codes = state.stations.map((one) => one.code);
    if (!codes.includes(station)) station = codes.includes(localStorage.getItem("station")) ? localStorage.getItem("station") : codes[0];
    if ($("station").options.length !== codes.length) {
      $("station").replaceChildren(...codes.map((code) => make("option", code, { value: code })));
      $("station").value = station;
    }
    const listed = await fetch(`/api/records?station=${station}`);
    if (!listed.ok) throw new Error(String(listed.status));
    const fresh = await listed.json();
    if (JSON.stringify(fresh) !== JSON.stringify(lists)) { lists = fresh; drawRecords(); }
  } catch {
    answers = false;
  }
  drawTick(answers);
}

async function keepFresh() {
  if (!document.hidden) await refresh();
  setTimeout(keepFresh, REFRESH_MS);
}

$("tab-records").addEventListener("click", () => show("records"));
$("tab-entry").addEventListener("click", () => openForm(null));
$("only-incomplete").addEventListener("change", drawRecords);
$("form").addEventListener("submit", submit);
$("form").addEventListener("input", () => { if (sent) { entryId = newId(); sent = false; } follow(); });
$("slip-print").addEventListener("click", () => window.print());
$("slip-close").addEventListener("click", () => $("slip").close());
$("station").addEventListener("change", async () => {
  station = $("station").value;
  localStorage.setItem("station", station);
  await refresh();
});
for (const button of document.querySelectorAll("[data-lang]")) {
  button.addEventListener("click", () => {
    lang = button.dataset.lang === "en" ? 1 : 0;
    $("toast").hidden = true;
    localStorage.setItem("lang", lang ? "en" : "zh");
    drawAll();
    if (view === "entry") { const kept = values(); drawForm({ ...(parent ? parent.record : {}), ...kept }); }
    if (slipOf && $("slip").open) openSlip(slipOf);
  });
}
show("records");
drawAll();
keepFresh();
