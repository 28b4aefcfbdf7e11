"use strict";
/** The timeline: intervals of the whole window, and single slices where few enough are in view. */

const NONE = 0xffffffff;
const MOST_SLICES_IN_VIEW = 4000;
const COLORS = ["#3b6fb6", "#e08a1e", "#3a9a6b", "#8e5bb5", "#c2577a", "#6f7d1f", "#2f97a8", "#8a6a4f"];
const OTHER = "#9aa3b0";
const CAUSES = {
  cpu_busy: ["CPU busy, none idle", "#3b6fb6"],
  idle_cpu: ["an allowed CPU was idle", "#d0342c"],
  affinity: ["not allowed on an idle CPU", "#e08a1e"],
  throttled: ["throttled by cpu.max", "#8e5bb5"],
  not_in_charge: ["scheduler not in charge", "#6f7d1f"],
  host_steal: ["host steal", "#8a6a4f"],
  wakeup: ["wakeup path", "#3a9a6b"],
  unknown: ["unknown", "#9aa3b0"],
};

/** Roles of all runs, so that a role has one colour on the page. */
const ROLES = [];

function roleColor(role) {
  return role === null ? OTHER : COLORS[ROLES.indexOf(role) % COLORS.length];
}

/** A duration in its unit, with three significant digits. */
function duration(ns) {
  for (const [unit, size] of [["s", 1e9], ["ms", 1e6], ["us", 1e3]]) {
    if (Math.abs(ns) >= size) return `${Number((ns / size).toPrecision(3))} ${unit}`;
  }
  return `${Math.round(ns)} ns`;
}

/** A moment of the window, in digits that differ between ticks of `step` nanoseconds. */
function moment(ns, step) {
  const [unit, size] = step >= 1e6 ? ["ms", 1e6] : step >= 1e3 ? ["us", 1e3] : ["ns", 1];
  const digits = Math.max(0, Math.min(3, Math.ceil(Math.log10(size / Math.max(step, 1)))));
  return `${(ns / size).toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits })} ${unit}`;
}

async function unpack(text) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint32Array(await new Response(stream).arrayBuffer());
}

/** Columns of equal length. */
function columns(numbers, count) {
  const length = numbers.length / count;
  return Array.from({ length: count }, (_, i) => numbers.subarray(i * length, (i + 1) * length));
}

class Timeline {
  constructor(data, run) {
    this.data = data;
    this.run = run;
    this.nrCpus = data.nr_cpus;
    this.end = data.window_ns;
    this.whole = new Set(data.whole);
  }

  async load() {
    const [cpu, gapLow, gapHigh, lengthLow, lengthHigh, task, wait, waker, kind, cause, ends] = columns(await unpack(this.data.slices), 11);
    this.slices = [];
    let start = 0;
    for (let i = 0; i < cpu.length; i++) {
      const gap = gapLow[i] + gapHigh[i] * 2 ** 32;
      start = i && cpu[i] === cpu[i - 1] ? start + gap : gap;
      const end = start + lengthLow[i] + lengthHigh[i] * 2 ** 32;
      const wait_ns = wait[i] === NONE ? null : wait[i];
      this.slices.push({ index: i, cpu: cpu[i], start, end, task: task[i], wait: wait_ns, waker: waker[i], kind: kind[i], cause: cause[i], ends: ends[i] });
    }
    this.slices.sort((a, b) => a.start - b.start);
    [this.top, this.busy, this.waits] = columns(await unpack(this.data.intervals), 3);
    return this;
  }

  color(task) {
    return roleColor(this.data.tasks[task]?.[2] ?? null);
  }

  name(task) {
    const [tid, comm, role] = this.data.tasks[task];
    return `${role ?? comm ?? "task"} [${tid}]`;
  }

  nameOf(tid) {
    const task = this.data.tasks.findIndex((t) => t[0] === tid);
    return task < 0 ? `task ${tid}` : this.name(task);
  }

  interval(at) {
    return Math.min(this.data.nr_intervals - 1, Math.floor((at * this.data.nr_intervals) / this.end));
  }

  /** The single slices in view, or null: too many, or some were left out. */
  inView(from, to) {
    for (let i = this.interval(from); i <= this.interval(to); i++) if (!this.whole.has(i)) return null;
    // A slice is in view with the wait before it, which may begin earlier.
    const found = [];
    for (const s of this.slices) {
      if (s.start - (s.wait ?? 0) < to && s.end > from) found.push(s);
      if (found.length > MOST_SLICES_IN_VIEW) return null;
    }
    return found;
  }

  /** Cells of the chart: CPU, from, to, what it is, position. */
  cells(from, to) {
    const slices = this.inView(from, to);
    if (slices) {
      const waits = slices.filter((s) => s.wait).map((s) => [s.cpu, s.start - s.wait, s.start, "wait", s.index]);
      return { single: true, count: slices.length, cells: [...waits, ...slices.map((s) => [s.cpu, s.start, s.end, "slice", s.index])] };
    }
    const cells = [];
    const nr = this.data.nr_intervals;
    const step = this.end / nr;
    for (let cpu = 0; cpu < this.nrCpus; cpu++) {
      for (let i = this.interval(from); i <= this.interval(to); i++) {
        const at = cpu * nr + i;
        if (this.top[at] !== NONE) cells.push([cpu, i * step, (i + 1) * step, "sum", at]);
      }
    }
    return { single: false, count: cells.length, cells };
  }

  phaseCells() {
    return this.run.phases.map(([, start, end], i) => [this.nrCpus, start, end, "phase", i]);
  }

  /** The shape of a cell. */
  shape(params, api) {
    const [row, start, end, what, at] = [0, 1, 2, 3, 4].map((d) => api.value(d));
    const kind = ["wait", "slice", "sum", "phase"][what];
    const from = api.coord([start, row]);
    const to = api.coord([end, row]);
    const height = api.size([0, 1])[1];
    const area = params.coordSys;
    const [top, share] = kind === "wait" ? [0.12, 0.3] : kind === "phase" ? [-0.3, 0.6] : [-0.44, 0.54];
    const x = Math.max(from[0], area.x);
    const width = Math.max(Math.min(to[0], area.x + area.width) - x, 0.7);
    if (to[0] < area.x || from[0] > area.x + area.width) return null;
    const rectangle = (y, h, style) => ({ type: "rect", shape: { x, y, width, height: h }, style });
    const y = from[1] + top * height;
    if (kind === "phase") {
      const [name] = this.run.phases[at];
      const text = { text: name, fill: "#1c2330", font: "12px sans-serif", x: x + 4, y: y + 3, overflow: "truncate", width: Math.max(width - 8, 0) };
      return { type: "group", children: [rectangle(y, share * height, { fill: "#e4e8ee", stroke: "#fff" }), { type: "text", style: text }] };
    }
    if (kind === "wait") return rectangle(y, share * height, { fill: "#d0342c", opacity: 0.45 });
    if (kind === "slice") {
      const s = this.byIndex(at);
      const stroke = at === this.selected ? { stroke: "#000", lineWidth: 2 } : width > 4 ? { stroke: "#fff", lineWidth: 0.5 } : {};
      return rectangle(y, share * height, { fill: this.color(s.task), ...stroke });
    }
    const busy = Math.min(1, this.busy[at] / (end - start));
    const wait = Math.min(1, Math.log10(1 + this.waits[at] / 1000) / 5);
    const children = [rectangle(y + (1 - busy) * share * height, busy * share * height, { fill: this.color(this.top[at]) })];
    if (wait > 0) children.push(rectangle(from[1] + 0.12 * height, 0.3 * height * wait, { fill: "#d0342c", opacity: 0.75 }));
    return { type: "group", children };
  }

  byIndex(index) {
    this.index ??= new Map(this.slices.map((s) => [s.index, s]));
    return this.index.get(index);
  }

  /** What is known of a slice. */
  describe(s) {
    const { kinds, causes, ends } = this.data;
    const cause = s.cause === NONE ? null : CAUSES[causes[s.cause]]?.[0] ?? causes[s.cause];
    const lines = [`${this.name(s.task)} on CPU ${s.cpu}, from ${(s.start / 1e6).toFixed(3)} ms for ${duration(s.end - s.start)}${s.ends === NONE ? "" : `, then ${ends[s.ends].replace("_", " ")}`}`];
    if (s.wait !== null) {
      const waker = s.waker === NONE ? "" : `, woken by ${this.nameOf(s.waker)}`;
      lines.push(`Waited ${duration(s.wait)} before it (${s.kind === NONE ? "unknown" : kinds[s.kind]}${waker})${cause === null ? "" : `; main cause: ${cause}`}.`);
    }
    return lines.join("\n");
  }

  tip(value) {
    const [cpu, start, end, what, at] = value;
    const kind = ["wait", "slice", "sum", "phase"][what];
    if (kind === "phase") return `phase ${this.run.phases[at][0]}: ${duration(end - start)}`;
    if (kind === "sum") return `CPU ${cpu}, ${moment(start, end - start)}: busy ${Math.round((100 * this.busy[at]) / (end - start))} %, longest wait ${duration(this.waits[at])}, mostly ${this.name(this.top[at])}`;
    const s = this.byIndex(at);
    return kind === "wait" ? `${this.name(s.task)} waits ${duration(s.wait)}` : this.describe(s);
  }
}

const WHATS = { wait: 0, slice: 1, sum: 2, phase: 3 };

/** The chart of a timeline; `onSlice` gets a slice that was clicked, `onView` what is in view. */
function timelineChart(chart, timeline, onSlice, onView) {
  const escape = echarts.format.encodeHTML;
  const rows = timeline.nrCpus + (timeline.run.phases.length ? 1 : 0);
  const labels = Array.from({ length: rows }, (_, i) => (i < timeline.nrCpus ? `CPU ${i}` : "phases"));
  timeline.view = [0, timeline.end];
  const series = () => {
    const { cells, single, count } = timeline.cells(...timeline.view);
    onView(single, count, timeline.view);
    const all = [...cells, ...timeline.phaseCells()].map((c) => [c[0], c[1], c[2], WHATS[c[3]], c[4]]);
    return { type: "custom", renderItem: (p, a) => timeline.shape(p, a), encode: { x: [1, 2], y: 0 }, data: all, clip: true, animation: false, progressive: 0 };
  };
  chart.clear();
  chart.setOption({
    animation: false,
    grid: { left: 64, right: 20, top: 8, bottom: 66 },
    xAxis: { type: "value", min: 0, max: timeline.end, position: "bottom", axisLabel: { formatter: (v) => moment(v, (timeline.view[1] - timeline.view[0]) / 10), hideOverlap: true }, splitLine: { lineStyle: { color: "#edf0f4" } } },
    yAxis: { type: "category", data: labels, inverse: true, axisTick: { show: false }, splitLine: { show: true, lineStyle: { color: "#dde1e8" } } },
    dataZoom: [
      { type: "inside", filterMode: "none", minValueSpan: 1000 },
      { type: "slider", filterMode: "none", minValueSpan: 1000, height: 20, bottom: 8, showDataShadow: false, labelFormatter: (v) => duration(v) },
    ],
    tooltip: { confine: true, formatter: (p) => escape(timeline.tip(p.value)).replaceAll("\n", "<br>") },
    series: series(),
  });
  const redraw = () => chart.setOption({ series: [series()] });
  chart.off("datazoom");
  chart.on("datazoom", () => {
    const zoom = chart.getOption().dataZoom[0];
    timeline.view = [(zoom.start / 100) * timeline.end, (zoom.end / 100) * timeline.end];
    redraw();
  });
  chart.off("click");
  chart.on("click", (p) => {
    if (p.value[3] > WHATS.slice) return;
    timeline.selected = p.value[4];
    onSlice(timeline.byIndex(p.value[4]));
    redraw();
  });
  return (from, to) => chart.dispatchAction({ type: "dataZoom", startValue: Math.max(0, from), endValue: Math.min(timeline.end, to) });
}
