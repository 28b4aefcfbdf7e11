//! Kernels of distributions, prepared for guests: `~/.cache/ktstr/stock/KEY/` with `vmlinuz`, `config`, `vmlinux` (see
//! [`Kernel::sim_image`]), and `modules/`, plain and only those that a guest needs.
//!
//! The key is the digest of what they are made from: an installed kernel that was updated under the same release is another one.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};

use crate::digest::{hex_digest, sha256_file};
use crate::kernel::apt::Archive;
use crate::kernel::boot_image;
use crate::kernel::error::{KernelError, file_error};
use crate::kernel::image::Kernel;
use crate::kernel::installed::{self, Found};
use crate::kernel::modules::{self, Module, Modules};
use crate::kernel::package;
use crate::store::cache::{Entry, Meta, Store, Work, root};

/// Changes when an entry is made in another way.
const FORMAT: &str = "1";

/// The prepared kernels.
pub(crate) fn store() -> Result<Store, KernelError> {
    Ok(Store { what: "kernel", root: root()?.join("stock"), files: &["vmlinuz"] })
}

/// An installed or unpacked kernel.
pub(crate) fn kernel(found: &Found, source: &str) -> Result<Kernel, KernelError> {
    let parts = Parts::read(found)?;
    let entry = store()?.built(&parts.key(), || Ok(()), |work| parts.write(work, source))?;
    of_entry(&entry, source)
}

/// The kernel below `root`, which is not the host's.
pub(crate) fn only_one(root: &Path) -> Result<Found, KernelError> {
    let mut all = installed::below(root);
    match all.len() {
        1 => Ok(all.remove(0)),
        0 => Err(KernelError::NotAKernel {
            path: root.into(),
            reason: "it has neither boot/vmlinuz-RELEASE nor lib/modules/RELEASE/vmlinuz".into(),
        }),
        _ => {
            Err(KernelError::Several { dir: root.into(), images: all.into_iter().map(|f| f.image).collect() })
        }
    }
}

/// The kernel of these packages, unpacked once. `source` is what to write after `--kernel` to get it again.
pub(crate) fn of_packages(files: &[PathBuf], source: &str) -> Result<Kernel, KernelError> {
    of_packages_in(&store()?, files, source)
}

/// The newest kernel in these suites of Debian.
pub(crate) fn of_debian(suites: &[&str]) -> Result<Kernel, KernelError> {
    let store = store()?;
    let downloads = store.root.join("downloads");
    let archive = Archive::from_env(downloads)?;
    let newest = archive.newest(suites)?;
    let files = RefCell::new(Vec::new());
    let fetch = || {
        *files.borrow_mut() = archive.fetch(&newest)?;
        Ok(())
    };
    let build = |work: &Work| unpacked(&files.borrow(), work, &newest.release);
    let entry = store.built(&packages_key(newest.digests()), fetch, build)?;
    // The entry has all that is needed of them.
    files.borrow().iter().for_each(|f| drop(fs::remove_file(f)));
    of_entry(&entry, &newest.release)
}

/// The prepared kernel of this key, or the newest one of this release.
pub(crate) fn named(spec: &str) -> Result<Option<Kernel>, KernelError> {
    let found = store()?.entries()?.into_iter().rfind(|e| e.key == spec || e.meta.release == spec);
    found.map(|e| of_entry(&e, &e.meta.release)).transpose()
}

fn of_packages_in(store: &Store, files: &[PathBuf], source: &str) -> Result<Kernel, KernelError> {
    let digests =
        files.iter().map(|f| sha256_file(f).map_err(file_error(f))).collect::<Result<Vec<_>, _>>()?;
    let build = |work: &Work| unpacked(files, work, source);
    let entry = store.built(&packages_key(digests), || Ok(()), build)?;
    of_entry(&entry, source)
}

fn packages_key(digests: Vec<String>) -> String {
    short(&[vec![FORMAT.to_string()], digests].concat())
}

fn unpacked(files: &[PathBuf], work: &Work, source: &str) -> Result<Meta, KernelError> {
    let tree = work.dir.join("tree");
    for file in files {
        eprintln!("kernel: unpacking {}", file.display());
        package::unpack(file, &tree)?;
    }
    Parts::read(&only_one(&tree)?)?.write(work, source)
}

fn short(digests: &[String]) -> String {
    let mut digest = hex_digest(digests.join("\0").as_bytes());
    digest.truncate(16);
    digest
}

/// What an entry is made from.
struct Parts {
    release: String,
    image: Vec<u8>,
    config: Option<String>,
    modules: Vec<Module>,
}

impl Parts {
    fn read(found: &Found) -> Result<Parts, KernelError> {
        let read = |path: &PathBuf| fs::read_to_string(path).map_err(file_error(path));
        Ok(Parts {
            release: found.release.clone(),
            image: fs::read(&found.image).map_err(file_error(&found.image))?,
            config: found.config.as_ref().map(read).transpose()?,
            modules: found.modules.as_deref().map(modules::needed).transpose()?.unwrap_or_default(),
        })
    }

    fn key(&self) -> String {
        let mut digests = vec![FORMAT.to_string(), self.release.clone(), hex_digest(&self.image)];
        digests.extend(self.config.as_ref().map(|c| hex_digest(c.as_bytes())));
        digests.extend(self.modules.iter().map(|m| hex_digest(&m.data)));
        short(&digests)
    }

    fn write(self, work: &Work, source: &str) -> Result<Meta, KernelError> {
        let put = |name: &str, data: &[u8]| {
            let path = work.ready().join(name);
            fs::write(&path, data).map_err(file_error(&path))
        };
        put("vmlinuz", &self.image)?;
        let vmlinux = boot_image::vmlinux(&self.image);
        if let Some(vmlinux) = &vmlinux {
            put("vmlinux", vmlinux)?;
        }
        let built_in = || vmlinux.as_deref().and_then(boot_image::built_in_config);
        if let Some(config) = self.config.or_else(built_in) {
            put("config", config.as_bytes())?;
        }
        let dir = work.ready().join("modules");
        fs::create_dir(&dir).map_err(file_error(&dir))?;
        for module in &self.modules {
            put(&format!("modules/{}.ko", module.name), &module.data)?;
        }
        Ok(Meta { release: self.release, source: source.into(), ..Meta::default() })
    }
}

pub(crate) fn of_entry(entry: &Entry, source: &str) -> Result<Kernel, KernelError> {
    let config = fs::read_to_string(entry.dir.join("config")).ok();
    let image = entry.dir.join("vmlinuz");
    let mut kernel = Kernel::new(image, entry.meta.release.clone(), config, source.into())?;
    kernel.modules = Modules::in_dir(&entry.dir.join("modules"))?;
    let vmlinux = entry.dir.join("vmlinux");
    if vmlinux.is_file() {
        kernel.sim_sha256 = Some(sha256_file(&vmlinux).map_err(file_error(&vmlinux))?);
        kernel.sim_image = Some(vmlinux);
    }
    Ok(kernel)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::boot_image::tests::bzimage;
    use crate::kernel::compression::tests::compressed;
    use crate::kernel::installed::tests::put;
    use crate::kernel::modules::tests::module;
    use crate::kernel::package::tests::{deb, pkg, rpm};

    const RELEASE: &str = "7.3.4+deb13-amd64";
    const CONFIG: &[u8] = b"CONFIG_VIRTIO_PCI=y\n";

    fn vmlinux() -> Vec<u8> {
        b"\x7fELF of a kernel".to_vec()
    }

    fn files() -> Vec<(String, Vec<u8>)> {
        let [.., (_, xz), (_, zst)] = compressed(&module(""));
        let image = bzimage(RELEASE, &compressed(&vmlinux())[3].1);
        let dir = format!("usr/lib/modules/{RELEASE}");
        vec![
            (format!("{dir}/vmlinuz"), image),
            (format!("{dir}/config"), CONFIG.to_vec()),
            (format!("{dir}/kernel/net/vmw_vsock/vmw_vsock_virtio_transport.ko.xz"), xz),
            (format!("{dir}/kernel/fs/9p/9p.ko.zst"), zst),
            (format!("{dir}/kernel/fs/ext4/ext4.ko.zst"), module("")),
            (format!("usr/share/doc/{RELEASE}/copyright"), b"GPL".to_vec()),
        ]
    }

    fn check(kernel: &Kernel) {
        assert_eq!(kernel.release, RELEASE);
        assert_eq!(kernel.config.as_deref(), std::str::from_utf8(CONFIG).ok());
        assert_eq!(fs::read(kernel.sim_image.as_ref().unwrap()).unwrap(), vmlinux());
        assert_eq!(fs::read(&kernel.modules.pci[0]).unwrap(), module(""));
        assert!(kernel.modules.has("9p"));
        let dir = kernel.image.with_file_name("modules");
        assert_eq!(fs::read_dir(dir).unwrap().count(), 2);
    }

    fn store_in(dir: &Path) -> Store {
        Store { what: "kernel", root: dir.into(), files: &["vmlinuz"] }
    }

    #[test]
    fn package_of_each_format_is_unpacked_once() {
        let dir = tempfile::tempdir().unwrap();
        let store = store_in(&dir.path().join("stock"));
        for (name, data) in [
            (format!("linux-image-{RELEASE}_7.3.4-1_amd64.deb"), deb(&files())),
            (format!("kernel-core-{RELEASE}.rpm"), rpm(&files())),
            ("linux-7.3.4-1-x86_64.pkg.tar.zst".into(), pkg(&files())),
        ] {
            let path = dir.path().join(&name);
            fs::write(&path, data).unwrap();
            let kernel = of_packages_in(&store, std::slice::from_ref(&path), &name).unwrap();
            check(&kernel);
            fs::remove_file(kernel.image.with_file_name("vmlinux")).unwrap();
            let again = of_packages_in(&store, &[path], &name).unwrap();
            assert_eq!((again.sim_image, again.source), (None, name));
        }
    }

    #[test]
    fn parts_of_a_kernel_in_several_packages_are_put_together() {
        let dir = tempfile::tempdir().unwrap();
        let (image, rest) = files().into_iter().partition::<Vec<_>, _>(|(path, _)| path.ends_with("vmlinuz"));
        let path = |name: &str| dir.path().join(format!("{name}-{RELEASE}_7.3.4-1_amd64.deb"));
        fs::write(path("linux-binary"), deb(&image)).unwrap();
        fs::write(path("linux-modules"), deb(&rest)).unwrap();
        fs::write(path("linux-headers"), b"not a package").unwrap();
        fs::write(dir.path().join(format!("linux-image-{RELEASE}-dbg_7.3.4-1_amd64.deb")), b"nor this")
            .unwrap();
        let parts = package::with_parts(&path("linux-binary")).unwrap();
        assert_eq!(parts, ["linux-binary", "linux-modules"].map(path));
        check(&of_packages_in(&store_in(&dir.path().join("stock")), &parts, "x").unwrap());
    }

    #[test]
    fn key_changes_with_a_module_of_the_same_release() {
        let dir = tempfile::tempdir().unwrap();
        for (path, data) in files() {
            put(dir.path(), &path, &data);
        }
        let key = || Parts::read(&only_one(dir.path()).unwrap()).unwrap().key();
        let before = key();
        assert_eq!(before, key());
        put(dir.path(), &format!("usr/lib/modules/{RELEASE}/kernel/fs/9p/9p.ko.zst"), &module("netfs"));
        assert_ne!(before, key());
    }

    #[test]
    fn package_without_a_kernel_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let store = store_in(&dir.path().join("stock"));
        for (name, data) in [("a.deb", deb(&[])), ("b.deb", b"!<arch>\n".to_vec()), ("c.rpm", vec![0; 200])] {
            let path = dir.path().join(name);
            fs::write(&path, data).unwrap();
            let error = of_packages_in(&store, &[path], name).unwrap_err();
            assert_eq!(error.exit_status(), 11, "{error}");
            assert!(error.to_string().contains(if name == "a.deb" { "vmlinuz" } else { name }), "{error}");
        }
    }
}
