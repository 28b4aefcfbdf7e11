//! Thresholds of materiality: those of the catalogue, and a project's own from a file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::catalog::metrics::{self, METRICS, Metric, Polarity};

/// Thresholds and judgements that differ from the catalogue.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Smallest material shift by metric, as a fraction of the median of side A or of a ratio above or below 1.
    #[serde(default)]
    material: BTreeMap<String, f64>,
    /// Whether a metric is judged, by metric. Of other metrics the primary statistics are judged.
    #[serde(default)]
    judge: BTreeMap<String, bool>,
}

/// Error of a policy file.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    File {
        /// Path of the file.
        path: PathBuf,
        /// Error of the system.
        source: std::io::Error,
    },
    /// The file is not a policy.
    #[error(
        "{path} is not a policy: {reason}\na policy is TOML, for example:\n[material]\nwakeup_latency = 0.02\n[judge]\nyields = false"
    )]
    Form {
        /// Path of the file.
        path: PathBuf,
        /// Description of the error.
        reason: String,
    },
}

impl Policy {
    /// Reads a policy file.
    pub fn read(path: &Path) -> Result<Policy, PolicyError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| PolicyError::File { path: path.into(), source })?;
        Policy::parse(&text).map_err(|reason| PolicyError::Form { path: path.into(), reason })
    }

    fn parse(text: &str) -> Result<Policy, String> {
        let policy: Policy = toml::from_str(text).map_err(|e| e.to_string().trim_end().to_string())?;
        for name in policy.material.keys().chain(policy.judge.keys()) {
            if metrics::metric(name).is_none() {
                let all: Vec<&str> = METRICS.iter().map(|m| m.name).collect();
                return Err(format!("there is no metric {name}; the metrics are {}", all.join(", ")));
            }
        }
        let neutral = |name: &str| metrics::metric(name).is_some_and(|m| m.polarity == Polarity::Neutral);
        if let Some((name, _)) = policy.judge.iter().find(|(name, judge)| **judge && neutral(name)) {
            return Err(format!(
                "judge.{name} = true: neither direction of it is better, so that it cannot be judged"
            ));
        }
        match policy.material.iter().find(|(_, v)| !(0.0..=10.0).contains(*v)) {
            Some((name, v)) => Err(format!("material.{name} = {v} is not a fraction from 0 to 10")),
            None => Ok(policy),
        }
    }

    /// Smallest material shift of a metric, as a fraction.
    pub fn material_frac(&self, metric: &Metric) -> f64 {
        self.material.get(metric.name).copied().unwrap_or(metric.material_frac)
    }

    /// Whether a statistic is judged: it can regress and so influence the exit status. By default the primary
    /// ones are.
    pub fn judges(&self, metric: &Metric, stat: &str) -> bool {
        let primary = metrics::PRIMARY.contains(&(metric.name, stat));
        metric.polarity != Polarity::Neutral && self.judge.get(metric.name).copied().unwrap_or(primary)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_overrides_the_registry() {
        let p = Policy::parse(
            "[material]\nwakeup_latency = 0.2\n[judge]\nmigrations = false\npreemption_wait = true",
        )
        .unwrap();
        let m = |name| metrics::metric(name).unwrap();
        assert_eq!((p.material_frac(m("wakeup_latency")), p.material_frac(m("run_delay"))), (0.2, 0.05));
        let judges = |p: &Policy, name, stat| p.judges(m(name), stat);
        assert!(!judges(&p, "migrations", "value") && judges(&Policy::default(), "migrations", "value"));
        assert!(judges(&p, "wakeup_latency", "p99") && !judges(&p, "context_switches", "value"));
        assert!(
            judges(&p, "preemption_wait", "p99") && !judges(&Policy::default(), "preemption_wait", "p99")
        );
        assert!(!judges(&p, "slice_length", "p50"), "neutral metrics are never judged");
        assert_eq!(Policy::parse("").unwrap(), Policy::default());
    }

    #[test]
    fn examples_are_policies() {
        let page = include_str!("../../../docs/comparing.md");
        let example = page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        assert_ne!(Policy::parse(example).unwrap(), Policy::default());
        let message = PolicyError::Form { path: "p".into(), reason: "r".into() }.to_string();
        let (_, example) = message.split_once("for example:\n").unwrap();
        assert_ne!(Policy::parse(example).unwrap(), Policy::default());
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, part) in [
            ("[material]\nlatency = 1", "no metric latency"),
            ("[material]\nrun_delay = -1", "material.run_delay = -1"),
            ("[judge]\nslice_length = true", "judge.slice_length = true"),
            ("[materials]", "materials"),
            ("material = 3", "material"),
        ] {
            let e = Policy::parse(text).unwrap_err();
            assert!(e.contains(part), "{e}");
        }
    }
}
