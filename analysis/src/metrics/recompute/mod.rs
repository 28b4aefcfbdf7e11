//! An independent computation of every metric in every scope, from the tables of a run and the definitions of
//! the catalogue. It is slow and plain and shares no code with the one that it checks. The unit tests of this
//! crate and the tests of guests include it.

mod tables;
mod waits;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

pub(crate) use tables::{Row, Tables, rows};

/// A metric's name, scope, role, phase, number (of a CPU, a last-level cache or a node) and statistic.
pub(crate) type Key = (String, String, Option<String>, Option<String>, Option<i64>, String);

/// The values by key.
pub(crate) type Values = BTreeMap<Key, Option<f64>>;

/// Scope of a value: tasks and an interval.
#[derive(Clone)]
struct Place {
    scope: &'static str,
    role: Option<String>,
    phase: Option<String>,
    tids: BTreeSet<i64>,
    /// Tasks that did not inherit the role.
    workers: BTreeSet<i64>,
    from: i64,
    to: i64,
}

impl Place {
    /// A slice belongs to it if its switch-in lies in it.
    fn has(&self, s: &Row) -> bool {
        self.tids.contains(&s.number("tid")) && self.has_time(s.number("ts_ns"))
    }

    fn has_time(&self, t: i64) -> bool {
        self.from <= t && t < self.to
    }

    /// A context switch belongs to it if it happened in it; the window's last moment is in the window.
    fn has_switch(&self, s: &Row) -> bool {
        let end = s.number("end_ns");
        let is_inside = self.has_time(end) || (self.phase.is_none() && end == self.to);
        self.tids.contains(&s.number("tid")) && is_inside && is(s, "end_state", &["window_end"]) == 0
    }

    fn key(&self, name: &str, stat: &str) -> Key {
        (name.into(), self.scope.into(), self.role.clone(), self.phase.clone(), None, stat.into())
    }
}

/// 1 if the text of a column is one of these.
fn is(row: &Row, column: &str, texts: &[&str]) -> usize {
    usize::from(row.text(column).is_some_and(|t| texts.contains(&t.as_str())))
}

fn count(n: usize) -> Option<f64> {
    Some(n as f64)
}

/// The scopes of metrics of tasks: the workload and each role over the window, and in each phase.
fn places(run: &Tables) -> Vec<Place> {
    let tids = |is: &dyn Fn(&Row) -> bool| {
        run.tasks.iter().filter(|t| is(t)).map(|t| t.number("tid")).collect::<BTreeSet<i64>>()
    };
    let (from, to) = run.window;
    let workload = tids(&|t| t.text("class").as_deref() == Some("workload"));
    let mut places = vec![Place {
        scope: "run",
        role: None,
        phase: None,
        tids: workload,
        workers: BTreeSet::new(),
        from,
        to,
    }];
    let roles: BTreeSet<String> = run.tasks.iter().filter_map(|t| t.text("role")).collect();
    for role in roles {
        let is_its = |t: &Row| t.text("role").as_ref() == Some(&role);
        let workers = tids(&|t| is_its(t) && !t.truth("role_inherited"));
        let tids = tids(&is_its);
        places.push(Place { scope: "role", role: Some(role.clone()), phase: None, tids, workers, from, to });
    }
    for phase in &run.phases {
        for whole in places.clone().into_iter().filter(|p| p.phase.is_none()) {
            let (from, to) = (phase.number("start_ns"), phase.number("end_ns"));
            places.push(Place { scope: "phase", phase: phase.text("name"), from, to, ..whole });
        }
    }
    places
}

/// Every metric of the run in every scope.
pub(crate) fn metrics(run: &Tables) -> Values {
    let mut values = Values::new();
    let causes = waits::Causes::new(run);
    for place in places(run) {
        durations(run, &place, &mut values);
        switches(run, &place, &mut values);
        if place.phase.is_none() {
            wakeups(run, &place, &mut values);
            migrations(run, &place, &mut values);
            tasks(run, &place, &mut values);
            for (cause, ns) in causes.of(&place.tids) {
                values.insert(place.key(&format!("wait_{cause}"), "value"), Some(ns as f64));
            }
        }
    }
    cpus(run, &mut values);
    scheduler(run, &mut values);
    workers(run, &mut values);
    values
}

/// The value of a slice for a metric of durations or lengths.
fn duration(name: &str, s: &Row) -> Option<i64> {
    let wait_of = |kinds: &[&str]| s.int("wait_ns").filter(|_| is(s, "wait_kind", kinds) == 1);
    match name {
        "wakeup_latency" => wait_of(&["wakeup"]),
        "preemption_wait" => wait_of(&["preempt", "yield"]),
        "run_delay" => wait_of(&["wakeup", "new", "preempt", "yield"]),
        "throttled_wait" => s.int("throttled_ns"),
        "waking_latency" => s.int("waking_ns"),
        "blocked_time" => s.int("blocked_ns"),
        "slice_length" if is(s, "end_state", &["window_end"]) == 1 => None,
        "slice_length" => Some(s.number("end_ns") - s.number("ts_ns")),
        "runqueue_length" => s.int("rq_length").filter(|_| is(s, "wait_kind", &["wakeup"]) == 1),
        "dsq_length" => s.int("dsq_length"),
        _ => panic!("no definition of {name}"),
    }
}

const IN_PHASES: [&str; 5] =
    ["wakeup_latency", "run_delay", "preemption_wait", "throttled_wait", "slice_length"];
const IN_THE_WINDOW: [&str; 4] = ["waking_latency", "blocked_time", "runqueue_length", "dsq_length"];

/// Under the kernel's own scheduler there are no DSQs.
fn is_null(name: &str, run: &Tables) -> bool {
    let of_sched_ext = ["wakeups_direct", "wakeups_queued", "wakeups_held", "dsq_length"];
    run.sidecar["scheduler_started"].is_null() && of_sched_ext.contains(&name)
}

fn durations(run: &Tables, place: &Place, values: &mut Values) {
    let in_window = IN_THE_WINDOW.iter().filter(|_| place.phase.is_none());
    for name in IN_PHASES.iter().chain(in_window) {
        let slices = run.slices.iter().filter(|s| place.has(s));
        let mut all: Vec<i64> = slices.filter_map(|s| duration(name, s)).collect();
        all.sort_unstable();
        let n = all.len();
        // The smallest value with at least that share of the values at or below it.
        let rank = |per_mille: usize| {
            let has_share = |(i, _): &(usize, &i64)| (i + 1) * 1000 >= per_mille * n;
            all.iter().enumerate().find(has_share).map(|(_, v)| *v as f64)
        };
        let sum: i64 = all.iter().sum();
        let stats = [
            ("count", count(n)),
            ("mean", (n > 0).then(|| sum as f64 / n as f64)),
            ("p50", rank(500)),
            ("p90", rank(900)),
            ("p99", rank(990)),
            ("p99.9", rank(999)),
            ("max", all.last().map(|v| *v as f64)),
        ];
        let null = is_null(name, run);
        values.extend(stats.map(|(stat, v)| (place.key(name, stat), v.filter(|_| !null))));
    }
}

/// Nanoseconds of a slice between two moments.
fn between(s: &Row, from: i64, to: i64) -> i64 {
    (s.number("end_ns").min(to) - s.number("ts_ns").max(from)).max(0)
}

fn switches(run: &Tables, place: &Place, values: &mut Values) {
    let ended = || run.slices.iter().filter(|s| place.has_switch(s));
    let mut put = |name: &str, v: Option<f64>| values.insert(place.key(name, "value"), v);
    put("context_switches", count(ended().count()));
    put("preemptions", count(ended().map(|s| is(s, "end_state", &["preempted"])).sum()));
    put("yields", count(ended().map(|s| is(s, "end_state", &["yielded"])).sum()));
    let on_cpu = |tid: i64| {
        let own = run.slices.iter().filter(|s| s.number("tid") == tid);
        own.map(|s| between(s, place.from, place.to)).sum::<i64>()
    };
    let times: Vec<i64> = place.tids.iter().map(|tid| on_cpu(*tid)).collect();
    put("on_cpu_time", Some(times.iter().sum::<i64>() as f64));
    if place.role.is_some() {
        let times: Vec<i64> = place.workers.iter().map(|tid| on_cpu(*tid)).collect();
        let has_ran = times.len() > 1 && times.iter().any(|t| *t > 0);
        let (n, sum) = (times.len() as f64, times.iter().map(|t| *t as f64).sum::<f64>());
        let squares = times.iter().map(|t| (*t as f64).powi(2)).sum::<f64>();
        let (least, most) = (times.iter().min().unwrap_or(&0), times.iter().max().unwrap_or(&0));
        put("fairness_jain", has_ran.then(|| sum.powi(2) / (n * squares)));
        put("fairness_min_max", has_ran.then(|| *least as f64 / *most as f64));
    }
}

/// Distance between two CPUs.
fn distance(run: &Tables, a: i64, b: i64) -> &'static str {
    let cpu = |n: i64| run.cpus.iter().find(|c| c.number("cpu") == n).expect("a CPU that is there");
    let shares = |what: &str| cpu(a).number(what) == cpu(b).number(what);
    match (a == b, shares("core"), shares("llc"), shares("node")) {
        (true, ..) => "same_cpu",
        (_, true, ..) => "same_core",
        (_, _, true, _) => "same_llc",
        (.., true) => "other_llc",
        _ => "other_node",
    }
}

fn wakeups(run: &Tables, place: &Place, values: &mut Values) {
    let woken: Vec<&Row> =
        run.slices.iter().filter(|s| place.has(s) && is(s, "wait_kind", &["wakeup"]) == 1).collect();
    let mut put = |name: &str, v: Option<f64>| values.insert(place.key(name, "value"), v);
    for to in ["same_cpu", "same_core", "same_llc", "other_llc", "other_node"] {
        let is_so = |s: &&&Row| s.int("prev_cpu").is_some_and(|p| distance(run, p, s.number("cpu")) == to);
        put(&format!("wakeups_{to}"), count(woken.iter().filter(is_so).count()));
    }
    for placement in ["direct", "queued", "held"] {
        let name = format!("wakeups_{placement}");
        let n = woken.iter().map(|s| is(s, "placement", &[placement])).sum();
        put(&name, count(n).filter(|_| !is_null(&name, run)));
    }
    let lengths: Vec<i64> = woken.iter().filter_map(|s| s.int("rq_length")).collect();
    let idle = lengths.iter().filter(|n| **n == 0).count();
    put("wakeups_to_idle", count(idle).filter(|_| !lengths.is_empty()));
    put("wakeups_to_idle_frac", (!lengths.is_empty()).then(|| idle as f64 / lengths.len() as f64));
    let pairs: BTreeSet<_> =
        woken.iter().filter_map(|s| Some((s.int("waker_tid")?, s.number("tid")))).collect();
    put("waker_pairs", count(pairs.len()));
}

fn migrations(run: &Tables, place: &Place, values: &mut Values) {
    let of = |column: &str, text: &str| {
        let own = run.migrations.iter().filter(|m| place.tids.contains(&m.number("tid")));
        count(own.map(|m| is(m, column, &[text])).sum())
    };
    let names = [
        ("migrations_at_wakeup", "context", "wakeup"),
        ("migrations_by_balance", "context", "balance"),
        ("migrations_at_exec", "context", "exec"),
        ("migrations_by_affinity", "context", "affinity"),
        ("migrations_same_core", "distance", "same_core"),
        ("migrations_same_llc", "distance", "same_llc"),
        ("migrations_other_llc", "distance", "other_llc"),
        ("migrations_other_node", "distance", "other_node"),
    ];
    values.extend(names.map(|(name, column, text)| (place.key(name, "value"), of(column, text))));
    let all = run.migrations.iter().filter(|m| place.tids.contains(&m.number("tid"))).count();
    values.insert(place.key("migrations", "value"), count(all));
}

fn tasks(run: &Tables, place: &Place, values: &mut Values) {
    let own = || run.tasks.iter().filter(|t| place.tids.contains(&t.number("tid")));
    let open = own().filter(|t| t.int("open_wait_ns").is_some()).count();
    values.insert(place.key("censored_waits", "value"), count(open));
    // The cgroups of the test in which they are, and those above, up to the test's own root.
    let mut cgroups = BTreeSet::new();
    for path in own().filter_map(|t| t.text("cgroup")) {
        let parts: Vec<&str> = path.split('/').collect();
        if parts.get(1) == Some(&"ktstr") {
            cgroups.extend((2..=parts.len()).map(|n| parts[..n].join("/")));
        }
    }
    let row = |path: &String| run.cgroups.iter().find(|c| c.text("cgroup").as_ref() == Some(path));
    let is_gone = cgroups.iter().any(|path| row(path).is_none());
    let counted: Vec<i64> = cgroups.iter().filter_map(|p| row(p)?.int("throttled_ns")).collect();
    let known = !is_gone && !counted.is_empty();
    values.insert(place.key("throttled_time", "value"), known.then(|| counted.iter().sum::<i64>() as f64));
}

fn of_the_run(name: &str) -> Key {
    (name.into(), "run".into(), None, None, None, "value".into())
}

/// A list as 0-2,5.
fn is_in_list(list: &str, cpu: i64) -> bool {
    list.split(',').any(|part| {
        let (a, b) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.trim().parse::<i64>().expect("a list of CPUs");
        number(a) <= cpu && cpu <= number(b)
    })
}

/// The part of `spans` that lies in the window, sorted, and without what several of them have in common.
fn joined(mut spans: Vec<(i64, i64)>, (from, to): (i64, i64)) -> Vec<(i64, i64)> {
    spans.sort_unstable();
    let mut found: Vec<(i64, i64)> = Vec::new();
    for (a, b) in spans.into_iter().map(|(a, b)| (a.max(from), b.min(to))).filter(|(a, b)| a < b) {
        match found.last_mut() {
            Some(last) if a <= last.1 => last.1 = last.1.max(b),
            _ => found.push((a, b)),
        }
    }
    found
}

fn idle_while_waiting(run: &Tables, cpu: i64) -> i64 {
    let allowed = |tid: i64| {
        let task = run.tasks.iter().find(|t| t.number("tid") == tid);
        task.and_then(|t| t.text("cpus_allowed")).is_none_or(|list| is_in_list(&list, cpu))
    };
    let mut waits = Vec::new();
    for s in run.slices.iter().filter(|s| s.number("tid") != 0 && allowed(s.number("tid"))) {
        waits.extend(s.int("wait_ns").map(|ns| (s.number("ts_ns") - ns, s.number("ts_ns"))));
    }
    for t in run.tasks.iter().filter(|t| allowed(t.number("tid"))) {
        let to = run.window.1 - t.int("open_throttled_ns").unwrap_or(0);
        waits.extend(t.int("open_wait_ns").map(|ns| (to - ns, to)));
    }
    let idle = run.slices.iter().filter(|s| s.number("tid") == 0 && s.number("cpu") == cpu);
    let idle = joined(idle.map(|s| (s.number("ts_ns"), s.number("end_ns"))).collect(), run.window);
    let mut total = 0;
    for (a, b) in joined(waits, run.window) {
        total += idle.iter().map(|(c, d)| (b.min(*d) - a.max(*c)).max(0)).sum::<i64>();
    }
    total
}

fn cpus(run: &Tables, values: &mut Values) {
    let window = run.window.1 - run.window.0;
    let busy = |of: &dyn Fn(&Row) -> bool| {
        let cpus: Vec<i64> = run.cpus.iter().filter(|c| of(c)).map(|c| c.number("cpu")).collect();
        let on_them = |s: &&Row| s.number("tid") != 0 && cpus.contains(&s.number("cpu"));
        let slices = run.slices.iter().filter(on_them);
        let ns: i64 = slices.map(|s| between(s, run.window.0, run.window.1)).sum();
        ns as f64 / (cpus.len() as i64 * window) as f64
    };
    for (scope, spread) in
        [("cpu", None), ("llc", Some("llc_busy_spread")), ("node", Some("node_busy_spread"))]
    {
        let numbers: BTreeSet<i64> = run.cpus.iter().map(|c| c.number(scope)).collect();
        let mut fracs = Vec::new();
        for n in numbers {
            fracs.push(busy(&|c| c.number(scope) == n));
            let key = ("cpu_busy_frac".into(), scope.into(), None, None, Some(n), "value".into());
            values.insert(key, fracs.last().copied());
        }
        fracs.sort_by(f64::total_cmp);
        let several = fracs.len() > 1;
        let difference = several.then(|| fracs[fracs.len() - 1] - fracs[0]);
        values.extend(spread.map(|name| (of_the_run(name), difference)));
    }
    values.insert(of_the_run("cpu_busy_frac"), Some(busy(&|_| true)));
    let ns: i64 = run.cpus.iter().map(|c| idle_while_waiting(run, c.number("cpu"))).sum();
    values.insert(of_the_run("idle_while_waiting"), Some(ns as f64));
    let frac = ns as f64 / (window * run.cpus.len() as i64) as f64;
    values.insert(of_the_run("idle_while_waiting_frac"), Some(frac));
    let harness: BTreeSet<i64> =
        run.tasks.iter().filter(|t| is(t, "class", &["harness"]) == 1).map(|t| t.number("tid")).collect();
    let theirs = run.slices.iter().filter(|s| harness.contains(&s.number("tid")));
    let ns: i64 = theirs.map(|s| between(s, run.window.0, run.window.1)).sum();
    values.insert(of_the_run("harness_cpu_time"), Some(ns as f64));
}

fn scheduler(run: &Tables, values: &mut Values) {
    // A scheduler has at least one program.
    let known = !run.programs.is_empty();
    let cpu_time = (run.window.1 - run.window.0) as f64 * run.cpus.len() as f64;
    let calls: i64 = run.programs.iter().map(|p| p.number("calls")).sum();
    let own = |p: &Row| (p.number("run_ns") - p.number("calls") * p.number("baseline_ns")).max(0);
    let ns: i64 = run.programs.iter().map(own).sum();
    let started = !run.sidecar["scheduler_started"].is_null();
    let rejected = run.sidecar["quality"]["sched_ext"]["nr_rejected"].as_f64().filter(|_| started);
    values.extend([
        (of_the_run("scheduler_calls"), known.then_some(calls as f64)),
        (of_the_run("scheduler_cpu_time"), known.then_some(ns as f64)),
        (of_the_run("scheduler_cpu_frac"), known.then(|| ns as f64 / cpu_time)),
        (of_the_run("rejected_tasks"), rejected),
    ]);
}

/// What the body measured of its workers is taken as it is. Where there are reports of the workers,
/// throughput and what is exact of the durations follow from them.
fn workers(run: &Tables, values: &mut Values) {
    let body = &run.sidecar["test_result"]["body"];
    let text = |v: &serde_json::Value| v.as_str().map(str::to_string);
    for v in body["values"].as_array().into_iter().flatten() {
        let (name, role, phase) = (text(&v["name"]).expect("a name"), text(&v["role"]), text(&v["phase"]));
        if ["worker_throughput", "worker_iteration", "worker_lateness"].contains(&name.as_str()) {
            let scope = if phase.is_some() { "phase" } else { "role" };
            let key = (name, scope.into(), role, phase, None, text(&v["stat"]).expect("a statistic"));
            values.insert(key, v["value"].as_f64());
        }
    }
    let reports = body["workers"].as_array().cloned().unwrap_or_default();
    let roles: BTreeSet<String> = reports.iter().filter_map(|w| text(&w["role"])).collect();
    for role in roles {
        let own: Vec<_> = reports.iter().filter(|w| text(&w["role"]).as_ref() == Some(&role)).collect();
        let mut put = |name: &str, stat: &str, v: f64| {
            let key = (name.into(), "role".into(), Some(role.clone()), None, None, stat.into());
            values.insert(key, Some(v));
        };
        let number = |v: &serde_json::Value| v.as_f64().expect("a number");
        let rate = own.iter().map(|w| number(&w["iterations"]) * 1e9 / number(&w["ran_ns"])).sum();
        put("worker_throughput", "value", rate);
        for (name, series) in [("worker_iteration", "iteration"), ("worker_lateness", "lateness")] {
            let n: f64 = own.iter().map(|w| number(&w[series]["count"])).sum();
            let sum: f64 = own.iter().map(|w| number(&w[series]["sum_ns"])).sum();
            let max = own.iter().filter_map(|w| w[series]["max_ns"].as_f64()).fold(0.0, f64::max);
            if n > 0.0 {
                put(name, "count", n);
                put(name, "mean", sum / n);
                put(name, "max", max);
            }
        }
    }
}

/// The values in `metrics.parquet` in `dir`, for metrics of the catalogue.
pub(crate) fn stored(dir: &Path) -> Values {
    let mut values = Values::new();
    for r in rows(dir, "metrics") {
        let text = |column: &str| r.text(column).unwrap_or_else(|| panic!("{column} is null"));
        let number = ["cpu", "llc", "node"].into_iter().find_map(|column| r.int(column));
        let key = (text("name"), text("scope"), r.text("role"), r.text("phase"), number, text("stat"));
        if !key.0.contains('.') {
            assert_eq!(values.insert(key.clone(), r.float("value")), None, "{key:?} is there twice");
        }
    }
    values
}

/// Differences between the two, a sentence each.
pub(crate) fn differences(expected: &Values, found: &Values) -> Vec<String> {
    let mut wrong = Vec::new();
    let keys: BTreeSet<&Key> = expected.keys().chain(found.keys()).collect();
    for key in keys {
        let (a, b) = (expected.get(key), found.get(key));
        // Exact but for the order in which floating point numbers are added.
        let near = |a: f64, b: f64| (a - b).abs() <= 1e-12 * a.abs() && b.is_sign_positive();
        let agree = match (a, b) {
            (Some(Some(a)), Some(Some(b))) => near(*a, *b),
            (Some(None), Some(None)) => true,
            _ => false,
        };
        if !agree {
            wrong.push(format!("{key:?} is {b:?}, by its definition {a:?}"));
        }
    }
    wrong
}
