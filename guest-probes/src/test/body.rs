//! The process of the test body: start, messages, end.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use ktstr_wire::body::{BodyResult, ToAgent, ToBody};
use ktstr_wire::message::{TIMED_OUT, TestResult, to_json};
use ktstr_wire::spec::GuestSpec;
use ktstr_wire::{AGENT_PRIORITY, env};

use crate::init::system::{BODY_CGROUP, TEST_CGROUP, search_path};
use crate::process::exit_status::describe;
use crate::process::output_tail::Tail;
use crate::process::rank;
use crate::scheduler::succession::SchedulerSlot;

/// How long the body may take to compute its result: percentiles of up to a few million samples, unoptimized.
const RESULT_LIMIT: Duration = Duration::from_secs(60);

/// Bytes kept of standard output and of standard error.
const OUTPUT_BYTES: usize = 256 << 10;

/// A running test body.
#[derive(Debug)]
pub(crate) struct Body {
    child: Child,
    socket: UnixStream,
    lines: Receiver<ToAgent>,
    output: Vec<Tail>,
}

/// A task or cgroup with a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Announced {
    /// The task with this thread id.
    Task(u32),
    /// The cgroup with this path below the root.
    Cgroup(String),
}

/// How the body ended.
#[derive(Debug)]
pub(crate) enum BodyEnd {
    /// The test function has returned; its workers are asleep.
    Ended,
    /// Its process ended without a result.
    Died,
    /// It exceeded its time limit.
    TimedOut(Duration),
    /// The scheduler under test has ended.
    GivenUp,
    /// The watch ended the workload, for this reason.
    Starved(String),
}

impl Body {
    /// Starts the body of the spec's test, in its own cgroup.
    pub(crate) fn start(spec: &GuestSpec) -> io::Result<Body> {
        let (ours, theirs) = UnixStream::pair()?;
        let fd = theirs.as_raw_fd();
        let mut command = Command::new(&spec.test_path);
        command
            .env(env::BODY, &spec.test.test)
            .env(env::AGENT_FD, fd.to_string())
            .env("RUST_BACKTRACE", "0")
            .env("PATH", search_path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let cgroup_procs = fs::OpenOptions::new().write(true).open(format!("{BODY_CGROUP}/cgroup.procs"))?;
        // SAFETY: between fork and exec this calls only fcntl and write on descriptors that are open.
        unsafe { command.pre_exec(move || enter(fd, cgroup_procs.as_raw_fd())) };
        let mut child = command.spawn()?;
        drop(theirs);
        let output = [
            child.stdout.take().map(|p| Tail::of(p, OUTPUT_BYTES)),
            child.stderr.take().map(|p| Tail::of(p, OUTPUT_BYTES)),
        ];
        let (sender, lines) = channel();
        let reader = BufReader::new(ours.try_clone()?);
        std::thread::Builder::new().name("body".into()).spawn(move || {
            // The agent's main thread reports a failure to raise priorities.
            let _ = rank::raise(0, AGENT_PRIORITY);
            for line in reader.lines().map_while(Result::ok) {
                let Ok(message) = serde_json::from_str(&line) else { continue };
                if sender.send(message).is_err() {
                    break;
                }
            }
        })?;
        Ok(Body { child, socket: ours, lines, output: output.into_iter().flatten().collect() })
    }

    /// Process id of the body.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the body has finished, its process has ended, the time is over, or the scheduler is lost. Switches
    /// schedulers at the body's request; calls `on_role` for each announcement.
    pub(crate) fn wait(
        &mut self,
        limit: Duration,
        slot: &mut SchedulerSlot<'_>,
        mut on_role: impl FnMut(Announced, String),
    ) -> BodyEnd {
        let deadline = Instant::now() + limit;
        loop {
            match self.lines.recv_timeout(Duration::from_millis(100)) {
                Ok(ToAgent::Worker { tid, role }) => on_role(Announced::Task(tid), role),
                Ok(ToAgent::Cgroup { path, role }) => on_role(Announced::Cgroup(path), role),
                Ok(ToAgent::Scheduler { start }) => {
                    let error = slot.change(start.as_deref()).err();
                    self.answer(&ToBody::Scheduler { error });
                }
                Ok(ToAgent::Ended) => return BodyEnd::Ended,
                // It comes after the end.
                Ok(ToAgent::Finished(_)) => return BodyEnd::Died,
                Err(RecvTimeoutError::Disconnected) => return BodyEnd::Died,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if Instant::now() >= deadline {
                return BodyEnd::TimedOut(limit);
            }
            if slot.is_lost() {
                return BodyEnd::GivenUp;
            }
        }
    }

    fn answer(&mut self, message: &ToBody) {
        let mut line = to_json(message);
        line.push(b'\n');
        // The body may be gone.
        let _ = self.socket.write_all(&line);
    }

    /// Has the body compute its result. The window is closed.
    fn result(&mut self) -> Result<BodyResult, String> {
        self.answer(&ToBody::Closed);
        let deadline = Instant::now() + RESULT_LIMIT;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(ToAgent::Finished(result)) => return Ok(result),
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => return Err("ended without a result".into()),
                Err(RecvTimeoutError::Timeout) => {
                    return Err(format!("did not compute its result within {} s", RESULT_LIMIT.as_secs()));
                }
            }
        }
    }

    /// Gets the result, releases the body, waits for its process, and kills the rest of the test.
    pub(crate) fn finish(mut self, end: BodyEnd) -> TestResult {
        let patience = if matches!(end, BodyEnd::Ended | BodyEnd::Died) { 50 } else { 0 };
        let result = matches!(end, BodyEnd::Ended).then(|| self.result());
        self.answer(&ToBody::Release);
        let mut status = None;
        for _ in 0..patience {
            status = self.child.try_wait().ok().flatten();
            if status.is_some() {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let _ = fs::write(format!("{TEST_CGROUP}/cgroup.kill"), "1");
        let status = status.or_else(|| self.child.wait().ok());
        let output: Vec<String> = self.output.drain(..).map(|t| t.finish().0).collect();
        let (body, abnormal_end) = match end {
            BodyEnd::Ended | BodyEnd::Died => match result {
                Some(Ok(result)) => (Some(result), None),
                Some(Err(why)) => (None, Some(why)),
                None => (None, Some(status.map_or("ended".into(), describe))),
            },
            BodyEnd::TimedOut(limit) => (None, Some(format!("{TIMED_OUT} after {} s", limit.as_secs()))),
            BodyEnd::GivenUp => (None, Some("stopped because the scheduler under test had ended".into())),
            BodyEnd::Starved(why) => (None, Some(why)),
        };
        TestResult { body, abnormal_end, output: output.concat() }
    }
}

/// In the child: keeps the socket open across exec and moves into the cgroup.
fn enter(fd: i32, cgroup_procs: i32) -> io::Result<()> {
    // SAFETY: fcntl on an open descriptor with integer arguments.
    if unsafe { libc::fcntl(fd, libc::F_SETFD, 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: writes two bytes of a static string to an open descriptor. "0" is the writer itself.
    if unsafe { libc::write(cgroup_procs, c"0".as_ptr().cast(), 1) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
