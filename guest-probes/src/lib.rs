//! The guest agent, PID 1 of every guest, and its BPF probes.
//!
//! One life: mounts and modules ([`crate::init::system`]), vsock ([`channel`]), the check of `/sys` ([`crate::init::topology`]), in `sim` the
//! CPUs' [`crate::init::races`], probes ([`crate::probes::skeleton`]), the
//! scheduler under test ([`crate::scheduler::process`]), the [`crate::agent::window`] around the test body ([`crate::test::body`]), the [`crate::report::results`], power-off ([`crate::agent::run`]). Nothing
//! is sent while the window is open, but what would not fit the [`crate::probes::record_log`] if the host cannot read it ([`crate::report::window_events`]). Or a [`crate::init::shell`] beside the scheduler. Whatever goes wrong is sent as a `BootError` and written
//! to the console; PID 1 never exits.

pub mod agent;
pub mod channel;
pub mod init;
pub mod kernel_stats;
pub mod probes;
pub mod process;
pub mod report;
pub mod scheduler;
pub mod test;

/// Runs the agent and powers the guest off.
pub fn main() {
    if std::process::id() != 1 {
        eprintln!("ktstr-guest is the init of ktstr's guests; cargo ktstr test starts it");
        std::process::exit(2);
    }
    if std::panic::catch_unwind(crate::agent::run::live).is_err() {
        eprintln!("ktstr-guest: panicked, see above");
    }
    crate::init::system::power_off();
}
