//! Constraints on the gauntlet that are wrong.

use ktstr::prelude::*;

#[ktstr_test(gauntlet(cpu = 4))]
fn unknown(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, &[])
}

#[ktstr_test(gauntlet(cpus = many))]
fn no_range(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, &[])
}

#[ktstr_test(gauntlet(cpus = 8..=4))]
fn empty_range(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, &[])
}

#[ktstr_test(gauntlet(smt = 2))]
fn no_truth(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, &[])
}
