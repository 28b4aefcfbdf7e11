//! What users put into an initramfs.

use std::collections::{BTreeMap, BTreeSet};

use arbitrary::Arbitrary;

use super::{memory, newc};
use crate::initramfs::archive::Initramfs;
use crate::initramfs::cpio::{S_IFCHR, S_IFDIR, S_IFREG};

#[derive(Arbitrary, Debug)]
enum Step<'a> {
    Bytes(Name<'a>, u32, &'a [u8]),
    File(Name<'a>, u32, &'a [u8]),
    Binary(Name<'a>, &'a [u8]),
}

#[derive(Arbitrary, Debug)]
enum Name<'a> {
    Text(&'a str),
    Parts([u8; 4]),
    Long(u16),
}

const PARTS: [&str; 16] = [
    "",
    "/",
    "a",
    "b",
    ".",
    "..",
    "dev",
    "console",
    "TRAILER!!!",
    "\0",
    "/a",
    "/b",
    "//",
    "/./",
    "init",
    "/dev",
];

impl Name<'_> {
    fn get(&self) -> String {
        match self {
            Name::Text(text) => (*text).into(),
            Name::Parts(parts) => parts.iter().map(|p| PARTS[usize::from(*p % 16)]).collect(),
            Name::Long(len) => "long/".repeat(usize::from(*len) / 5),
        }
    }
}

/// The kernel finds every file that was accepted, once, in a directory that is made before it, and nothing else.
pub fn initramfs(data: &[u8]) {
    let mut image = Initramfs::new();
    let mut accepted = BTreeMap::new();
    let mut open = Vec::new();
    for step in super::steps(data) {
        let (name, mode, bytes, added) = match step {
            Step::Bytes(name, mode, bytes) => {
                (name.get(), mode, bytes, image.add_bytes(&name.get(), bytes.into(), mode))
            }
            Step::File(name, mode, bytes) => {
                open.push(memory::file(bytes));
                let path = memory::path_of(&open[open.len() - 1]);
                (name.get(), mode, bytes, image.add_file(&path, &name.get(), mode))
            }
            // What is an ELF file would be stripped by another program.
            Step::Binary(_, bytes) if bytes.starts_with(b"\x7fELF") => continue,
            Step::Binary(name, bytes) => {
                open.push(memory::file(bytes));
                let path = memory::path_of(&open[open.len() - 1]);
                (name.get(), 0o755, bytes, image.add_binary(&path, &name.get()))
            }
        };
        if added.is_ok() {
            accepted.insert(name.trim_start_matches('/').as_bytes().to_vec(), (mode & 0o7777, bytes));
        }
    }
    let out = memory::file(b"");
    image.write(&memory::path_of(&out)).expect("all files are there");
    let archive = std::fs::read(memory::path_of(&out)).expect("it is there");
    check(&archive, accepted);
}

fn check(archive: &[u8], mut accepted: BTreeMap<Vec<u8>, (u32, &[u8])>) {
    let mut directories = BTreeSet::from([&b""[..]]);
    for entry in newc::entries(archive).expect("the kernel can read it") {
        let is_plain = |part: &[u8]| (1..=255).contains(&part.len()) && part != b"." && part != b"..";
        assert!(entry.name.split(|b| *b == b'/').all(is_plain), "{entry:?}");
        let parent = entry.name.iter().rposition(|b| *b == b'/').map_or(&b""[..], |end| &entry.name[..end]);
        assert!(directories.contains(parent), "{entry:?} without its directory");
        match entry.mode & 0o170_000 {
            S_IFDIR => assert!(directories.insert(entry.name)),
            S_IFCHR => assert_eq!(entry.name, b"dev/console"),
            S_IFREG => {
                let (mode, data) = accepted.remove(entry.name).expect("it was put in, and appears once");
                assert_eq!((entry.mode, entry.data), (S_IFREG | mode, data));
                assert!(!directories.contains(entry.name), "{entry:?} is a directory too");
            }
            _ => panic!("{entry:?}"),
        }
    }
    assert!(accepted.is_empty(), "not found: {accepted:?}");
}
