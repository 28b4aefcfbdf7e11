//! The host's TSC: emulated multi-threaded guests read it directly, guests under KVM with an offset.

use std::arch::x86_64::_rdtsc;
use std::fs;
use std::sync::OnceLock;
use std::time::Duration;

/// Time between the two readings: an error of 100 ns in each is 10 parts per million.
const APART: Duration = Duration::from_millis(20);

/// Number of readings, of which the one with the least delay between its halves is used.
const TRIES: u32 = 32;

/// Frequency of the host's TSC, kHz; `None` if it is not constant. Measured once against CLOCK_MONOTONIC_RAW.
pub(crate) fn tsc_khz() -> Option<u32> {
    static KHZ: OnceLock<Option<u32>> = OnceLock::new();
    *KHZ.get_or_init(|| is_constant().then(measure).flatten())
}

/// Whether the kernel's flags say that its rate is constant in all power states.
fn is_constant() -> bool {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = text.lines().find(|l| l.starts_with("flags")).unwrap_or_default();
    ["constant_tsc", "nonstop_tsc"].iter().all(|f| flags.split_whitespace().any(|w| w == *f))
}

/// Whether the kernel uses the TSC as its clocksource, after its own tests.
pub(crate) fn is_the_clock() -> bool {
    let source = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    fs::read_to_string(source).is_ok_and(|s| s.trim() == "tsc")
}

fn measure() -> Option<u32> {
    let before = reading(libc::CLOCK_MONOTONIC_RAW)?;
    std::thread::sleep(APART);
    let after = reading(libc::CLOCK_MONOTONIC_RAW)?;
    khz(after.tsc.checked_sub(before.tsc)?, after.ns.checked_sub(before.ns)?)
}

/// A moment by two clocks of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Time stamp counter.
    pub tsc: u64,
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub ns: u64,
}

impl Moment {
    /// Reads both clocks; `None`: a clock cannot be read.
    pub fn now() -> Option<Moment> {
        reading(libc::CLOCK_MONOTONIC)
    }
}

/// Ticks per time, in kHz.
fn khz(ticks: u64, ns: u64) -> Option<u32> {
    let khz = (u128::from(ticks) * 1_000_000 + u128::from(ns / 2)).checked_div(ns.into())?;
    u32::try_from(khz).ok()
}

/// Reads the TSC and this clock.
fn reading(clock: libc::clockid_t) -> Option<Moment> {
    let tries = (0..TRIES).filter_map(|_| {
        let (before, ns, after) = (tsc(), ns_of(clock)?, tsc());
        Some((after.checked_sub(before)?, before + (after - before) / 2, ns))
    });
    tries.min().map(|(_, tsc, ns)| Moment { tsc, ns })
}

/// The TSC now.
pub(crate) fn tsc() -> u64 {
    // SAFETY: every x86-64 processor has the instruction, and Linux lets processes use it.
    unsafe { _rdtsc() }
}

fn ns_of(clock: libc::clockid_t) -> Option<u64> {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure lives until the call returns.
    let r = unsafe { libc::clock_gettime(clock, &raw mut t) };
    let (s, ns) = (u64::try_from(t.tv_sec).ok()?, u64::try_from(t.tv_nsec).ok()?);
    (r == 0).then_some(s * 1_000_000_000 + ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequency_follows_from_ticks_and_time() {
        assert_eq!(khz(48_908_120, 20_000_000), Some(2_445_406));
        assert_eq!(khz(1, 0), None);
    }

    #[test]
    fn two_measurements_agree() {
        let (Some(a), Some(b)) = (measure(), measure()) else { return assert!(tsc_khz().is_none()) };
        assert!(a.abs_diff(b) < a / 1000, "{a} and {b} kHz");
    }
}
