//! A second `main`.

use ktstr::prelude::*;

#[ktstr_test]
fn test(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, &[])
}

ktstr::test_main!();
