//! The one definition of what crosses between a guest and its host.
//!
//! The guest agent connects to the host over vsock ([`VSOCK_PORT`]) and sends [`frame`]s: a checked header
//! and a payload. The payload is a JSON [`message`] or a list of fixed-size binary [`record`]s, which the
//! host may also read from the guest's memory ([`ring`]). The host appends the frames to a raw log and
//! converts the log when the guest has ended. A guest finds its task in its initramfs as a
//! [`spec::GuestSpec`] ([`GUEST_SPEC_PATH`]). In the guest the agent and the process of the test body
//! exchange the lines of [`body`] over a socket pair. [`mod@env`] has the environment variables.
//!
//! Owns: layouts, names, versions. Does not own: I/O other than the environment's, BPF, Parquet. Invariants:
//! decoding never panics and never trusts a length; all integers are little endian; all times are nanoseconds
//! of `CLOCK_MONOTONIC` in the guest unless a field says otherwise; a value that could not be measured is
//! `None`, never 0.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
// For `env` alone.
extern crate std;

#[macro_use]
mod names;

pub mod accel;
pub mod body;
pub mod env;
pub mod frame;
pub mod histogram;
pub mod host;
pub mod listing;
pub mod message;
pub mod record;
pub mod ring;
pub mod slots;
pub mod spec;
pub mod stats;
pub mod topology;

/// Version of everything in this crate; a host and a guest agent work together only if it is equal.
pub const WIRE_VERSION: u16 = 4;

/// `SCHED_FIFO` priorities of the agent and of the test body while the window is open, and the highest
/// real-time priority of a worker. Whatever workers do, the test can end them and the window closes on time.
/// 99 is the highest priority of Linux.
pub const AGENT_PRIORITY: u32 = 99;
/// See [`AGENT_PRIORITY`].
pub const BODY_PRIORITY: u32 = 98;
/// See [`AGENT_PRIORITY`].
pub const MAX_WORKER_PRIORITY: u32 = 97;

/// vsock port on the host (CID 2) that the guest agent connects to.
pub const VSOCK_PORT: u32 = 5201;

/// Directory in the guest with the schedulers that a test may change to, by file name.
pub const ALSO_DIR: &str = "/ktstr/bin/also";

/// Directory in the guest with the payloads of a test and their files.
pub const PAYLOAD_DIR: &str = "/ktstr/bin/payload";

/// Directory in the guest with the programs that scripts run.
pub const TOOLS_DIR: &str = "/ktstr/bin/tools";

/// Other directories on the `PATH` of a guest, after [`TOOLS_DIR`].
pub const GUEST_PATH_DIRS: [&str; 4] = ["/usr/bin", "/bin", "/usr/sbin", "/sbin"];

/// Path of the [`spec::GuestSpec`] in the guest, as JSON.
pub const GUEST_SPEC_PATH: &str = "/ktstr/spec.json";
