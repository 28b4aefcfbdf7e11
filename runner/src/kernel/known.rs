//! The kernels of this machine: built, prepared, installed.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::kernel::abilities::Abilities;
use crate::kernel::error::KernelError;
use crate::kernel::installed::{self, Found};
use crate::kernel::{cache, modules, stock};
use crate::store::cache::{Entry, Meta};

/// Where a kernel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Place {
    /// Built by ktstr, in the cache.
    Built,
    /// Of a distribution, prepared in the cache.
    Prepared,
    /// Installed on the host.
    Installed,
    /// Installed, but not readable by this user.
    Unreadable,
}

/// A kernel of this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Known {
    /// Where it is.
    pub place: Place,
    /// Its key in the cache.
    pub key: Option<String>,
    /// `uname -r`.
    pub release: String,
    /// The bzImage.
    pub image: PathBuf,
    /// What is known of an entry of the cache.
    pub meta: Option<Meta>,
    /// What it can do; null where its configuration is not known.
    pub can: Option<Abilities>,
}

/// All of them, the built ones first; of each place the newest last.
pub(crate) fn all() -> Result<Vec<Known>, KernelError> {
    let built = cache::store()?.entries()?.into_iter().map(|e| of_entry(e, Place::Built, "bzImage"));
    let prepared = stock::store()?.entries()?.into_iter().map(|e| of_entry(e, Place::Prepared, "vmlinuz"));
    Ok(built.chain(prepared).chain(installed::on_host().into_iter().map(of_found)).collect())
}

fn of_entry(entry: Entry, place: Place, image: &str) -> Known {
    let can = abilities(&entry.dir.join("config"), &entry.dir.join("modules"));
    let image = entry.dir.join(image);
    Known {
        place,
        key: Some(entry.key),
        release: entry.meta.release.clone(),
        image,
        meta: Some(entry.meta),
        can,
    }
}

fn of_found(found: Found) -> Known {
    let place = if File::open(&found.image).is_ok() { Place::Installed } else { Place::Unreadable };
    let none = PathBuf::new();
    let can = found.config.as_ref().and_then(|c| abilities(c, found.modules.as_ref().unwrap_or(&none)));
    Known { place, key: None, release: found.release, image: found.image, meta: None, can }
}

fn abilities(config: &Path, modules: &Path) -> Option<Abilities> {
    let config = fs::read_to_string(config).ok()?;
    let names: BTreeSet<String> = modules::files_below(modules).into_keys().collect();
    Some(Abilities::of(&config, |m| names.contains(m)))
}
