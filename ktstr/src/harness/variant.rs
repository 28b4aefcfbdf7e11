//! The tests that a binary lists: each test on its own topology and on the presets of the gauntlet, and each
//! of these with every kernel and scheduler of a run with several.

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
    /// A preset of the gauntlet; it replaces the topology of the test.
    pub preset: Option<Topology>,
    /// One of the kernels of a run with several.
    pub kernel: Option<KernelChoice>,
    /// The scheduler of the run, as in `KTSTR_SCHEDULER`; it replaces the scheduler of the test.
    pub overriding: Option<String>,
    /// One of the schedulers of a run with several, as in `KTSTR_SCHEDULER`.
    pub scheduler: Option<String>,
}

impl Variant {
    /// The name without the kernel and the scheduler.
    pub(crate) fn plain_name(&self) -> String {
        let name = self.entry.full_name();
        self.preset.map_or(name.clone(), |t| format!("gauntlet/{name}/{}", gauntlet::name(t)))
    }

    /// The name in the list of nextest.
    pub(crate) fn name(&self) -> String {
        let mut name = self.plain_name();
        for part in [self.kernel.as_ref().map(|k| &k.label), self.scheduler.as_ref()].into_iter().flatten() {
            name = format!("{name}/{}", part.replace(' ', "_"));
        }
        name
    }

    /// Whether it runs only on request.
    pub(crate) fn is_ignored(&self) -> bool {
        self.entry.ignored || self.preset.is_some()
    }

    /// The scheduler that replaces the one of the test.
    pub(crate) fn chosen_scheduler(&self) -> Option<&str> {
        self.scheduler.as_deref().or(self.overriding.as_deref())
    }

    /// The topology of its guest.
    pub(crate) fn topology(&self) -> Result<Topology, Failed> {
        match self.preset {
            Some(t) => Ok(t),
            None => Ok(self.entry.topology()?),
        }
    }

    /// The description for the runner's budget.
    pub(crate) fn describe(&self, binary: &str) -> Result<Described, Failed> {
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
        let own = || self.entry.scheduler.map_or(KERNEL_SCHEDULER, |s| s.name);
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

/// Tests with their variants.
#[derive(Debug, Default)]
pub(crate) struct Variants {
    pub all: Vec<Variant>,
    /// The reason of each preset that was left out.
    pub left_out: Vec<String>,
}

/// A scheduler in the environment has at least one word.
fn scheduler_words(text: &str) -> Option<String> {
    (!text.trim().is_empty()).then(|| text.into())
}

/// The choices of a dimension; a single `None` if the variable has none.
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

/// The name of the kernel's own scheduler in `KTSTR_SCHEDULER`.
pub(crate) const KERNEL_SCHEDULER: &str = "eevdf";
