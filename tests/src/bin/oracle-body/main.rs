//! Bodies of the oracle tests: everything that has misled tools of this kind, at once.
//!
//! Every task that outlives the window bears a role, so that the run compares its counters with `/proc`. The rest says what it
//! did in lines `NAME NUMBER`, which the tests on the host compare with the tables.

mod system;
mod tasks;

use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use ktstr::prelude::*;

/// What the threads of a body share.
#[derive(Debug, Default)]
pub struct Stage {
    stop: AtomicBool,
    asleep: AtomicUsize,
}

impl Stage {
    fn running(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// The end of a thread of the stage: it says that it is done, and sleeps until the process ends.
    fn sleep_forever(&self) -> ! {
        self.asleep.fetch_add(1, Ordering::SeqCst);
        loop {
            std::thread::park();
        }
    }
}

/// Starts a thread with a role.
fn act(
    ctx: &Ctx,
    stage: &'static Stage,
    role: &str,
    act: impl FnOnce(&Stage) + Send + 'static,
) -> Result<()> {
    let (sender, tids) = std::sync::mpsc::channel();
    std::thread::Builder::new().stack_size(256 << 10).spawn(move || {
        // The body waits for it.
        let _ = sender.send(system::tid());
        act(stage);
        stage.sleep_forever()
    })?;
    Ok(ctx.announce(tids.recv()?, role)?)
}

/// Ends the acts and waits until their threads sleep.
fn curtain(stage: &Stage, threads: usize) -> AssertResult {
    stage.stop.store(true, Ordering::SeqCst);
    let mut patience = 2_000;
    while stage.asleep.load(Ordering::SeqCst) < threads && patience > 0 {
        std::thread::sleep(Duration::from_millis(1));
        patience -= 1;
    }
    // From the last thread's note to its sleep.
    std::thread::sleep(Duration::from_millis(20));
    let asleep = stage.asleep.load(Ordering::SeqCst);
    AssertResult::pass().ensure(asleep == threads, || format!("{asleep} of {threads} threads sleep"))
}

fn stage() -> &'static Stage {
    Box::leak(Box::default())
}

/// Everything but hotplug, on four CPUs.
#[ktstr_test(accel = "sim", cores = 4, duration_s = 0.3)]
fn everything(ctx: &Ctx) -> Result<AssertResult> {
    let stage = stage();
    let wanderer = tasks::Wanderer::start()?;
    ctx.announce(wanderer.tid(), "wanderer")?;
    act(ctx, stage, "spin", tasks::spin)?;
    act(ctx, stage, "spin", tasks::spin)?;
    act(ctx, stage, "yield", tasks::yield_on_cpu_1)?;
    act(ctx, stage, "yield", tasks::yield_on_cpu_1)?;
    act(ctx, stage, "mover", tasks::change_affinity)?;
    act(ctx, stage, "forker", tasks::fork_short_lived)?;
    act(ctx, stage, "execer", tasks::exec_storm)?;
    let mut threads = 7;
    for _ in 0..2 {
        let (one, other) = tasks::pair()?;
        act(ctx, stage, "pairs", move |s| tasks::message(s, one, true))?;
        act(ctx, stage, "pairs", move |s| tasks::message(s, other, false))?;
        threads += 2;
    }
    let moves = wanderer.wander(ctx.duration())?;
    wanderer.end();
    let result = curtain(stage, threads);
    Ok(result.ensure(moves >= 4, || format!("{moves} moves between cgroups are too few to test them")))
}

/// Wakeups that the tasks measure themselves, on idle CPUs.
#[ktstr_test(accel = "sim", cores = 2, duration_s = 0.2)]
fn own_wakeups(ctx: &Ctx) -> Result<AssertResult> {
    let stage = stage();
    let (reader, writer) = tasks::measured_wakeups()?;
    act(ctx, stage, "reader", reader)?;
    act(ctx, stage, "writer", writer)?;
    std::thread::sleep(ctx.duration());
    Ok(curtain(stage, 2))
}

/// A CPU goes offline and comes back while tasks run on it.
#[ktstr_test(accel = "sim", cores = 3, duration_s = 0.1)]
fn hotplug(ctx: &Ctx) -> Result<AssertResult> {
    let stage = stage();
    for _ in 0..4 {
        act(ctx, stage, "spin", tasks::spin)?;
    }
    std::thread::sleep(ctx.duration() / 3);
    let online = "/sys/devices/system/cpu/cpu2/online";
    std::fs::write(online, "0")?;
    std::thread::sleep(ctx.duration() / 3);
    std::fs::write(online, "1")?;
    std::thread::sleep(ctx.duration() / 3);
    // And once more, so that the window closes while it is offline.
    std::fs::write(online, "0")?;
    Ok(curtain(stage, 4))
}

/// A spinner that may use a fifth of a CPU, and what the kernel says of its throttling when that is over.
#[ktstr_test(accel = "sim", cores = 2, duration_s = 0.4)]
fn throttled(ctx: &Ctx) -> Result<AssertResult> {
    let spinner = tasks::Wanderer::start()?;
    ctx.announce(spinner.tid(), "confined")?;
    let cgroup = spinner.confine(20_000)?;
    std::thread::sleep(ctx.duration());
    spinner.end();
    // It is counted when it ends, with the next period.
    std::thread::sleep(Duration::from_millis(200));
    let stat = std::fs::read_to_string(cgroup.join("cpu.stat"))?;
    let us = stat.lines().find_map(|l| l.strip_prefix("throttled_usec ")).unwrap_or("0");
    println!("throttled_us {us}");
    Ok(AssertResult::pass())
}

/// Switches as fast as they come, on one CPU.
#[ktstr_test(accel = "sim", cores = 2, duration_s = 0.2)]
fn storm(ctx: &Ctx) -> Result<AssertResult> {
    let stage = stage();
    let (one, other) = tasks::pair()?;
    for (end, first) in [(one, true), (other, false)] {
        act(ctx, stage, "pairs", move |s| {
            system::bind(0..1);
            tasks::message(s, end, first);
        })?;
    }
    std::thread::sleep(ctx.duration());
    Ok(curtain(stage, 2))
}

/// The shortest switches that there are, on four CPUs: two tasks on each yield to each other, in real time.
#[ktstr_test(accel = "sim", cores = 4, duration_s = 1)]
fn yielders(ctx: &Ctx) -> Result<AssertResult> {
    let stage = stage();
    std::fs::write("/proc/sys/kernel/sched_rt_runtime_us", "-1")?;
    system::in_real_time(2)?;
    for cpu in (0..4).chain(0..4) {
        act(ctx, stage, "yielder", move |s| tasks::yield_in_real_time(s, cpu))?;
    }
    std::thread::sleep(ctx.duration());
    Ok(curtain(stage, 8))
}

/// 40,000 switches on one CPU, however long they take.
#[ktstr_test(accel = "sim", cores = 2, duration_s = 1)]
fn rally(ctx: &Ctx) -> Result<AssertResult> {
    let stage = stage();
    for side in tasks::rally(20_000)? {
        act(ctx, stage, "pairs", side)?;
    }
    while stage.asleep.load(Ordering::SeqCst) < 2 {
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(curtain(stage, 2))
}

/// Five groups of hackbench, as it has them: 20 senders and 20 receivers each.
#[ktstr_test(accel = "sim", cores = 4, duration_s = 1)]
fn hackbench(ctx: &Ctx) -> Result<AssertResult> {
    let stage = stage();
    let mut threads = 0;
    for _ in 0..5 {
        let (receivers, senders) = tasks::group(20, 50)?;
        for (role, all) in [("receiver", receivers), ("sender", senders)] {
            for one in all {
                act(ctx, stage, role, one)?;
                threads += 1;
            }
        }
    }
    while stage.asleep.load(Ordering::SeqCst) < threads {
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(curtain(stage, threads))
}

/// The guest is gone in the middle of the window.
#[ktstr_test(accel = "tcg", cores = 2, duration_s = 60)]
fn powers_off(ctx: &Ctx) -> Result<AssertResult> {
    std::fs::write("/proc/sysrq-trigger", "o")?;
    std::thread::sleep(ctx.duration());
    Ok(AssertResult::pass())
}

/// The program that [`tasks::exec_storm`] runs: the agent, which says that it is none and ends.
fn short_program() -> Command {
    Command::new("/init")
}
