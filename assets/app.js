// What makes a page live. Everything works without it, except that the page then stands still.
//
// State is drawn by the server only: when a run's journal grows, the page asks for its fragment again. The log
// and the chart are filled from the same stream; its event ids are a cursor, so a reload, a lost connection or
// a tab that slept goes on exactly where it was.
"use strict";

const LOG_LINES = 2000; // most lines kept in the page; the whole log is one link away
const GAP_S = 15; // no reading for this long is a gap in the chart: sensors are read every 5 s
const LOOK_EVERY_MS = 400; // at most this often a fragment is asked for
const STEP_EVERY_MS = 4000; // what an agent is doing is not in the journal; it is asked for this often
const RETRY_MS = 3000; // after the server said no; lost connections are retried by the browser itself
const QUIET_MS = 2500; // a finished run that has told all is not listened to any longer

const byId = (id) => document.getElementById(id);

// ---- Times ----

let clockSkewMs = 0; // ours minus the server's

function duration(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  const two = (n) => String(n).padStart(2, "0");
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} m ${two(s % 60)} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${two(Math.floor((s % 3600) / 60))} m`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

function tick() {
  const now = Date.now() - clockSkewMs;
  for (const e of document.querySelectorAll("[data-since]")) {
    const text = duration((now - Number(e.dataset.since)) / 1000);
    if (e.textContent !== text) e.textContent = text;
  }
}

// The exact time, in the reader's own zone, where the page shows a rough one.
function localTimes() {
  for (const e of document.querySelectorAll("time[datetime]")) {
    const at = new Date(e.dateTime);
    if (!Number.isNaN(at.getTime())) e.title = at.toLocaleString();
  }
}

function settle() {
  const now = byId("now");
  if (now?.dataset.now) clockSkewMs = Date.now() - Number(now.dataset.now);
  if (now?.dataset.title) document.title = now.dataset.title;
  tick();
  localTimes();
}

// ---- Small helps ----

function offline(isOff) {
  const toast = byId("offline");
  if (toast) toast.hidden = !isOff;
}

// The line that is wrong in a spec, selected in its field.
function showLine(link) {
  const field = byId("spec");
  const lines = field.value.split("\n");
  const at = Number(link.dataset.line) - 1;
  const start = lines.slice(0, at).reduce((n, line) => n + line.length + 1, 0);
  field.focus();
  field.setSelectionRange(start, start + (lines[at] ?? "").length);
  field.scrollTop = Math.max(0, at - 4) * parseFloat(getComputedStyle(field).lineHeight);
}

// A link from elsewhere comes without the strict cookie; from our own site it is sent.
async function alreadySignedIn(next) {
  const answer = await fetch("/session").catch(() => null);
  if (answer?.ok && (await answer.text()) === "yes") location.replace(next);
}

// ---- The log ----

class Log {
  constructor(box, follow) {
    this.box = box;
    this.follow = follow;
    follow.addEventListener("change", () => this.toEnd());
    box.addEventListener("scroll", () => {
      follow.checked = box.scrollHeight - box.scrollTop - box.clientHeight < 24;
    });
  }

  add(lines) {
    byId("log-empty")?.remove();
    const following = this.follow.checked;
    const fragment = document.createDocumentFragment();
    for (const line of lines) fragment.append(this.line(line));
    this.box.append(fragment);
    while (this.box.childElementCount > LOG_LINES) this.box.firstElementChild.remove();
    if (following) this.toEnd();
  }

  // Text that a machine under test chose: never anything but text.
  line({ at, source, text }) {
    const row = document.createElement("div");
    const when = document.createElement("i");
    when.textContent = clock(at / 1e6, true);
    const who = document.createElement("b");
    who.textContent = source;
    row.append(when, " ", who, " ", text);
    return row;
  }

  toEnd() {
    if (this.follow.checked) this.box.scrollTop = this.box.scrollHeight;
  }
}

function clock(seconds, withSeconds) {
  const t = new Date(seconds * 1000);
  const parts = [t.getHours(), t.getMinutes(), ...(withSeconds ? [t.getSeconds()] : [])];
  return parts.map((n) => String(n).padStart(2, "0")).join(":");
}

// ---- The chart ----

class Temperatures {
  constructor(box, told, limit) {
    this.box = box;
    this.told = told;
    this.limit = limit;
    this.times = [];
    this.series = new Map(); // sensor name -> one value per time; null where it was not read
    this.highest = -Infinity;
    this.drawn = 0; // sensors in the chart as it stands
    this.pending = false;
    new ResizeObserver(() => this.plot?.setSize(this.size())).observe(box);
    const dark = matchMedia("(prefers-color-scheme: dark)");
    dark.addEventListener("change", () => this.rebuild());
  }

  add(batch) {
    const thermal = batch.sensors.map((s, i) => [s, i]).filter(([s]) => s.kind === "thermal");
    for (const [sensor] of thermal) {
      if (!this.series.has(sensor.name)) this.series.set(sensor.name, this.times.map(() => null));
    }
    for (const sample of batch.samples) {
      const row = this.row(sample.at / 1e6);
      for (const [sensor, i] of thermal) {
        const value = sample.values[i] ?? null;
        this.series.get(sensor.name)[row] = value;
        if (value !== null && value > this.highest) this.highest = value;
      }
    }
    if (thermal.length > 0 && !this.pending) {
      this.pending = true;
      requestAnimationFrame(() => this.draw());
    }
  }

  // The place of a time, made where it is new. Late batches go where they belong.
  row(time) {
    const last = this.times.length - 1;
    if (last >= 0 && time - this.times[last] > GAP_S) this.insert(this.times.length, this.times[last] + 0.001);
    let at = this.times.length;
    while (at > 0 && this.times[at - 1] > time) at -= 1;
    if (at > 0 && this.times[at - 1] === time) return at - 1;
    this.insert(at, time);
    return at;
  }

  insert(at, time) {
    this.times.splice(at, 0, time);
    for (const values of this.series.values()) values.splice(at, 0, null);
  }

  draw() {
    this.pending = false;
    if (!this.plot || this.drawn !== this.series.size) this.rebuild();
    else this.plot.setData(this.data());
    this.tell();
  }

  data() {
    return [this.times, ...this.series.values()];
  }

  size() {
    return { width: Math.max(240, this.box.clientWidth - 8), height: 260 };
  }

  tell() {
    let hottest = null;
    for (const [name, values] of this.series) {
      const value = values[values.length - 1];
      if (value !== null && value !== undefined && (!hottest || value > hottest[1])) hottest = [name, value];
    }
    const now = hottest ? `hottest now ${degrees(hottest[1])} (${hottest[0]})` : "no reading at the last moment";
    const n = this.series.size;
    this.told.textContent =
      `${n} sensor${n === 1 ? "" : "s"}; ${now}; highest so far ${degrees(this.highest)}; limit ${this.limit} °C.`;
  }

  rebuild() {
    if (this.series.size === 0) return;
    this.plot?.destroy();
    this.drawn = this.series.size;
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    // Told apart by hue and, from the ninth on, by dashes.
    const line = (i) => `hsl(${[200, 25, 140, 280, 50, 330, 175, 0][i % 8]} ${dark ? "70% 68%" : "72% 36%"})`;
    const dashes = [undefined, [6, 4], [2, 3], [10, 3, 2, 3]];
    const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
    const names = [...this.series.keys()];
    this.plot = new uPlot({
      ...this.size(),
      legend: { live: true },
      cursor: { y: false },
      scales: { y: { range: (_, low, high) => this.range(low, high) } },
      axes: [
        { ...axis, size: 30, values: (_, splits, __, ___, step) => splits.map((s) => clock(s, step < 60)) },
        { ...axis, size: 46, values: (_, splits) => splits.map((s) => `${s}°`) },
      ],
      series: [
        { label: "Time", value: (_, t) => (t === null || t === undefined ? "" : clock(t, true)) },
        ...names.map((label, i) => ({
          label,
          stroke: line(i),
          dash: dashes[Math.floor(i / 8) % 4],
          width: 1.5,
          points: { size: 4 },
          spanGaps: false,
          value: (_, v) => (v === null || v === undefined ? "–" : degrees(v)),
        })),
      ],
      hooks: { draw: [(u) => this.drawLimit(u, colour("--fail"))] },
    }, this.data(), this.box);
  }

  // The limit comes into the picture when readings come near it.
  range(low, high) {
    if (low === null || high === null) return [20, 60];
    const top = high > this.limit - 15 ? Math.max(high, this.limit) : high;
    return [Math.floor(low - 3), Math.ceil(top + 3)];
  }

  drawLimit(u, colour) {
    const y = Math.round(u.valToPos(this.limit, "y", true));
    const { left, top, width, height } = u.bbox;
    if (y < top || y > top + height) return;
    u.ctx.save();
    u.ctx.strokeStyle = u.ctx.fillStyle = colour;
    u.ctx.setLineDash([8, 5]);
    u.ctx.beginPath();
    u.ctx.moveTo(left, y);
    u.ctx.lineTo(left + width, y);
    u.ctx.stroke();
    u.ctx.textAlign = "right";
    u.ctx.textBaseline = "top";
    u.ctx.fillText(`limit ${this.limit} °C`, left + width - 4, y + 5);
    u.ctx.restore();
  }
}

function degrees(value) {
  return Number.isFinite(value) ? `${Math.round(value * 10) / 10} °C` : "unknown";
}

// ---- A run, live ----

class LiveRun {
  constructor(box) {
    this.url = box.dataset.live;
    this.cursor = box.dataset.cursor;
    this.state = byId("state");
    this.log = new Log(byId("log"), byId("follow"));
    this.temperatures = new Temperatures(byId("temps"), byId("temps-now"), Number(box.dataset.limit));
    // Browsers allow few connections to one server: a tab that nobody sees gives its own back, and goes
    // on from its cursor when it is looked at again.
    document.addEventListener("visibilitychange", () => (document.hidden ? this.close() : this.open()));
    addEventListener("pagehide", () => this.close());
    addEventListener("pageshow", () => this.open());
    setInterval(() => this.running() && !document.hidden && this.look(), STEP_EVERY_MS);
    if (!document.hidden) this.open();
  }

  running() {
    return byId("now")?.dataset.running === "true";
  }

  open() {
    if (this.source || this.told) return;
    clearTimeout(this.retry);
    this.source = new EventSource(`${this.url}?after=${encodeURIComponent(this.cursor)}`);
    this.source.addEventListener("open", () => {
      offline(false);
      this.heard();
    });
    this.source.addEventListener("error", () => this.lost());
    const on = (kind, take) =>
      this.source.addEventListener(kind, (event) => {
        take(JSON.parse(event.data));
        this.cursor = event.lastEventId;
        this.heard();
      });
    on("journal", () => this.look());
    on("log", (lines) => this.log.add(lines));
    on("sensors", (batch) => this.temperatures.add(batch));
  }

  close() {
    clearTimeout(this.quiet);
    clearTimeout(this.retry);
    this.source?.close();
    this.source = null;
  }

  // The browser comes back by itself after a lost connection, but not after a refusal.
  lost() {
    offline(true);
    if (this.source?.readyState !== EventSource.CLOSED) return;
    this.close();
    this.look(); // the session may have ended: the answer leads to the sign-in
    this.retry = setTimeout(() => this.open(), RETRY_MS);
  }

  heard() {
    clearTimeout(this.quiet);
    if (this.running()) return;
    this.quiet = setTimeout(() => {
      if (this.running()) return;
      this.told = true;
      this.close();
    }, QUIET_MS);
  }

  // Asks for the state again, soon and not too often.
  look() {
    if (this.looking) return;
    this.looking = setTimeout(() => {
      this.looking = null;
      this.state.dispatchEvent(new CustomEvent("assay-look"));
    }, LOOK_EVERY_MS);
  }
}

// ---- Start ----

settle();
setInterval(tick, 1000);
document.addEventListener("htmx:after:swap", () => {
  offline(false);
  settle();
});
document.addEventListener("htmx:error", () => offline(true));
for (const form of document.querySelectorAll("[data-autosubmit]")) {
  form.addEventListener("change", () => form.requestSubmit());
}
for (const link of document.querySelectorAll("a[data-line]")) {
  link.addEventListener("click", (event) => {
    event.preventDefault();
    showLine(link);
  });
}
const signIn = document.querySelector("[data-next]");
if (signIn) alreadySignedIn(signIn.dataset.next);
const run = byId("run");
if (run) new LiveRun(run);
