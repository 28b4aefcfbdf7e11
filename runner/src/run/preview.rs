//! What a run would do, for `cargo ktstr show`.

use std::fs;
use std::path::{Path, PathBuf};

use ktstr_wire::accel::Accel;
use ktstr_wire::env::SHOW;
use ktstr_wire::message::to_json;
use ktstr_wire::spec::{Isolation, Outline, TestSpec};
use serde::{Deserialize, Serialize};

use crate::run::durations::DurationHistory;
use crate::run::error::RunError;
use crate::run::judge::expectations;
use crate::run::pack::image;
use crate::run::plan::Plan;
use crate::run::{host_share, layout};

/// What a run would do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Preview {
    /// What the test asks for.
    pub spec: TestSpec,
    /// Release of the kernel, and its image.
    kernel: (String, PathBuf),
    /// The scheduler's binary; `None`: the kernel's own scheduler.
    pub scheduler: Option<PathBuf>,
    /// The accelerator.
    accel: Accel,
    /// Records that each CPU's log has room for.
    records_per_cpu: u32,
    /// What else travels into the guest, from the host.
    extras: Vec<PathBuf>,
    /// How the guest shares the host.
    isolation: Isolation,
    /// Time of a boot, milliseconds.
    estimate_ms: u64,
    /// From how many boots of the past that is; 0: from a model.
    estimate_boots: usize,
}

impl Preview {
    /// Of a plan.
    fn of(plan: &Plan) -> Preview {
        let spec = &plan.spec;
        let test = layout::qualified_test(&spec.package, Path::new(&spec.binary), &spec.test);
        let accel = plan.settings.accel;
        let topology = spec.topology.to_string();
        let past = DurationHistory::read(&plan.ktstr_dir);
        Preview {
            kernel: (plan.kernel.release.clone(), plan.kernel.image.clone()),
            scheduler: plan.scheduler.as_ref().map(|s| s.path.clone()),
            accel,
            records_per_cpu: image::records_per_cpu(spec, accel == Accel::Sim),
            extras: plan.extras.iter().map(|e| e.host.clone()).collect(),
            isolation: host_share::isolation(spec, &plan.settings),
            estimate_ms: past.boot_ms(&test, &topology, accel, spec.topology.nr_cpus(), spec.duration_ns),
            estimate_boots: past.nr_boots(&test, &topology, accel),
            spec: spec.clone(),
        }
    }

    /// The preview for people, a line for each property.
    pub(crate) fn text(&self) -> String {
        self.lines().iter().map(|(name, text)| format!("{name:14}{text}\n")).collect()
    }

    fn lines(&self) -> Vec<(&'static str, String)> {
        let (spec, t) = (&self.spec, self.spec.topology);
        let plural = |n: u32, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        let shape = [
            plural(t.nr_cpus(), "CPU"),
            plural(t.numa_nodes, "NUMA node"),
            plural(t.numa_nodes * t.llcs, "last-level cache"),
            if t.threads > 1 { "SMT".into() } else { "no SMT".into() },
        ];
        let scheduler = match (&spec.scheduler, &self.scheduler) {
            (Some(s), Some(path)) => {
                let command = [vec![path.display().to_string()], s.args.clone()].concat().join(" ");
                format!("{}: {command}", s.name)
            }
            _ => format!("{}, the kernel's own", crate::run::layout::KERNEL_SCHEDULER),
        };
        let from = match self.estimate_boots {
            0 => "by a model; no boot of it has been measured yet".to_string(),
            n => format!("the median of {}", plural(n as u32, "boot")),
        };
        let name = spec.expectations.listed.as_deref().unwrap_or(&spec.test);
        let mut lines = vec![
            ("test", layout::qualified_test(&spec.package, Path::new(&spec.binary), name)),
            ("topology", format!("{t}: {}", shape.join(", "))),
            ("memory", format!("{} MiB", spec.memory_mib)),
            ("kernel", format!("{} ({})", self.kernel.0, self.kernel.1.display())),
            ("scheduler", scheduler),
            ("accelerator", self.accel.to_string()),
            ("isolation", isolation_text(self.isolation).into()),
            ("window", format!("{} s", spec.duration_ns as f64 / 1e9)),
            ("probes", self.probes()),
            ("estimate", format!("{:.1} s a boot, {from}", self.estimate_ms as f64 / 1e3)),
        ];
        lines.extend(self.extras.iter().map(|e| ("travels along", e.display().to_string())));
        lines.extend(spec.outline.iter().flat_map(outline_lines));
        lines.extend(spec.expectations.asserts.iter().map(|a| ("condition", expectations::text(a))));
        lines.extend(spec.expectations.without.iter().map(|w| ("check off", w.to_string())));
        lines.extend(spec.expectations.expect.iter().map(|e| ("expected end", e.to_string())));
        lines
    }

    fn probes(&self) -> String {
        let level = self.spec.probes.unwrap_or_default();
        format!("{}, room for {} records a CPU", level.name(), self.records_per_cpu)
    }
}

pub(crate) fn isolation_text(isolation: Isolation) -> &'static str {
    match isolation {
        Isolation::Alone => "alone on the host",
        Isolation::Share => "CPUs of its own",
        Isolation::Any => "any",
    }
}

/// What the body does, as far as it is known without a guest.
pub(crate) fn outline_lines(outline: &Outline) -> Vec<(&'static str, String)> {
    let steps = outline.steps.iter().enumerate().map(|(i, text)| ("step", format!("{:2}  {text}", i + 1)));
    let phases =
        outline.phases.iter().map(|p| ("phase", format!("{}: {} s", p.name, p.hold_ns as f64 / 1e9)));
    let open =
        outline.open.iter().map(|why| ("more steps", format!("known in the guest only: the body {why}")));
    steps.chain(open).chain(phases).collect()
}

/// Writes down what `plan` would do, where the environment asks for that. `true`: it is not to be done.
pub(crate) fn instead_of(plan: &Plan) -> Result<bool, RunError> {
    let Some(path) = SHOW.path()? else { return Ok(false) };
    fs::write(&path, to_json(&Preview::of(plan))).map_err(|source| RunError::File { path, source })?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_decides_a_run_is_shown() {
        let spec = serde_json::json!({
            "wire_version": 1, "test": "m::t", "binary": "/d/suite-0123456789abcdef", "manifest_dir": "/d",
            "topology": "1n2l2c2t", "memory_mib": 512, "duration_ns": 1_500_000_000, "seed": 0,
            "scheduler": {"name": "mine", "binary": "scx_mine", "args": ["-v"]},
            "terms": {"asserts": [{"subject": "wakeup_latency.p99", "relation": "below", "limit": 5e6,
                "limit_text": "5 ms", "role": "server", "phase": null}], "without": ["max_wait"], "expect": {"kind": "stall"}},
            "outline": {"steps": ["add server: 1 worker: spin", "hold 1 (1.5 s)"], "open": "sleeps",
                "phases": [{"name": "wide", "hold_ns": 750_000_000}]},
        });
        let preview = Preview {
            spec: serde_json::from_value(spec).unwrap(),
            kernel: ("6.12.1".into(), "/k/bzImage".into()),
            scheduler: Some("/s/scx_mine".into()),
            accel: Accel::Tcg,
            records_per_cpu: 1000,
            extras: vec!["/usr/bin/dd".into()],
            isolation: Isolation::Any,
            estimate_ms: 6_240,
            estimate_boots: 1,
        };
        insta::assert_snapshot!(preview.text());
    }
}
