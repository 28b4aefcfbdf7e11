//! Compiles the BPF programs with clang and generates their skeletons.

mod skeleton;

fn main() {
    skeleton::build("probes", &["-Wno-unused-function"]);
    skeleton::build("baseline", &[]);
    skeleton::build("exits", &[]);
}
