//! Cost of a scheduler's BPF programs without the cost of measuring it.

use ktstr_wire::message::ProgramRun;

/// What a program took without what measuring it took, nanoseconds.
pub(crate) fn cost_ns(program: &ProgramRun, baseline_ns: u64) -> u64 {
    program.run_ns.saturating_sub(program.calls.saturating_mul(baseline_ns))
}
