//! The attribute and declaration macros of ktstr. `ktstr` re-exports and documents them.
#![forbid(unsafe_code)]
#![warn(unreachable_pub)]

mod args;
mod attribute;
mod condition;
mod declare;
mod payload;

use std::sync::atomic::{AtomicBool, Ordering};

use proc_macro::TokenStream;
use quote::quote;

/// Whether the `main` of this crate has been emitted: the compiler runs once per crate.
static MAIN_EMITTED: AtomicBool = AtomicBool::new(false);

/// Expands to `main` at its first call, with two compile errors. The first checks that `main` is at the crate
/// root; only the compiler knows the path of its module. The second is for test targets with the standard
/// harness, which alone compiles `#[test]` items.
fn main_once() -> proc_macro2::TokenStream {
    if MAIN_EMITTED.swap(true, Ordering::Relaxed) {
        return quote!();
    }
    quote! {
        #[allow(dead_code, reason = "the standard harness, which the error below is for, has a `main` of its own")]
        fn main() -> ::std::process::ExitCode {
            ::ktstr::macro_support::run_main()
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
    // `main` is emitted after a mistake as well; else the compiler would also report that `main` is missing.
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
