//! Checks and ends that are wrong.

use ktstr::prelude::*;

#[ktstr_test(without(speed))]
fn unknown_check(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, &[])
}

#[ktstr_test(scheduler = S, expect = crash)]
fn unknown_end(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, &[])
}

#[ktstr_test(scheduler = S, expect = sched_exit(boom))]
fn unknown_kind(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, &[])
}

#[ktstr_test(expect = sched_exit(stall))]
fn nobody_to_end(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, &[])
}
