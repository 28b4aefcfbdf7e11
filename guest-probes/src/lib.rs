//! The guest agent, PID 1 of every guest, and its BPF probes.
//!
//! In order: mounts and modules (`init::system`), vsock (`channel`), the check of `/sys` (`init::topology`), in `sim` the
//! races of the CPUs (`init::races`), probes (`probes::skeleton`), the scheduler under test (`scheduler::process`), the
//! window (`agent::window`) with the test body (`test::body`), the results (`report::results`), power-off. While the
//! window is open the agent sends only records that would overflow the log and that the host cannot read
//! (`report::window_events`). Errors are sent as a `BootError` and printed on the console; PID 1 never exits.

#![warn(unreachable_pub)]

mod agent;
mod channel;
mod init;
mod kernel_stats;
mod probes;
mod process;
mod report;
mod scheduler;
mod test;

// The runner reads exits as the agent does; the cost tools run parts of the agent in guests of their own.
pub use crate::init::system::{mount_all, now_ns, power_off};
pub use crate::probes::skeleton::{Capacity, Probes};
pub use crate::scheduler::exit_report::victim_section;
pub use crate::scheduler::process::Scheduler;
pub use crate::scheduler::program_stats::ProgramStats;

/// Runs the agent and powers the guest off.
pub fn main() {
    if std::process::id() != 1 {
        eprintln!("ktstr-guest is the init of ktstr's guests; cargo ktstr test starts it");
        std::process::exit(2);
    }
    if std::panic::catch_unwind(crate::agent::run::run).is_err() {
        eprintln!("ktstr-guest: panicked, see above");
    }
    crate::init::system::power_off();
}
