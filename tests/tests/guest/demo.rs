//! The demo: the same mixed load on two topologies. No scheduler is declared, so that `--scheduler` chooses.

use ktstr::prelude::*;

/// Spinning workers beside pairs that wake each other, more of both than there are CPUs.
fn mixed(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(
        ctx,
        &[CgroupDef::named("batch").workers(4), CgroupDef::named("server").workers(4).work(Work::message())],
    )
}

#[ktstr_test(llcs = 1, cores = 4, duration_s = 0.25)]
fn demo_1llc(ctx: &Ctx) -> Result<AssertResult> {
    mixed(ctx)
}

#[ktstr_test(llcs = 2, cores = 2, duration_s = 0.25)]
fn demo_2llc(ctx: &Ctx) -> Result<AssertResult> {
    mixed(ctx)
}
