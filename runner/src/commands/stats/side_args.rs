//! The options that select the sides of a comparison.

use std::collections::BTreeSet;

use clap::Args;
use ktstr_analysis::runs::index::{self, DIMENSIONS, Filters, RunEntry, dimension};

use crate::output::one_line;

/// The options that select one side.
pub(super) const SIDES: [&str; 12] = [
    "a_test",
    "b_test",
    "a_scheduler",
    "b_scheduler",
    "a_topology",
    "b_topology",
    "a_kernel",
    "b_kernel",
    "a_commit",
    "b_commit",
    "a_probes",
    "b_probes",
];

/// Filters of both sides and of each.
#[derive(Debug, Args)]
pub(crate) struct SideArgs {
    /// Both sides: this test only
    #[arg(long, conflicts_with_all = ["a_test", "b_test"])]
    test: Option<String>,
    /// Both sides: this scheduler only
    #[arg(long, conflicts_with_all = ["a_scheduler", "b_scheduler"])]
    scheduler: Option<String>,
    /// Both sides: this topology only
    #[arg(long, conflicts_with_all = ["a_topology", "b_topology"])]
    topology: Option<String>,
    /// Both sides: this kernel only
    #[arg(long, conflicts_with_all = ["a_kernel", "b_kernel"])]
    kernel: Option<String>,
    /// Both sides: this commit only
    #[arg(long, conflicts_with_all = ["a_commit", "b_commit"])]
    commit: Option<String>,
    /// Both sides: this accelerator only
    #[arg(long)]
    accel: Option<String>,
    /// Both sides: this level of the probes only
    #[arg(long, value_name = "LEVEL", conflicts_with_all = ["a_probes", "b_probes"])]
    probes: Option<String>,
    /// Side A: test
    #[arg(long)]
    a_test: Option<String>,
    /// Side B: test
    #[arg(long)]
    b_test: Option<String>,
    /// Side A: scheduler
    #[arg(long)]
    a_scheduler: Option<String>,
    /// Side B: scheduler
    #[arg(long)]
    b_scheduler: Option<String>,
    /// Side A: topology
    #[arg(long)]
    a_topology: Option<String>,
    /// Side B: topology
    #[arg(long)]
    b_topology: Option<String>,
    /// Side A: kernel
    #[arg(long)]
    a_kernel: Option<String>,
    /// Side B: kernel
    #[arg(long)]
    b_kernel: Option<String>,
    /// Side A: commit
    #[arg(long)]
    a_commit: Option<String>,
    /// Side B: commit
    #[arg(long)]
    b_commit: Option<String>,
    /// Side A: level of the probes
    #[arg(long, value_name = "LEVEL")]
    a_probes: Option<String>,
    /// Side B: level of the probes
    #[arg(long, value_name = "LEVEL")]
    b_probes: Option<String>,
}

impl SideArgs {
    /// The filters of both sides.
    pub(crate) fn filters(&self) -> (Filters, Filters) {
        let both = [
            &self.test,
            &self.scheduler,
            &self.topology,
            &self.kernel,
            &self.commit,
            &self.accel,
            &self.probes,
        ];
        let a = [
            &self.a_test,
            &self.a_scheduler,
            &self.a_topology,
            &self.a_kernel,
            &self.a_commit,
            &None,
            &self.a_probes,
        ];
        let b = [
            &self.b_test,
            &self.b_scheduler,
            &self.b_topology,
            &self.b_kernel,
            &self.b_commit,
            &None,
            &self.b_probes,
        ];
        let filters = |side: [&Option<String>; DIMENSIONS.len()]| {
            let values = DIMENSIONS.into_iter().zip(both.into_iter().zip(side));
            values.filter_map(|(d, (both, own))| Some((d, own.clone().or_else(|| both.clone())?))).collect()
        };
        (filters(a), filters(b))
    }

    /// Whether a side is named.
    pub(crate) fn names_a_side(&self) -> bool {
        let (a, b) = self.filters();
        a != b
    }
}

/// Restricts kernels and commits that no filter names to those of the newest run on a side, except in the
/// dimension `compared`.
pub(super) fn newest_only(runs: &[RunEntry], compared: &str, a: &mut Filters, b: &mut Filters) {
    for name in ["kernel", "commit"] {
        if name == compared || a.contains_key(name) || b.contains_key(name) {
            continue;
        }
        let on_a_side =
            || runs.iter().map(|r| &r.sidecar).filter(|s| index::matches(s, a) || index::matches(s, b));
        let values: BTreeSet<String> = on_a_side().map(|s| dimension(s, name)).collect();
        let Some(newest) = on_a_side().next_back().map(|s| dimension(s, name)) else { continue };
        if values.len() > 1 {
            eprintln!(
                "{name}: only {}, the newest of {}; --{name} chooses another",
                one_line(&newest),
                values.len()
            );
        }
        a.insert(name, newest.clone());
        b.insert(name, newest);
    }
}
