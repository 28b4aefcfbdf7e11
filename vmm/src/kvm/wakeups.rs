//! Makes up for wakeups that an emulated KVM loses.
//!
//! QEMU emulates AMD's virtualization without the interrupt shadow of the VMCB (`int_state`, AMD's manual volume 2, 15.21.5): VMRUN
//! does not take it. If the host is interrupted while a guest's CPU is between `sti` and `hlt`, what that interrupt brings for the
//! guest is delivered there, and the `hlt` after it sleeps on what was to be woken: 12 of 1661 wakeups were lost in QEMU 7.2, by a
//! guest that does nothing else. On such a host every vCPU is therefore woken from `hlt` now and then. To a guest that is an `hlt`
//! which returns early, as it may.

use std::arch::x86_64::__cpuid;
use std::io;
use std::time::Duration;

use kvm_bindings::{KVM_MP_STATE_HALTED, KVM_MP_STATE_RUNNABLE, kvm_mp_state};
use kvm_ioctls::VcpuFd;

/// Time between two wakeups in one guest: few enough for a host of one emulated CPU.
const INTERVAL: Duration = Duration::from_millis(20);

/// The hypervisor's leaf, and what QEMU's emulator says of itself in it (QEMU, target/i386/cpu.c).
const SIGNATURE_LEAF: u32 = 0x4000_0000;
const EMULATOR: [u8; 12] = *b"TCGTCGTCGTCG";

/// How often a vCPU of a guest with so many has to be woken on this host, if it has to.
pub(crate) fn interval(nr_cpus: usize) -> Option<Duration> {
    let leaf = __cpuid(SIGNATURE_LEAF);
    let signature = [leaf.ebx, leaf.ecx, leaf.edx].map(u32::to_le_bytes).concat();
    (signature == EMULATOR).then(|| INTERVAL * u32::try_from(nr_cpus).unwrap_or(u32::MAX))
}

/// Ends a vCPU's `hlt`. Does nothing to one that runs or has not been started.
pub(crate) fn wake(fd: &VcpuFd) -> Result<(), kvm_ioctls::Error> {
    if fd.get_mp_state()?.mp_state == KVM_MP_STATE_HALTED {
        fd.set_mp_state(kvm_mp_state { mp_state: KVM_MP_STATE_RUNNABLE })?;
    }
    Ok(())
}

/// A timer that signals the thread that made it, until it is dropped.
#[derive(Debug)]
pub(crate) struct Alarm(libc::timer_t);

impl Alarm {
    /// Signals the calling thread each `interval`.
    pub(crate) fn start(interval: Duration, signal: libc::c_int) -> io::Result<Alarm> {
        // SAFETY: sigevent holds integers and a pointer, for which zero is valid.
        let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = signal;
        // SAFETY: takes nothing.
        event.sigev_notify_thread_id = unsafe { libc::gettid() };
        let mut timer = std::ptr::null_mut();
        // SAFETY: both arguments live until the call returns.
        if unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &mut event, &mut timer) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let alarm = Alarm(timer);
        let (tv_sec, tv_nsec) = (interval.as_secs() as libc::time_t, interval.subsec_nanos().into());
        let period = libc::timespec { tv_sec, tv_nsec };
        let times = libc::itimerspec { it_interval: period, it_value: period };
        // SAFETY: the timer was made above, and `times` lives until the call returns.
        match unsafe { libc::timer_settime(alarm.0, 0, &times, std::ptr::null_mut()) } {
            0 => Ok(alarm),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        // SAFETY: the timer was made by `start`, and is deleted once.
        unsafe { libc::timer_delete(self.0) };
    }
}
