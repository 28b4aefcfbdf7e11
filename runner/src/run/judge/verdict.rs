//! What a run was: one verdict and its reasons, from what arrived and how the guest ended.
//!
//! Order: what makes the later findings meaningless comes first. A kernel that died or never came up; a scheduler that
//! ended, for everything the test saw afterwards was another scheduler's work; the test's own result; and a pass only
//! counts if the data can be trusted.

use ktstr_analysis::{Collected, HostAccount, Verdict};
use ktstr_vmm::GuestEnd;
use ktstr_wire::accel::Accel;
use ktstr_wire::body::Outcome;
use ktstr_wire::host::GuestPages;
use ktstr_wire::message::{BootErrorKind, Race, SchedulerExit, TIMED_OUT, TestResult};
use ktstr_wire::slots::Slots;

use super::host_time::{DELAY_LIMIT, HostTime};
use crate::exit;

/// A verdict with its reasons and the exit status that stands for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Judgement {
    pub verdict: Verdict,
    /// Why, a sentence each; empty on a pass.
    pub reasons: Vec<String>,
    /// One of [`crate::exit`].
    pub exit_status: u8,
}

/// What the host knows of a run besides the guest's messages.
#[derive(Clone, Debug, Default)]
pub(crate) struct HostObservations {
    /// How the guest ended; `None` if the runner itself died (a recovered run).
    pub end: Option<GuestEnd>,
    /// How it showed that the guest had stopped, where it was ended for that.
    pub given_up: Option<String>,
    /// The kernel's panic line on the console.
    pub panic_line: Option<String>,
    /// When the host kept the threads of its CPUs waiting, and what it read of the probes' log.
    pub account: HostAccount,
    /// How old the guest was at most when its window had closed, nanoseconds of the host's time; `None`: not known, or its time
    /// is counted in instructions.
    pub age_ns: Option<u64>,
    /// Each CPU had one of the host's.
    pub pinned: bool,
    /// The host's pages under the guest's memory, where they are known.
    pub pages: Option<GuestPages>,
    /// What each CPU of a guest in `sim` got, by the emulator.
    pub slots: Option<Slots>,
    /// The host has fewer CPUs than the guest.
    pub overcommitted: bool,
    /// Why the host could not read the probes' log in the guest's memory, in words.
    pub log_error: Option<String>,
    /// The raw log could not be written.
    pub write_error: Option<String>,
}

impl Judgement {
    fn new(verdict: Verdict, exit_status: u8, reasons: Vec<String>) -> Judgement {
        Judgement { verdict, reasons, exit_status }
    }

    /// The verdict with the first line of its first reason; empty on a pass.
    pub(crate) fn reason(&self) -> String {
        let first = self.reasons.first().and_then(|r| r.lines().next()).unwrap_or_default();
        match self.verdict {
            Verdict::Pass => String::new(),
            verdict if first.is_empty() => verdict.name().into(),
            verdict => format!("{}: {first}", verdict.name()),
        }
    }

    /// This, unless there is a reason not to trust it, which then comes first.
    pub(crate) fn unless(self, spoilt: Option<String>) -> Judgement {
        let Some(why) = spoilt else { return self };
        let reasons = [vec![why], self.reasons].concat();
        Judgement::new(Verdict::Inconclusive, exit::INCONCLUSIVE, reasons)
    }
}

/// Judges a run of this accelerator; `wants_scheduler`: one whose scheduler ends before the test is lost.
pub(crate) fn judge(
    c: &Collected,
    accel: Accel,
    host: &HostObservations,
    wants_scheduler: bool,
) -> Judgement {
    let time = Time {
        host: HostTime::of(c, accel, &host.account),
        starved: starved(c, accel),
        unfair: unfair(c, accel).or_else(|| short_of_slots(c, accel, host)),
    };
    let exit = c.scheduler_exit.as_ref().filter(|_| wants_scheduler);
    boot_failure(c, host)
        .or_else(|| exit.and_then(|e| scheduler_failure(e, &time)))
        .or_else(|| broken_data(c, host))
        .or_else(|| c.test_result.as_ref().and_then(|t| test_failure(t, &time)))
        .or_else(|| untrusted(c, accel, host))
        .unwrap_or_else(|| Judgement::new(Verdict::Pass, exit::OK, Vec::new()))
}

/// What failures that depend on time are held against.
struct Time {
    host: HostTime,
    /// In `sim`, a CPU that stood still.
    starved: Option<String>,
    /// In `sim`, a CPU that was slow.
    unfair: Option<String>,
}

impl Time {
    /// Where a scheduler is thrown out the kernel may hold up ticks itself.
    fn spoils_exit(&self, e: &SchedulerExit) -> Option<String> {
        self.host.spoils_exit(e).or_else(|| self.unfair.clone().filter(|_| e.kind == "stall"))
    }

    fn spoils_test(&self, timed_out: bool) -> Option<String> {
        self.host.spoils_test(timed_out).or_else(|| self.unfair.clone()).or_else(|| self.starved.clone())
    }
}

fn boot_failure(c: &Collected, host: &HostObservations) -> Option<Judgement> {
    if let Some(e) = &c.boot_error {
        let mut reasons = vec![e.reason.clone()];
        let (verdict, status) = match e.kind {
            BootErrorKind::Scheduler => {
                reasons.extend(c.scheduler_exit.as_ref().map(describe_exit));
                (Verdict::SchedExit, exit::SCHED_EXIT)
            }
            BootErrorKind::NoSchedExt => {
                reasons.push(
                    "use a kernel with CONFIG_SCHED_CLASS_EXT=y: cargo ktstr kernel build <linux source>, then --kernel".into(),
                );
                (Verdict::BootError, exit::KERNEL_LACKS)
            }
            BootErrorKind::Probes => (Verdict::BootError, exit::KERNEL_LACKS),
            BootErrorKind::Topology | BootErrorKind::Other => (Verdict::BootError, exit::BOOT_ERROR),
        };
        return Some(Judgement::new(verdict, status, reasons));
    }
    let boot = |reason: String| Some(Judgement::new(Verdict::BootError, exit::BOOT_ERROR, vec![reason]));
    if let Some(line) = &host.panic_line {
        return boot(format!("the guest's kernel panicked: {line}"));
    }
    if c.hello.is_none() && host.write_error.is_none() {
        return match &host.end {
            Some(GuestEnd::TimedOut) => boot(format!(
                "the guest did not answer in time{}; its console shows how far it came",
                because(&host.given_up)
            )),
            Some(GuestEnd::Crashed { status, stderr }) => boot(crashed(status, stderr)),
            Some(GuestEnd::TripleFault { cpu }) => boot(format!(
                "{} of the guest met a fault that it could not handle (triple fault) before the guest answered; its console shows how far it came",
                cpu.map_or("a CPU".into(), |cpu| format!("CPU {cpu}"))
            )),
            Some(GuestEnd::Reset) => boot(
                "the guest reset itself before it answered; its console shows why (too little memory_mib?)"
                    .into(),
            ),
            Some(GuestEnd::PoweredOff) => {
                boot("the guest powered off before it answered; its console shows how far it came".into())
            }
            Some(GuestEnd::Stopped) => boot("the guest was stopped before it answered".into()),
            None => None,
        };
    }
    None
}

/// What is known of a guest that was given up.
fn because(given_up: &Option<String>) -> String {
    given_up.as_ref().map_or(String::new(), |why| format!(": {why}"))
}

/// The guest's kernel says itself which release it is: another one than that of the results is not what was asked for.
pub(crate) fn another_kernel(c: &Collected, asked: &str) -> Option<Judgement> {
    let ran = c.hello.as_ref().map(|h| h.kernel_release.as_str()).filter(|ran| *ran != asked)?;
    let reason = format!("the guest ran Linux {ran}, but {asked} was requested");
    Some(Judgement::new(Verdict::Inconclusive, exit::INCONCLUSIVE, vec![reason]))
}

/// How QEMU, which has an exit status and messages, or KVM ended.
fn crashed(status: &str, stderr: &str) -> String {
    match qemu_errors(stderr).as_str() {
        "" => format!("the guest ended: {status}"),
        said => format!("QEMU ended ({status}): {said}"),
    }
}

/// What QEMU said but for its warnings: of each emulated CPU it names every feature that it leaves out.
fn qemu_errors(stderr: &str) -> String {
    let errors: Vec<&str> = stderr.lines().filter(|l| !l.contains(": warning: ")).collect();
    let mut text = errors.join("\n").trim().to_string();
    if text.contains("PVH ELF Note") {
        text.push_str("; build the kernel with CONFIG_PVH=y, or give its bzImage");
    }
    text
}

/// How a scheduler ended, in a line.
pub(crate) fn describe_exit(e: &SchedulerExit) -> String {
    let mut text = format!("scheduler {}: exit kind {}", e.scheduler, e.kind);
    for part in [&e.reason, &e.message, &e.process_end].into_iter().flatten() {
        text.push_str(": ");
        text.push_str(part);
    }
    text
}

fn scheduler_failure(e: &SchedulerExit, time: &Time) -> Option<Judgement> {
    let failure = Judgement::new(Verdict::SchedExit, exit::SCHED_EXIT, vec![describe_exit(e)]);
    (!e.clean).then(|| failure.unless(time.spoils_exit(e)))
}

fn broken_data(c: &Collected, host: &HostObservations) -> Option<Judgement> {
    let inconclusive =
        |reason: String| Some(Judgement::new(Verdict::Inconclusive, exit::INCONCLUSIVE, vec![reason]));
    if let Some(e) = &host.write_error {
        let reason = format!("the data could not be written: {e}; free some space and run again");
        return Some(Judgement::new(Verdict::Inconclusive, exit::NO_SPACE, vec![reason]));
    }
    if let Some(why) = &host.log_error {
        return inconclusive(why.clone());
    }
    match (&c.truncated, &host.end) {
        (Some(why), None) => inconclusive(format!("the runner was killed in the middle of the run ({why})")),
        (Some(why), Some(GuestEnd::TimedOut)) => {
            inconclusive(format!("the guest did not end in time{} ({why})", because(&host.given_up)))
        }
        (Some(why), Some(end)) => {
            inconclusive(format!("the guest's data ends early ({why}; guest: {end:?})"))
        }
        (None, _) => None,
    }
}

/// What panicked or could not be done is no matter of time. Of what a test found wrong nobody knows.
fn test_failure(t: &TestResult, time: &Time) -> Option<Judgement> {
    let fail = |reasons| Some(Judgement::new(Verdict::Fail, exit::FAIL, reasons));
    if let Some(end) = &t.abnormal_end {
        let mut reasons = vec![format!("the test's process ended abnormally: {end}")];
        reasons.extend(t.body.iter().flat_map(|b| b.reasons.clone()));
        let spoilt = if end.starts_with(TIMED_OUT) { time.spoils_test(true) } else { None };
        return fail(reasons).map(|j| j.unless(spoilt));
    }
    let Some(body) = &t.body else {
        return fail(vec!["the test's process ended without a result".into()]);
    };
    match body.outcome {
        Outcome::Pass => None,
        Outcome::Skip => Some(Judgement::new(Verdict::Skip, exit::FAIL, body.reasons.clone())),
        Outcome::Fail => fail(body.reasons.clone()).map(|j| j.unless(time.spoils_test(false))),
        Outcome::Error | Outcome::Panic => fail(body.reasons.clone()),
    }
}

/// How long the guest's kernel itself keeps a CPU from its ticks, nanoseconds. The page allocator frees up to 2016 pages of a CPU's own
/// list at a time with interrupts off (`free_pcppages_bulk` in mm/page_alloc.c; 63 pages are a batch, and `PCP_BATCH_SCALE_MAX` is 5), as
/// hackbench's receivers make it do; measured were 953 pages in 228,000 instructions, and 458,000 at a time.
const INTERRUPTS_OFF_NS: u64 = 500_000;

/// How late a tick in `sim` may come. CPUs that free pages wait for each other with interrupts off, since the lock of the zone is one,
/// and free their own afterwards: measured were 2.1 ms with 4 CPUs. A tick that comes later found a CPU that was starved, and what its
/// tasks went through is not the scheduler's doing.
fn tick_late_limit_ns(nr_cpus: usize) -> u64 {
    INTERRUPTS_OFF_NS * (nr_cpus as u64 + 1)
}

fn starved(c: &Collected, accel: Accel) -> Option<String> {
    // Without probes nothing is measured that could be wrong; and it is not known before the end.
    if accel != Accel::Sim || c.bye.is_none() || c.quality.probes.is_empty() {
        return None;
    }
    let limit_ns = tick_late_limit_ns(c.hello.as_ref().map_or(1, |h| h.topology.cpus.len()));
    match (c.quality.tick_late_max_ns, c.quality.cpus_without_ticks.as_slice()) {
        (None, _) => Some("CPU starvation cannot be ruled out: no timer tick was measured".into()),
        (Some(late_ns), _) if late_ns > limit_ns => Some(format!(
            "a CPU was starved: a timer tick came {} us late, more than the {} us that a kernel explains",
            late_ns / 1000,
            limit_ns / 1000
        )),
        (_, []) => None,
        (_, cpus) => Some(format!(
            "CPU starvation cannot be ruled out: no timer tick was measured on busy CPUs {cpus:?}"
        )),
    }
}

/// In `sim` the emulator's own account has to show that each CPU got its slots.
fn short_of_slots(c: &Collected, accel: Accel, host: &HostObservations) -> Option<String> {
    if accel != Accel::Sim || c.bye.is_none() {
        return None;
    }
    match &host.slots {
        Some(slots) => slots.broken(),
        None => Some("that each CPU got its slots is not proven: the emulator gave no account".into()),
    }
}

/// The least that the slowest CPU of a race in `sim` comes of the fastest's way.
const SLOWEST_LIMIT: f64 = 0.9;

/// In `sim` CPUs that are busy at the same time have to progress alike.
fn unfair(c: &Collected, accel: Accel) -> Option<String> {
    let is_one_cpu = c.hello.as_ref().is_none_or(|h| h.topology.cpus.len() < 2);
    if accel != Accel::Sim || c.bye.is_none() || is_one_cpu {
        return None;
    }
    let slowest = |r: &Race| r.slowest_frac().unwrap_or(0.0);
    let worst = c.quality.races.iter().min_by(|a, b| slowest(a).total_cmp(&slowest(b)));
    let Some(worst) = worst else {
        return Some("equal progress of the CPUs is not proven: it was not measured".into());
    };
    (slowest(worst) < SLOWEST_LIMIT).then(|| {
        let rounds: Vec<String> = worst.rounds.iter().map(|(cpu, n)| format!("CPU {cpu} {n}")).collect();
        format!(
            "the emulator does not give the CPUs equal turns: in the same time they did {} rounds, and the slowest must do {:.0} % of the fastest's",
            rounds.join(", "),
            100.0 * SLOWEST_LIMIT
        )
    })
}

/// Under KVM the guest's time is real, and what the host takes away from a CPU looks like the scheduler's doing.
fn disturbed(c: &Collected, accel: Accel, host: &HostObservations) -> Option<String> {
    match HostTime::of(c, accel, &host.account) {
        HostTime::Unknown if host.end.is_none() => {
            Some("the runner was killed before host steal was known".into())
        }
        HostTime::Unknown if accel == Accel::Kvm => {
            Some("host steal is unknown: the time that the guest's CPUs waited was not measured".into())
        }
        HostTime::Taken(t) if accel == Accel::Kvm && !host.overcommitted && t.frac() > DELAY_LIMIT => {
            Some(format!(
                "the host kept CPU {} of the guest waiting for {:.1} % of the window, and more than {:.0} % makes latencies unreliable; run fewer tests at once (-- -j1), leave the host idle, or use --accel sim",
                t.cpu,
                100.0 * t.frac(),
                100.0 * DELAY_LIMIT
            ))
        }
        _ => None,
    }
}

/// Linux has a clock that counts its ticks only, where it found none that it trusts (kernel/time/jiffies.c). Its steps are as
/// long as what is measured.
fn coarse_clock(c: &Collected) -> Option<String> {
    c.bye.as_ref()?;
    let Some(clock) = c.quality.clocksource.as_deref() else {
        return Some("the guest's clocksource is unknown".into());
    };
    clock.ends_with("jiffies").then(|| format!(
        "the guest's clock advances only with timer ticks (clocksource {clock}); durations have the resolution of a tick"
    ))
}

/// The guest's clock begins with its kernel. One that shows more than the guest's age has run faster than time.
fn fast_clock(c: &Collected, host: &HostObservations) -> Option<String> {
    let (shown, age) = (c.window_close?.ts_ns, host.age_ns?);
    let seconds = |ns: u64| ns as f64 / 1e9;
    (shown > age).then(|| {
        format!(
            "the guest's clock ran faster than time: it showed {:.3} s when the guest was {:.3} s old",
            seconds(shown),
            seconds(age)
        )
    })
}

/// A run that passed but whose numbers are not to be used.
fn untrusted(c: &Collected, accel: Accel, host: &HostObservations) -> Option<Judgement> {
    let mut reasons: Vec<String> = [
        starved(c, accel),
        unfair(c, accel),
        short_of_slots(c, accel, host),
        disturbed(c, accel, host),
        coarse_clock(c),
        fast_clock(c, host),
    ]
    .into_iter()
    .flatten()
    .collect();
    if c.test_result.is_none() {
        reasons.push("no test result arrived".to_string());
    }
    let dropped: u64 = c.quality.cpus.iter().map(|q| q.dropped).sum();
    if dropped > 0 {
        reasons.push(format!(
            "{dropped} probe records were dropped; give the test more memory_mib or less time"
        ));
    }
    for q in c.quality.cpus.iter().filter(|q| q.emitted != q.received + q.dropped) {
        reasons.push(format!(
            "CPU {}: {} records emitted, but {} received and {} dropped",
            q.cpu, q.emitted, q.received, q.dropped
        ));
    }
    if c.quality.recursion_misses.unwrap_or(0) > 0 {
        reasons.push("a probe interrupted itself and missed events".to_string());
    }
    reasons.extend(c.quality.disagreements.iter().cloned());
    (!reasons.is_empty()).then(|| Judgement::new(Verdict::Inconclusive, exit::INCONCLUSIVE, reasons))
}

#[cfg(test)]
mod tests {
    use ktstr_wire::slots::CpuSlots;
    use std::collections::BTreeMap;

    use super::*;
    use crate::run::judge::self_check_tests::passing_body;
    use ktstr_wire::message::{Bye, Hello, ProbeRun, WindowEdge};

    /// A run that passed, with this lateness of a tick.
    fn passed(late_ns: u64) -> Collected {
        let topology: ktstr_wire::topology::Topology = "1n1l2c1t".parse().unwrap();
        let body = passing_body();
        let mut c = Collected {
            hello: Some(Hello {
                kernel_release: "6.12".into(),
                topology: topology.expected(),
                started_ns: 0,
                ts_ns: 0,
            }),
            test_result: Some(TestResult { body: Some(body), abnormal_end: None, output: String::new() }),
            ..Collected::default()
        };
        c.quality.tick_late_max_ns = Some(late_ns);
        c.quality.probes = vec![ProbeRun { name: "sched_switch".into(), attached: true, ran: true }];
        c.quality.races = vec![Race { rounds: vec![(0, 100), (1, 98)] }];
        c.quality.clocksource = Some("tsc".into());
        c.bye = Some(Bye::default());
        c
    }

    /// A guest that ended in order.
    fn ended() -> HostObservations {
        let cpu = CpuSlots { slots: 1, executed: 4000, ..CpuSlots::default() };
        let slots = Slots { slot_instructions: 4000, rounds: 1, cpus: vec![cpu; 2] };
        HostObservations {
            end: Some(GuestEnd::PoweredOff),
            slots: Some(slots),
            ..HostObservations::default()
        }
    }

    #[test]
    fn starved_cpu_makes_a_boot_of_sim_inadmissible_and_no_other() {
        let judged = |late_ns, accel: Accel, topology: &str| {
            let mut c = passed(late_ns);
            let topology: ktstr_wire::topology::Topology = topology.parse().unwrap();
            c.hello.as_mut().unwrap().topology = topology.expected();
            judge(&c, accel, &ended(), true)
        };
        for (topology, limit_ns) in [("1n1l1c1t", 1_000_000), ("1n1l4c1t", 2_500_000)] {
            assert_eq!(judged(limit_ns, Accel::Sim, topology).verdict, Verdict::Pass);
            let starved = judged(limit_ns + 1, Accel::Sim, topology);
            assert_eq!((starved.verdict, starved.exit_status), (Verdict::Inconclusive, exit::INCONCLUSIVE));
            assert!(starved.reasons[0].contains("a CPU was starved"), "{:?}", starved.reasons);
            assert_eq!(judged(limit_ns + 1, Accel::Tcg, topology).verdict, Verdict::Pass);
        }
    }

    #[test]
    fn host_that_takes_a_cpu_away_makes_a_boot_of_kvm_inadmissible() {
        let edge = |ts_ns| Some(WindowEdge { ts_ns, nr_switches: [0; 2] });
        let c = Collected { window_open: edge(500), window_close: edge(1_500), ..passed(0) };
        let judged = |ns, accel: Accel, overcommitted| {
            let run_delay_ns = BTreeMap::from([(0, 3), (1, ns)]);
            let account = HostAccount { run_delay_ns, stopped_ns: Some(0), ..HostAccount::default() };
            judge(&c, accel, &HostObservations { account, overcommitted, ..ended() }, true)
        };
        assert_eq!(judged(50, Accel::Kvm, false).verdict, Verdict::Pass);
        let disturbed = judged(51, Accel::Kvm, false);
        assert_eq!((disturbed.verdict, disturbed.exit_status), (Verdict::Inconclusive, exit::INCONCLUSIVE));
        assert!(
            disturbed.reasons[0].contains("CPU 1 of the guest waiting for 5.1 %"),
            "{:?}",
            disturbed.reasons
        );
        assert_eq!(judged(900, Accel::Tcg, false).verdict, Verdict::Pass);
        assert_eq!(judged(900, Accel::Kvm, true).verdict, Verdict::Pass);
    }

    #[test]
    fn clock_that_is_ahead_of_time_is_not_trusted() {
        let edge = |ts_ns| Some(WindowEdge { ts_ns, nr_switches: [0; 2] });
        let c = Collected { window_open: edge(500), window_close: edge(1_500), ..passed(0) };
        let judged = |age_ns| judge(&c, Accel::Tcg, &HostObservations { age_ns, ..ended() }, true);
        assert_eq!(judged(Some(1_500)).verdict, Verdict::Pass);
        assert_eq!(judged(None).verdict, Verdict::Pass);
        let fast = judged(Some(1_499));
        assert_eq!((fast.verdict, fast.exit_status), (Verdict::Inconclusive, exit::INCONCLUSIVE));
        assert!(fast.reasons[0].contains("faster than time"), "{:?}", fast.reasons);
    }

    #[test]
    fn clock_of_ticks_is_not_trusted() {
        let judged = |clocksource: &str| {
            let mut c = passed(0);
            c.quality.clocksource = Some(clocksource.into());
            judge(&c, Accel::Tcg, &ended(), true)
        };
        assert_eq!(judged("tsc").verdict, Verdict::Pass);
        let coarse = judged("refined-jiffies");
        assert_eq!((coarse.verdict, coarse.exit_status), (Verdict::Inconclusive, exit::INCONCLUSIVE));
        assert!(coarse.reasons[0].contains("refined-jiffies"), "{:?}", coarse.reasons);
    }

    #[test]
    fn failure_that_depends_on_time_is_not_trusted_where_time_is_wrong() {
        let judged = |outcome, end: Option<&str>, slowest, accel: Accel, stopped_ns| {
            let edge = |ts_ns| Some(WindowEdge { ts_ns, nr_switches: [0; 2] });
            let mut c = Collected { window_open: edge(0), window_close: edge(10_000_000_000), ..passed(0) };
            c.quality.races[0].rounds[1].1 = slowest;
            let t = c.test_result.as_mut().unwrap();
            t.abnormal_end = end.map(String::from);
            t.body.as_mut().unwrap().outcome = outcome;
            let account = HostAccount {
                run_delay_ns: BTreeMap::from([(0, 0)]),
                stopped_ns: Some(stopped_ns),
                ..HostAccount::default()
            };
            judge(&c, accel, &HostObservations { account, ..ended() }, true).verdict
        };
        let timed_out = Some("timed out after 30 s");
        for (outcome, end, by_time) in [
            (Outcome::Fail, None, true),
            (Outcome::Pass, timed_out, true),
            (Outcome::Panic, None, false),
            (Outcome::Pass, Some("killed by signal 11"), false),
        ] {
            let spoilt = if by_time { Verdict::Inconclusive } else { Verdict::Fail };
            assert_eq!(judged(outcome, end, 98, Accel::Tcg, 0), Verdict::Fail, "{outcome:?} {end:?}");
            assert_eq!(judged(outcome, end, 98, Accel::Tcg, 9_000_000_000), spoilt, "{outcome:?} {end:?}");
            assert_eq!(judged(outcome, end, 98, Accel::Sim, 0), Verdict::Fail, "{outcome:?} {end:?}");
            assert_eq!(judged(outcome, end, 60, Accel::Sim, 0), spoilt, "{outcome:?} {end:?}");
        }
    }

    #[test]
    fn another_kernel_than_was_asked_for_is_inconclusive() {
        assert!(another_kernel(&passed(0), "6.12").is_none());
        assert!(another_kernel(&Collected::default(), "6.12").is_none());
        let judged = another_kernel(&passed(0), "6.12.1").unwrap();
        assert_eq!((judged.verdict, judged.exit_status), (Verdict::Inconclusive, exit::INCONCLUSIVE));
        assert_eq!(judged.reasons, ["the guest ran Linux 6.12, but 6.12.1 was requested"]);
    }

    #[test]
    fn log_that_makes_no_sense_is_the_one_reason() {
        let c = Collected { truncated: Some("cut off".into()), ..passed(0) };
        let host = HostObservations { log_error: Some("no sense".into()), ..Default::default() };
        let judged = judge(&c, Accel::Tcg, &host, true);
        assert_eq!((judged.verdict, judged.exit_status), (Verdict::Inconclusive, exit::INCONCLUSIVE));
        assert_eq!(judged.reasons, ["no sense"]);
    }

    #[test]
    fn every_end_before_an_answer_has_words_of_its_own() {
        let crashed =
            |status: &str, stderr: &str| GuestEnd::Crashed { status: status.into(), stderr: stderr.into() };
        let ends = [
            (GuestEnd::TimedOut, "did not answer in time"),
            (GuestEnd::Reset, "reset itself"),
            (GuestEnd::PoweredOff, "powered off before it answered"),
            (
                GuestEnd::TripleFault { cpu: Some(3) },
                "CPU 3 of the guest met a fault that it could not handle",
            ),
            (GuestEnd::TripleFault { cpu: None }, "a CPU of the guest met a fault that it could not handle"),
            (crashed("exit status: 1", "no such file"), "QEMU ended (exit status: 1): no such file"),
            (crashed("KVM gave up", ""), "the guest ended: KVM gave up"),
        ];
        for (end, words) in ends {
            let host = HostObservations { end: Some(end), ..Default::default() };
            let judged = judge(&Collected::default(), Accel::Tcg, &host, true);
            assert_eq!((judged.verdict, judged.exit_status), (Verdict::BootError, exit::BOOT_ERROR));
            assert!(judged.reasons[0].contains(words), "{:?}", judged.reasons);
        }
    }
}
