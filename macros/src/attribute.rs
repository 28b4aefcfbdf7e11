//! `#[ktstr_test(...)]`.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote};
use syn::spanned::Spanned;
use syn::{Error, ItemFn, Result};

use crate::args::Args;

fn check_signature(item: &ItemFn) -> Result<()> {
    let sig = &item.sig;
    if sig.inputs.len() != 1 || sig.asyncness.is_some() || !sig.generics.params.is_empty() {
        let message = "a ktstr test is `fn name(ctx: &Ctx) -> Result<AssertResult>`";
        return Err(Error::new(sig.span(), message));
    }
    Ok(())
}

fn option<T: quote::ToTokens>(value: Option<T>) -> TokenStream {
    match value {
        Some(v) => quote!(::std::option::Option::Some(#v)),
        None => quote!(::std::option::Option::None),
    }
}

/// What only makes sense together.
fn check(args: &Args) -> Result<()> {
    if args.expect.is_some() && args.scheduler.is_none() {
        let message = "`expect = sched_exit` needs a scheduler: add `scheduler = NAME` with a static of declare_scheduler!";
        return Err(Error::new(Span::call_site(), message));
    }
    let counts = [args.numa_nodes, args.llcs, args.cores.or(Some(2)), args.threads];
    let cpus = counts.iter().map(|n| u64::from(n.unwrap_or(1))).product::<u64>();
    if cpus > 256 {
        let message = format!("the topology has {cpus} CPUs, a guest has at most 256");
        return Err(Error::new(Span::call_site(), message));
    }
    Ok(())
}

/// The function, and its entry in the registry.
pub fn expand(args: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let mut item: ItemFn = syn::parse2(item).map_err(|e| {
        Error::new(e.span(), "#[ktstr_test] goes on a function: `fn name(ctx: &Ctx) -> Result<AssertResult>`")
    })?;
    check_signature(&item)?;
    let args = Args::parse(args)?;
    check(&args)?;
    let before = item.attrs.len();
    item.attrs.retain(|a| !a.path().is_ident("ignore"));
    let ignored = item.attrs.len() < before;
    let (nodes, llcs) = (args.numa_nodes.unwrap_or(1), args.llcs.unwrap_or(1));
    let (cores, threads) = (args.cores.unwrap_or(2), args.threads.unwrap_or(1));
    let scheduler = option(args.scheduler.map(|s| quote!(&#s)));
    let (accel, memory) = (option(args.accel), option(args.memory_mib));
    let isolation = option(args.isolation.map(|i| quote!(::ktstr::registry::Isolation::#i)));
    let duration_ns = args.duration_ns.unwrap_or(2_000_000_000);
    let asserts = args.asserts.iter().map(|c| c.tokens());
    let expect = option(args.expect.map(option));
    let (without, also, payloads, covers) = (&args.without, &args.also, &args.payloads, &args.covers);
    let gauntlet = args.gauntlet.unwrap_or_default().tokens();
    let ident = &item.sig.ident;
    let entry = format_ident!("KTSTR_TEST_{}", ident.to_string().to_uppercase());
    Ok(quote! {
        #item

        #[::ktstr::registry::linkme::distributed_slice(::ktstr::registry::TESTS)]
        #[linkme(crate = ::ktstr::registry::linkme)]
        static #entry: ::ktstr::registry::TestEntry = ::ktstr::registry::TestEntry {
            module: ::std::module_path!(),
            name: ::std::stringify!(#ident),
            manifest_dir: ::std::env!("CARGO_MANIFEST_DIR"),
            ignored: #ignored,
            accel: #accel,
            isolation: #isolation,
            scheduler: #scheduler,
            numa_nodes: #nodes,
            llcs: #llcs,
            cores: #cores,
            threads: #threads,
            memory_mib: #memory,
            duration_ns: #duration_ns,
            asserts: &[#(#asserts),*],
            without: &[#(#without),*],
            expect: #expect,
            also: &[#(&#also),*],
            payloads: &[#(&<#payloads as ::ktstr::payload::Program>::PAYLOAD),*],
            covers: &[#(#covers),*],
            gauntlet: #gauntlet,
            body: #ident,
        };
    })
}
