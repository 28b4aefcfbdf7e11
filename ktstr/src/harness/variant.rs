//! The tests that a binary lists: each test on its own topology, its gauntlet, and, where the run has several kernels or
//! schedulers, each of these with every one of them.

use ktstr_wire::env::{self, Variable};
use ktstr_wire::listing::{Described, KernelChoice};
use ktstr_wire::topology::Topology;
use libtest_mimic::Failed;

use crate::harness::gauntlet;
use crate::harness::registry::TestEntry;

/// One test as it is listed.
#[derive(Clone, Debug)]
pub(crate) struct Variant {
    pub entry: &'static TestEntry,
    /// A preset of the gauntlet in place of the test's own topology.
    pub preset: Option<Topology>,
    /// One of several kernels.
    pub kernel: Option<KernelChoice>,
    /// The scheduler of the run in place of the test's own, as `KTSTR_SCHEDULER` takes it.
    pub overriding: Option<String>,
    /// One of several schedulers, as `KTSTR_SCHEDULER` takes it.
    pub scheduler: Option<String>,
}

impl Variant {
    /// The name that it has with one kernel and one scheduler.
    pub fn plain_name(&self) -> String {
        let name = self.entry.full_name();
        self.preset.map_or(name.clone(), |t| format!("gauntlet/{name}/{}", gauntlet::name(t)))
    }

    /// The name as nextest lists it.
    pub fn name(&self) -> String {
        let mut name = self.plain_name();
        for part in [self.kernel.as_ref().map(|k| &k.label), self.scheduler.as_ref()].into_iter().flatten() {
            name = format!("{name}/{}", part.replace(' ', "_"));
        }
        name
    }

    /// It runs only if it is asked for.
    pub fn is_ignored(&self) -> bool {
        self.entry.ignored || self.preset.is_some()
    }

    /// The scheduler in place of the test's own.
    pub fn chosen_scheduler(&self) -> Option<&str> {
        self.scheduler.as_deref().or(self.overriding.as_deref())
    }

    /// The CPUs of its guest.
    pub fn topology(&self) -> Result<Topology, Failed> {
        match self.preset {
            Some(t) => Ok(t),
            None => Ok(self.entry.topology()?),
        }
    }

    /// What the runner's budget knows about it.
    pub fn describe(&self, binary: &str) -> Result<Described, Failed> {
        let topology = self.topology()?;
        Ok(Described {
            binary: binary.into(),
            package: self.entry.package.into(),
            name: self.name(),
            test: self.entry.full_name(),
            ignored: self.is_ignored(),
            topology: topology.to_string(),
            duration_ns: self.entry.duration_ns,
            accel: self.entry.accel,
            properties: self.properties(topology),
        })
    }

    fn properties(&self, t: Topology) -> Vec<String> {
        let own = || self.entry.scheduler.map_or(crate::harness::variant::KERNEL_SCHEDULER, |s| s.name);
        let scheduler = self.chosen_scheduler().unwrap_or_else(own);
        let mut all = vec![
            format!("test={}", self.entry.full_name()),
            format!("scheduler={scheduler}"),
            format!("cpus={}", t.nr_cpus().next_power_of_two()),
            format!("llcs={}", (t.numa_nodes * t.llcs).next_power_of_two()),
            format!("numa={}", t.numa_nodes),
            format!("smt={}", t.threads == 2),
        ];
        all.extend(self.kernel.iter().map(|k| format!("kernel={}", k.label)));
        all.extend(self.entry.covers.iter().map(|c| format!("covers={c}")));
        all
    }
}

/// What the gauntlet has, and what it leaves out.
#[derive(Debug, Default)]
pub(crate) struct Variants {
    /// Every test.
    pub all: Vec<Variant>,
    /// Why presets were left out, a reason for each.
    pub left_out: Vec<String>,
}

/// A scheduler of the environment: a word at least.
fn scheduler_words(text: &str) -> Option<String> {
    (!text.trim().is_empty()).then(|| text.into())
}

/// The choices of a dimension: all of them, or none if there is one at most.
fn choices<T: serde::de::DeserializeOwned>(variable: Variable) -> Result<Vec<Option<T>>, Failed> {
    let all: Vec<T> = variable.json()?.unwrap_or_default();
    Ok(if all.is_empty() { vec![None] } else { all.into_iter().map(Some).collect() })
}

/// Every test of `entries`. Presets whose guests need more memory than `memory_mib` are left out.
pub(crate) fn variants(entries: &[&'static TestEntry], memory_mib: u64) -> Result<Variants, Failed> {
    let kernels = choices::<KernelChoice>(env::KERNELS)?;
    let overriding = env::SCHEDULER.read(scheduler_words)?;
    let schedulers = choices::<String>(env::SCHEDULERS)?;
    let mut variants = Variants::default();
    for entry in entries {
        let mut presets = vec![None];
        for t in gauntlet::presets() {
            let needed = u64::from(entry.memory_mib(t));
            match entry.gauntlet.excludes(t) {
                Some(what) => variants.left_out.push(format!("by the constraint on {what}")),
                None if needed > memory_mib => {
                    variants.left_out.push(format!("for more memory than the host's {memory_mib} MiB"));
                }
                None => presets.push(Some(t)),
            }
        }
        for preset in presets {
            for kernel in &kernels {
                variants.all.extend(schedulers.iter().map(|scheduler| Variant {
                    entry,
                    preset,
                    kernel: kernel.clone(),
                    overriding: overriding.clone(),
                    scheduler: scheduler.clone(),
                }));
            }
        }
    }
    Ok(variants)
}

/// The name that stands for the kernel's own scheduler in `KTSTR_SCHEDULER`.
pub(crate) const KERNEL_SCHEDULER: &str = "eevdf";
