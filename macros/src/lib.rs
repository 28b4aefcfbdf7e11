//! The attribute and declaration macros of ktstr. `ktstr` re-exports and documents them.

mod args;
mod attribute;
mod condition;
mod declare;
mod payload;

use std::sync::atomic::{AtomicBool, Ordering};

use proc_macro::TokenStream;
use quote::quote;

/// A crate is compiled by a process of its own: this says whether its `main` has been emitted.
static MAIN_EMITTED: AtomicBool = AtomicBool::new(false);

/// `main`, and two errors: where `main` would not be at the crate root (only the path of its module says so, and only the
/// compiler knows it), and where the test target has the standard harness (`#[test]` items exist only then).
fn main_once() -> proc_macro2::TokenStream {
    if MAIN_EMITTED.swap(true, Ordering::Relaxed) {
        return quote!();
    }
    quote! {
        #[allow(dead_code)] // the standard harness, where the error below stands, has a `main` of its own
        fn main() -> ::std::process::ExitCode {
            ::ktstr::run_main()
        }

        const _: () = {
            let module = ::std::module_path!().as_bytes();
            let mut i = 0;
            while i < module.len() {
                if module[i] == b':' {
                    ::std::panic!("the first #[ktstr_test] of this crate is in a module, where its `main` is not found: write `ktstr::test_main!();` at the crate root, before the first `mod`");
                }
                i += 1;
            }
        };

        #[test]
        fn ktstr_needs_harness_false() {
            ::std::compile_error!(
                "ktstr tests bring their own harness: add `harness = false` to this test's [[test]] section in Cargo.toml"
            );
        }
    }
}

/// See `ktstr::ktstr_test`.
#[proc_macro_attribute]
pub fn ktstr_test(args: TokenStream, item: TokenStream) -> TokenStream {
    // A mistake in a test does not take the crate's `main` away: the compiler would report that too, and advise to write one.
    let test = attribute::expand(args.into(), item.into()).unwrap_or_else(|e| e.to_compile_error());
    let main = main_once();
    quote!(#test #main).into()
}

/// See `ktstr::declare_scheduler`.
#[proc_macro]
pub fn declare_scheduler(input: TokenStream) -> TokenStream {
    declare::expand(input.into()).unwrap_or_else(|e| e.to_compile_error()).into()
}

/// See `ktstr::Payload`.
#[proc_macro_derive(Payload, attributes(payload, metric))]
pub fn derive_payload(input: TokenStream) -> TokenStream {
    payload::expand(input.into()).unwrap_or_else(|e| e.to_compile_error()).into()
}

/// See `ktstr::test_main`.
#[proc_macro]
pub fn test_main(_input: TokenStream) -> TokenStream {
    if MAIN_EMITTED.load(Ordering::Relaxed) {
        return quote! {
            ::std::compile_error!(
                "the first #[ktstr_test] of this crate has made `main` already: delete test_main!(), or, if all tests are in modules, put it before the first `mod`"
            );
        }
        .into();
    }
    main_once().into()
}
