//! `#[derive(Payload)]`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::parse::ParseStream;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Attribute, DeriveInput, Error, Ident, LitFloat, LitInt, LitStr, Result, Token, bracketed};

const FORM: &str = "write #[payload(binary = \"stress-ng\", args = [\"--cpu\", \"2\"])]";
const METRIC_FORM: &str = "write #[metric(name = \"ops\", regex = r\"ops: (\\d+)\", unit = \"count\", better = \"higher\")], or json = \"path.0.key\" for regex";

#[derive(Default)]
struct Declaration {
    name: Option<String>,
    binary: Option<String>,
    args: Vec<LitStr>,
    files: Vec<LitStr>,
}

fn strings(input: ParseStream<'_>) -> Result<Vec<LitStr>> {
    let list;
    bracketed!(list in input);
    Ok(Punctuated::<LitStr, Token![,]>::parse_terminated(&list)?.into_iter().collect())
}

/// Calls `field` for each `name = ...` between the parentheses of an attribute.
fn fields(
    attr: &Attribute,
    form: &str,
    mut field: impl FnMut(&Ident, ParseStream<'_>) -> Result<()>,
) -> Result<()> {
    attr.parse_args_with(|input: ParseStream<'_>| {
        while !input.is_empty() {
            let key: Ident = input.parse().map_err(|e| Error::new(e.span(), form))?;
            input.parse::<Token![=]>().map_err(|e| Error::new(e.span(), form))?;
            field(&key, input)?;
            if !input.is_empty() {
                input.parse::<Token![,]>().map_err(|e| Error::new(e.span(), form))?;
            }
        }
        Ok(())
    })
}

fn declaration(attr: &Attribute) -> Result<Declaration> {
    let mut d = Declaration::default();
    fields(attr, FORM, |key, input| {
        match key.to_string().as_str() {
            "name" => d.name = Some(input.parse::<LitStr>()?.value()),
            "binary" => d.binary = Some(input.parse::<LitStr>()?.value()),
            "args" => d.args = strings(input)?,
            "files" => d.files = strings(input)?,
            other => {
                let message = format!("unknown field `{other}`; the fields are name, binary, args, files");
                return Err(Error::new(key.span(), message));
            }
        }
        Ok(())
    })?;
    Ok(d)
}

fn better(name: &LitStr) -> Result<TokenStream> {
    match name.value().as_str() {
        "lower" => Ok(quote!(Lower)),
        "higher" => Ok(quote!(Higher)),
        "neutral" => Ok(quote!(Neutral)),
        _ => Err(Error::new(name.span(), "`better` takes \"lower\", \"higher\" or \"neutral\"")),
    }
}

/// A `#[metric(...)]` as an expression of type `ktstr::macro_support::Number`.
fn number(attr: &Attribute) -> Result<TokenStream> {
    let (mut name, mut at, mut unit, mut direction, mut scale) = (None, None, None, None, 1.0);
    fields(attr, METRIC_FORM, |key, input| {
        match key.to_string().as_str() {
            "name" => name = Some(input.parse::<LitStr>()?),
            "regex" => {
                let pattern = input.parse::<LitStr>()?;
                at = Some(quote!(::ktstr::macro_support::Location::Regex(#pattern)));
            }
            "json" => {
                let path = input.parse::<LitStr>()?;
                at = Some(quote!(::ktstr::macro_support::Location::Json(#path)));
            }
            "unit" => unit = Some(input.parse::<LitStr>()?),
            "better" => direction = Some(better(&input.parse::<LitStr>()?)?),
            "scale" if input.peek(LitFloat) => scale = input.parse::<LitFloat>()?.base10_parse()?,
            "scale" => scale = input.parse::<LitInt>()?.base10_parse()?,
            other => {
                let message = format!(
                    "unknown field `{other}`; the fields are name, regex or json, unit, better, scale"
                );
                return Err(Error::new(key.span(), message));
            }
        }
        Ok(())
    })?;
    let missing = |field: &str| Error::new(attr.span(), format!("`{field}` is missing: {METRIC_FORM}"));
    let name = name.ok_or_else(|| missing("name"))?;
    let at = at.ok_or_else(|| missing("regex"))?;
    let unit = unit.ok_or_else(|| missing("unit"))?;
    let direction = direction.ok_or_else(|| missing("better"))?;
    Ok(quote!(::ktstr::macro_support::Number {
        name: #name,
        at: #at,
        scale: #scale,
        unit: #unit,
        better: ::ktstr::Better::#direction,
    }))
}

/// Expands to the implementation of `ktstr::Program`.
pub(crate) fn expand(input: TokenStream) -> Result<TokenStream> {
    let input: DeriveInput = syn::parse2(input)?;
    let ident = &input.ident;
    let named = |name: &'static str| input.attrs.iter().filter(move |a| a.path().is_ident(name));
    let attr = named("payload").next().ok_or_else(|| Error::new(ident.span(), FORM))?;
    let d = declaration(attr)?;
    let binary = d.binary.ok_or_else(|| Error::new(attr.span(), format!("`binary` is missing: {FORM}")))?;
    let name = d.name.unwrap_or_else(|| snake(&ident.to_string()));
    let numbers = named("metric").map(number).collect::<Result<Vec<_>>>()?;
    let (args, files) = (d.args, d.files);
    Ok(quote! {
        impl ::ktstr::Program for #ident {
            const PAYLOAD: ::ktstr::macro_support::Payload = ::ktstr::macro_support::Payload {
                name: #name,
                binary: #binary,
                args: &[#(#args),*],
                files: &[#(#files),*],
                numbers: &[#(#numbers),*],
            };
        }
    })
}

/// Converts `StressNg` to `stress_ng`.
fn snake(camel: &str) -> String {
    let mut out = String::new();
    for c in camel.chars() {
        if c.is_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.extend(c.to_lowercase());
    }
    out
}
