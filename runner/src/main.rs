//! `cargo ktstr`.

fn main() -> std::process::ExitCode {
    cargo_ktstr::main()
}
