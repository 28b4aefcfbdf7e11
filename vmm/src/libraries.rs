//! The closure of shared libraries that an ELF binary needs, found as the dynamic loader would find it (ld.so(8)).

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};

use object::Endianness;
use object::elf::{
    DT_NEEDED, DT_RPATH, DT_RUNPATH, DT_STRSZ, DT_STRTAB, DynamicTag, FileHeader64, PT_INTERP,
};
use object::read::elf::{Dyn, FileHeader, ProgramHeader};

use crate::initramfs::InitramfsError;

/// Where the loader of a guest without `ld.so.cache` looks, on Debian and on distributions with /lib64.
const DEFAULT_DIRS: [&str; 6] =
    ["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib"];

/// What the dynamic section of a binary asks for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Needs {
    interpreter: Option<String>,
    libraries: Vec<String>,
    search: Vec<PathBuf>,
}

/// Libraries by the path at which the guest's loader finds them, each with its file on the host. The interpreter is among
/// them. Empty for a static binary and for what is no ELF file.
pub fn closure(binary: &Path) -> Result<BTreeMap<String, PathBuf>, InitramfsError> {
    let mut found = BTreeMap::new();
    let mut queue = VecDeque::from([(binary.to_path_buf(), Vec::new())]);
    while let Some((file, inherited)) = queue.pop_front() {
        let data = fs::read(&file).map_err(|source| InitramfsError::Read { path: file.clone(), source })?;
        let Some(needs) = needs(&data, &file) else { continue };
        if let Some(interpreter) = needs.interpreter {
            found.insert(interpreter.clone(), PathBuf::from(interpreter));
        }
        let search: Vec<PathBuf> = needs.search.into_iter().chain(inherited).collect();
        for name in needs.libraries {
            let host = locate(&name, &search)
                .ok_or_else(|| InitramfsError::Library { binary: file.clone(), library: name.clone() })?;
            let guest = guest_path(&name, &host);
            // The loader keeps the library that it found first under a name.
            if let Entry::Vacant(place) = found.entry(guest) {
                place.insert(host.clone());
                queue.push_back((host, search.clone()));
            }
        }
    }
    Ok(found)
}

/// A library outside of the default directories moves into the first of them: the guest's loader has no cache, and a
/// RUNPATH relative to `$ORIGIN` would not hold where the binary lies in the guest.
fn guest_path(name: &str, host: &Path) -> String {
    let in_default = host.parent().and_then(|p| p.to_str()).is_some_and(|p| DEFAULT_DIRS.contains(&p));
    let dir = if in_default {
        host.parent().and_then(|p| p.to_str()).unwrap_or(DEFAULT_DIRS[0])
    } else {
        DEFAULT_DIRS[0]
    };
    format!("{dir}/{name}")
}

fn locate(name: &str, search: &[PathBuf]) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|p| p.is_file());
    }
    let from_env = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let env_dirs = std::env::split_paths(&from_env).filter(|p| !p.as_os_str().is_empty());
    search
        .iter()
        .cloned()
        .chain(env_dirs)
        .chain(DEFAULT_DIRS.iter().map(PathBuf::from))
        .chain(configured_dirs())
        .map(|dir| dir.join(name))
        .find(|p| p.is_file())
}

/// Directories of /etc/ld.so.conf.d, as far as they are plain paths.
fn configured_dirs() -> Vec<PathBuf> {
    let mut files = vec![PathBuf::from("/etc/ld.so.conf")];
    files.extend(fs::read_dir("/etc/ld.so.conf.d").into_iter().flatten().flatten().map(|e| e.path()));
    files
        .iter()
        .filter_map(|f| fs::read_to_string(f).ok())
        .flat_map(|text| {
            text.lines().map(str::trim).filter(|l| l.starts_with('/')).map(PathBuf::from).collect::<Vec<_>>()
        })
        .collect()
}

fn needs(data: &[u8], file: &Path) -> Option<Needs> {
    let header = FileHeader64::<Endianness>::parse(data).ok()?;
    let endian = header.endian().ok()?;
    let segments = header.program_headers(endian, data).ok()?;
    let mut needs = Needs::default();
    for segment in segments.iter().filter(|s| s.p_type(endian) == PT_INTERP) {
        let bytes = segment.data(endian, data).ok()?;
        needs.interpreter = Some(String::from_utf8_lossy(bytes).trim_end_matches('\0').to_string());
    }
    let Some(dynamic) = segments.iter().find_map(|s| s.dynamic(endian, data).ok().flatten()) else {
        return Some(needs);
    };
    let value = |tag: DynamicTag| dynamic.iter().find(|d| d.d_tag(endian) == tag).map(|d| d.d_val(endian));
    let (start, len) = (value(DT_STRTAB)?, value(DT_STRSZ)?);
    let strings = segments.iter().find_map(|s| s.data_range(endian, data, start, len).ok().flatten())?;
    let string = |offset: u64| {
        let rest = strings.get(usize::try_from(offset).ok()?..)?;
        let end = rest.iter().position(|b| *b == 0)?;
        Some(String::from_utf8_lossy(&rest[..end]).into_owned())
    };
    let origin = file.parent().unwrap_or(Path::new("/")).to_string_lossy().into_owned();
    for entry in dynamic {
        match entry.d_tag(endian) {
            DT_NEEDED => needs.libraries.extend(string(entry.d_val(endian))),
            DT_RUNPATH | DT_RPATH => {
                let text = string(entry.d_val(endian)).unwrap_or_default();
                let expanded = text.replace("${ORIGIN}", &origin).replace("$ORIGIN", &origin);
                needs.search.extend(expanded.split(':').filter(|d| !d.is_empty()).map(PathBuf::from));
            }
            _ => {}
        }
    }
    Some(needs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closure_of_this_test_has_the_loader_and_libc() {
        let found = closure(&std::env::current_exe().unwrap()).unwrap();
        assert!(found.keys().any(|k| k.contains("ld-linux")), "{found:?}");
        assert!(found.keys().any(|k| k.ends_with("/libc.so.6")), "{found:?}");
    }

    #[test]
    fn what_is_no_elf_needs_nothing() {
        assert_eq!(needs(b"#!/bin/sh\n", Path::new("/x")), None);
        assert_eq!(needs(b"\x7fELF\x02\x01\x01garbage", Path::new("/x")), None);
    }

    #[test]
    fn foreign_libraries_move_to_a_default_directory() {
        assert_eq!(guest_path("libx.so.1", Path::new("/opt/x/libx.so.1")), "/lib/x86_64-linux-gnu/libx.so.1");
        assert_eq!(guest_path("libx.so.1", Path::new("/usr/lib64/libx.so.1")), "/usr/lib64/libx.so.1");
    }
}
