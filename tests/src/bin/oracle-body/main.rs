//! Bodies of the oracle tests: everything that has misled tools of this kind, at once.
//!
//! Every task that outlives the window bears a role, so that the run compares its counters with `/proc`. The rest says what it
//! did in lines `NAME NUMBER`, which the tests on the host compare with the tables.

mod bomb;
mod programs;
mod system;
mod tasks;
mod wakeups;

use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ktstr::declare_scheduler;
use ktstr::prelude::*;

/// What the threads of a body share.
#[derive(Debug, Default)]
pub struct Stage {
    stop: AtomicBool,
    asleep: AtomicUsize,
    /// Who has begun, and as what.
    cast: Mutex<Vec<(u32, &'static str)>>,
}

impl Stage {
    fn running(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    fn cast(&self) -> MutexGuard<'_, Vec<(u32, &'static str)>> {
        self.cast.lock().unwrap_or_else(PoisonError::into_inner)
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
fn act(stage: &'static Stage, role: &'static str, act: impl FnOnce(&Stage) + Send + 'static) -> Result<()> {
    std::thread::Builder::new().stack_size(256 << 10).spawn(move || {
        stage.cast().push((system::tid(), role));
        act(stage);
        stage.sleep_forever()
    })?;
    Ok(())
}

/// Ends the acts, waits until their threads sleep, and announces them.
fn curtain(ctx: &Ctx, stage: &Stage, threads: usize) -> Result<AssertResult> {
    stage.stop.store(true, Ordering::SeqCst);
    let mut patience = 2_000;
    while stage.asleep.load(Ordering::SeqCst) < threads && patience > 0 {
        std::thread::sleep(Duration::from_millis(1));
        patience -= 1;
    }
    // From the last thread's note to its sleep.
    std::thread::sleep(Duration::from_millis(20));
    for (tid, role) in stage.cast().iter() {
        ctx.announce(*tid, role)?;
    }
    let asleep = stage.asleep.load(Ordering::SeqCst);
    Ok(AssertResult::pass().ensure(asleep == threads, || format!("{asleep} of {threads} threads sleep")))
}

fn stage() -> &'static Stage {
    Box::leak(Box::default())
}

/// Everything that tasks of our own do but hotplug, on four CPUs: first what soon gives its CPU away, then also what takes one for as
/// long as it may.
#[ktstr_test(accel = "sim", cores = 4, duration_s = 0.3)]
fn everything(ctx: &Ctx) -> Result<AssertResult> {
    let stage = stage();
    let wanderer = tasks::Wanderer::start()?;
    ctx.announce(wanderer.tid(), "wanderer")?;
    let bomb = bomb::Bomb::start()?;
    ctx.announce(bomb.tid(), "bomb")?;
    // Under any scheduler, who leads the play comes when it is time.
    system::come_first()?;
    act(stage, "yield", tasks::yield_on_cpu_1)?;
    act(stage, "yield", tasks::yield_on_cpu_1)?;
    std::thread::sleep(ctx.duration() / 10);
    act(stage, "forker", tasks::fork_short_lived)?;
    act(stage, "execer", tasks::exec_storm)?;
    act(stage, "mover", tasks::change_affinity)?;
    for _ in 0..2 {
        let (one, other) = tasks::pair()?;
        act(stage, "pairs", move |s| tasks::message(s, one, true))?;
        act(stage, "pairs", move |s| tasks::message(s, other, false))?;
    }
    let early = wanderer.wander(ctx.duration() / 3)?;
    act(stage, "spin", tasks::spin)?;
    act(stage, "spin", tasks::spin)?;
    let moves = early + wanderer.wander(ctx.duration() * 2 / 3)?;
    wanderer.end();
    bomb.put_out();
    let result = curtain(ctx, stage, 11)?;
    bomb.tell();
    Ok(result.ensure(moves >= 4, || format!("{moves} moves between cgroups are too few to test them")))
}

/// hackbench with its eight tasks and the one that starts them, and one stressor of each kind.
#[ktstr_test(accel = "sim", cores = 4, duration_s = 0.3)]
fn programs(ctx: &Ctx) -> Result<AssertResult> {
    system::come_first()?;
    let programs = programs::Programs::start(&[
        "hackbench -g 1 -f 4 -l 1000000",
        "stress-ng --switch 1 --fork 1 --yield 1 --cpu 1 --temp-path /tmp --timeout 60",
    ])?;
    std::thread::sleep(ctx.duration());
    programs.freeze(ctx)
}

/// Wakeups that tasks measure themselves: first on idle CPUs, then where they meet others.
#[ktstr_test(accel = "sim", cores = 2, duration_s = 0.1)]
fn wakeups(ctx: &Ctx) -> Result<AssertResult> {
    let idle = stage();
    let (reader, writer) = wakeups::measured()?;
    act(idle, "reader", reader)?;
    act(idle, "writer", writer)?;
    std::thread::sleep(ctx.duration());
    let alone = curtain(ctx, idle, 2)?;
    let busy = stage();
    for _ in 0..2 {
        act(busy, "bursts", wakeups::bursts)?;
    }
    let measured = wakeups::cyclictest(ctx, 300)?;
    Ok(alone.merge(measured).merge(curtain(ctx, busy, 2)?))
}

/// A CPU goes offline and comes back while tasks run on it.
#[ktstr_test(accel = "sim", cores = 3, duration_s = 0.1)]
fn hotplug(ctx: &Ctx) -> Result<AssertResult> {
    let stage = stage();
    for _ in 0..4 {
        act(stage, "spin", tasks::spin)?;
    }
    std::thread::sleep(ctx.duration() / 3);
    let online = "/sys/devices/system/cpu/cpu2/online";
    std::fs::write(online, "0")?;
    std::thread::sleep(ctx.duration() / 3);
    std::fs::write(online, "1")?;
    std::thread::sleep(ctx.duration() / 3);
    // And once more, so that the window closes while it is offline.
    std::fs::write(online, "0")?;
    curtain(ctx, stage, 4)
}

declare_scheduler!(FALSE, { name = "false", binary = "false" });

/// Changes to a scheduler that does not take over.
#[ktstr_test(accel = "sim", cores = 2, duration_s = 0.1)]
fn changes_in_vain(ctx: &Ctx) -> Result<AssertResult> {
    let spinner = CgroupDef::named("spin").workers(1);
    Scenario::new().add(spinner).hold(0.05).swap_scheduler(&FALSE).hold(0.05).run(ctx)
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

/// A spinner that goes from one of two cgroups to the other every 10 ms, and may use a tenth of a CPU in each: it is mostly moved while it
/// is throttled.
#[ktstr_test(accel = "sim", cores = 2, duration_s = 0.4)]
fn throttled_here_and_there(ctx: &Ctx) -> Result<AssertResult> {
    let spinner = tasks::Wanderer::start()?;
    ctx.announce(spinner.tid(), "confined")?;
    spinner.limit(10_000)?;
    let moves = spinner.wander(ctx.duration())?;
    spinner.end();
    Ok(AssertResult::pass().ensure(moves > 20, || format!("{moves} moves are too few to test them")))
}

/// Workers of three roles in two phases, one of them with a quota.
#[ktstr_test(accel = "sim", numa_nodes = 2, llcs = 2, cores = 1, duration_s = 0.4)]
fn phased(ctx: &Ctx) -> Result<AssertResult> {
    Scenario::new()
        .add(CgroupDef::named("server").workers(4).work(Work::message()))
        .add(CgroupDef::named("batch").workers(3))
        .add(CgroupDef::named("capped").workers(2).quota(0.1))
        .hold(0.1)
        .phase("wide")
        .hold(0.5)
        .cpus("batch", Cpus::Llc(0))
        .phase("narrow")
        .hold(0.4)
        .run(ctx)
}

/// Workers that may use a hundredth of a CPU together: a millisecond each tenth of a second, on one of two CPUs at a time, so that each of
/// the twelve on a CPU has its turn after two seconds and more.
#[ktstr_test(accel = "sim", cores = 2, duration_s = 3)]
fn quota(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, &[CgroupDef::named("batch").workers(24).quota(0.01)])
}

/// Switches as fast as they come, on one CPU.
#[ktstr_test(accel = "sim", cores = 2, duration_s = 0.2)]
fn storm(ctx: &Ctx) -> Result<AssertResult> {
    let stage = stage();
    let (one, other) = tasks::pair()?;
    for (end, first) in [(one, true), (other, false)] {
        act(stage, "pairs", move |s| {
            system::bind(0..1);
            tasks::message(s, end, first);
        })?;
    }
    std::thread::sleep(ctx.duration());
    curtain(ctx, stage, 2)
}

/// The shortest switches that there are, on four CPUs: two tasks on each yield to each other, in real time.
#[ktstr_test(accel = "sim", cores = 4, duration_s = 1)]
fn yielders(ctx: &Ctx) -> Result<AssertResult> {
    let stage = stage();
    std::fs::write("/proc/sys/kernel/sched_rt_runtime_us", "-1")?;
    system::in_real_time(2)?;
    for cpu in (0..4).chain(0..4) {
        act(stage, "yielder", move |s| tasks::yield_in_real_time(s, cpu))?;
    }
    std::thread::sleep(ctx.duration());
    curtain(ctx, stage, 8)
}

/// 40,000 switches on one CPU, however long they take.
#[ktstr_test(accel = "sim", cores = 2, duration_s = 1)]
fn rally(ctx: &Ctx) -> Result<AssertResult> {
    let stage = stage();
    for side in tasks::rally(20_000)? {
        act(stage, "pairs", side)?;
    }
    while stage.asleep.load(Ordering::SeqCst) < 2 {
        std::thread::sleep(Duration::from_millis(1));
    }
    curtain(ctx, stage, 2)
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
                act(stage, role, one)?;
                threads += 1;
            }
        }
    }
    while stage.asleep.load(Ordering::SeqCst) < threads {
        std::thread::sleep(Duration::from_millis(1));
    }
    curtain(ctx, stage, threads)
}

/// Ten tasks and the one that starts them.
#[derive(Payload)]
#[payload(binary = "hackbench", args = ["-g", "1", "-f", "5", "-l", "100"])]
struct Hackbench;

/// Tasks that nobody announces: hackbench's, children of a worker, and a program that is started in the cgroup of another worker.
#[ktstr_test(accel = "sim", cores = 2, duration_s = 0.1)]
fn families(ctx: &Ctx) -> Result<AssertResult> {
    let hackbench = Hackbench::run(ctx, &[])?;
    let workers = Scenario::new()
        .add(CgroupDef::named("churn").work(Work::fork_churn()))
        .add(CgroupDef::named("spin"))
        .hold(1.0)
        .run(ctx)?;
    let procs =
        std::fs::OpenOptions::new().write(true).open(format!("{}/spin/cgroup.procs", tasks::CGROUPS))?;
    let mut stranger = programs::command("hackbench -g 1 -f 1 -l 10");
    system::enter(&mut stranger, &procs);
    let status = stranger.status()?;
    let least_ns = |role: &str| {
        workers.workers().iter().find(|w| w.role == role).and_then(|w| w.iteration.min_ns).unwrap_or(0)
    };
    println!("spin_ns {}", least_ns("spin"));
    Ok(hackbench.merge(workers).ensure(status.success(), || format!("the stranger ended with {status}")))
}

/// Programs of the highest real-time priority on every CPU: neither this nor the agent gets one any more.
#[ktstr_test(accel = "sim", cores = 2, duration_s = 0.2)]
fn usurpers(ctx: &Ctx) -> Result<AssertResult> {
    for _ in 0..ctx.topology().nr_cpus() {
        let tid = system::fork(|| {
            std::thread::sleep(Duration::from_millis(50));
            while system::in_real_time(99).is_ok() {}
        })?;
        ctx.announce(tid, "usurper")?;
    }
    std::thread::sleep(ctx.duration());
    Ok(AssertResult::pass())
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
