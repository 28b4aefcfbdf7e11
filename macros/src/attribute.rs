//! `#[ktstr_test(...)]`.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote};
use syn::spanned::Spanned;
use syn::{Error, FnArg, ItemFn, Result, ReturnType, Type};

use crate::args::Args;

/// Checks the signature as far as possible without types, because the compiler's message would be about a
/// function pointer.
fn check_signature(item: &ItemFn) -> Result<()> {
    let sig = &item.sig;
    let is_reference = |arg: &FnArg| matches!(arg, FnArg::Typed(t) if matches!(*t.ty, Type::Reference(_)));
    let takes_ctx = sig.inputs.len() == 1 && sig.inputs.iter().all(is_reference);
    let gives_result = matches!(sig.output, ReturnType::Type(..));
    if !takes_ctx || !gives_result || sig.asyncness.is_some() || !sig.generics.params.is_empty() {
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

/// Checks arguments that depend on each other.
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

/// Expands to the function and its entry in the registry.
pub(crate) fn expand(args: TokenStream, item: TokenStream) -> Result<TokenStream> {
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
    let accel = option(args.accel.map(|a| quote!(::ktstr::macro_support::Accel::#a)));
    let memory = option(args.memory_mib);
    let isolation = option(args.isolation.map(|i| quote!(::ktstr::macro_support::Isolation::#i)));
    let duration_ns = args.duration_ns.unwrap_or(2_000_000_000);
    let asserts = args.asserts.iter().map(|c| c.tokens());
    let expect = option(args.expect.map(option));
    let (without, also, payloads, covers) = (&args.without, &args.also, &args.payloads, &args.covers);
    let gauntlet = args.gauntlet.unwrap_or_default().tokens();
    let ident = &item.sig.ident;
    let entry = format_ident!("KTSTR_TEST_{}", ident.to_string().to_uppercase());
    Ok(quote! {
        #item

        #[::ktstr::macro_support::linkme::distributed_slice(::ktstr::macro_support::TESTS)]
        #[linkme(crate = ::ktstr::macro_support::linkme)]
        static #entry: ::ktstr::macro_support::TestEntry = ::ktstr::macro_support::TestEntry {
            package: ::std::env!("CARGO_PKG_NAME"),
            module: ::std::module_path!(),
            name: ::std::stringify!(#ident),
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
            without: &[#(::ktstr::macro_support::Check::#without),*],
            expect: #expect,
            also: &[#(&#also),*],
            payloads: &[#(&<#payloads as ::ktstr::Program>::PAYLOAD),*],
            covers: &[#(#covers),*],
            gauntlet: #gauntlet,
            body: #ident,
        };
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_argument_is_accepted() {
        let args = "scheduler = S, llcs = 2, cores = 2, threads = 2, numa_nodes = 2, memory_mib = 512, duration_s = 0.5, \
            accel = \"sim\", assert(wakeup_latency.p99.9 <= 1.5ms, role = \"r\", phase = \"p\"), assert(x.y > 10%), \
            without(progress, max_wait), expect = sched_exit(stall), also(A, B), payloads(P, m::Q), covers(\"fork\"), \
            gauntlet(cpus = 4..=64, llcs = 2.., numa_nodes = 1, smt = true),";
        let test = "fn t(ctx: &Ctx) -> Result<AssertResult> { todo() }";
        let out = expand(args.parse().unwrap(), test.parse().unwrap()).unwrap().to_string();
        for part in
            ["\"wakeup_latency.p99.9\"", "1500000f64", "0.1f64", "(4u32 , 64u32)", "(2u32 , 4294967295u32)"]
        {
            assert!(out.contains(part), "{part} in {out}");
        }
    }
}
