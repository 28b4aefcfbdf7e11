//! Every misuse of the macros as its user sees it: what the compiler says is beside each file in `misuse/`.
//!
//! After a change of a message: `TRYBUILD=overwrite cargo test -p ktstr --test misuse`, then read the difference.

#[test]
fn compiler_says_what_to_write() {
    trybuild::TestCases::new().compile_fail("tests/misuse/*.rs");
}
