//! Confines the threads that serve a guest: a guest that takes one over gets no files and few system calls.
//!
//! Each thread restricts itself before it handles guest data: no new privileges, landlock without any path, and
//! a seccomp filter of its kind. Other calls fail with EPERM, so that a library's fallback still works.

use std::collections::BTreeMap;

use landlock::{ABI, Access, AccessFs, Ruleset, RulesetAttr};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};

/// Kinds of threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Runs a vCPU.
    Vcpu {
        /// The I/O APIC is ours: the guest's accesses change routes.
        routes: bool,
        /// Its `hlt` is ended now and then ([`super::wakeups`]).
        is_woken: bool,
    },
    /// Serves the vsock device.
    Vsock,
}

/// A thread could not be confined.
#[derive(Debug, thiserror::Error)]
#[error("cannot confine a thread of the guest: {0}")]
pub(crate) struct ConfineError(String);

/// Calls that every thread needs: memory, locks, time, signals, exit, and its open files.
const EVERY: [libc::c_long; 22] = [
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_close,
    libc::SYS_futex,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_sched_yield,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigprocmask,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Calls of the vsock device's thread, on its streams.
const VSOCK: [libc::c_long; 10] = [
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_ctl,
    libc::SYS_fcntl,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_sendto,
    libc::SYS_recvfrom,
    libc::SYS_readv,
    libc::SYS_writev,
];

/// `KVM_RUN`, `KVM_GET_REGS` (Linux, include/uapi/linux/kvm.h, as the next two).
const VCPU_IOCTLS: [u64; 2] = [0xae80, 0x8090_ae81];
/// `KVM_SET_GSI_ROUTING`.
const ROUTES_IOCTLS: [u64; 1] = [0x4008_ae6a];
/// `KVM_GET_MP_STATE`, `KVM_SET_MP_STATE`.
const WAKEUP_IOCTLS: [u64; 2] = [0x8004_ae98, 0x4004_ae99];
/// Deletes the wakeup timer.
const WAKEUP: [libc::c_long; 1] = [libc::SYS_timer_delete];
/// `FIONBIO`, by which Rust makes a stream non-blocking.
const VSOCK_IOCTLS: [u64; 1] = [0x5421];

/// Confines the calling thread for good.
pub(crate) fn confine(kind: Kind) -> Result<(), ConfineError> {
    let failed = |e: &dyn std::fmt::Display| ConfineError(e.to_string());
    // Landlock sets no_new_privs as well, and where the kernel has no landlock the filter alone remains.
    Ruleset::default()
        .handle_access(AccessFs::from_all(ABI::V4))
        .and_then(|r| r.create())
        .and_then(|r| r.restrict_self())
        .map_err(|e| failed(&e))?;
    let program = filter(kind).map_err(|e| failed(&e))?;
    seccompiler::apply_filter(&program).map_err(|e| failed(&e))
}

fn filter(kind: Kind) -> Result<BpfProgram, seccompiler::BackendError> {
    let (mut more, mut ioctls) = (Vec::new(), Vec::new());
    match kind {
        Kind::Vcpu { routes, is_woken } => {
            ioctls.extend(VCPU_IOCTLS);
            if routes {
                ioctls.extend(ROUTES_IOCTLS);
            }
            if is_woken {
                ioctls.extend(WAKEUP_IOCTLS);
                more.extend(WAKEUP);
            }
        }
        Kind::Vsock => {
            ioctls.extend(VSOCK_IOCTLS);
            more.extend(VSOCK);
        }
    }
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        EVERY.iter().chain(&more).map(|call| (*call, Vec::new())).collect();
    let allowed = ioctls.iter().map(|number| {
        let is = SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, *number)?;
        SeccompRule::new(vec![is])
    });
    rules.insert(libc::SYS_ioctl, allowed.collect::<Result<_, _>>()?);
    let denied = SeccompAction::Errno(libc::EPERM as u32);
    SeccompFilter::new(rules, denied, SeccompAction::Allow, TargetArch::x86_64)?.try_into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{ErrorKind, Read, Write};
    use std::os::unix::net::UnixStream;

    #[test]
    fn confined_thread_keeps_what_it_has_and_opens_nothing() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let vcpus = [(false, false), (true, false), (false, true), (true, true)];
        let vcpus = vcpus.map(|(routes, is_woken)| Kind::Vcpu { routes, is_woken });
        for kind in vcpus.into_iter().chain([Kind::Vsock]) {
            let mut writer = writer.try_clone().unwrap();
            let thread = std::thread::spawn(move || {
                confine(kind).unwrap();
                writer.write_all(b"x").unwrap();
                let opened = std::fs::File::open("/dev/null").map_err(|e| e.kind());
                let connected = UnixStream::pair().map_err(|e| e.kind());
                (opened.err(), connected.err())
            });
            let (opened, connected) = thread.join().unwrap();
            assert_eq!(opened, Some(ErrorKind::PermissionDenied));
            assert_eq!(connected, Some(ErrorKind::PermissionDenied));
            reader.read_exact(&mut [0]).unwrap();
        }
        // The rest of the process is not restricted.
        assert!(std::fs::File::open("/dev/null").is_ok());
    }
}
