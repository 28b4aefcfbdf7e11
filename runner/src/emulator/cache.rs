//! The cache of built emulators: `~/.cache/ktstr/emulators/KEY/` with `qemu-system-x86_64`, its firmware `qboot.rom`, QEMU's licences
//! and `meta.json`. Beside them is `downloads/`, from which they can be built again.

use crate::emulator::error::EmulatorError;
use crate::emulator::source;
use crate::store::cache::{Entry, Store, root};

/// Files of a whole entry.
pub(crate) const FILES: [&str; 2] = ["qemu-system-x86_64", "qboot.rom"];

/// The built emulators.
pub(crate) fn store() -> Result<Store, EmulatorError> {
    Ok(Store { what: "emulator", root: root()?.join("emulators"), files: &FILES })
}

/// The emulator that this version of ktstr uses.
pub(crate) fn current() -> Result<Entry, EmulatorError> {
    store()?.entry(&source::key()).ok_or(EmulatorError::Missing)
}
