//! Arguments that are wrong.

use ktstr::prelude::*;

#[ktstr_test(cores)]
fn without_value(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, &[])
}

#[ktstr_test(= 2)]
fn without_name(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, &[])
}

#[ktstr_test(core = 2)]
fn misspelt(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, &[])
}

#[ktstr_test(cores = 2, cores = 3)]
fn twice(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, &[])
}

#[ktstr_test(cores = 2 llcs = 2)]
fn no_comma(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, &[])
}

#[ktstr_test(cores = 0)]
fn no_cores(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, &[])
}

#[ktstr_test(cores = "2")]
fn text(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, &[])
}

#[ktstr_test(threads = 4)]
fn too_many_threads(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, &[])
}

#[ktstr_test(numa_nodes = 65)]
fn too_many_nodes(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, &[])
}

#[ktstr_test(memory_mib = -1)]
fn negative(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, &[])
}

#[ktstr_test(duration_s = 0)]
fn no_time(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, &[])
}

#[ktstr_test(duration_s = "1")]
fn time_as_text(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, &[])
}

#[ktstr_test(accel = "kvm2")]
fn unknown_accelerator(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, &[])
}

#[ktstr_test(isolation = "none")]
fn unknown_isolation(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, &[])
}

#[ktstr_test(llcs = 16, cores = 32)]
fn too_many_cpus(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, &[])
}

#[ktstr_test(assert = 3)]
fn not_a_list(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, &[])
}

#[ktstr_test(gauntlet = true)]
fn not_a_list_either(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, &[])
}

#[ktstr_test(frobnicate(3))]
fn unknown_list(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, &[])
}
