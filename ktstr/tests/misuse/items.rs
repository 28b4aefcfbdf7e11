//! Items that are no test.

use ktstr::prelude::*;

#[ktstr_test]
struct NoFunction;

#[ktstr_test]
fn no_context() -> Result<AssertResult> {
    Ok(AssertResult::pass())
}

#[ktstr_test]
async fn waits(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, &[])
}

#[ktstr_test]
fn generic<T>(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, &[])
}

#[ktstr_test]
fn two_arguments(ctx: &Ctx, n: u32) -> Result<AssertResult> {
    execute_defs(ctx, &[])
}

#[ktstr_test]
fn returns_nothing(ctx: &Ctx) {
    let _ = execute_defs(ctx, &[]);
}

#[ktstr_test]
fn takes_a_number(n: u32) -> Result<AssertResult> {
    Ok(AssertResult::pass())
}
