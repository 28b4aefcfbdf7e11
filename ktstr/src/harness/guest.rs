//! Guest mode: runs one test body.

use std::any::Any;
use std::os::fd::FromRawFd;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use ktstr_wire::GUEST_SPEC_PATH;
use ktstr_wire::body::{BodyResult, Outcome, ToAgent};
use ktstr_wire::env::AGENT_FD;
use ktstr_wire::spec::GuestSpec;

use crate::Result;
use crate::ctx::Ctx;
use crate::harness::registry::TESTS;
use crate::result::AssertResult;

/// Runs the body of `test` and sends the result to the agent.
pub(crate) fn run(test: &str) -> ExitCode {
    match context() {
        Ok(ctx) => {
            let body = outcome(test, &ctx);
            match ctx.wait_for_window().and_then(|()| Ok(ctx.send(&ToAgent::Finished(body()))?)) {
                Ok(()) => {
                    ctx.wait_for_release();
                    ExitCode::SUCCESS
                }
                Err(e) => {
                    eprintln!("cannot reach the agent: {e}");
                    ExitCode::FAILURE
                }
            }
        }
        Err(e) => {
            eprintln!("test body: {e}");
            ExitCode::FAILURE
        }
    }
}

fn context() -> Result<Ctx> {
    let fd: i32 = AGENT_FD.number()?.ok_or_else(|| format!("{AGENT_FD} is not set"))?;
    // SAFETY: the agent opened this descriptor for us and named it in the environment; nothing else here uses
    // it.
    let agent = unsafe { UnixStream::from_raw_fd(fd) };
    let spec: GuestSpec = serde_json::from_str(&std::fs::read_to_string(GUEST_SPEC_PATH)?)?;
    Ok(Ctx::new(spec.test, agent))
}

/// Runs the body. The result is computed by the function that this returns, which is not part of the workload.
fn outcome(test: &str, ctx: &Ctx) -> Box<dyn FnOnce() -> BodyResult> {
    let Some(entry) = TESTS.iter().find(|t| t.full_name() == test) else {
        let reason = format!("this binary has no test {test}");
        return Box::new(|| failed(Outcome::Error, reason));
    };
    let ended = catch_unwind(AssertUnwindSafe(|| (entry.body)(ctx)));
    Box::new(move || match ended {
        Ok(Ok(result)) => reported(result),
        Ok(Err(e)) => failed(Outcome::Error, format!("the test returned an error: {e}")),
        Err(panic) => failed(Outcome::Panic, format!("the test panicked: {}", panic_text(&*panic))),
    })
}

fn reported(result: AssertResult) -> BodyResult {
    let outcome = if result.is_pass() { Outcome::Pass } else { Outcome::Fail };
    let late = result.late.iter().flat_map(|metrics| metrics.0());
    BodyResult {
        outcome,
        values: result.values.into_iter().chain(late).collect(),
        reasons: result.reasons,
        workers: result.workers,
        phases: result.phases,
    }
}

/// The message of a panic, if it has one.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}

fn failed(outcome: Outcome, reason: String) -> BodyResult {
    BodyResult { outcome, reasons: vec![reason], workers: vec![], values: vec![], phases: vec![] }
}
