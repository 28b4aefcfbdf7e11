//! Cgroups of a test: their definition and their files.

use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::Result;
use crate::workload::cpus::Cpus;
use crate::workload::sched_policy::Policy;
use crate::workload::work::Work;

/// The cgroup of all cgroups of a test. The agent creates it and enables the controllers for its children.
const ROOT: &str = "/sys/fs/cgroup/ktstr";

/// Period of `cpu.max`, microseconds; the kernel's default.
pub(crate) const QUOTA_PERIOD_US: u64 = 100_000;

/// Definition of a cgroup and its workers.
#[derive(Clone, Debug, PartialEq)]
pub struct CgroupDef {
    pub(crate) name: String,
    pub(crate) workers: u32,
    pub(crate) work: Work,
    role: Option<String>,
    pub(crate) policy: Policy,
    pub(crate) nice: i32,
    pub(crate) weight: Option<u32>,
    pub(crate) quota: Option<f64>,
    pub(crate) cpus: Option<Cpus>,
}

impl CgroupDef {
    /// A cgroup of this name with one spinning worker. `a/b` is the cgroup `b` in `a`.
    pub fn named(name: impl Into<String>) -> CgroupDef {
        CgroupDef {
            name: name.into(),
            workers: 1,
            work: Work::Spin,
            role: None,
            policy: Policy::Normal,
            nice: 0,
            weight: None,
            quota: None,
            cpus: None,
        }
    }

    /// Sets the number of workers; the default is 1.
    pub fn workers(self, workers: u32) -> CgroupDef {
        CgroupDef { workers, ..self }
    }

    /// Sets the work of its workers; the default is [`Work::Spin`].
    pub fn work(self, work: Work) -> CgroupDef {
        CgroupDef { work, ..self }
    }

    /// Sets the role of its workers in the results; the default is the name of the cgroup. Tasks that they
    /// fork inherit the role, and so does any other task in the cgroup that has none. A worker that moves to
    /// another cgroup keeps its role.
    pub fn role(self, role: impl Into<String>) -> CgroupDef {
        CgroupDef { role: Some(role.into()), ..self }
    }

    /// Sets `cpu.weight`, 1 to 10000; the kernel's default is 100.
    pub fn weight(self, weight: u32) -> CgroupDef {
        CgroupDef { weight: Some(weight), ..self }
    }

    /// Sets `cpu.max`, the CPU time that the cgroup may use, in CPUs.
    pub fn quota(self, cpus: f64) -> CgroupDef {
        CgroupDef { quota: Some(cpus), ..self }
    }

    /// Sets `cpuset.cpus` to a list such as `0-1,4`, or to [`Cpus`].
    pub fn cpuset(self, cpus: impl Into<Cpus>) -> CgroupDef {
        CgroupDef { cpus: Some(cpus.into()), ..self }
    }

    /// Sets the nice value of its workers, -20 to 19.
    pub fn nice(self, nice: i32) -> CgroupDef {
        CgroupDef { nice, ..self }
    }

    /// Sets the scheduling policy of its workers.
    pub fn policy(self, policy: Policy) -> CgroupDef {
        CgroupDef { policy, ..self }
    }

    pub(crate) fn role_name(&self) -> &str {
        self.role.as_deref().unwrap_or(&self.name)
    }
}

/// A cgroup that exists.
#[derive(Clone, Debug)]
pub(crate) struct Cgroup {
    dir: PathBuf,
}

impl Cgroup {
    /// Creates the cgroup of a checked definition, and its ancestors that do not exist yet.
    pub(crate) fn create(def: &CgroupDef, topology: ktstr_wire::topology::Topology) -> Result<Cgroup> {
        let mut dir = PathBuf::from(ROOT);
        for part in def.name.split('/') {
            if dir != Path::new(ROOT) {
                // A cgroup with tasks cannot enable controllers for its children.
                fs::write(dir.join("cgroup.subtree_control"), "+cpu +cpuset").map_err(|e| {
                    format!(
                        "cgroup {}: {} has workers of its own or no controllers: {e}",
                        def.name,
                        dir.display()
                    )
                })?;
            }
            dir.push(part);
            match fs::create_dir(&dir) {
                Err(e)
                    if e.kind() == io::ErrorKind::AlreadyExists && dir != Path::new(ROOT).join(&def.name) => {
                }
                made => made.map_err(|e| format!("cgroup {}: {e}", def.name))?,
            }
        }
        let cgroup = Cgroup { dir };
        if let Some(weight) = def.weight {
            cgroup.set_weight(weight)?;
        }
        if let Some(quota) = def.quota {
            cgroup.set_quota(Some(quota))?;
        }
        if let Some(cpus) = &def.cpus {
            cgroup.set_cpus(&cpus.list(topology)?)?;
        }
        Ok(cgroup)
    }

    fn write(&self, file: &str, value: &str) -> Result<()> {
        let path = self.dir.join(file);
        let hint = |e: io::Error| format!("{} = {value}: {e}", path.display());
        Ok(fs::write(&path, value).map_err(hint)?)
    }

    pub(crate) fn set_weight(&self, weight: u32) -> Result<()> {
        self.write("cpu.weight", &weight.to_string())
    }

    /// Sets the quota in CPUs; `None` removes it.
    pub(crate) fn set_quota(&self, cpus: Option<f64>) -> Result<()> {
        let value = match cpus {
            Some(cpus) => format!("{} {QUOTA_PERIOD_US}", (cpus * QUOTA_PERIOD_US as f64) as u64),
            None => format!("max {QUOTA_PERIOD_US}"),
        };
        self.write("cpu.max", &value)
    }

    /// Removes the quota, if there is one.
    pub(crate) fn lift_quota(&self) -> Result<()> {
        match fs::read_to_string(self.dir.join("cpu.max")) {
            Ok(max) if !max.starts_with("max") => self.set_quota(None),
            _ => Ok(()),
        }
    }

    /// How long it and its ancestors were throttled, summed over CPUs, microseconds.
    pub(crate) fn throttled_us(&self) -> u64 {
        let cgroups = self.dir.ancestors().take_while(|dir| dir.starts_with(ROOT));
        let of = |dir: &Path| number(&fs::read_to_string(dir.join("cpu.stat")).ok()?, "throttled_usec");
        cgroups.filter_map(of).sum()
    }

    pub(crate) fn set_cpus(&self, list: &str) -> Result<()> {
        self.write("cpuset.cpus", list)
    }

    pub(crate) fn freeze(&self, frozen: bool) -> Result<()> {
        self.write("cgroup.freeze", if frozen { "1" } else { "0" })
    }

    pub(crate) fn add(&self, tid: u32) -> Result<()> {
        self.write("cgroup.procs", &tid.to_string())
    }

    /// Removes the cgroup, which must be empty.
    pub(crate) fn remove(&self) -> Result<()> {
        Ok(fs::remove_dir(&self.dir).map_err(|e| format!("{}: {e}", self.dir.display()))?)
    }

    /// CPU time of its tasks (`usage_usec` of `cpu.stat`), microseconds.
    pub(crate) fn usage_us(&self) -> Result<u64> {
        let text = fs::read_to_string(self.dir.join("cpu.stat"))?;
        Ok(number(&text, "usage_usec").ok_or("cpu.stat has no usage_usec")?)
    }
}

/// A value of `cpu.stat`.
fn number(stat: &str, name: &str) -> Option<u64> {
    stat.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}
