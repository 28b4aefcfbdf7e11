//! The ends of schedulers by the kernel's tracepoint `sched_ext_exit`, which Linux 7.x has: the exit kind itself, not its text.

mod skel {
    #![allow(
        missing_docs,
        unreachable_pub,
        clippy::all,
        clippy::undocumented_unsafe_blocks,
        clippy::unwrap_used,
        reason = "generated"
    )]
    include!(concat!(env!("OUT_DIR"), "/exits.skel.rs"));
    skeleton!();
}

use std::cell::{OnceCell, RefCell};
use std::mem::MaybeUninit;
use std::rc::Rc;
use std::time::Duration;

use libbpf_rs::btf::Btf;
use libbpf_rs::btf::types::{Enum, Typedef};
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{Link, OpenObject, RingBufferBuilder};

use crate::probes::error::{ProbeError, bpf};
use crate::scheduler::exit_report::{Report, reason_of};

/// BTF has such a type for each tracepoint.
const TRACEPOINT: &str = "btf_trace_sched_ext_exit";

/// The kernel's exit kinds (kernel/sched/ext/internal.h), of which the names are stable and the numbers need not be.
const KINDS: &str = "scx_exit_kind";

/// The attached program. It stays attached until the guest is gone, as the probes do.
pub(crate) struct ExitTrace {
    skel: skel::ExitsSkel<'static>,
    /// Kept for its drop.
    _link: Link,
    /// Names of the exit kinds by their numbers.
    kinds: Vec<(u32, String)>,
}

impl std::fmt::Debug for ExitTrace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExitTrace").field("kinds", &self.kinds).finish_non_exhaustive()
    }
}

thread_local! {
    static OF_GUEST: OnceCell<Option<Rc<ExitTrace>>> = const { OnceCell::new() };
}

impl ExitTrace {
    /// That of this guest, attached at the first call. `None`: the kernel has no such tracepoint.
    pub(crate) fn of_guest() -> Option<Rc<ExitTrace>> {
        let attach = || {
            ExitTrace::attach().unwrap_or_else(|e| {
                eprintln!(
                    "ktstr-guest: sched_ext_exit: {e}; ends of schedulers are read from the kernel's log"
                );
                None
            })
        };
        OF_GUEST.with(|cell| cell.get_or_init(|| attach().map(Rc::new)).clone())
    }

    fn attach() -> Result<Option<ExitTrace>, ProbeError> {
        let btf = Btf::from_vmlinux().map_err(bpf("types of the kernel"))?;
        if btf.type_by_name::<Typedef<'_>>(TRACEPOINT).is_none() {
            return Ok(None);
        }
        let storage: &'static mut MaybeUninit<OpenObject> = Box::leak(Box::new(MaybeUninit::uninit()));
        let open = skel::ExitsSkelBuilder::default().open(storage).map_err(bpf("open"))?;
        let skel = open.load().map_err(bpf("load"))?;
        let link = skel.progs.sched_ext_exit.attach().map_err(bpf("attach"))?;
        Ok(Some(ExitTrace { skel, _link: link, kinds: kinds(&btf) }))
    }

    /// The exit kind of each scheduler that has ended since the last call, in order; sub-schedulers are left out.
    pub(crate) fn read(&self) -> Vec<String> {
        let seen = RefCell::new(Vec::new());
        let note = |b: &[u8]| {
            seen.borrow_mut().extend(parse(b));
            0
        };
        let mut builder = RingBufferBuilder::new();
        // What cannot be read now is read by the next call.
        if builder.add(&self.skel.maps.exits, note).is_ok()
            && let Ok(ring) = builder.build()
        {
            let _ = ring.poll(Duration::ZERO);
        }
        let of_root = seen.take().into_iter().filter(|(_, level)| *level == 0);
        of_root.map(|(kind, _)| self.name(kind)).collect()
    }

    fn name(&self, number: u32) -> String {
        let found = self.kinds.iter().find(|(n, _)| *n == number);
        found.map_or_else(|| format!("exit kind {number}"), |(_, name)| name.clone())
    }
}

/// Kind and level (`struct exit`).
fn parse(b: &[u8]) -> Option<(u32, i32)> {
    let (kind, rest) = b.split_first_chunk()?;
    Some((u32::from_le_bytes(*kind), i32::from_le_bytes(*rest.first_chunk()?)))
}

fn kinds(btf: &Btf<'_>) -> Vec<(u32, String)> {
    let Some(all) = btf.type_by_name::<Enum<'_>>(KINDS) else { return Vec::new() };
    let named = all.iter().filter_map(|member| {
        let number = u32::try_from(member.value).ok()?;
        Some((number, kind_named(member.name?.to_str()?)))
    });
    named.collect()
}

/// Our word for a member of `enum scx_exit_kind`.
fn kind_named(name: &str) -> String {
    let kind = name.strip_prefix("SCX_EXIT_").unwrap_or(name).to_lowercase();
    if kind == "error_stall" { "stall".into() } else { kind }
}

/// The ends that the tracepoint told of, with what the kernel's log says of each. The log comes later, and it may lack the first.
pub(crate) fn with_words(traced: &[String], logged: &[Report]) -> Vec<Report> {
    let mut rest = logged.iter().peekable();
    let report = |kind: &String| {
        let same = rest.next_if(|r| r.kind() == kind.as_str() || r.kind() == "unknown");
        let words =
            same.cloned().unwrap_or_else(|| Report { reason: reason_of(kind).into(), ..Report::default() });
        Report { traced: Some(kind.clone()), ..words }
    };
    traced.iter().map(report).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::exit_report::{is_error, read_kernel_log};

    #[test]
    fn kinds_are_named_as_tests_expect_them() {
        use ktstr_wire::message::EXIT_KINDS;
        let of_7_3 = [
            "UNREG",
            "UNREG_BPF",
            "UNREG_KERN",
            "SYSRQ",
            "PARENT",
            "PARENT_KILL",
            "ERROR",
            "ERROR_BPF",
            "ERROR_STALL",
            "ERROR_REENQ",
            "ERROR_RESCUE",
        ];
        for name in of_7_3 {
            let kind = kind_named(&format!("SCX_EXIT_{name}"));
            assert!(EXIT_KINDS.contains(&kind.as_str()), "{kind}");
            assert_ne!(reason_of(&kind), kind, "no words for {kind}");
        }
        assert!(is_error(&kind_named("SCX_EXIT_ERROR_LATER")));
        assert_eq!(reason_of("error_later"), "error_later");
    }

    #[test]
    fn ends_are_those_of_the_tracepoint_in_the_words_of_the_log() {
        let traced = |kinds: &[&str]| kinds.iter().map(|k| k.to_string()).collect::<Vec<_>>();
        let log = |lines: &[&str]| read_kernel_log(&lines.iter().map(|l| l.to_string()).collect::<Vec<_>>());
        let stalled = log(&[
            "sched_ext: BPF scheduler \"x\" disabled (runnable task stall)",
            "sched_ext: x: p[8] failed to run for 1.1s",
        ]);
        let ends = with_words(&traced(&["unreg_kern", "stall"]), &stalled);
        let said: Vec<_> = ends.iter().map(|r| (r.kind(), r.reason.as_str(), r.message.as_deref())).collect();
        let hotplug = ("unreg_kern", "unregistered from the main kernel", None);
        assert_eq!(said, [hotplug, ("stall", "runnable task stall", Some("p[8] failed to run for 1.1s"))]);
        // Words that nobody knows: the kind is known nevertheless.
        let new_words = log(&["sched_ext: BPF scheduler \"x\" disabled (too many requeues)"]);
        let ends = with_words(&traced(&["error_reenq"]), &new_words);
        assert_eq!((ends[0].kind(), ends[0].reason.as_str()), ("error_reenq", "too many requeues"));
        // A kind that nobody knows.
        let ends = with_words(&traced(&["error_later"]), &[]);
        assert_eq!((ends[0].kind(), is_error(ends[0].kind())), ("error_later", true));
    }

    #[test]
    fn events_are_read_as_they_are_laid_out() {
        assert_eq!(parse(&[2, 4, 0, 0, 255, 255, 255, 255]), Some((1026, -1)));
        assert_eq!(parse(&[2, 4, 0, 0, 1]), None);
    }
}
