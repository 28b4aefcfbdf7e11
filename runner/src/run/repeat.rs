//! All boots of one test.

use std::sync::atomic::AtomicBool;
use std::time::Instant;

use ktstr_analysis::Verdict;

use crate::exit;
use crate::run::error::RunError;
use crate::run::judge::verdict::Judgement;
use crate::run::plan::Plan;
use crate::run::{durations, report};

/// Runs a test as `internal-run` does: every repetition in turn, reports on stdout. Gives the exit status of the first
/// boot that did not pass.
pub(crate) fn run_all(plan: &Plan, stop: &AtomicBool) -> Result<u8, RunError> {
    let mut status = exit::OK;
    for i in plan.settings.repeats.clone() {
        let start = Instant::now();
        let published = plan.boot(i, stop)?;
        let id = &published.sidecar.identity;
        let wall_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        // One that did not get through says nothing of how long the test takes.
        if !matches!(published.judgement.verdict, Verdict::BootError | Verdict::Inconclusive) {
            durations::note(&plan.ktstr_dir, &id.full_test(), &id.topology.to_string(), id.accel, wall_ms);
        }
        report::print(&published, plan);
        if published.judgement.exit_status != exit::OK {
            // nextest takes what follows this word on standard error into its reports.
            eprintln!("Error: {}", published.judgement.reason());
        }
        crate::run::session_log::append(&plan.ktstr_dir, &plan.settings.session, &published);
        let Judgement { exit_status, .. } = published.judgement;
        if status == exit::OK {
            status = exit_status;
        }
    }
    Ok(status)
}
