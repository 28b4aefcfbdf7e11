//! The arguments of `#[ktstr_test(...)]`: `name = value` and `name(...)`.

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::ext::IdentExt;
use syn::parse::{ParseStream, Parser};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Error, Expr, Ident, Lit, LitStr, Path, RangeLimits, Result, Token, parenthesized};

use crate::condition::Condition;

const KEYS: &str = "scheduler, llcs, cores, threads, numa_nodes, memory_mib, duration_s, accel, isolation, assert(...), without(...), expect, also(...), payloads(...), covers(...), gauntlet(...)";

/// Checks that `without(...)` switches off, with their variants of `ktstr::macro_support::Check`.
const CHECKS: [(&str, &str); 3] =
    [("progress", "Progress"), ("max_wait", "MaxWait"), ("in_charge", "InCharge")];

/// Exit kinds that a test may expect (`ktstr_wire::message::EXIT_KINDS`; a test of `ktstr` compares the two).
const EXITS: [&str; 14] = [
    "unreg",
    "unreg_bpf",
    "unreg_kern",
    "sysrq",
    "parent",
    "parent_kill",
    "error",
    "error_bpf",
    "stall",
    "error_reenq",
    "error_rescue",
    "exited",
    "crashed",
    "hung",
];

/// The arguments of the attribute.
#[derive(Default)]
pub(crate) struct Args {
    pub scheduler: Option<Expr>,
    pub accel: Option<Ident>,
    pub isolation: Option<Ident>,
    pub numa_nodes: Option<u32>,
    pub llcs: Option<u32>,
    pub cores: Option<u32>,
    pub threads: Option<u32>,
    pub memory_mib: Option<u32>,
    pub duration_ns: Option<u64>,
    pub asserts: Vec<Condition>,
    pub without: Vec<Ident>,
    pub expect: Option<Option<String>>,
    pub also: Vec<Expr>,
    pub payloads: Vec<Path>,
    pub covers: Vec<LitStr>,
    pub gauntlet: Option<Gauntlet>,
    seen: Vec<String>,
}

/// Constraints on the presets of the gauntlet.
#[derive(Default)]
pub(crate) struct Gauntlet {
    pub cpus: Option<(u32, u32)>,
    pub llcs: Option<(u32, u32)>,
    pub numa_nodes: Option<(u32, u32)>,
    pub smt: Option<bool>,
}

impl Gauntlet {
    /// As an expression of type `ktstr::macro_support::Constraints`.
    pub(crate) fn tokens(&self) -> TokenStream {
        let range = |r: Option<(u32, u32)>| {
            let (low, high) = r.unwrap_or((0, u32::MAX));
            quote!((#low, #high))
        };
        let (cpus, llcs, nodes) = (range(self.cpus), range(self.llcs), range(self.numa_nodes));
        let smt = match self.smt {
            Some(smt) => quote!(::std::option::Option::Some(#smt)),
            None => quote!(::std::option::Option::None),
        };
        quote!(::ktstr::macro_support::Constraints { cpus: #cpus, llcs: #llcs, numa_nodes: #nodes, smt: #smt })
    }
}

/// The literal of a value. A literal from a macro's `$x:literal` is in a group.
fn literal(value: &Expr) -> Option<&Lit> {
    match value {
        Expr::Lit(lit) => Some(&lit.lit),
        Expr::Group(group) => literal(&group.expr),
        _ => None,
    }
}

/// An integer literal from 1 to `max`.
fn integer(value: &Expr, name: &str, max: u32) -> Result<u32> {
    let wrong =
        || Error::new(value.span(), format!("`{name}` takes an integer from 1 to {max}, as in `{name} = 2`"));
    let Some(Lit::Int(int)) = literal(value) else { return Err(wrong()) };
    int.base10_parse::<u32>().ok().filter(|n| (1..=max).contains(n)).ok_or_else(wrong)
}

/// A literal in seconds as nanoseconds.
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

fn string(value: &Expr) -> Option<String> {
    match literal(value) {
        Some(Lit::Str(s)) => Some(s.value()),
        _ => None,
    }
}

/// A string as a variant of an enum.
fn variant(value: &Expr, name: &str, variants: [(&str, &str); 3]) -> Result<Ident> {
    let text = string(value);
    let found = variants.into_iter().find(|(name, _)| text.as_deref() == Some(*name));
    let (_, variant) = found.ok_or_else(|| {
        let [a, b, c] = variants.map(|(name, _)| name);
        Error::new(value.span(), format!("`{name}` takes \"{a}\", \"{b}\" or \"{c}\""))
    })?;
    Ok(Ident::new(variant, value.span()))
}

/// The isolation, as a variant of `ktstr::macro_support::Isolation`.
fn isolation(value: &Expr) -> Result<Ident> {
    variant(value, "isolation", [("alone", "Alone"), ("share", "Share"), ("any", "Any")])
}

/// The accelerator, as a variant of `ktstr::macro_support::Accel`.
fn accelerator(value: &Expr) -> Result<Ident> {
    variant(value, "accel", [("kvm", "Kvm"), ("sim", "Sim"), ("tcg", "Tcg")])
}

/// `sched_exit`, or `sched_exit(KIND)`.
fn exit(value: &Expr) -> Result<Option<String>> {
    let wrong = || {
        let message = format!(
            "write `expect = sched_exit` or `expect = sched_exit(KIND)`, KIND one of {}",
            EXITS.join(", ")
        );
        Error::new(value.span(), message)
    };
    let ident = |e: &Expr| match e {
        Expr::Path(p) => p.path.get_ident().map(Ident::to_string),
        _ => None,
    };
    if ident(value).as_deref() == Some("sched_exit") {
        return Ok(None);
    }
    let Expr::Call(call) = value else { return Err(wrong()) };
    let kind = call.args.first().filter(|_| call.args.len() == 1).and_then(ident);
    let known =
        kind.filter(|k| EXITS.contains(&k.as_str()) && ident(&call.func).as_deref() == Some("sched_exit"));
    known.map(Some).ok_or_else(wrong)
}

/// The minimum and maximum of `4`, `2..`, `..=8` or `2..=8`.
fn range(value: &Expr, name: &str) -> Result<(u32, u32)> {
    let wrong =
        || Error::new(value.span(), format!("`{name}` takes a number or a range, as in `{name} = 2..=8`"));
    let number = |e: &Expr| match literal(e) {
        Some(Lit::Int(i)) => i.base10_parse::<u32>().map_err(|_| wrong()),
        _ => Err(wrong()),
    };
    let Expr::Range(r) = value else { return number(value).map(|n| (n, n)) };
    let low = r.start.as_deref().map_or(Ok(0), number)?;
    let high = match (&r.end, r.limits) {
        (None, _) => u32::MAX,
        (Some(end), RangeLimits::Closed(_)) => number(end)?,
        (Some(end), RangeLimits::HalfOpen(_)) => number(end)?.checked_sub(1).ok_or_else(wrong)?,
    };
    if low <= high { Ok((low, high)) } else { Err(wrong()) }
}

/// The checks of `without(...)`, as variants of `ktstr::macro_support::Check`.
fn checks(inner: ParseStream<'_>) -> Result<Vec<Ident>> {
    let names = Punctuated::<Ident, Token![,]>::parse_terminated(inner)?;
    let known = |i: &Ident| match CHECKS.into_iter().find(|(name, _)| i == name) {
        Some((_, variant)) => Ok(Ident::new(variant, i.span())),
        None => {
            let all = CHECKS.map(|(name, _)| name).join(", ");
            Err(Error::new(i.span(), format!("no check named `{i}`; the checks are {all}")))
        }
    };
    names.iter().map(known).collect()
}

/// The schedulers of `also(...)`.
fn statics(inner: ParseStream<'_>) -> Result<Vec<Expr>> {
    Ok(Punctuated::<Expr, Token![,]>::parse_terminated(inner)?.into_iter().collect())
}

fn gauntlet(inner: ParseStream<'_>) -> Result<Gauntlet> {
    let mut g = Gauntlet::default();
    for pair in Punctuated::<syn::MetaNameValue, Token![,]>::parse_terminated(inner)? {
        let name = pair.path.get_ident().map(Ident::to_string).unwrap_or_default();
        match name.as_str() {
            "cpus" => g.cpus = Some(range(&pair.value, &name)?),
            "llcs" => g.llcs = Some(range(&pair.value, &name)?),
            "numa_nodes" => g.numa_nodes = Some(range(&pair.value, &name)?),
            "smt" => match literal(&pair.value) {
                Some(Lit::Bool(b)) => g.smt = Some(b.value),
                _ => return Err(Error::new(pair.value.span(), "`smt` takes true or false")),
            },
            _ => {
                let message =
                    format!("unknown constraint `{name}`; the constraints are cpus, llcs, numa_nodes, smt");
                return Err(Error::new(pair.path.span(), message));
            }
        }
    }
    Ok(g)
}

impl Args {
    /// Parses the tokens of the attribute.
    pub(crate) fn parse(tokens: TokenStream) -> Result<Args> {
        (|input: ParseStream<'_>| {
            let mut args = Args::default();
            while !input.is_empty() {
                args.one(input)?;
                if input.is_empty() {
                    break;
                }
                input.parse::<Token![,]>().map_err(|e| {
                    Error::new(e.span(), "a comma belongs between arguments, as in `cores = 2, llcs = 2`")
                })?;
            }
            Ok(args)
        })
        .parse2(tokens)
    }

    fn one(&mut self, input: ParseStream<'_>) -> Result<()> {
        let key = Ident::parse_any(input)
            .map_err(|e| Error::new(e.span(), format!("write `name = value`; the names are {KEYS}")))?;
        let name = key.to_string();
        if name != "assert" && self.seen.contains(&name) {
            return Err(Error::new(key.span(), format!("`{name}` is given twice")));
        }
        self.seen.push(name.clone());
        if input.peek(syn::token::Paren) {
            let inner;
            parenthesized!(inner in input);
            return self.list(&key, &name, &inner);
        }
        input
            .parse::<Token![=]>()
            .map_err(|e| Error::new(e.span(), format!("write `name = value`; the names are {KEYS}")))?;
        let value = input.parse::<Expr>()?;
        self.value(&key, &name, value)
    }

    fn list(&mut self, key: &Ident, name: &str, inner: ParseStream<'_>) -> Result<()> {
        match name {
            "assert" => self.asserts.push(Condition::parse(inner)?),
            "without" => self.without = checks(inner)?,
            "also" => self.also = statics(inner)?,
            "payloads" => {
                let types = Punctuated::<Path, Token![,]>::parse_terminated(inner)?;
                self.payloads = types.into_iter().collect();
            }
            "covers" => {
                let words = Punctuated::<LitStr, Token![,]>::parse_terminated(inner)?;
                self.covers = words.into_iter().collect();
            }
            "gauntlet" => self.gauntlet = Some(gauntlet(inner)?),
            _ => return Err(unknown(key.span(), name)),
        }
        if inner.is_empty() { Ok(()) } else { Err(inner.error(format!("unexpected in `{name}(...)`"))) }
    }

    fn value(&mut self, key: &Ident, name: &str, value: Expr) -> Result<()> {
        match name {
            "scheduler" => self.scheduler = Some(value),
            "accel" => self.accel = Some(accelerator(&value)?),
            "isolation" => self.isolation = Some(isolation(&value)?),
            "llcs" => self.llcs = Some(integer(&value, name, 256)?),
            "cores" => self.cores = Some(integer(&value, name, 256)?),
            "threads" => self.threads = Some(integer(&value, name, 2)?),
            "numa_nodes" => self.numa_nodes = Some(integer(&value, name, 64)?),
            "memory_mib" => self.memory_mib = Some(integer(&value, name, 1 << 20)?),
            "duration_s" => self.duration_ns = Some(seconds(&value)?),
            "expect" => self.expect = Some(exit(&value)?),
            "assert" | "without" | "also" | "payloads" | "covers" | "gauntlet" => {
                return Err(Error::new(key.span(), format!("write `{name}(...)`")));
            }
            _ => return Err(unknown(key.span(), name)),
        }
        Ok(())
    }
}

fn unknown(span: Span, name: &str) -> Error {
    Error::new(span, format!("unknown name `{name}`; the names are {KEYS}"))
}
