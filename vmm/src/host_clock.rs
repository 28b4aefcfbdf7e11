//! The host's TSC, which guests under multi-threaded emulation read as it is.

use std::arch::x86_64::_rdtsc;
use std::fs;
use std::sync::OnceLock;
use std::time::Duration;

/// How far the two readings are apart: an error of 100 ns in each is 10 of a million.
const APART: Duration = Duration::from_millis(20);

/// Readings of which the best is taken: between its two halves nothing came.
const TRIES: u32 = 32;

/// Frequency of the host's TSC, kHz; `None` where it is not constant. Measured once against CLOCK_MONOTONIC_RAW.
pub fn tsc_khz() -> Option<u32> {
    static KHZ: OnceLock<Option<u32>> = OnceLock::new();
    *KHZ.get_or_init(|| is_constant().then(measure).flatten())
}

/// As the kernel's flags say: the same rate in all states of power saving.
fn is_constant() -> bool {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = text.lines().find(|l| l.starts_with("flags")).unwrap_or_default();
    ["constant_tsc", "nonstop_tsc"].iter().all(|f| flags.split_whitespace().any(|w| w == *f))
}

fn measure() -> Option<u32> {
    let before = reading()?;
    std::thread::sleep(APART);
    let after = reading()?;
    khz(after.0.checked_sub(before.0)?, after.1.checked_sub(before.1)?)
}

/// Ticks in a time, as kHz.
fn khz(ticks: u64, ns: u64) -> Option<u32> {
    let khz = (u128::from(ticks) * 1_000_000 + u128::from(ns / 2)).checked_div(ns.into())?;
    u32::try_from(khz).ok()
}

/// The TSC and the time at one moment, nanoseconds.
fn reading() -> Option<(u64, u64)> {
    let tries = (0..TRIES).filter_map(|_| {
        let (before, ns, after) = (tsc(), raw_ns()?, tsc());
        Some((after.checked_sub(before)?, before + (after - before) / 2, ns))
    });
    tries.min().map(|(_, tsc, ns)| (tsc, ns))
}

fn tsc() -> u64 {
    // SAFETY: every x86-64 processor has the instruction, and Linux lets processes use it.
    unsafe { _rdtsc() }
}

fn raw_ns() -> Option<u64> {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure lives until the call returns.
    let r = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_RAW, &raw mut t) };
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
