//! How long a test takes: what it took before, else a model.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use ktstr_wire::accel::Accel;
use serde::{Deserialize, Serialize};

/// Boots of the past that count: the median of the last five.
const RECENT: usize = 5;

/// What a boot takes beside the window, milliseconds: so much, and so much for each CPU. Measured on two idle
/// cores: `tcg` 2.3 s with 4 CPUs, 4 s with 16, 20 s with 64; `sim` 4 s with 4 and 7 s with 16.
const TCG_BOOT_MS: (u64, u64) = (2_000, 280);
const SIM_BOOT_MS: (u64, u64) = (3_000, 250);

/// Packing the guest's files, and converting what it sent, milliseconds.
const AROUND_MS: u64 = 1_500;

/// How long one boot took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct DurationSample {
    test: String,
    topology: String,
    accel: Accel,
    wall_ms: u64,
}

fn file(ktstr_dir: &Path) -> PathBuf {
    ktstr_dir.join("history").join("durations.jsonl")
}

/// Notes how long a boot of a test took. What cannot be written is not known next time, and costs nothing else.
pub(crate) fn note(ktstr_dir: &Path, test: &str, topology: &str, accel: Accel, wall_ms: u64) {
    let took = DurationSample { test: test.into(), topology: topology.into(), accel, wall_ms };
    let path = file(ktstr_dir);
    let write = || -> std::io::Result<()> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        let mut line = serde_json::to_vec(&took)?;
        line.push(b'\n');
        fs::OpenOptions::new().create(true).append(true).open(&path)?.write_all(&line)
    };
    let _ = write();
}

/// Durations of the past.
#[derive(Debug, Default)]
pub(crate) struct DurationHistory {
    by_key: BTreeMap<(String, String, Accel), Vec<u64>>,
}

impl DurationHistory {
    /// Reads them; where there are none, or they cannot be read, there is nothing to go by.
    pub(crate) fn read(ktstr_dir: &Path) -> DurationHistory {
        let text = fs::read_to_string(file(ktstr_dir)).unwrap_or_default();
        let mut past = DurationHistory::default();
        for took in text.lines().filter_map(|l| serde_json::from_str::<DurationSample>(l).ok()) {
            past.by_key.entry((took.test, took.topology, took.accel)).or_default().push(took.wall_ms);
        }
        past
    }

    /// The boots that count.
    fn recent(&self, test: &str, topology: &str, accel: Accel) -> &[u64] {
        let key = (test.to_string(), topology.to_string(), accel);
        let all = self.by_key.get(&key).map_or(&[][..], Vec::as_slice);
        &all[all.len().saturating_sub(RECENT)..]
    }

    /// How many boots of the past an estimate is from.
    pub(crate) fn nr_boots(&self, test: &str, topology: &str, accel: Accel) -> usize {
        self.recent(test, topology, accel).len()
    }

    /// Estimated time of one boot, milliseconds.
    pub(crate) fn boot_ms(
        &self,
        test: &str,
        topology: &str,
        accel: Accel,
        nr_cpus: u32,
        duration_ns: u64,
    ) -> u64 {
        let mut recent = self.recent(test, topology, accel).to_vec();
        recent.sort_unstable();
        recent.get(recent.len() / 2).map_or_else(|| model_ms(accel, nr_cpus, duration_ns), |ms| (*ms).max(1))
    }
}

fn model_ms(accel: Accel, nr_cpus: u32, duration_ns: u64) -> u64 {
    let (fixed, each) = if accel == Accel::Sim { SIM_BOOT_MS } else { TCG_BOOT_MS };
    // `sim` runs its CPUs one after the other.
    let pace = if accel == Accel::Sim { u64::from(nr_cpus) } else { 1 };
    fixed + each * u64::from(nr_cpus) + duration_ns / 1_000_000 * pace + AROUND_MS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn past_is_preferred_to_the_model() {
        let dir = tempfile::tempdir().unwrap();
        let empty = DurationHistory::read(dir.path());
        // 2,000 + 4 x 280 + 1,000 + 1,500.
        assert_eq!(empty.boot_ms("b::t", "1n1l4c1t", Accel::Tcg, 4, 1_000_000_000), 5_620);
        for ms in [1, 9_000, 7_000, 8_000, 30_000, 7_500] {
            note(dir.path(), "b::t", "1n1l4c1t", Accel::Tcg, ms);
        }
        let past = DurationHistory::read(dir.path());
        // The last five: 7,000, 7,500, 8,000, 9,000, 30,000.
        assert_eq!(past.boot_ms("b::t", "1n1l4c1t", Accel::Tcg, 4, 1_000_000_000), 8_000);
        assert_eq!(past.boot_ms("b::t", "1n1l2c1t", Accel::Tcg, 2, 1_000_000_000), 5_060);
    }
}
