//! What a report has of one run besides its slices.

use std::collections::BTreeMap;
use std::path::Path;

use polars::prelude::PolarsResult;
use serde_json::{Value, json};

use crate::runs::sidecar::Sidecar;
use crate::tables::frames::{scan, u32s};

/// Longest text of a scheduler in a report, bytes.
const MAX_LOG_BYTES: usize = 20_000;

/// Identity, verdict, phases, counters and the scheduler's output.
pub(super) fn facts(sidecar: &Sidecar) -> Value {
    let id = &sidecar.identity;
    let open = sidecar.window_open.map_or(0, |w| w.ts_ns);
    let body = sidecar.test_result.as_ref().and_then(|t| t.body.as_ref());
    let phases: Vec<Value> = body
        .map_or(&[][..], |b| &b.phases)
        .iter()
        .map(|p| json!([p.name, p.start_ns.saturating_sub(open), p.end_ns.saturating_sub(open)]))
        .collect();
    let counts = &sidecar.quality.sched_ext;
    let mut counters: BTreeMap<&str, u64> = counts.events.iter().map(|(n, v)| (n.as_str(), *v)).collect();
    counters.extend(
        counts.nr_rejected.filter(|_| sidecar.scheduler_started.is_some()).map(|n| ("nr_rejected", n)),
    );
    json!({
        "id": id.run_id,
        "test": id.full_test(),
        "scheduler": id.scheduler,
        "topology": id.topology.to_string(),
        "kernel": id.kernel,
        "accel": id.accel.to_string(),
        "boot": id.repeat,
        "verdict": sidecar.verdict.name(),
        "reasons": sidecar.reasons,
        "phases": phases,
        "counters": counters,
        "log": log(sidecar),
    })
}

/// The scheduler's messages and the end of its output.
fn log(sidecar: &Sidecar) -> String {
    let Some(exit) = &sidecar.scheduler_exit else { return String::new() };
    let end = exit.process_end.as_ref().map(|e| format!("process: {e}"));
    let said = [Some(format!("exit: {}", exit.kind)), exit.reason.clone(), exit.message.clone(), end];
    let said: Vec<String> = said.into_iter().flatten().collect();
    let mut from = exit.output.len().saturating_sub(MAX_LOG_BYTES);
    while !exit.output.is_char_boundary(from) {
        from += 1;
    }
    let cut = if from > 0 { "(the end of the output)\n" } else { "" };
    format!("{}\n\n{cut}{}", said.join("\n"), &exit.output[from..])
}

/// Number of migrations: CPU before, CPU after, migrations.
pub(super) fn migrations(dir: &Path) -> PolarsResult<Vec<(u32, u32, u32)>> {
    let df = scan(dir, "migrations", &["from_cpu", "to_cpu"])?;
    let mut counts: BTreeMap<(u32, u32), u32> = BTreeMap::new();
    for pair in u32s(&df, "from_cpu")?.into_iter().zip(u32s(&df, "to_cpu")?) {
        if let (Some(from), Some(to)) = pair {
            *counts.entry((from, to)).or_default() += 1;
        }
    }
    Ok(counts.into_iter().map(|((from, to), n)| (from, to, n)).collect())
}
