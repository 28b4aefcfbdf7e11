"use strict";
/** The page: tables, distributions, causes, migrations, and the choice of a timeline. */

const DATA = JSON.parse(document.getElementById("data").textContent);
const element = (id) => document.getElementById(id);
const charts = [];
function chart(id, height) {
  const place = element(id);
  place.style.height = `${height}px`;
  const made = echarts.getInstanceByDom(place) ?? echarts.init(place, null, { renderer: "canvas" });
  made.resize();
  if (!charts.includes(made)) charts.push(made);
  return made;
}

function cell(kind, text, className) {
  const made = document.createElement(kind);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

function table(id, header, rows, numbers, classOf) {
  const line = (kind, cells, of) => {
    const tr = document.createElement("tr");
    cells.forEach((text, i) => tr.append(cell(kind, text, [numbers.includes(i) ? "number" : "", of(i)].join(" ").trim())));
    return tr;
  };
  element(id).append(line("th", header, () => ""), ...rows.map((r) => line("td", r, (i) => (i === 0 ? classOf(r) : ""))));
}

function comparison(c) {
  if (!c) {
    const count = (v) => DATA.runs.filter((r) => r.verdict === v).length;
    const verdicts = [...new Set(DATA.runs.map((r) => r.verdict))].map((v) => `${count(v)} ${v.replace("_", " ")}`);
    element("verdict").textContent = `${DATA.runs.length} ${DATA.runs.length === 1 ? "run" : "runs"}: ${verdicts.join(", ")}`;
    return;
  }
  element("verdict").textContent = c.verdict;
  element("comparison").hidden = false;
  table("comparison-table", c.header, c.rows, [3, 4, 5], (r) => (["worse", "better"].includes(r[0]) ? r[0] : ""));
  element("comparison-notes").append(...c.notes.map((n) => cell("li", n)));
}

/** Wakeup latency: the share of wakeups that are longer, both axes logarithmic. */
function latency(all) {
  if (!all.length) return;
  element("latency").hidden = false;
  const schedulers = [...new Set(all.map((d) => d.scheduler))];
  const lines = ["solid", "dashed", "dotted", [8, 3, 2, 3]];
  const least = 10 ** Math.floor(Math.log10(Math.min(...all.map((d) => 1 / d.count))));
  const marks = [[0.5, "p50"], [0.1, "p90"], [0.01, "p99"], [0.001, "p99.9"]];
  const series = all.map((d) => ({
    name: `${d.role}, ${d.scheduler} (${d.count.toLocaleString("en")})`,
    type: "line",
    step: "end",
    showSymbol: false,
    data: [[Math.max(1, d.longer[0][0] / 1.1), 1], ...d.longer.filter(([, share]) => share > 0), [d.longer.at(-1)[0], least]],
    lineStyle: { width: 2, type: lines[schedulers.indexOf(d.scheduler) % lines.length], color: roleColor(d.role) },
    itemStyle: { color: roleColor(d.role) },
  }));
  series[0].markLine = {
    silent: true, symbol: "none", precision: 6, lineStyle: { color: "#b8c0cc", type: "solid" }, label: { formatter: "{b}", color: "#5a6475" },
    data: marks.map(([share, name]) => ({ yAxis: share, name })),
  };
  chart("latency-chart", 400).setOption({
    animation: false,
    legend: { top: 0, type: "scroll" },
    grid: { left: 70, right: 60, top: 36, bottom: 52 },
    xAxis: { type: "log", name: "wakeup latency longer than", nameLocation: "middle", nameGap: 32, axisLabel: { formatter: duration }, min: "dataMin", max: "dataMax" },
    yAxis: { type: "log", name: "share of wakeups", min: least, max: 1, axisLabel: { formatter: (v) => `${Number((100 * v).toPrecision(1))} %` } },
    tooltip: { trigger: "axis", formatter: (all) => all.map((p) => echarts.format.encodeHTML(`${p.seriesName}: ${Number((100 * p.value[1]).toPrecision(2))} % longer than ${duration(p.value[0])}`)).join("<br>") },
    series,
  });
}

/** Waiting time by cause: a bar for each role and scheduler. */
function causes(all) {
  if (!all.length) return;
  element("causes").hidden = false;
  const bars = [...new Set(all.map((c) => JSON.stringify([c.role, c.scheduler])))].sort().reverse();
  const totals = bars.map((b) => all.filter((c) => JSON.stringify([c.role, c.scheduler]) === b).reduce((sum, c) => sum + c.ns, 0));
  const series = Object.entries(CAUSES).filter(([cause]) => all.some((c) => c.cause === cause)).map(([cause, [name, color]]) => ({
    name, type: "bar", stack: "all", itemStyle: { color }, barMaxWidth: 26,
    data: bars.map((b, i) => {
      const ns = all.filter((c) => c.cause === cause && JSON.stringify([c.role, c.scheduler]) === b).reduce((sum, c) => sum + c.ns, 0);
      return { value: totals[i] ? (100 * ns) / totals[i] : 0, ns };
    }),
  }));
  const label = (b, i) => `${JSON.parse(b).join(", ")}: ${duration(totals[i])}`;
  chart("causes-chart", 90 + 36 * bars.length).setOption({
    animation: false,
    legend: { top: 0 },
    grid: { left: 12, right: 30, top: 36, bottom: 40, containLabel: true },
    xAxis: { type: "value", max: 100, axisLabel: { formatter: "{value} %" }, name: "share of the waiting time", nameLocation: "middle", nameGap: 28 },
    yAxis: { type: "category", data: bars.map(label) },
    tooltip: { trigger: "item", formatter: (p) => echarts.format.encodeHTML(`${p.seriesName}: ${duration(p.data.ns)} (${p.data.value.toFixed(1)} %)`) },
    series,
  });
}

function migrations(timeline) {
  element("migrations").hidden = false;
  const { migrations: pairs, nr_cpus: nr } = timeline.data;
  const names = Array.from({ length: nr }, (_, i) => `${i}`);
  const most = pairs.reduce((m, p) => Math.max(m, p[2]), 1);
  const size = Math.max(220, Math.min(560, 90 + 34 * nr));
  chart("migrations-chart", size).setOption({
    animation: false,
    grid: { left: 64, top: 10, bottom: 48, width: Math.min(800, size - 58 + 20) },
    xAxis: { type: "category", data: names, name: "to CPU", nameLocation: "middle", nameGap: 28 },
    yAxis: { type: "category", data: names, inverse: true, name: "from CPU", nameLocation: "middle", nameGap: 34 },
    visualMap: { min: 0, max: most, left: size + 60, top: 10, calculable: false, inRange: { color: ["#eef3fa", "#3b6fb6", "#16335c"] }, text: [`${most}`, "0"] },
    tooltip: { formatter: (p) => `from CPU ${p.value[1]} to CPU ${p.value[0]}: ${p.value[2]}` },
    series: { type: "heatmap", data: pairs.map(([from, to, n]) => [to, from, n]), label: { show: nr <= 16 } },
  }, true);
}

/** What is known of the scheduler of a run. */
function scheduler(run) {
  element("scheduler").hidden = false;
  const body = element("scheduler-body");
  body.replaceChildren(cell("p", `${run.scheduler}, ${run.test} on ${run.topology}, boot ${run.boot}: ${run.verdict}`, run.verdict));
  body.append(...run.reasons.map((r) => cell("p", r)));
  const counters = Object.entries(run.counters);
  if (counters.length) {
    const list = document.createElement("ul");
    list.append(...counters.map(([name, n]) => cell("li", `${name}: ${n.toLocaleString("en")}`)));
    body.append(cell("p", "Counters of sched_ext over the window", "note"), list);
  }
  if (run.log) body.append(cell("p", "Exit and output", "note"), cell("pre", run.log));
  else body.append(cell("p", "The kernel's own scheduler has no output.", "note"));
}

/** The colours of the roles that ran. */
function legend(timeline) {
  const roles = [...new Set(timeline.data.tasks.map((t) => t[2]))].sort();
  const entry = (role) => {
    const made = cell("span", role ?? "without a role", "role");
    made.style.borderColor = roleColor(role);
    return made;
  };
  element("roles").replaceChildren(...roles.map(entry));
}

async function show(position) {
  const data = DATA.timelines[position];
  const run = DATA.runs[data.run];
  const timeline = await new Timeline(data, run).load();
  legend(timeline);
  const height = Math.max(240, Math.min(900, 80 + 44 * (timeline.nrCpus + 1)));
  element("slice").hidden = true;
  const onSlice = (s) => {
    element("slice").hidden = false;
    element("slice").textContent = timeline.describe(s);
  };
  const left = data.nr_slices - data.nr_kept;
  const onView = (single, count, [from, to]) => {
    const what = single ? `${count.toLocaleString("en")} slices in view` : "sums of short intervals; zoom in for single slices";
    const rest = left ? `; ${left.toLocaleString("en")} of ${data.nr_slices.toLocaleString("en")} slices are in the file as sums only` : "";
    element("shown").textContent = `${duration(to - from)}: ${what}${rest}`;
  };
  const place = chart("timeline-chart", height);
  const zoom = timelineChart(place, timeline, onSlice, onView);
  element("whole").onclick = () => zoom(0, timeline.end);
  element("longest").onclick = () => {
    const longest = timeline.slices.reduce((m, s) => ((s.wait ?? 0) > (m?.wait ?? -1) ? s : m), null);
    if (!longest) return;
    const length = Math.max(longest.end - longest.start + longest.wait, 2000);
    timeline.selected = longest.index;
    zoom(longest.start - longest.wait - 0.2 * length, longest.end + 0.2 * length);
    onSlice(longest);
  };
  migrations(timeline);
  scheduler(run);
  globalThis.ktstr = { timeline, chart: place, zoom };
}

function start() {
  const roles = [...DATA.latencies.map((d) => d.role), ...DATA.timelines.flatMap((t) => t.tasks.map((task) => task[2]))];
  ROLES.push(...[...new Set(roles.filter((r) => r !== null))].sort());
  comparison(DATA.comparison);
  latency(DATA.latencies);
  causes(DATA.causes);
  const header = ["verdict", "test", "scheduler", "topology", "accel", "boot", "kernel", "run", "reasons"];
  const row = (r) => [r.verdict, r.test, r.scheduler, r.topology, r.accel, r.boot, r.kernel, r.id, r.reasons.join("; ")];
  table("runs", header, DATA.runs.map(row), [5], (r) => r[0]);
  if (DATA.timelines.length) {
    element("timeline").hidden = false;
    DATA.timelines.forEach((t, i) => {
      const run = DATA.runs[t.run];
      const option = cell("option", `${run.test} on ${run.topology}: ${run.scheduler}, boot ${run.boot}`);
      option.value = i;
      element("run").append(option);
    });
    element("run").onchange = (e) => show(Number(e.target.value));
    show(0);
  }
  addEventListener("resize", () => charts.forEach((c) => c.resize()));
}

start();
