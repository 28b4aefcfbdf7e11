//! Cost of a scheduler's BPF programs without the cost of the measurement.

use ktstr_wire::message::ProgramRun;

/// Run time of a program without the cost of its measurement, nanoseconds.
pub(crate) fn cost_ns(program: &ProgramRun, baseline_ns: u64) -> u64 {
    program.run_ns.saturating_sub(program.calls.saturating_mul(baseline_ns))
}
