"use strict";
// The page of one plan: a map on a canvas, and tables that show a part of their rows at a time.
// Names come from a model, so text only ever goes into the page as textContent.

const data = JSON.parse(document.getElementById("data").textContent);
const tensors = data.tensors.map(([name, kind, size, loads, stores, compulsory, extra, streamed], id) =>
  ({ id, name, kind, size, loads, stores, compulsory, extra, streamed }));
const stays = data.stays.map(([tensor, start, end, offset, eviction, returned]) =>
  ({ tensor: tensors[tensor], start, end, offset, eviction: data.evictions[eviction], returned }));
const steps = data.steps.map(([operator, type, needs, taken, loaded, stored, streamedIn, streamedOut, buffers, mode, tiles, transfers], step) =>
  ({ step, operator, type, needs, taken, loaded, stored, streamedIn, streamedOut, buffers, mode, tiles, transfers }));
const streams = data.streams.map((s) => Object.assign(s, { tensor: tensors[s.tensor] }));
const buffers = data.buffers.map(([tensor, step, offset, size, stream]) => ({ tensor: tensors[tensor], start: step, end: step + 1, offset, size, stream: streams[stream] }));
const evictions = data.evictions.map((e) => Object.assign(e, { tensor: tensors[e.tensor] }));
const KINDS = ["input", "weight", "activation", "output"];
const $ = (id) => document.getElementById(id);
const count = (n) => n.toLocaleString("en-US");
const bytes = (n) => `${count(n)} B`;
const signed = (n) => (n < 0 ? `−${count(-n)}` : `+${count(n)}`);
const ending = (name, n) => { // its end tells a name from its neighbours
  const short = name.replace(/_output_0$/, "");
  return short.length > n ? `…${short.slice(1 - n)}` : short;
};
const span = ({ start, end }) => (end - start > 1 ? `steps ${count(start)} to ${count(end - 1)}` : `step ${count(start)}`);
const tables = [];
const view = { first: 0, shown: steps.length, chosen: null, hits: new Set() };

function make(tag, text = "", properties = {}) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(text);
  return element;
}

function nameOf(tensor) {
  return make("button", tensor.name, { type: "button", className: "name", onclick: () => choose(tensor) });
}

/* ---- one tensor ---- */

function choose(tensor) {
  view.chosen = tensor;
  const panel = $("chosen"), mine = stays.filter((s) => s.tensor === tensor);
  panel.hidden = !tensor;
  panel.replaceChildren();
  if (tensor) {
    panel.append(make("strong", tensor.name), make("div", `${tensor.kind}, ${bytes(tensor.size)}; resident: ` +
      (mine.map((s) => `${span(s)} at address ${count(s.offset)}`).join(", then ") || "never")));
    for (const e of evictions) if (e.tensor === tensor) panel.append(reasons(e));
    for (const s of streams) if (s.tensor === tensor) panel.append(make("p", `Streamed ${s.direction} at step ${count(s.step)}, ${bytes(s.moved)} in ${count(s.transfers)}. ${s.why}`));
    const from = Math.min(...mine.map((s) => s.start)), to = Math.max(...mine.map((s) => s.end));
    if (mine.length && (to < view.first || from > view.first + view.shown)) show((from + to - view.shown) / 2, view.shown);
  }
  for (const table of tables) table.reveal(tensor);
  draw();
}

function reasons(e) { // the step that binds, who is there, what could go instead
  const part = make("div", "", { className: "more" });
  part.append(make("p", `Out from after step ${count(e.leaves - 1)} until step ${count(e.returns)}. ${e.why}`));
  const others = e.alternatives.map(([ids, extra]) => make("li", `${ids.map((a) => `${tensors[a].name} (${bytes(tensors[a].size)})`).join(" and ")}: ${signed(extra)} B`));
  if (others.length) {
    const list = make("ul");
    list.append(...others);
    part.append(make("p", "To keep it, evict instead, for so many bytes more:"), list);
  }
  if (e.step === null) return part;
  const table = make("table"), body = make("tbody");
  table.append(make("caption", `Resident at step ${count(e.step)}`, { className: "note" }), body);
  for (const [a, next] of e.occupants) {
    const row = body.insertRow();
    row.insertCell().append(nameOf(tensors[a]));
    row.append(make("td", bytes(tensors[a].size), { className: "number" }),
      make("td", next === null ? "used here" : `waits for step ${count(next)}`));
  }
  if (e.workspace) body.insertRow().append(make("td", "workspace of the operator"), make("td", bytes(e.workspace), { className: "number" }), make("td"));
  part.append(table);
  return part;
}

/* ---- tables ---- */
// columns: [title, row => value]; a number is aligned and sorts downwards first, a tensor becomes a button that selects it.

function addTable(place, what, rows, columns, sorted, more) {
  const state = { filter: "", column: sorted, down: true, page: 0, size: 25 };
  const find = make("input", "", { type: "search" }), size = make("select"), where = make("output");
  const back = make("button", "previous", { type: "button" }), next = make("button", "next", { type: "button" });
  const table = make("table"), head = table.createTHead().insertRow(), body = table.createTBody();
  const bar = make("div", "", { className: "controls" }), frame = make("div", "", { className: "scroll" });
  const label = make("label", "Filter ");
  for (const n of [25, 100, Infinity]) size.append(make("option", n === Infinity ? "all rows" : `${n} rows`, { value: n }));
  label.append(find);
  size.ariaLabel = "Rows on a page";
  bar.append(label, size, back, next, where);
  frame.append(table);
  $(place).append(bar, frame);
  const textOf = (value) => (value?.name ?? String(value)).toLowerCase();
  const kept = () => {
    const word = state.filter, get = state.column === null ? null : columns[state.column][1];
    const list = rows.filter((row) => !word || columns.some(([, get]) => typeof get(row) !== "number" && textOf(get(row)).includes(word)));
    const order = (a, b) => (typeof a === "number" ? a - b : textOf(a) < textOf(b) ? -1 : textOf(a) > textOf(b) ? 1 : 0);
    return get ? list.sort((a, b) => order(get(a), get(b)) * (state.down ? -1 : 1)) : list;
  };
  const fill = () => {
    const list = kept(), pages = Math.max(1, Math.ceil(list.length / state.size));
    state.page = Math.min(state.page, pages - 1);
    const from = state.page === 0 ? 0 : state.page * state.size, part = list.slice(from, from + state.size);
    body.replaceChildren(...part.flatMap((row) => line(row)));
    where.textContent = list.length ? `${what} ${count(from + 1)} to ${count(from + part.length)} of ${count(list.length)}` : `no ${what} match`;
    back.disabled = state.page === 0;
    next.disabled = state.page === pages - 1;
    [...head.querySelectorAll("th")].forEach((cell, i) => (cell.ariaSort = i !== state.column ? "none" : state.down ? "descending" : "ascending"));
  };
  const line = (row) => {
    const tr = make("tr"), values = columns.map(([, get]) => get(row));
    tr.className = view.chosen && (row === view.chosen || row.tensor === view.chosen) ? "chosen" : "";
    for (const value of values) {
      if (typeof value === "number") tr.append(make("td", count(value), { className: "number" }));
      else tr.append(make("td", value?.name === undefined ? value : nameOf(value), { className: textOf(value).length > 14 ? "wide" : "" }));
    }
    if (!more) return [tr];
    const under = make("tr"), cell = under.insertCell();
    const button = make("button", "why", { type: "button", ariaExpanded: "false" });
    Object.assign(under, { hidden: true });
    cell.colSpan = columns.length + 1;
    button.onclick = () => {
      under.hidden = !under.hidden;
      button.ariaExpanded = String(!under.hidden);
      if (!cell.hasChildNodes()) cell.append(more(row));
    };
    tr.insertCell(0).append(button);
    return [tr, under];
  };
  if (more) head.append(make("td"));
  columns.forEach(([title, get], i) => {
    const cell = make("th", "", { scope: "col", className: rows.length && typeof get(rows[0]) === "number" ? "number" : "" });
    cell.append(make("button", title, { type: "button", title: "Sort by this column", onclick: () => {
      Object.assign(state, { down: state.column === i ? !state.down : cell.className === "number", column: i, page: 0 });
      fill();
    } }));
    head.append(cell);
  });
  find.oninput = () => { Object.assign(state, { filter: find.value.trim().toLowerCase(), page: 0 }); fill(); };
  size.onchange = () => { Object.assign(state, { size: +size.value, page: 0 }); fill(); };
  back.onclick = () => { state.page -= 1; fill(); };
  next.onclick = () => { state.page += 1; fill(); };
  tables.push({ reveal(tensor) { // turn to the page that has the tensor, if a row has it
    const at = tensor ? kept().findIndex((row) => row === tensor || row.tensor === tensor) : -1;
    if (at >= 0) state.page = Math.floor(at / state.size);
    fill();
  } });
  fill();
}

if (evictions.length) addTable("evictions", "evictions", evictions, [
  ["tensor", (e) => e.tensor], ["size, B", (e) => e.tensor.size], ["leaves after step", (e) => e.leaves - 1], ["returns at step", (e) => e.returns],
  ["moves, B", (e) => e.load + e.store], ["step that binds", (e) => e.step ?? "none"], ["missing there, B", (e) => e.missing],
  ["cheapest alternative", (e) => (e.alternatives.length ? `${signed(e.alternatives[0][1])} B` : "none")],
], 4, reasons);
if (streams.length) addTable("streams", "streams", streams, [
  ["tensor", (s) => s.tensor], ["step", (s) => s.step], ["operator", (s) => s.operator], ["to or from", (s) => (s.direction === "in" ? "from the host" : "to the host")],
  ["size, B", (s) => s.tensor.size], ["buffer, B", (s) => s.buffer], ["moves, B", (s) => s.moved], ["transfers", (s) => s.transfers],
  ["missing if resident, B", (s) => s.missing], ["instead", (s) => (s.extra === null ? "none" : `${signed(s.extra)} B`)],
], 6, (s) => make("p", s.why, { className: "more" }));
addTable("tensors", "tensors", tensors, [
  ["tensor", (t) => t], ["kind", (t) => t.kind], ["size, B", (t) => t.size], ["loads", (t) => t.loads], ["stores", (t) => t.stores],
  ["compulsory, B", (t) => t.compulsory], ["non-compulsory, B", (t) => t.extra],
  ...(streams.length ? [["streamed, B", (t) => t.streamed]] : []),
], 6);
addTable("steps", "steps", steps, [
  ["step", (s) => s.step], ["operator", (s) => s.operator], ["type", (s) => s.type], ["working set, B", (s) => s.needs], ["taken, B", (s) => s.taken],
  ["loaded, B", (s) => s.loaded], ["stored, B", (s) => s.stored],
  ...(streams.length ? [["streamed in, B", (s) => s.streamedIn], ["streamed out, B", (s) => s.streamedOut], ["buffers, B", (s) => s.buffers],
    ["runs", (s) => s.mode], ["tiles", (s) => s.tiles], ["transfers", (s) => s.transfers]] : []),
], null);

const legend = [...KINDS.filter((k) => tensors.some((t) => t.kind === k)).map((k) => [k, `background: var(--${k})`]),
  ["loaded", "background: var(--load)"], ["stored", "background: var(--store)"]];
const hatched = (angle) => `background: repeating-linear-gradient(${angle}deg, var(--hatch) 0 1px, var(--buffer) 1px 5px)`;
if (streams.length) {
  legend.push(["streamed in", "background: var(--streamin)"], ["streamed out", "background: var(--streamout)"],
    ["buffer, streamed in", hatched(135)], ["buffer, streamed out", hatched(45)]);
}
if (buffers.some((b) => !b.tensor)) legend.push(["workspace", "background: var(--buffer)"]);
if (evictions.length) legend.push(["leaves early", "border-color: var(--evicted)"], ["loaded again", "border: 2px dashed var(--evicted)"]);
for (const [text, style] of legend) {
  const entry = make("li"), patch = make("i");
  patch.style.cssText = style;
  entry.append(patch, text);
  $("legend").append(entry);
}
