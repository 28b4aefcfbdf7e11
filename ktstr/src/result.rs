//! The result of a test body.

use std::fmt;
use std::sync::Arc;

use ktstr_wire::body::{Phase, Reported, WorkerReport};

use crate::note::Note;

/// The direction in which a metric improves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// Lower values are better.
    Lower,
    /// Higher values are better.
    Higher,
    /// Neither direction is better.
    Neutral,
}

impl Better {
    /// The name in results.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Better::Lower => "lower",
            Better::Higher => "higher",
            Better::Neutral => "neutral",
        }
    }
}

/// Failed assertions, numbers of the test and reports of its workers.
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use = "only an assertion that the body returns can fail the test"]
pub struct AssertResult {
    pub(crate) reasons: Vec<String>,
    pub(crate) workers: Vec<WorkerReport>,
    pub(crate) cpu_usage: Vec<CgroupUsage>,
    pub(crate) values: Vec<Reported>,
    pub(crate) phases: Vec<Phase>,
    pub(crate) late: Vec<LateMetrics>,
    /// The result of a dry run, without measured values.
    is_dry: bool,
}

/// Metrics that the harness computes after the window has closed, so that their cost is not measured.
#[derive(Clone)]
pub(crate) struct LateMetrics(pub Arc<dyn Fn() -> Vec<Reported> + Send + Sync>);

impl PartialEq for LateMetrics {
    fn eq(&self, other: &LateMetrics) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for LateMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LateMetrics")
    }
}

/// CPU time of a cgroup over the workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CgroupUsage {
    pub cgroup: String,
    /// Growth of `usage_usec` in its `cpu.stat`, microseconds.
    pub usage_us: u64,
}

impl AssertResult {
    /// A result without a failed assertion.
    pub fn pass() -> AssertResult {
        AssertResult::default()
    }

    /// The result of a dry run.
    pub(crate) fn dry() -> AssertResult {
        AssertResult { is_dry: true, ..AssertResult::default() }
    }

    /// The measured values. A dry run has none and ends here.
    fn measured(&self) -> &AssertResult {
        if self.is_dry {
            crate::note::end(&Note::Open("looks at what a run has measured".into()));
        }
        self
    }

    /// A result with one failed assertion.
    pub fn fail(reason: impl Into<String>) -> AssertResult {
        AssertResult { reasons: vec![reason.into()], ..AssertResult::default() }
    }

    /// Adds an assertion. `reason` is called only if `held` is false.
    pub fn ensure(mut self, held: bool, reason: impl FnOnce() -> String) -> AssertResult {
        if !held {
            self.reasons.push(reason());
        }
        self
    }

    /// Joins two results. It passes if both do.
    pub fn merge(mut self, other: AssertResult) -> AssertResult {
        self.reasons.extend(other.reasons);
        self.workers.extend(other.workers);
        self.cpu_usage.extend(other.cpu_usage);
        self.values.extend(other.values);
        self.phases.extend(other.phases);
        self.late.extend(other.late);
        self.is_dry |= other.is_dry;
        self
    }

    /// Adds a number to the run's metrics as `test.NAME`, with its unit (`ns`, `1/s`, ...). A value that is
    /// not finite is stored as null, not measured.
    pub fn metric(mut self, name: &str, value: f64, unit: &str, better: Better) -> AssertResult {
        self.values.push(Reported {
            name: format!("test.{name}"),
            role: None,
            phase: None,
            stat: "value".into(),
            value: Some(value).filter(|v| v.is_finite()),
            unit: Some(unit.into()),
            polarity: Some(better.name().into()),
        });
        self
    }

    /// Whether no assertion failed.
    pub fn is_pass(&self) -> bool {
        self.measured().reasons.is_empty()
    }

    /// The reasons of failed assertions.
    pub fn reasons(&self) -> &[String] {
        &self.measured().reasons
    }

    /// A report of each worker.
    pub fn workers(&self) -> &[WorkerReport] {
        &self.measured().workers
    }

    /// CPU time of a cgroup over the workload, microseconds; `None`: the scenario had no such cgroup.
    pub fn cpu_usage_us(&self, cgroup: &str) -> Option<u64> {
        self.measured().cpu_usage.iter().find(|u| u.cgroup == cgroup).map(|u| u.usage_us)
    }

    /// Asserts that the named cgroups shared CPU time in proportion to these weights. `tolerance` is a
    /// fraction of the expected share. The cgroups must have competed for the same CPUs all the time.
    pub fn ensure_shares(self, weights: &[(&str, u32)], tolerance: f64) -> AssertResult {
        if self.is_dry {
            return self;
        }
        let usage = |name: &str| self.cpu_usage_us(name).map(|u| u as f64);
        let all: Option<Vec<f64>> = weights.iter().map(|(name, _)| usage(name)).collect();
        let Some(used) = all else {
            let names: Vec<&str> = weights.iter().map(|(n, _)| *n).collect();
            return self.ensure(false, || {
                format!("the CPU time of one of these cgroups is not known: {}", names.join(", "))
            });
        };
        let (total, weight_sum) =
            (used.iter().sum::<f64>(), weights.iter().map(|(_, w)| f64::from(*w)).sum::<f64>());
        let mut result = self;
        for ((name, weight), used) in weights.iter().zip(used) {
            let (share, expected) = (used / total, f64::from(*weight) / weight_sum);
            let off = (share - expected).abs() / expected;
            // Written so that NaN fails.
            result = result.ensure(off <= tolerance, || {
                format!(
                    "cgroup {name} of weight {weight} had {:.1} % of the CPU time, its weight asks for {:.1} % (within {:.0} % of that)",
                    share * 100.0,
                    expected * 100.0,
                    tolerance * 100.0
                )
            });
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(a: u64, b: u64) -> AssertResult {
        let usage = |cgroup: &str, usage_us| CgroupUsage { cgroup: cgroup.into(), usage_us };
        AssertResult { cpu_usage: vec![usage("a", a), usage("b", b)], ..AssertResult::default() }
    }

    #[test]
    fn shares_within_tolerance_pass() {
        // Weights 100 and 300 ask for 25 % and 75 %; 26 % is 4 % off, 74 % is 1.3 % off.
        assert!(used(26, 74).ensure_shares(&[("a", 100), ("b", 300)], 0.05).is_pass());
        assert_eq!(used(30, 70).ensure_shares(&[("a", 100), ("b", 300)], 0.05).reasons().len(), 2);
    }

    #[test]
    fn unknown_or_idle_cgroups_fail() {
        assert!(!used(1, 1).ensure_shares(&[("a", 1), ("c", 1)], 1.0).is_pass());
        assert!(!used(0, 0).ensure_shares(&[("a", 1), ("b", 1)], 1.0).is_pass());
    }
}
