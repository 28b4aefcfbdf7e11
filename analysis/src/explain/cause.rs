//! The cause of a wait in words.

use crate::model::wait::{Cause, IDLE_DISTANCES, WaitPart};

/// The parts with the same cause as the largest sum of parts, in words; empty without parts. `named` is the name of a task.
pub(crate) fn dominant(parts: &[WaitPart], named: &dyn Fn(u32) -> String) -> String {
    let sum = |cause: Cause| parts.iter().filter(|p| p.cause == cause).map(|p| p.ns).sum::<u64>();
    let largest = parts.iter().map(|p| p.cause).max_by_key(|cause| sum(*cause));
    let of_cause = parts.iter().filter(|p| Some(p.cause) == largest);
    of_cause.max_by_key(|p| p.ns).map_or(String::new(), |part| words(part, named))
}

/// The distance of the nearest idle CPU.
pub(super) fn distance(part: &WaitPart) -> &'static str {
    part.distance.and_then(|d| IDLE_DISTANCES.get(usize::from(d))).copied().unwrap_or("")
}

/// One part in words.
pub(super) fn words(part: &WaitPart, named: &dyn Fn(u32) -> String) -> String {
    let cpu = part.cpu.map_or("its CPU".to_string(), |cpu| format!("CPU {cpu}"));
    let behind = part.blamed.map_or(cpu.clone(), |tid| format!("{cpu} busy with {}", named(tid)));
    match part.cause {
        Cause::CpuBusy => format!("{behind}, no allowed CPU idle"),
        Cause::IdleCpu if part.distance == Some(0) => format!("{cpu} idle, the scheduler held the task"),
        Cause::IdleCpu => format!("{behind}, although an allowed CPU was idle ({})", distance(part)),
        Cause::Affinity => format!("{behind}, not allowed on an idle CPU"),
        Cause::Throttled => "throttled by cpu.max".into(),
        Cause::NotInCharge => format!("{cpu}: the sched_ext scheduler was not in charge"),
        Cause::HostSteal => format!("{cpu}: host steal"),
        Cause::Wakeup => format!("{cpu} idle, wakeup path"),
        Cause::Unknown => format!("{cpu}: not recorded"),
    }
}
