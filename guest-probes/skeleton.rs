// A BPF program and its skeleton: a module of the build scripts of this crate, of `tests/` and of `runner/`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The clang to use: `$CLANG`, else the first of these that runs. Debian's default clang 14 is too old for the probes.
const CLANGS: [&str; 4] = ["clang-19", "clang-22", "clang-20", "clang"];

fn clang() -> String {
    println!("cargo:rerun-if-env-changed=CLANG");
    if let Ok(clang) = std::env::var("CLANG") {
        return clang;
    }
    let runs = |c: &str| Command::new(c).arg("--version").output().is_ok_and(|o| o.status.success());
    match CLANGS.into_iter().find(|c| runs(c)) {
        Some(clang) => clang.into(),
        None => panic!("clang is needed to compile BPF programs: apt-get install clang-19, or set CLANG"),
    }
}

/// Compiles `src/bpf/NAME.bpf.c` to `NAME.bpf.o` and writes `NAME.skel.rs`, the macro `skeleton!`, both into cargo's output directory.
pub fn build(name: &str, more_args: &[&str]) {
    println!("cargo:rerun-if-changed=src/bpf");
    let out_dir = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let out = out_dir.join(format!("{name}.skel.rs"));
    let common =
        ["-Wall", "-Werror", "-mcpu=v3", concat!("-ffile-prefix-map=", env!("CARGO_MANIFEST_DIR"), "=.")];
    libbpf_cargo::SkeletonBuilder::new()
        .source(format!("src/bpf/{name}.bpf.c"))
        .obj(out_dir.join(format!("{name}.bpf.o")))
        .clang(clang())
        .clang_args(common.iter().chain(more_args))
        .build_and_generate(&out)
        .expect("the BPF programs compile");
    as_macro(&out);
}

/// Makes the generated code a macro: where it panics is then where it is used. Binaries have no path of the machine that built
/// them, and a guest runs the same on all.
fn as_macro(path: &Path) {
    let code = fs::read_to_string(path).expect("the skeleton was written");
    fs::write(path, format!("macro_rules! skeleton {{ () => {{\n{code}\n}} }}\n"))
        .expect("the skeleton can be written");
}
