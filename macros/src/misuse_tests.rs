//! Every misuse of the macros, with the part of the message that says what to write.

use proc_macro2::TokenStream;

use crate::{attribute, declare, payload};

/// The message for `#[ktstr_test(args)] item`.
fn misuse(args: &str, item: &str) -> String {
    let parse = |s: &str| s.parse::<TokenStream>().unwrap();
    match attribute::expand(parse(args), parse(item)) {
        Ok(_) => panic!("{args} is accepted"),
        Err(e) => e.to_string(),
    }
}

const TEST: &str = "fn t(ctx: &Ctx) -> Result<AssertResult> { todo() }";

#[track_caller]
fn says(args: &str, part: &str) {
    let message = misuse(args, TEST);
    assert!(message.contains(part), "{args}: {message}");
}

#[test]
fn arguments_that_are_wrong() {
    says("cores", "write `name = value`; the names are scheduler, llcs");
    says("= 2", "write `name = value`");
    says("core = 2", "unknown name `core`; the names are scheduler");
    says("cores = 2, cores = 3", "`cores` is given twice");
    says("cores = 2 llcs = 2", "a comma belongs between arguments");
    says("cores = 0", "`cores` takes an integer from 1 to 256, as in `cores = 2`");
    says("cores = \"2\"", "`cores` takes an integer");
    says("threads = 4", "`threads` takes an integer from 1 to 2");
    says("numa_nodes = 65", "from 1 to 64");
    says("memory_mib = -1", "`memory_mib` takes an integer");
    says("duration_s = 0", "`duration_s` takes seconds from 0.1 to 3600");
    says("duration_s = \"1\"", "as in `duration_s = 2`");
    says("accel = \"kvm2\"", "`accel` takes \"kvm\", \"sim\" or \"tcg\"");
    says("isolation = \"none\"", "`isolation` takes \"alone\", \"share\" or \"any\"");
    says("llcs = 16, cores = 32", "the topology has 512 CPUs, a guest has at most 256");
    says("assert = 3", "write `assert(...)`");
    says("gauntlet = true", "write `gauntlet(...)`");
    says("frobnicate(3)", "unknown name `frobnicate`");
}

#[test]
fn conditions_that_are_wrong() {
    let form = "write `assert(METRIC.STAT < LIMIT)`, as in `assert(wakeup_latency.p99 < 5ms";
    for wrong in ["", "5ms > wakeup_latency", "wakeup_latency.p99", "wakeup_latency.p99 == 5ms", "a.b < c"] {
        says(&format!("assert({wrong})"), form);
    }
    says("assert(run_delay.max < 5min)", "the units of limits are ns, us, ms, s and %");
    says("assert(run_delay.max < \"5ms\")", form);
    says(
        "assert(run_delay.max < 5ms, rule = \"x\")",
        "unknown name `rule` in `assert`; there are role, phase",
    );
    says("assert(run_delay.max < 5ms 6)", "this does not belong into `assert(...)`");
}

#[test]
fn checks_and_ends_that_are_wrong() {
    says("without(speed)", "no check is called `speed`; there are progress, max_wait, in_charge");
    says("scheduler = S, expect = crash", "write `expect = sched_exit` or `expect = sched_exit(KIND)`");
    says("scheduler = S, expect = sched_exit(boom)", "KIND one of stall, error, error_bpf, exited");
    says("expect = sched_exit(stall)", "`expect = sched_exit` needs a scheduler");
}

#[test]
fn constraints_that_are_wrong() {
    says("gauntlet(cpu = 4)", "unknown constraint `cpu`; there are cpus, llcs, numa_nodes, smt");
    says("gauntlet(cpus = many)", "`cpus` takes a number or a range, as in `cpus = 2..=8`");
    says("gauntlet(cpus = 8..=4)", "`cpus` takes a number or a range");
    says("gauntlet(smt = 2)", "`smt` takes true or false");
}

#[test]
fn items_that_are_wrong() {
    let form = "`fn name(ctx: &Ctx) -> Result<AssertResult>`";
    for item in [
        "struct S;",
        "fn t() {}",
        "async fn t(ctx: &Ctx) {}",
        "fn t<T>(ctx: &Ctx) {}",
        "fn t(a: u8, b: u8) {}",
    ] {
        let message = misuse("", item);
        assert!(message.contains(form), "{item}: {message}");
    }
}

#[test]
fn what_is_right_is_accepted() {
    let args = "scheduler = S, llcs = 2, cores = 2, threads = 2, numa_nodes = 2, memory_mib = 512, duration_s = 0.5, \
        accel = \"sim\", assert(wakeup_latency.p99.9 <= 1.5ms, role = \"r\", phase = \"p\"), assert(x.y > 10%), \
        without(progress, max_wait), expect = sched_exit(stall), also(A, B), payloads(P, m::Q), covers(\"fork\"), \
        gauntlet(cpus = 4..=64, llcs = 2.., numa_nodes = 1, smt = true),";
    let out = attribute::expand(args.parse().unwrap(), TEST.parse().unwrap()).unwrap().to_string();
    for part in
        ["\"wakeup_latency.p99.9\"", "1500000f64", "0.1f64", "(4u32 , 64u32)", "(2u32 , 4294967295u32)"]
    {
        assert!(out.contains(part), "{part} in {out}");
    }
}

#[test]
fn schedulers_that_are_wrong() {
    let says = |text: &str, part: &str| {
        let message = declare::expand(text.parse().unwrap()).unwrap_err().to_string();
        assert!(message.contains(part), "{text}: {message}");
    };
    says("S, { name = \"s\" }", "`binary` is missing: write binary = \"...\"");
    says("S, { binary = \"s\" }", "`name` is missing");
    says("S, { name = \"s\", path = \"p\" }", "unknown field `path`; the fields are name, binary, args");
}

#[test]
fn payloads_that_are_wrong() {
    let says = |text: &str, part: &str| {
        let message = payload::expand(text.parse().unwrap()).unwrap_err().to_string();
        assert!(message.contains(part), "{text}: {message}");
    };
    let metric = |fields: &str| format!("#[payload(binary = \"b\")] #[metric({fields})] struct P;");
    says("struct P;", "write #[payload(binary = \"stress-ng\"");
    says("#[payload(args = [])] struct P;", "`binary` is missing");
    says(
        "#[payload(bin = \"b\")] struct P;",
        "unknown field `bin`; the fields are name, binary, args, files",
    );
    says(&metric("regex = \"x\", unit = \"ns\", better = \"lower\""), "`name` is missing");
    says(&metric("name = \"n\", unit = \"ns\", better = \"lower\""), "`regex` is missing");
    says(&metric("name = \"n\", json = \"a\", better = \"lower\""), "`unit` is missing");
    says(&metric("name = \"n\", json = \"a\", unit = \"ns\""), "`better` is missing");
    says(&metric("name = \"n\", better = \"more\""), "`better` takes \"lower\", \"higher\" or \"neutral\"");
    says(
        &metric("title = \"n\""),
        "unknown field `title`; the fields are name, regex or json, unit, better, scale",
    );
    says(&metric("3"), "write #[metric(name = \"ops\"");
}
