// The memory map: three panels over the same steps on one canvas, and how to move in it.

const canvas = $("map"), pen = canvas.getContext("2d"), tip = $("tip");
const MOVES = [["load", (s) => s.loaded], ["streamin", (s) => s.streamedIn], ["store", (s) => s.stored], ["streamout", (s) => s.streamedOut]];
const MOST = steps.reduce((most, s) => Math.max(most, MOVES.reduce((sum, [, get]) => sum + get(s), 0)), 1); // bytes moved in one step
let box = {}, colour = {}, hatching = {};

function layout() {
  const width = canvas.clientWidth, small = width < 600;
  const heights = small ? [240, 70, 60] : [380, 100, 80];
  box = { left: small ? 52 : 74, right: width - 8, panels: [] };
  let y = 18;
  for (const height of heights) { box.panels.push({ top: y, height }); y += height + 22; }
  const dense = window.devicePixelRatio || 1;
  canvas.style.height = `${y + 12}px`;
  canvas.width = width * dense;
  canvas.height = (y + 12) * dense;
  pen.setTransform(dense, 0, 0, dense, 0, 0);
  const css = getComputedStyle(document.documentElement);
  for (const name of [...KINDS, "paper", "ink", "soft", "line", "label", "evicted", "taken", "load", "store", "chosen", "buffer", "hatch", "streamin", "streamout"])
    colour[name] = css.getPropertyValue(`--${name}`).trim();
  hatching = { in: hatch(false), out: hatch(true) };
  pen.font = "11px system-ui, sans-serif";
  draw();
}

function hatch(falling) { // buffers are hatched: what they hold is never there as a whole
  const tile = Object.assign(document.createElement("canvas"), { width: 8, height: 8 }), ink = tile.getContext("2d");
  ink.fillStyle = colour.buffer;
  ink.fillRect(0, 0, 8, 8);
  ink.strokeStyle = colour.hatch;
  if (falling) { ink.translate(8, 0); ink.scale(-1, 1); }
  for (const from of [-8, 0, 8]) { ink.moveTo(from, 8); ink.lineTo(from + 8, 0); }
  ink.stroke();
  return pen.createPattern(tile, "repeat");
}

const toX = (step) => box.left + ((step - view.first) / view.shown) * (box.right - box.left);
const toStep = (x) => view.first + ((x - box.left) / (box.right - box.left)) * view.shown;

function rectangle(stay) { // of a residency or a buffer
  const { top, height } = box.panels[0], scale = height / data.capacity, x = toX(stay.start);
  const tall = Math.max(1, (stay.size ?? stay.tensor.size) * scale);
  return [x, top + height - stay.offset * scale - tall, Math.max(1, toX(stay.end) - x), tall];
}

function draw() {
  pen.clearRect(0, 0, canvas.width, canvas.height);
  pen.save();
  pen.beginPath();
  pen.rect(box.left, 0, box.right - box.left, canvas.height);
  pen.clip();
  const isSeen = (s) => s.end > view.first && s.start < view.first + view.shown;
  const seen = stays.filter(isSeen);
  const marked = (s) => s.tensor === view.chosen || view.hits.has(s.tensor);
  const some = view.chosen || view.hits.size;
  for (const stay of seen) drawStay(stay, some && !marked(stay));
  for (const buffer of buffers.filter(isSeen)) drawBuffer(buffer, some && !marked(buffer), marked(buffer));
  for (const stay of seen) drawFrame(stay, marked(stay));
  drawBars();
  if (view.chosen) for (const e of evictions) if (e.tensor === view.chosen) drawAbsence(e);
  pen.restore();
  drawAxes();
}

function drawStay(stay, faded) {
  const [x, y, w, h] = rectangle(stay);
  pen.globalAlpha = faded ? 0.25 : 1;
  pen.fillStyle = colour[stay.tensor.kind];
  pen.fillRect(x, y, w, h);
  if (w > 3 && h > 2) { pen.strokeStyle = colour.paper; pen.lineWidth = 1; pen.strokeRect(x, y, w, h); }
  const letters = Math.floor((Math.min(w, box.right - Math.max(x, box.left)) - 6) / 6); // 6 pixels a letter; wider ones are squeezed
  if (letters >= 5 && h >= 12) {
    pen.fillStyle = colour.label;
    pen.textAlign = "left";
    pen.fillText(ending(stay.tensor.name, letters), Math.max(x, box.left) + 3, y + h / 2 + 4, letters * 6);
  }
  pen.globalAlpha = 1;
}

function drawBuffer(buffer, faded, marked) {
  const [x, y, w, h] = rectangle(buffer);
  pen.globalAlpha = faded && !marked ? 0.25 : 1;
  pen.fillStyle = buffer.stream ? hatching[buffer.stream.direction] : colour.buffer;
  pen.fillRect(x, y, w, h);
  if (w > 3 && h > 2) { pen.strokeStyle = colour.hatch; pen.lineWidth = 0.5; pen.strokeRect(x, y, w, h); }
  pen.globalAlpha = 1;
  if (marked && buffer.tensor) drawFrame(buffer, true);
}

function drawFrame(stay, marked) {
  const [x, y, w, h] = rectangle(stay);
  const frame = (ink, width, dash, inset = 1) => {
    Object.assign(pen, { strokeStyle: ink, lineWidth: width });
    pen.setLineDash(dash);
    pen.strokeRect(x + inset, y + inset, Math.max(1, w - 2 * inset), Math.max(1, h - 2 * inset));
    pen.setLineDash([]);
  };
  if (marked) frame(colour.chosen, stay.tensor === view.chosen ? 3 : 1.5, [], -1);
  if (stay.eviction) frame(colour.evicted, 2, []);
  if (stay.returned) frame(colour.evicted, 2, [4, 3]);
}

function drawAbsence(e) { // a dotted line from where the tensor leaves to where it returns, and the step that binds
  const from = stays.find((s) => s.eviction === e);
  const to = stays.find((s) => s.tensor === e.tensor && s.start === e.returns);
  const [x, y, w, h] = rectangle(from), [x2, y2, , h2] = rectangle(to);
  Object.assign(pen, { strokeStyle: colour.chosen, lineWidth: 1.5 });
  pen.setLineDash([2, 3]);
  pen.beginPath();
  pen.moveTo(x + w, y + h / 2);
  pen.lineTo(x2, y2 + h2 / 2);
  pen.stroke();
  pen.setLineDash([]);
  if (e.step === null) return;
  pen.fillStyle = colour.evicted;
  const middle = toX(e.step + 0.5), { top, height } = box.panels[1];
  pen.fillRect(middle - 1, box.panels[0].top, 2, top + height - box.panels[0].top);
  pen.textAlign = "left";
  pen.fillText(`step ${count(e.step)} binds`, Math.max(middle - 4, box.left + 55), box.panels[0].top - 5);
}

function drawBars() {
  const [, resident, traffic] = box.panels;
  for (let t = Math.floor(view.first); t < Math.min(steps.length, view.first + view.shown); t += 1) {
    const x = toX(t), w = Math.max(1, toX(t + 1) - x - (view.shown < 200 ? 1 : 0));
    const bar = (panel, ink, from, size, all) => {
      pen.fillStyle = ink;
      const high = size ? Math.max(1, (size / all) * panel.height) : 0;
      pen.fillRect(x, panel.top + panel.height - (from / all) * panel.height - high, w, high);
    };
    bar(resident, colour.taken, 0, steps[t].taken, data.capacity * 1.08);
    let from = 0;
    for (const [ink, get] of MOVES) { bar(traffic, colour[ink], from, get(steps[t]), MOST); from += get(steps[t]); }
  }
  pen.fillStyle = colour.ink;
  pen.fillRect(box.left, resident.top + resident.height * (1 - 1 / 1.08), box.right - box.left, 1.5);
}

function drawAxes() {
  const short = (n) => (n >= 2 ** 20 ? `${+(n / 2 ** 20).toPrecision(3)} MiB` : n >= 1024 ? `${+(n / 1024).toPrecision(3)} KiB` : `${n} B`);
  Object.assign(pen, { fillStyle: colour.soft, strokeStyle: colour.line, lineWidth: 1 });
  const titles = ["address", "bytes taken (line: capacity)", streams.length ? "bytes loaded, stored, streamed" : "bytes loaded and stored"];
  const tops = [data.capacity, data.capacity, MOST];
  box.panels.forEach(({ top, height }, i) => {
    pen.strokeRect(box.left, top, box.right - box.left, height);
    pen.textAlign = "right";
    pen.fillText(short(tops[i]), box.left - 4, top + (i === 1 ? height * (1 - 1 / 1.08) : 0) + 9);
    if (i === 0) pen.fillText(short(tops[0] / 2), box.left - 4, top + height / 2 + 4);
    pen.fillText("0", box.left - 4, top + height);
    pen.textAlign = "left";
    pen.fillText(titles[i], box.left, top - 5);
  });
  const rough = view.shown / Math.max(2, (box.right - box.left) / 90), ten = 10 ** Math.floor(Math.log10(rough));
  const every = Math.max(1, [1, 2, 5, 10].map((k) => k * ten).find((k) => k >= rough));
  const bottom = box.panels[2].top + box.panels[2].height;
  pen.textAlign = "center";
  for (let t = Math.ceil(view.first / every) * every; t < view.first + view.shown; t += every)
    pen.fillText(t === 0 ? "step 0" : count(t), Math.max(toX(t + 0.5), box.left + (t === 0 ? 16 : 0)), bottom + 15);
}

/* ---- looking at the map ---- */

function show(first, shown) {
  view.shown = Math.min(steps.length, Math.max(Math.min(8, steps.length), shown));
  view.first = Math.min(steps.length - view.shown, Math.max(0, first));
  const bar = $("scroll");
  bar.hidden = view.shown >= steps.length;
  bar.max = Math.ceil(steps.length - view.shown);
  bar.value = view.first;
  draw();
}

function zoom(factor, x = (box.left + box.right) / 2) {
  const at = toStep(x), shown = Math.min(steps.length, Math.max(8, view.shown * factor));
  show(at - ((x - box.left) / (box.right - box.left)) * shown, shown);
}

function stayAt(x, y) {
  const inside = (s) => {
    const [left, top, w, h] = rectangle(s);
    return x >= left && x <= left + w && y >= top && y <= top + h;
  };
  return x >= box.left && x <= box.right ? stays.find(inside) ?? buffers.find(inside) : undefined;
}

function describeBuffer({ tensor, start, offset, size, stream }) {
  const lines = [tensor ? `buffer of ${tensor.name}` : "workspace", `${bytes(size)}, step ${count(start)}`, `addresses ${count(offset)} to ${count(offset + size - 1)}`];
  if (stream) lines.push(`${bytes(stream.moved)} streamed ${stream.direction} in ${count(stream.transfers)}. ${stream.why}`);
  return lines.join("\n");
}

function describe(x, y) {
  const stay = stayAt(x, y), step = steps[Math.floor(toStep(x))];
  if (stay?.size !== undefined) return describeBuffer(stay);
  if (stay) {
    const { tensor, end, offset } = stay;
    const lines = [tensor.name, `${tensor.kind}, ${bytes(tensor.size)}`, span(stay),
      `addresses ${count(offset)} to ${count(offset + tensor.size - 1)}`];
    if (stay.returned) lines.push("Loaded again here.");
    if (stay.eviction) lines.push(`Evicted after step ${count(end - 1)}, back at step ${count(stay.eviction.returns)}. ${stay.eviction.why}`);
    return lines.join("\n");
  }
  if (!step || x < box.left || x > box.right) return "";
  return `step ${count(step.step)}: ${step.type}\n${step.operator}\n${bytes(step.taken)} of ${bytes(data.capacity)} taken\n` +
    `${bytes(step.loaded)} loaded, ${bytes(step.stored)} stored` +
    (streams.length ? `\n${bytes(step.streamedIn)} streamed in, ${bytes(step.streamedOut)} out\n${step.mode}: ${count(step.tiles)} tiles, ${count(step.transfers)} transfers` : "");
}

function point(event) {
  const text = describe(event.offsetX, event.offsetY);
  tip.hidden = !text;
  tip.textContent = text;
  if (!text) return;
  const wide = tip.offsetWidth, room = canvas.clientWidth;
  tip.style.left = `${Math.max(0, Math.min(event.offsetX + 14, room - wide))}px`;
  tip.style.top = `${event.offsetY + 16}px`;
}

let grip = null;
canvas.addEventListener("pointerdown", (e) => { grip = { x: e.offsetX, first: view.first, moved: false }; canvas.setPointerCapture(e.pointerId); });
canvas.addEventListener("pointermove", (e) => {
  if (grip && Math.abs(e.offsetX - grip.x) > 4) grip.moved = true;
  if (grip?.moved) show(grip.first - ((e.offsetX - grip.x) / (box.right - box.left)) * view.shown, view.shown);
  point(e);
});
canvas.addEventListener("pointerup", (e) => {
  if (grip && !grip.moved) choose(stayAt(e.offsetX, e.offsetY)?.tensor ?? null);
  grip = null;
});
canvas.addEventListener("pointercancel", () => { grip = null; });
canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
canvas.addEventListener("wheel", (e) => { // the plain wheel scrolls the page
  if (e.ctrlKey) zoom(e.deltaY > 0 ? 1.25 : 0.8, e.offsetX);
  else if (e.shiftKey || Math.abs(e.deltaX) > Math.abs(e.deltaY)) show(view.first + ((e.deltaX || e.deltaY) / 600) * view.shown, view.shown);
  else return;
  e.preventDefault();
}, { passive: false });
canvas.addEventListener("keydown", (e) => {
  const act = { "+": () => zoom(0.7), "=": () => zoom(0.7), "-": () => zoom(1.4), 0: () => show(0, steps.length), Escape: () => choose(null),
    ArrowLeft: () => show(view.first - view.shown / 8, view.shown), ArrowRight: () => show(view.first + view.shown / 8, view.shown) }[e.key];
  if (act && !e.ctrlKey) { act(); e.preventDefault(); }
});
$("closer").onclick = () => zoom(0.5);
$("farther").onclick = () => zoom(2);
$("whole").onclick = () => show(0, steps.length);
$("scroll").oninput = (e) => show(+e.target.value, view.shown);
$("find").oninput = (e) => {
  const word = e.target.value.trim().toLowerCase();
  view.hits = new Set(word ? tensors.filter((t) => t.name.toLowerCase().includes(word)) : []);
  $("found").textContent = word ? `${count(view.hits.size)} of ${count(tensors.length)} tensors; Enter for the next` : "";
  draw();
};
$("find").onkeydown = (e) => {
  if (e.key !== "Enter" || !view.hits.size) return;
  const hits = [...view.hits];
  choose(hits[(hits.indexOf(view.chosen) + 1) % hits.length]);
};

new ResizeObserver(layout).observe($("stage"));
for (const query of ["(prefers-color-scheme: dark)", "print"]) matchMedia(query).addEventListener("change", layout);
layout();
