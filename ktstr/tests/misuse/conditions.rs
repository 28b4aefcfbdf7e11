//! Conditions that are wrong.

use ktstr::prelude::*;

#[ktstr_test(assert())]
fn empty(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, &[])
}

#[ktstr_test(assert(5ms > wakeup_latency))]
fn turned_round(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, &[])
}

#[ktstr_test(assert(wakeup_latency.p99))]
fn no_limit(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, &[])
}

#[ktstr_test(assert(wakeup_latency.p99 == 5ms))]
fn equality(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, &[])
}

#[ktstr_test(assert(wakeup_latency.p99 < c))]
fn no_number(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, &[])
}

#[ktstr_test(assert(run_delay.max < 5min))]
fn unknown_unit(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, &[])
}

#[ktstr_test(assert(run_delay.max < "5ms"))]
fn limit_as_text(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, &[])
}

#[ktstr_test(assert(run_delay.max < 5ms, rule = "x"))]
fn unknown_scope(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, &[])
}

#[ktstr_test(assert(run_delay.max < 5ms 6))]
fn too_much(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, &[])
}
