//! `assert(wakeup_latency.p99 < 5ms, role = "server", phase = "narrow")`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::ext::IdentExt;
use syn::parse::ParseStream;
use syn::{Error, Ident, Lit, LitStr, Result, Token};

const FORM: &str =
    "write `assert(METRIC.STAT < LIMIT)`, as in `assert(wakeup_latency.p99 < 5ms, role = \"server\")`";

/// Units of limits, and their factors to the units of metrics (nanoseconds).
const UNITS: [(&str, f64); 5] = [("ns", 1.0), ("us", 1e3), ("ms", 1e6), ("s", 1e9), ("", 1.0)];

/// A condition on a metric.
pub(crate) struct Condition {
    subject: String,
    relation: TokenStream,
    limit: f64,
    limit_text: String,
    role: Option<String>,
    phase: Option<String>,
}

impl Condition {
    /// Parses the text between the parentheses.
    pub(crate) fn parse(input: ParseStream<'_>) -> Result<Condition> {
        let subject = subject(input)?;
        let relation = relation(input)?;
        let (limit, limit_text) = limit(input)?;
        let mut condition = Condition { subject, relation, limit, limit_text, role: None, phase: None };
        while input.parse::<Option<Token![,]>>()?.is_some() && !input.is_empty() {
            let key = input.call(Ident::parse_any)?;
            input.parse::<Token![=]>()?;
            let value = input.parse::<LitStr>()?.value();
            match key.to_string().as_str() {
                "role" => condition.role = Some(value),
                "phase" => condition.phase = Some(value),
                other => {
                    let message = format!("unknown name `{other}` in `assert`; the names are role, phase");
                    return Err(Error::new(key.span(), message));
                }
            }
        }
        Ok(condition)
    }

    /// Expands to an expression of type `ktstr::macro_support::AssertDef`.
    pub(crate) fn tokens(&self) -> TokenStream {
        let Condition { subject, relation, limit, limit_text, role, phase } = self;
        let option = |s: &Option<String>| match s {
            Some(s) => quote!(::std::option::Option::Some(#s)),
            None => quote!(::std::option::Option::None),
        };
        let (role, phase) = (option(role), option(phase));
        quote!(::ktstr::macro_support::AssertDef {
            subject: #subject,
            relation: ::ktstr::macro_support::Relation::#relation,
            limit: #limit,
            limit_text: #limit_text,
            role: #role,
            phase: #phase,
        })
    }
}

/// Parses names and numbers with dots between them, as in `wakeup_latency.p99.9`.
fn subject(input: ParseStream<'_>) -> Result<String> {
    let first = input.call(Ident::parse_any).map_err(|e| Error::new(e.span(), FORM))?;
    let mut subject = first.to_string();
    while input.peek(Token![.]) {
        input.parse::<Token![.]>()?;
        let part = match input.peek(Lit) {
            true => input.parse::<Lit>().map(|l| quote!(#l).to_string())?,
            false => input.call(Ident::parse_any).map_err(|e| Error::new(e.span(), FORM))?.to_string(),
        };
        subject.push('.');
        subject.push_str(&part);
    }
    Ok(subject)
}

fn relation(input: ParseStream<'_>) -> Result<TokenStream> {
    // Longer operators first: `<=` begins with `<`.
    if input.parse::<Option<Token![<=]>>()?.is_some() {
        return Ok(quote!(AtMost));
    }
    if input.parse::<Option<Token![>=]>>()?.is_some() {
        return Ok(quote!(AtLeast));
    }
    if input.parse::<Option<Token![<]>>()?.is_some() {
        return Ok(quote!(Below));
    }
    if input.parse::<Option<Token![>]>>()?.is_some() {
        return Ok(quote!(Above));
    }
    Err(input.error(FORM))
}

/// Parses a number with a unit of time, with `%`, or without a unit. Returns it in the unit of metrics, and
/// its text.
fn limit(input: ParseStream<'_>) -> Result<(f64, String)> {
    let lit = input.parse::<Lit>().map_err(|e| Error::new(e.span(), FORM))?;
    let (digits, suffix) = match &lit {
        Lit::Int(i) => (i.base10_digits().to_string(), i.suffix().to_string()),
        Lit::Float(f) => (f.base10_digits().to_string(), f.suffix().to_string()),
        other => return Err(Error::new(other.span(), FORM)),
    };
    let wrong =
        || Error::new(lit.span(), "the units of limits are ns, us, ms, s and %, as in `5ms` or `90%`");
    let number: f64 = digits.parse().map_err(|_| wrong())?;
    let (_, factor) = UNITS.iter().find(|(name, _)| *name == suffix).ok_or_else(wrong)?;
    if suffix.is_empty() && input.parse::<Option<Token![%]>>()?.is_some() {
        return Ok((number / 100.0, format!("{digits} %")));
    }
    let text = if suffix.is_empty() { digits } else { format!("{digits} {suffix}") };
    Ok((number * factor, text))
}
