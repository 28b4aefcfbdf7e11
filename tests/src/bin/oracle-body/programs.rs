//! Real programs in a cgroup of their own, which is frozen at the end: their tasks sleep while `/proc` is read, and live.

use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ktstr::prelude::*;
use ktstr_wire::PAYLOAD_DIR;

use crate::system;
use crate::tasks::CGROUPS;

/// Programs that run.
pub struct Programs {
    cgroup: PathBuf,
    children: Vec<(String, Child)>,
}

/// Starts a program of the test's payloads with its arguments, separated by spaces.
pub fn command(line: &str) -> Command {
    let mut words = line.split(' ');
    let mut command = Command::new(format!("{PAYLOAD_DIR}/{}", words.next().unwrap_or_default()));
    command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

impl Programs {
    /// Starts a program for each command line.
    pub fn start(lines: &[&str]) -> Result<Programs> {
        let cgroup = PathBuf::from(CGROUPS).join("programs");
        fs::create_dir(&cgroup)?;
        let procs = fs::OpenOptions::new().write(true).open(cgroup.join("cgroup.procs"))?;
        let start = |line: &&str| {
            let mut command = command(line);
            system::enter(&mut command, &procs);
            Ok((line.to_string(), command.spawn()?))
        };
        let children = lines.iter().map(start).collect::<Result<_>>()?;
        Ok(Programs { cgroup, children })
    }

    /// Freezes them. Each task that is there then gets its own name as its role.
    pub fn freeze(mut self, ctx: &Ctx) -> Result<AssertResult> {
        let mut result = AssertResult::pass();
        for (line, child) in &mut self.children {
            if let Some(status) = child.try_wait()? {
                let mut said = String::new();
                child.stderr.take().map(|mut e| e.read_to_string(&mut said)).transpose()?;
                result = result.ensure(false, || format!("'{line}' has ended, {status}: {said}"));
            }
        }
        fs::write(self.cgroup.join("cgroup.freeze"), "1")?;
        let frozen = || fs::read_to_string(self.cgroup.join("cgroup.events")).map(|e| e.contains("frozen 1"));
        let mut patience = 1_000;
        while !frozen()? && patience > 0 {
            std::thread::sleep(Duration::from_millis(1));
            patience -= 1;
        }
        for tid in fs::read_to_string(self.cgroup.join("cgroup.threads"))?.lines() {
            let name = fs::read_to_string(format!("/proc/{tid}/comm"))?;
            ctx.announce(tid.parse()?, name.trim())?;
        }
        Ok(result.ensure(patience > 0, || "the programs do not freeze".into()))
    }
}
