//! Cgroups of a test and the work in them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::Result;

/// Where the test's cgroups are. The agent has made it and handed the controllers down.
const ROOT: &str = "/sys/fs/cgroup/ktstr";

/// What a worker does until it is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Computes without a pause. One iteration is 10,000 rounds of a linear congruential generator.
    Spin,
    /// Workers in pairs pass a byte to and fro over pipes and compute before each pass. One iteration is one round trip.
    Message {
        /// Rounds of the generator before each pass, on average: the test's seed draws from three to five quarters of it.
        compute: u32,
    },
}

impl Work {
    /// Message passing with a little computation.
    pub fn message() -> Work {
        Work::Message { compute: 2_000 }
    }
}

/// A cgroup with workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupDef {
    pub(crate) name: String,
    pub(crate) workers: u32,
    pub(crate) work: Work,
    pub(crate) role: Option<String>,
    weight: Option<u32>,
    cpuset: Option<String>,
}

impl CgroupDef {
    /// A cgroup of this name with one spinning worker.
    pub fn named(name: impl Into<String>) -> CgroupDef {
        CgroupDef { name: name.into(), workers: 1, work: Work::Spin, role: None, weight: None, cpuset: None }
    }

    /// Number of workers.
    pub fn workers(self, workers: u32) -> CgroupDef {
        CgroupDef { workers, ..self }
    }

    /// What they do.
    pub fn work(self, work: Work) -> CgroupDef {
        CgroupDef { work, ..self }
    }

    /// Their role in the results; without it the cgroup's name.
    pub fn role(self, role: impl Into<String>) -> CgroupDef {
        CgroupDef { role: Some(role.into()), ..self }
    }

    /// `cpu.weight`, 1 to 10000 (the kernel's default is 100).
    pub fn weight(self, weight: u32) -> CgroupDef {
        CgroupDef { weight: Some(weight), ..self }
    }

    /// `cpuset.cpus`, a CPU list such as `0-1,4`.
    pub fn cpuset(self, cpus: impl Into<String>) -> CgroupDef {
        CgroupDef { cpuset: Some(cpus.into()), ..self }
    }
}

/// A cgroup that exists.
#[derive(Debug)]
pub(crate) struct Cgroup {
    dir: PathBuf,
}

impl Cgroup {
    pub(crate) fn create(def: &CgroupDef) -> Result<Cgroup> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if def.name.is_empty()
            || def.name == "body"
            || !def.name.chars().all(plain)
            || def.name.starts_with('.')
        {
            return Err(format!(
                "'{}' is no name for a cgroup: use letters, digits, '.', '_', '-'; 'body' is taken",
                def.name
            )
            .into());
        }
        let dir = Path::new(ROOT).join(&def.name);
        fs::create_dir(&dir).map_err(|e| format!("cgroup {}: {e}", def.name))?;
        let cgroup = Cgroup { dir };
        if let Some(weight) = def.weight {
            cgroup.write("cpu.weight", &weight.to_string())?;
        }
        if let Some(cpus) = &def.cpuset {
            cgroup.write("cpuset.cpus", cpus)?;
        }
        Ok(cgroup)
    }

    fn write(&self, file: &str, value: &str) -> Result<()> {
        let path = self.dir.join(file);
        let hint = |e: io::Error| format!("{} = {value}: {e}", path.display());
        Ok(fs::write(&path, value).map_err(hint)?)
    }

    pub(crate) fn add(&self, tid: u32) -> Result<()> {
        self.write("cgroup.procs", &tid.to_string())
    }

    /// `usage_usec` of `cpu.stat`.
    pub(crate) fn usage_us(&self) -> Result<u64> {
        let text = fs::read_to_string(self.dir.join("cpu.stat"))?;
        let value = text.lines().find_map(|l| l.strip_prefix("usage_usec "));
        Ok(value.ok_or("cpu.stat has no usage_usec")?.trim().parse()?)
    }
}
