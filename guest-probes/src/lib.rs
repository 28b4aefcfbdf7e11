//! The guest agent, PID 1 of every guest, and its BPF probes.
//!
//! One life: mounts and modules ([`system`]), vsock ([`channel`]), the check of `/sys` ([`observe`]), in `sim` the
//! CPUs' [`races`], probes ([`probes`]), the
//! scheduler under test ([`scheduler`]), the [`window`] around the test body ([`body`]), the [`drain`], power-off ([`life`]). Nothing
//! is sent while the window is open, but what would not fit the [`log`] if the host cannot read it ([`edges`]). Or a [`shell`] beside the scheduler. Whatever goes wrong is sent as a `BootError` and written
//! to the console; PID 1 never exits.

pub mod body;
pub mod cgroup_stat;
pub mod channel;
pub mod drain;
pub mod edges;
pub mod ending;
pub mod exit_report;
pub mod kernel_log;
pub mod life;
pub mod log;
pub mod mapped;
pub mod observe;
pub mod pagemap;
pub mod probes;
pub mod procfs;
pub mod programs;
pub mod quiet;
pub mod races;
pub mod rank;
pub mod reign;
pub mod roles;
pub mod rows;
pub mod scheduler;
pub mod shell;
pub mod system;
pub mod tail;
pub mod tally;
pub mod turns;
pub mod watch;
pub mod window;

/// Runs the agent and powers the guest off.
pub fn main() {
    if std::process::id() != 1 {
        eprintln!("ktstr-guest is the init of ktstr's guests; cargo ktstr test starts it");
        std::process::exit(2);
    }
    if std::panic::catch_unwind(life::live).is_err() {
        eprintln!("ktstr-guest: panicked, see above");
    }
    system::power_off();
}
