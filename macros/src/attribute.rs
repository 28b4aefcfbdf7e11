//! `#[ktstr_test(...)]`.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::parse::Parser;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Error, Expr, ItemFn, Lit, MetaNameValue, Result, Token};

const KEYS: &str = "scheduler, llcs, cores, threads, numa_nodes, memory_mib, duration_s, accel";

/// The literal of a value; one that came through a macro's `$x:literal` is in a group.
fn literal(value: &Expr) -> Option<&Lit> {
    match value {
        Expr::Lit(lit) => Some(&lit.lit),
        Expr::Group(group) => literal(&group.expr),
        _ => None,
    }
}

/// A positive integer literal.
fn integer(value: &Expr, name: &str, max: u32) -> Result<u32> {
    let wrong =
        || Error::new(value.span(), format!("`{name}` takes an integer from 1 to {max}, as in `{name} = 2`"));
    let Some(Lit::Int(int)) = literal(value) else { return Err(wrong()) };
    int.base10_parse::<u32>().ok().filter(|n| (1..=max).contains(n)).ok_or_else(wrong)
}

/// Seconds, whole or with a fraction, as nanoseconds.
fn seconds(value: &Expr) -> Result<u64> {
    let wrong = || {
        Error::new(
            value.span(),
            "`duration_s` takes seconds from 0.1 to 3600, as in `duration_s = 2` or `duration_s = 0.5`",
        )
    };
    let seconds = match literal(value) {
        Some(Lit::Int(i)) => i.base10_parse::<f64>().ok(),
        Some(Lit::Float(f)) => f.base10_parse::<f64>().ok(),
        _ => None,
    };
    let seconds = seconds.filter(|s| (0.1..=3600.0).contains(s)).ok_or_else(wrong)?;
    Ok((seconds * 1e9) as u64)
}

/// The accelerator that a test insists on.
fn accelerator(value: &Expr) -> Result<String> {
    let name = match literal(value) {
        Some(Lit::Str(s)) => Some(s.value()),
        _ => None,
    };
    name.filter(|n| ["kvm", "sim", "tcg"].contains(&n.as_str()))
        .ok_or_else(|| Error::new(value.span(), "`accel` takes \"kvm\", \"sim\" or \"tcg\""))
}

fn check_signature(item: &ItemFn) -> Result<()> {
    let sig = &item.sig;
    if sig.inputs.len() != 1 || sig.asyncness.is_some() || !sig.generics.params.is_empty() {
        let message = "a ktstr test is `fn name(ctx: &Ctx) -> Result<AssertResult>`";
        return Err(Error::new(sig.span(), message));
    }
    Ok(())
}

/// The function, and its entry in the registry.
pub fn expand(args: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let item: ItemFn = syn::parse2(item).map_err(|e| {
        Error::new(e.span(), "#[ktstr_test] goes on a function: `fn name(ctx: &Ctx) -> Result<AssertResult>`")
    })?;
    check_signature(&item)?;
    let args = Punctuated::<MetaNameValue, Token![,]>::parse_terminated
        .parse2(args)
        .map_err(|e| Error::new(e.span(), format!("write `name = value`; the names are {KEYS}")))?;
    let mut scheduler = quote!(::std::option::Option::None);
    let (mut llcs, mut cores, mut threads, mut nodes) = (1u32, 2u32, 1u32, 1u32);
    let mut accel = quote!(::std::option::Option::None);
    let mut memory = quote!(::std::option::Option::None);
    let mut duration_ns = 2_000_000_000u64;
    let mut seen = Vec::new();
    for arg in &args {
        let name = arg.path.get_ident().map(ToString::to_string).unwrap_or_default();
        if seen.contains(&name) {
            return Err(Error::new(arg.path.span(), format!("`{name}` is given twice")));
        }
        match name.as_str() {
            "scheduler" => {
                let value = &arg.value;
                scheduler = quote!(::std::option::Option::Some(&#value));
            }
            "accel" => {
                let value = accelerator(&arg.value)?;
                accel = quote!(::std::option::Option::Some(#value));
            }
            "llcs" => llcs = integer(&arg.value, &name, 256)?,
            "cores" => cores = integer(&arg.value, &name, 256)?,
            "threads" => threads = integer(&arg.value, &name, 2)?,
            "numa_nodes" => nodes = integer(&arg.value, &name, 64)?,
            "memory_mib" => {
                let mib = integer(&arg.value, &name, 1 << 20)?;
                memory = quote!(::std::option::Option::Some(#mib));
            }
            "duration_s" => duration_ns = seconds(&arg.value)?,
            _ => {
                return Err(Error::new(
                    arg.path.span(),
                    format!("unknown name `{name}`; the names are {KEYS}"),
                ));
            }
        }
        seen.push(name);
    }
    let cpus = [nodes, llcs, cores, threads].iter().map(|n| u64::from(*n)).product::<u64>();
    if cpus > 256 {
        return Err(Error::new(
            args.span(),
            format!("the topology has {cpus} CPUs, a guest has at most 256"),
        ));
    }
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
            accel: #accel,
            scheduler: #scheduler,
            numa_nodes: #nodes,
            llcs: #llcs,
            cores: #cores,
            threads: #threads,
            memory_mib: #memory,
            duration_ns: #duration_ns,
            body: #ident,
        };
    })
}
