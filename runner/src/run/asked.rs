//! What `cargo ktstr` was asked for, and that a run finds it as it was asked.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use ktstr_wire::env::{self, EnvError, Variable};
use serde::{Deserialize, Serialize};

/// Variables that decide a run or what it is called.
pub(crate) const DECIDING: [Variable; 16] = [
    env::RESOLVED_KERNEL,
    env::KERNELS,
    env::SCHEDULER,
    env::SCHEDULERS,
    env::SCHEDULER_DIR,
    env::ACCEL,
    env::PROBES,
    env::SEED,
    env::BOOT_SEED,
    env::POSITION,
    env::FIRST_REPEAT,
    env::REPEAT,
    env::PIN,
    env::HUGE_PAGES,
    env::GUEST,
    env::TARGET_DIR,
];

/// What `cargo ktstr` was asked for, as test processes hand it on to the runner.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Asked {
    /// The directory that the command was given in.
    pub dir: PathBuf,
    /// Arguments for nextest.
    pub nextest: Vec<String>,
    /// What the test processes have to find in their environment; `None`: the variable is not set.
    pub(crate) variables: BTreeMap<String, Option<String>>,
}

impl Asked {
    /// That nothing between `cargo ktstr` and the test has changed what was asked for, such as `[env]` in Cargo's configuration.
    pub(crate) fn check(&self, value_of: impl Fn(Variable) -> Option<OsString>) -> Result<(), EnvError> {
        let several = |name: Variable| self.variables.get(name.name).is_some_and(|v| v.is_some());
        for variable in DECIDING {
            // Of several, the test's process says which one.
            let chosen = match variable {
                env::RESOLVED_KERNEL => several(env::KERNELS),
                env::SCHEDULER => several(env::SCHEDULERS),
                _ => false,
            };
            let Some(asked) = self.variables.get(variable.name).filter(|_| !chosen) else { continue };
            let found = value_of(variable);
            if found.as_ref().map(|v| v.to_string_lossy().into_owned()) != *asked {
                let asked = asked.as_deref().map_or("left it unset".into(), |a| format!("set it to '{a}'"));
                let why = format!(
                    ", but cargo ktstr {asked}; something between the two changes it, such as [env] in Cargo's configuration"
                );
                return Err(variable.error(found.unwrap_or_default(), why));
            }
        }
        Ok(())
    }
}
