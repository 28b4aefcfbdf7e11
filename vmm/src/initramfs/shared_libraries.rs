//! Shared libraries that an ELF binary needs, directly or indirectly, found as the dynamic loader finds them (ld.so(8)).

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};

use object::Endianness;
use object::elf::{
    DT_NEEDED, DT_RPATH, DT_RUNPATH, DT_STRSZ, DT_STRTAB, DynamicTag, FileHeader64, PT_INTERP,
};
use object::read::elf::{Dyn, FileHeader, ProgramHeader};

use crate::initramfs::error::InitramfsError;

/// Search directories of the loader in a guest without `ld.so.cache`, on Debian and on distributions with /lib64.
const DEFAULT_DIRS: [&str; 6] =
    ["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib"];

/// Longest name or list of directories, bytes with the NUL. A hostile file could repeat a longer one many times.
const MAX_STRING_BYTES: usize = 16 << 10;

/// Requirements in the dynamic section of a binary.
#[derive(Debug, Default, PartialEq, Eq)]
struct Dynamic {
    interpreter: Option<String>,
    libraries: Vec<String>,
    search: Vec<PathBuf>,
}

/// Libraries by the path at which the guest's loader finds them, each with its file on the host. The interpreter is among
/// them. Empty for static binaries and for files that are not ELF.
pub(crate) fn closure(binary: &Path) -> Result<BTreeMap<String, PathBuf>, InitramfsError> {
    let mut found = BTreeMap::new();
    let mut queue = VecDeque::from([(binary.to_path_buf(), Vec::new())]);
    while let Some((file, inherited)) = queue.pop_front() {
        let data = fs::read(&file).map_err(|source| InitramfsError::Read { path: file.clone(), source })?;
        let Some(needs) = needs(&data, &file) else { continue };
        if let Some(interpreter) = needs.interpreter {
            let host = PathBuf::from(&interpreter);
            if !is_library(&host) {
                return Err(InitramfsError::Library { binary: file, library: interpreter });
            }
            found.insert(interpreter, host);
        }
        let search: Vec<PathBuf> = needs.search.into_iter().chain(inherited).collect();
        for name in needs.libraries {
            let host = locate(&name, &search)
                .ok_or_else(|| InitramfsError::Library { binary: file.clone(), library: name.clone() })?;
            let guest = guest_path(&name, &host);
            // The loader keeps the first library of a name.
            if let Entry::Vacant(place) = found.entry(guest) {
                place.insert(host.clone());
                queue.push_back((host, search.clone()));
            }
        }
    }
    Ok(found)
}

/// A library that is needed by its path stays there. Another one outside of the default directories moves into the first
/// of them: the guest's loader has no cache, and a RUNPATH relative to `$ORIGIN` would not hold where the binary lies in the
/// guest.
fn guest_path(name: &str, host: &Path) -> String {
    if name.starts_with('/') {
        return name.into();
    }
    let in_default = host.parent().and_then(|p| p.to_str()).is_some_and(|p| DEFAULT_DIRS.contains(&p));
    let dir = if in_default {
        host.parent().and_then(|p| p.to_str()).unwrap_or(DEFAULT_DIRS[0])
    } else {
        DEFAULT_DIRS[0]
    };
    format!("{dir}/{name}")
}

/// Whether this path loads the same file in a guest: paths relative to a working directory do not.
fn is_library(path: &Path) -> bool {
    path.is_absolute() && path.is_file()
}

fn locate(name: &str, search: &[PathBuf]) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|p| is_library(p));
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

/// Directories in /etc/ld.so.conf.d that are plain paths.
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

fn needs(data: &[u8], file: &Path) -> Option<Dynamic> {
    let header = FileHeader64::<Endianness>::parse(data).ok()?;
    let endian = header.endian().ok()?;
    let segments = header.program_headers(endian, data).ok()?;
    let mut needs = Dynamic::default();
    for segment in segments.iter().filter(|s| s.p_type(endian) == PT_INTERP) {
        let bytes = segment.data(endian, data).ok()?;
        needs.interpreter = Some(String::from_utf8_lossy(bytes).trim_end_matches('\0').to_string());
    }
    let Some(dynamic) = segments.iter().find_map(|s| s.dynamic(endian, data).ok().flatten()) else {
        return Some(needs);
    };
    // The last of several counts.
    let value = |tag: DynamicTag| dynamic.iter().rfind(|d| d.d_tag(endian) == tag).map(|d| d.d_val(endian));
    let (start, len) = (value(DT_STRTAB)?, value(DT_STRSZ)?);
    let strings = segments.iter().find_map(|s| s.data_range(endian, data, start, len).ok().flatten())?;
    let string = |offset: u64| {
        let rest = strings.get(usize::try_from(offset).ok()?..)?;
        let end = rest.iter().take(MAX_STRING_BYTES).position(|b| *b == 0)?;
        Some(String::from_utf8_lossy(&rest[..end]).into_owned())
    };
    let origin = file.parent().unwrap_or(Path::new("/")).to_string_lossy().into_owned();
    let names = dynamic.iter().filter(|d| d.d_tag(endian) == DT_NEEDED);
    needs.libraries = names.filter_map(|d| string(d.d_val(endian))).collect();
    for text in [DT_RUNPATH, DT_RPATH].into_iter().filter_map(|tag| string(value(tag)?)) {
        let expanded = text.replace("${ORIGIN}", &origin).replace("$ORIGIN", &origin);
        needs.search.extend(expanded.split(':').filter(|d| !d.is_empty()).map(PathBuf::from));
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

    /// A shared object with an interpreter, these dynamic entries, and these strings (elf(5)).
    fn elf(interpreter: &str, entries: &[(u64, u64)], strings: &[u8]) -> Vec<u8> {
        let header_bytes = 64 + 3 * 56;
        let dynamic = header_bytes + interpreter.len() as u64;
        let dynamic_bytes = (entries.len() as u64 + 2) * 16;
        let table = [(5, dynamic + dynamic_bytes), (10, strings.len() as u64)];
        let total = dynamic + dynamic_bytes + strings.len() as u64;
        let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0\x3e\0\x01\0\0\0".to_vec();
        file.extend([0u64, 64, 0].into_iter().flat_map(u64::to_le_bytes));
        file.extend([0, 0, 0, 0, 64, 0, 56, 0, 3, 0, 0, 0, 0, 0, 0, 0]);
        for (kind, start, bytes) in
            [(1u64, 0, total), (2, dynamic, dynamic_bytes), (3, header_bytes, dynamic - header_bytes)]
        {
            file.extend([kind, start, start, start, bytes, bytes, 1].into_iter().flat_map(u64::to_le_bytes));
        }
        file.extend(interpreter.as_bytes());
        file.extend(table.iter().chain(entries).flat_map(|(t, v)| [*t, *v]).flat_map(u64::to_le_bytes));
        file.extend(strings);
        file
    }

    const NEEDED: u64 = 1;
    const RUNPATH: u64 = 29;

    fn closure_of(file: &[u8]) -> Result<BTreeMap<String, PathBuf>, InitramfsError> {
        let binary = tempfile::NamedTempFile::new().unwrap();
        fs::write(&binary, file).unwrap();
        closure(binary.path())
    }

    #[test]
    fn interpreter_that_is_no_file_is_missing() {
        for interpreter in ["/dev/zero\0", "\0", "lib/ld.so\0", "/etc/passwd\0x\0"] {
            let e = closure_of(&elf(interpreter, &[], b"\0")).unwrap_err();
            assert!(matches!(e, InitramfsError::Library { .. }), "{interpreter:?}");
        }
        assert_eq!(closure_of(&elf("/etc/passwd\0", &[], b"\0")).unwrap().len(), 1);
    }

    #[test]
    fn library_with_a_path_stays_there_if_it_is_absolute() {
        let found = closure_of(&elf("/etc/passwd\0", &[(NEEDED, 0)], b"/etc/group\0")).unwrap();
        assert_eq!(found["/etc/group"], Path::new("/etc/group"));
        // Tests run in the package's directory.
        let e = closure_of(&elf("/etc/passwd\0", &[(NEEDED, 0)], b"src/lib.rs\0")).unwrap_err();
        assert!(matches!(e, InitramfsError::Library { .. }));
    }

    #[test]
    fn strings_that_are_named_often_do_not_add_up() {
        let list = "$ORIGIN:".repeat(1000);
        let file = elf("", &[(RUNPATH, 0); 1000], format!("{list}\0").as_bytes());
        let needs = needs(&file, Path::new("/x/y")).unwrap();
        assert_eq!((needs.search.len(), needs.search[0].as_path()), (1000, Path::new("/x")));
        let long = elf("", &[(RUNPATH, 0), (NEEDED, 0)], &[b"a".repeat(MAX_STRING_BYTES), vec![0]].concat());
        let needs = super::needs(&long, Path::new("/x/y")).unwrap();
        assert!(needs.search.is_empty() && needs.libraries.is_empty());
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
