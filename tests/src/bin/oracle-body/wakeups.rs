//! Tasks that measure their own wakeups.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ktstr::prelude::*;

use crate::programs::command;
use crate::{Stage, system};

/// A reader that looks at the clock when it returns from the read, and its writer, which does just before the write that wakes it. They
/// run on CPUs of their own. Prints both times of each.
pub fn measured() -> Result<(impl FnOnce(&Stage) + Send, impl FnOnce(&Stage) + Send)> {
    let (mut to, mut from) = UnixStream::pair()?;
    from.set_read_timeout(Some(Duration::from_millis(100)))?;
    let written = Arc::new(AtomicU64::new(0));
    let seen = written.clone();
    let reader = move |stage: &Stage| {
        system::bind(0..1);
        let (mut took, mut byte) = (Vec::new(), [0]);
        while stage.running() && from.read_exact(&mut byte).is_ok() {
            took.push((seen.load(Ordering::SeqCst), system::now_ns()));
        }
        took.iter().for_each(|(written, read)| println!("own {written} {read}"));
    };
    let writer = move |stage: &Stage| {
        system::bind(1..2);
        while stage.running() {
            std::thread::sleep(Duration::from_micros(500));
            written.store(system::now_ns(), Ordering::SeqCst);
            if to.write_all(&[0]).is_err() {
                break;
            }
        }
        std::mem::forget(to);
    };
    Ok((reader, writer))
}

/// Computes and sleeps in turn, so that others find the CPU free or not.
pub fn bursts(stage: &Stage) {
    for i in 0.. {
        if !stage.running() {
            break;
        }
        let until = system::now_ns() + 200_000 + i % 7 * 50_000;
        while system::now_ns() < until {}
        std::thread::sleep(Duration::from_micros(300));
    }
}

/// Runs cyclictest for this many wakeups, and prints how late each was, from the moment at which its timer was due to the moment
/// at which it looked at the clock, in nanoseconds.
pub fn cyclictest(ctx: &Ctx, loops: u32) -> Result<AssertResult> {
    let line = format!("cyclictest --policy other --default-system -v -N -t 1 -i 1000 -l {loops}");
    system::expect_exact_timers();
    let mut child = command(&line).stdout(Stdio::piped()).spawn()?;
    let mut out = child.stdout.take().ok_or("no output")?;
    // One thread measures; the other prints.
    let threads = || fs::read_dir(format!("/proc/{}/task", child.id())).into_iter().flatten().flatten();
    let named = || threads().filter_map(|t| t.file_name().to_str()?.parse::<u32>().ok());
    let measuring = (0..1_000).find_map(|_| {
        std::thread::sleep(Duration::from_micros(100));
        named().find(|tid| *tid != child.id())
    });
    ctx.announce(measuring.ok_or("cyclictest starts no thread")?, "cyclic")?;
    let mut text = String::new();
    out.read_to_string(&mut text)?;
    let status = child.wait()?;
    let sample = |l: &str| l.rsplit_once(':').filter(|_| l.matches(':').count() == 2)?.1.trim().parse().ok();
    text.lines().filter_map(sample).for_each(|ns: u64| println!("cyclic {ns}"));
    Ok(AssertResult::pass().ensure(status.success(), || format!("cyclictest: {status}")))
}
