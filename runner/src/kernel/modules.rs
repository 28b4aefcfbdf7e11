//! Kernel modules that a guest needs.
//!
//! Their order comes from what the modules say of themselves (`depends=` in `.modinfo`, include/linux/module.h), for packages hold no
//! `modules.dep`. They go into the guest as plain ELF files, for not every kernel can decompress modules.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use memchr::memmem;
use serde::{Deserialize, Serialize};

use crate::kernel::compression;
use crate::kernel::error::{KernelError, file_error};

/// The stream of results, over PCI.
const PCI: [&str; 2] = ["virtio_pci", "vmw_vsock_virtio_transport"];

/// The stream of results, over the bus of ktstr's own VMM.
const MMIO: [&str; 2] = ["virtio_mmio", "vmw_vsock_virtio_transport"];

/// The host's files in a shell.
const HOST_FILES: [&str; 4] = ["virtio_pci", "9pnet_virtio", "9p", "overlay"];

/// No module of a kernel is larger.
const MOST_BYTES: u64 = 256 << 20;

/// Modules of each kind of guest, in the order in which they are to be loaded. What is built in is not among them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Modules {
    /// Of guests in QEMU.
    pub pci: Vec<PathBuf>,
    /// Of guests in ktstr's own VMM.
    pub mmio: Vec<PathBuf>,
    /// Of shells, which have the host's files.
    pub shell: Vec<PathBuf>,
}

/// A module as plain ELF.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Module {
    pub name: String,
    pub data: Vec<u8>,
}

impl Modules {
    /// The modules in `dir`, which holds plain ones only.
    pub(crate) fn in_dir(dir: &Path) -> Result<Modules, KernelError> {
        let files = files_below(dir);
        let paths = |wanted: &[&str]| -> Result<Vec<PathBuf>, KernelError> {
            Ok(closure(&files, wanted)?.iter().map(|m| files[&m.name].clone()).collect())
        };
        Ok(Modules { pci: paths(&PCI)?, mmio: paths(&MMIO)?, shell: paths(&HOST_FILES)? })
    }

    /// Whether one of them has this name.
    pub(crate) fn has(&self, module: &str) -> bool {
        self.pci.iter().chain(&self.mmio).chain(&self.shell).any(|p| name_of(p).as_deref() == Some(module))
    }
}

/// The modules below `dir` that some guest needs, each after those that it depends on.
pub(crate) fn needed(dir: &Path) -> Result<Vec<Module>, KernelError> {
    let wanted: Vec<&str> = PCI.iter().chain(&MMIO).chain(&HOST_FILES).copied().collect();
    closure(&files_below(dir), &wanted)
}

/// The name of the module in a file such as `vmw-vsock.ko.xz`: the kernel has `_` for `-`.
fn name_of(path: &Path) -> Option<String> {
    let (name, suffix) = path.file_name()?.to_str()?.split_once(".ko")?;
    ["", ".gz", ".xz", ".zst"].contains(&suffix).then(|| name.replace('-', "_"))
}

/// Files of modules by name.
pub(crate) fn files_below(dir: &Path) -> BTreeMap<String, PathBuf> {
    let (mut files, mut dirs) = (BTreeMap::new(), vec![dir.to_path_buf()]);
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                dirs.push(path);
            } else if let Some(name) = name_of(&path) {
                files.insert(name, path);
            }
        }
    }
    files
}

fn closure(files: &BTreeMap<String, PathBuf>, wanted: &[&str]) -> Result<Vec<Module>, KernelError> {
    let mut order = Vec::new();
    for name in wanted {
        add(files, name, &mut Vec::new(), &mut order)?;
    }
    Ok(order)
}

/// Adds a module after what it depends on. What has no file is built in.
fn add(
    files: &BTreeMap<String, PathBuf>,
    name: &str,
    above: &mut Vec<String>,
    order: &mut Vec<Module>,
) -> Result<(), KernelError> {
    let Some(path) = files.get(name) else { return Ok(()) };
    if order.iter().any(|m| m.name == name) || above.iter().any(|a| a == name) {
        return Ok(());
    }
    let packed = fs::read(path).map_err(file_error(path))?;
    let data = compression::decompressed(&packed, MOST_BYTES).map_err(file_error(path))?;
    above.push(name.into());
    for dependency in dependencies(&data) {
        add(files, &dependency, above, order)?;
    }
    above.pop();
    order.push(Module { name: name.into(), data });
    Ok(())
}

fn dependencies(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = memmem::find(module, KEY) else { return Vec::new() };
    let text = module[at + KEY.len()..].split(|b| *b == 0).next().unwrap_or_default();
    let names = String::from_utf8_lossy(text).into_owned();
    names.split(',').filter(|n| !n.is_empty()).map(|n| n.replace('-', "_")).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::kernel::compression::tests::compressed;

    /// What a module that depends on others looks like here.
    pub(crate) fn module(depends: &str) -> Vec<u8> {
        format!("\x7fELF\0license=GPL\0depends={depends}\0name=x\0").into_bytes()
    }

    #[test]
    fn modules_of_every_compression_come_after_what_they_need_and_no_others() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, depends: &str, method: usize| {
            let (suffix, data) = compressed(&module(depends))[method].clone();
            let path = dir.path().join(format!("kernel/{name}.ko{suffix}"));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, data).unwrap();
        };
        put("net/vsock", "", 2);
        put("net/vmw_vsock_virtio_transport_common", "vsock", 3);
        put("net/vmw_vsock_virtio_transport", "vmw_vsock_virtio_transport_common,vsock,virtio", 1);
        put("drivers/virtio-mmio", "virtio_ring", 0);
        put("fs/9p", "netfs", 2);
        put("fs/ext4", "vsock", 2);
        let names = |all: &[Module]| all.iter().map(|m| m.name.clone()).collect::<Vec<_>>();
        let vsock = ["vsock", "vmw_vsock_virtio_transport_common", "vmw_vsock_virtio_transport"];
        let all = needed(dir.path()).unwrap();
        assert_eq!(names(&all), [&vsock[..], &["virtio_mmio", "9p"]].concat());
        assert!(all.iter().all(|m| m.data.starts_with(b"\x7fELF")));

        let plain = tempfile::tempdir().unwrap();
        for m in &all {
            fs::write(plain.path().join(format!("{}.ko", m.name)), &m.data).unwrap();
        }
        let modules = Modules::in_dir(plain.path()).unwrap();
        let stems = |paths: &[PathBuf]| paths.iter().filter_map(|p| name_of(p)).collect::<Vec<_>>();
        assert_eq!(stems(&modules.pci), vsock);
        assert_eq!(stems(&modules.mmio), [&["virtio_mmio"], &vsock[..]].concat());
        assert_eq!(stems(&modules.shell), ["9p"]);
        assert!(modules.has("9p") && !modules.has("ext4"));
    }

    #[test]
    fn modules_that_depend_on_each_other_end() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("9p.ko"), module("netfs")).unwrap();
        fs::write(dir.path().join("netfs.ko"), module("9p")).unwrap();
        assert_eq!(needed(dir.path()).unwrap().len(), 2);
    }

    #[test]
    fn broken_module_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("9p.ko.xz"), b"\xfd7zXZ\0 and nothing").unwrap();
        let error = needed(dir.path()).unwrap_err().to_string();
        assert!(error.contains("9p.ko.xz"), "{error}");
    }
}
