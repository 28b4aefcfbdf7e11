//! vCPU threads: handling exits of the guest, and stopping from the outside.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::thread::JoinHandleExt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Once};
use std::thread::JoinHandle;
use std::time::Duration;

use kvm_bindings::{KVM_SYSTEM_EVENT_CRASH, KVM_SYSTEM_EVENT_RESET, KVM_SYSTEM_EVENT_SHUTDOWN, kvm_run};
use kvm_ioctls::{VcpuExit, VcpuFd};

use super::bus::Bus;
use super::confine::{self, Kind};
use super::ports::Effect;
use super::state::{MachineEnd, MachineState};
use super::wakeups::{self, Alarm};

/// Stack of a vCPU thread, bytes.
const STACK_BYTES: usize = 256 << 10;

/// A running vCPU.
#[derive(Debug)]
pub(crate) struct Vcpu {
    thread: Option<JoinHandle<()>>,
    page: RunPage,
}

impl Vcpu {
    /// Starts vCPU number `cpu` on a thread `vcpuN`, and ends its `hlt` each `wakeups`.
    pub(crate) fn start(
        fd: VcpuFd,
        cpu: u32,
        run_bytes: usize,
        wakeups: Option<Duration>,
        bus: Arc<Bus>,
        state: Arc<MachineState>,
    ) -> io::Result<Vcpu> {
        catch_kicks()?;
        let page = RunPage::map(&fd, run_bytes)?;
        let run = move || {
            let end = match wakeups.map(|interval| Alarm::start(interval, kick_signal())).transpose() {
                Ok(alarm) => run(fd, cpu, alarm.is_some(), &bus, &state),
                Err(e) => Some(MachineEnd::Failed(format!("timer of CPU {cpu}: {e}"))),
            };
            if let Some(end) = end {
                state.end(end);
            }
        };
        let builder = std::thread::Builder::new().name(format!("vcpu{cpu}")).stack_size(STACK_BYTES);
        Ok(Vcpu { thread: Some(builder.spawn(run)?), page })
    }

    /// Makes the vCPU leave the guest at once and look at [`MachineState::is_stopped`].
    pub(crate) fn kick(&self) {
        // First the flag, then the signal: a vCPU about to enter sees the one, a vCPU in the guest the other.
        self.page.request_exit();
        if let Some(thread) = &self.thread {
            // SAFETY: the thread has not been joined, and so its handle is valid; the signal's handler does nothing.
            unsafe { libc::pthread_kill(thread.as_pthread_t(), kick_signal()) };
        }
    }

    /// Waits for the thread.
    pub(crate) fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has ended as well; `run` reports it.
            let _ = thread.join();
        }
    }
}

impl Drop for Vcpu {
    fn drop(&mut self) {
        self.kick();
        self.join();
    }
}

/// The signal that makes KVM_RUN return.
fn kick_signal() -> libc::c_int {
    libc::SIGRTMIN()
}

/// A signal without a handler would end the process.
fn catch_kicks() -> io::Result<()> {
    extern "C" fn nothing(_: libc::c_int) {}
    static INSTALLED: Once = Once::new();
    let mut result = Ok(());
    INSTALLED.call_once(|| {
        // SAFETY: sigaction holds integers, a set and pointers, for all of which zero is valid: no flags, nothing blocked.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = nothing as *const () as libc::sighandler_t;
        // SAFETY: the action lives until the call returns, and its handler is async-signal-safe.
        if unsafe { libc::sigaction(kick_signal(), &action, std::ptr::null_mut()) } != 0 {
            result = Err(io::Error::last_os_error());
        }
    });
    result
}

/// A second mapping of the page that KVM shares with a vCPU's thread, for the flag by which others stop it.
#[derive(Debug)]
struct RunPage {
    hva: *mut libc::c_void,
    bytes: usize,
}

// SAFETY: the mapping belongs to this value alone, and only an atomic in it is ever accessed.
unsafe impl Send for RunPage {}
// SAFETY: likewise.
unsafe impl Sync for RunPage {}

impl RunPage {
    fn map(fd: &VcpuFd, bytes: usize) -> io::Result<RunPage> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping, placed by the system, of a vCPU's descriptor, which allows `bytes` (KVM_GET_VCPU_MMAP_SIZE).
        let hva = unsafe {
            libc::mmap(std::ptr::null_mut(), bytes, protection, libc::MAP_SHARED, fd.as_raw_fd(), 0)
        };
        if hva == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(RunPage { hva, bytes }) }
    }

    fn request_exit(&self) {
        // SAFETY: the mapping is larger than kvm_run, whose byte KVM reads; the field stays inside of it.
        let flag = unsafe { self.hva.cast::<u8>().add(std::mem::offset_of!(kvm_run, immediate_exit)) };
        // SAFETY: the byte is mapped as long as `self`, and everyone accesses it atomically or through KVM.
        unsafe { AtomicU8::from_ptr(flag) }.store(1, Ordering::SeqCst);
    }
}

impl Drop for RunPage {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `map` with this length, and nothing refers to it any more.
        unsafe { libc::munmap(self.hva, self.bytes) };
    }
}

/// Runs a vCPU until the guest ends or the machine is stopped, which gives `None`.
fn run(mut fd: VcpuFd, cpu: u32, is_woken: bool, bus: &Bus, state: &MachineState) -> Option<MachineEnd> {
    if let Err(e) = confine::confine(Kind::Vcpu { routes: bus.has_io_apic(), is_woken }) {
        return Some(MachineEnd::Failed(e.to_string()));
    }
    while !state.is_stopped() {
        let effect = match fd.run() {
            Ok(VcpuExit::IoOut(port, data)) => bus.port_write(port, data),
            Ok(VcpuExit::IoIn(port, data)) => bus.port_read(port, data),
            Ok(VcpuExit::MmioWrite(gpa, data)) => bus.mmio_write(gpa, data),
            Ok(VcpuExit::MmioRead(gpa, data)) => bus.mmio_read(gpa, data),
            Ok(VcpuExit::Shutdown) => return Some(MachineEnd::TripleFault { cpu }),
            Ok(VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_SHUTDOWN, _)) => Effect::PowerOff,
            Ok(VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_RESET | KVM_SYSTEM_EVENT_CRASH, _)) => Effect::Reset,
            // The end of a level-triggered interrupt: ours are edges, whatever the guest takes them for.
            Ok(VcpuExit::Intr | VcpuExit::IoapicEoi(_)) => Effect::None,
            Ok(VcpuExit::InternalError) => return Some(internal_error(&mut fd, cpu)),
            Ok(other) => {
                let what = format!("CPU {cpu} left the guest with {other:?}, which ktstr does not know");
                return Some(MachineEnd::Failed(what));
            }
            Err(e) if matches!(e.errno(), libc::EINTR | libc::EAGAIN) => {
                match is_woken.then(|| wakeups::wake(&fd)) {
                    None | Some(Ok(())) => Effect::None,
                    Some(Err(e)) => return Some(MachineEnd::Failed(format!("state of CPU {cpu}: {e}"))),
                }
            }
            Err(e) => return Some(MachineEnd::Failed(format!("KVM_RUN on CPU {cpu}: {e}"))),
        };
        match effect {
            Effect::None => {}
            Effect::PowerOff => return Some(MachineEnd::PoweredOff),
            Effect::Reset => return Some(MachineEnd::Reset),
            Effect::Unrouted(e) => return Some(MachineEnd::Failed(format!("KVM_SET_GSI_ROUTING: {e}"))),
        }
    }
    None
}

/// `KVM_INTERNAL_ERROR_EMULATION` (Linux, include/uapi/linux/kvm.h).
const EMULATION_FAILED: u32 = 1;

/// Explains an internal error of KVM.
fn internal_error(fd: &mut VcpuFd, cpu: u32) -> MachineEnd {
    let rip = fd.get_regs().map_or_else(|_| "unknown".into(), |r| format!("{:#x}", r.rip));
    // SAFETY: the exit reason was KVM_EXIT_INTERNAL_ERROR, for which KVM fills this member of the union.
    let suberror = unsafe { fd.get_kvm_run().__bindgen_anon_1.internal }.suberror;
    MachineEnd::Failed(if suberror == EMULATION_FAILED {
        format!(
            "KVM on this host emulates guest code and does not know an instruction (CPU {cpu}, rip {rip}); use --accel tcg, and see cargo ktstr doctor"
        )
    } else {
        format!("KVM gave up on CPU {cpu} at rip {rip} (internal error {suberror})")
    })
}
