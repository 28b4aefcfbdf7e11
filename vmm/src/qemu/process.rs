//! A QEMU process: how it is started, followed and ended.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use ktstr_wire::slots::Slots;

use crate::config::{GuestConfig, MAX_SOCKET_PATH_BYTES};
use crate::error::StartError;
use crate::guest_end::GuestEnd;
use crate::guest_memory::GuestMemory;
use crate::host::child::{ChildEnd, die_with, inherit};
use crate::host::vcpu_threads::CpuThreads;
use crate::qemu::arguments::{self, Emulation, Inherited};
use crate::qemu::slots::SharedPage;
use crate::vsock::device::Accept;
use crate::vsock::vhost_user::Server;
use ktstr_wire::accel::Accel;

/// How much of QEMU's messages is kept, bytes.
const MAX_STDERR_BYTES: usize = 16 << 10;

/// A running QEMU. Dropping it kills it and removes its sockets and threads.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    ended: ChildEnd,
    status: Option<ExitStatus>,
    /// What QEMU writes to standard error; a file without a name.
    stderr: File,
    /// Its log, likewise.
    log: File,
    /// Reason of the QMP event `SHUTDOWN`, once there was one.
    shutdown: Arc<Mutex<Option<String>>>,
    qmp: Option<JoinHandle<()>>,
    vsock: Server,
    /// Of the emulator of `sim`.
    page: Option<SharedPage>,
}

/// Boots a guest. `given` returns the Unix stream of each port that the guest connects to on CID 2.
///
/// The guest also dies with the thread that calls this (PR_SET_PDEATHSIG knows threads, not processes), which must
/// therefore outlive it.
pub(crate) fn start(config: &GuestConfig, accel: Accel, given: Accept) -> Result<Process, StartError> {
    let socket = config.run_dir.join("vsock");
    if socket.as_os_str().as_bytes().len() > MAX_SOCKET_PATH_BYTES {
        return Err(StartError::LongPath { path: socket });
    }
    let in_run_dir = |source| StartError::File { path: config.run_dir.clone(), source };
    let stderr = tempfile::tempfile_in(&config.run_dir).map_err(in_run_dir)?;
    let child_stderr = stderr.try_clone().map_err(in_run_dir)?;
    let log = tempfile::tempfile_in(&config.run_dir).map_err(in_run_dir)?;
    let (qmp, child_qmp) = UnixStream::pair().map_err(|source| StartError::Spawn { source })?;
    let (page, emulation, accept);
    if accel == Accel::Sim {
        let emulator = config.emulator.as_ref().ok_or(StartError::NoEmulator)?;
        let shared = SharedPage::new().map_err(|source| StartError::Spawn { source })?;
        emulation = Emulation::Counted(emulator, shared.fd());
        accept = shared.live_with(given);
        page = Some(shared);
    } else {
        (page, emulation, accept) = (None, Emulation::Threads, given);
    }
    let vsock = Server::start(&socket, arguments::GUEST_CID, accept)
        .map_err(|source| StartError::Vsock { path: socket.clone(), source })?;
    let inherited = Inherited { qmp: child_qmp.as_raw_fd(), log: log.as_raw_fd() };
    let mut command = Command::new(emulation.program());
    command
        .args(arguments::arguments(config, emulation, &socket, inherited))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(child_stderr)
        // Away from the terminal's signals: this process decides when the guest ends.
        .process_group(0);
    let (parent, page_fd) = (std::process::id(), page.as_ref().map(SharedPage::fd));
    // SAFETY: between fork and exec this calls only prctl, getppid and fcntl, which are async-signal-safe, and allocates
    // nothing.
    unsafe {
        command.pre_exec(move || {
            die_with(parent, libc::SIGKILL)?;
            inherit(inherited.qmp)?;
            inherit(inherited.log)?;
            page_fd.map_or(Ok(()), inherit)
        })
    };
    let missing = if page.is_some() { StartError::NoEmulator } else { StartError::NoQemu };
    let mut child = command.spawn().map_err(|source| StartError::of_qemu(source, missing))?;
    let ended = ChildEnd::of(&mut child).map_err(|source| StartError::Spawn { source })?;
    let shutdown = Arc::new(Mutex::new(None));
    let mut guest = Process { child, ended, status: None, stderr, log, shutdown, qmp: None, vsock, page };
    guest.qmp = Some(guest.watch_qmp(qmp).map_err(|source| StartError::Spawn { source })?);
    Ok(guest)
}

impl Process {
    /// The threads that run the guest's CPUs; `None` where one thread runs all of them.
    pub(crate) fn cpu_threads(&self) -> Option<CpuThreads> {
        self.page.is_none().then(|| CpuThreads::of_qemu(self.child.id()))
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The guest's memory.
    pub(crate) fn memory(&self) -> GuestMemory {
        self.vsock.memory()
    }

    /// What each CPU of a guest in `sim` got; `None`: it is none.
    pub(crate) fn slots(&self) -> Option<io::Result<Slots>> {
        self.page.as_ref().map(SharedPage::slots)
    }

    /// Follows QMP for the reason of the shutdown, until QEMU closes its end.
    fn watch_qmp(&self, mut qmp: UnixStream) -> io::Result<JoinHandle<()>> {
        let shutdown = self.shutdown.clone();
        let follow = move || {
            if qmp.write_all(b"{\"execute\":\"qmp_capabilities\"}\n").is_err() {
                return;
            }
            for line in BufReader::new(qmp).lines().map_while(Result::ok) {
                if let Some(reason) = shutdown_reason(&line) {
                    *shutdown.lock().unwrap_or_else(|p| p.into_inner()) = Some(reason);
                }
            }
        };
        std::thread::Builder::new().name("qmp".into()).spawn(follow)
    }

    /// Waits for the end, at most `patience`.
    pub(crate) fn wait(&mut self, patience: Duration) -> Option<GuestEnd> {
        let ended = self.ended.wait(patience).and_then(|_| self.child.try_wait());
        match ended {
            Ok(Some(status)) => {
                self.status = Some(status);
                Some(self.end(status))
            }
            Ok(None) => None,
            Err(e) => Some(GuestEnd::Crashed { status: e.to_string(), stderr: String::new() }),
        }
    }

    fn end(&mut self, status: ExitStatus) -> GuestEnd {
        if let Some(qmp) = self.qmp.take() {
            let _ = qmp.join();
        }
        let reason = self.shutdown.lock().unwrap_or_else(|p| p.into_inner()).clone();
        match (status.success(), reason.as_deref()) {
            (true, Some("guest-shutdown")) => GuestEnd::PoweredOff,
            (true, Some("guest-reset")) if self.has_met_a_triple_fault() => {
                GuestEnd::TripleFault { cpu: None }
            }
            (true, Some("guest-reset" | "guest-panic")) => GuestEnd::Reset,
            _ => GuestEnd::Crashed { status: status.to_string(), stderr: self.stderr_text() },
        }
    }

    /// Whether the last that QEMU logged is a triple fault.
    fn has_met_a_triple_fault(&self) -> bool {
        let last = tail(&self.log, arguments::TRIPLE_FAULT.len() + 1);
        last.trim_end() == arguments::TRIPLE_FAULT
    }

    /// The last [`MAX_STDERR_BYTES`] of what QEMU wrote: it warns first and says why it ends last.
    fn stderr_text(&self) -> String {
        tail(&self.stderr, MAX_STDERR_BYTES).trim_end().to_string()
    }

    /// Ends the guest at once.
    pub(crate) fn kill(&mut self) {
        if self.status.is_none() {
            // It may have ended by itself just now.
            let _ = self.child.kill();
            self.status = self.child.wait().ok();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if let Some(qmp) = self.qmp.take() {
            let _ = qmp.join();
        }
    }
}

/// The last `bytes` of what was written to a file.
fn tail(file: &File, bytes: usize) -> String {
    let mut text = vec![0; bytes];
    let written = file.metadata().map_or(0, |m| m.len());
    let start = written.saturating_sub(bytes as u64);
    // Without it the status still tells how QEMU ended.
    let len = file.read_at(&mut text, start).unwrap_or(0);
    String::from_utf8_lossy(&text[..len]).into_owned()
}

/// `reason` of a QMP event `SHUTDOWN` (QEMU QMP reference, ShutdownCause). Events are one JSON object a line.
fn shutdown_reason(line: &str) -> Option<String> {
    if !line.contains("\"SHUTDOWN\"") {
        return None;
    }
    let (_, rest) = line.split_once("\"reason\"")?;
    Some(rest.split('"').nth(1)?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reason_is_read_from_the_event() {
        let line = r#"{"timestamp": {"seconds": 1}, "event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-shutdown"}}"#;
        assert_eq!(shutdown_reason(line).as_deref(), Some("guest-shutdown"));
        assert_eq!(shutdown_reason(r#"{"event": "RESUME"}"#), None);
    }
}
