//! What a regression gate boots on both sides: short, in virtual time, and without conditions of its own.

use ktstr::declare_scheduler;
use ktstr::prelude::*;

declare_scheduler!(SCHED, { name = "scx_fixture", binary = "scx_fixture" });

#[ktstr_test(scheduler = SCHED, accel = "sim", llcs = 2, cores = 2, duration_s = 0.3)]
fn latency_steady(ctx: &Ctx) -> Result<AssertResult> {
    canned::steady(ctx).run(ctx)
}

#[ktstr_test(scheduler = SCHED, accel = "sim", llcs = 2, cores = 2, duration_s = 0.3)]
fn latency_oversubscribed(ctx: &Ctx) -> Result<AssertResult> {
    canned::oversubscribed(ctx).run(ctx)
}
