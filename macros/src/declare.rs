//! `declare_scheduler!(NAME, { name = "...", binary = "...", args = ["...", ...] })`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Error, Ident, LitStr, Result, Token, braced, bracketed};

struct Declaration {
    ident: Ident,
    name: LitStr,
    binary: LitStr,
    args: Vec<LitStr>,
}

impl Parse for Declaration {
    fn parse(input: ParseStream<'_>) -> Result<Declaration> {
        let ident: Ident = input.parse()?;
        input.parse::<Token![,]>()?;
        let fields;
        braced!(fields in input);
        let (mut name, mut binary, mut args) = (None, None, Vec::new());
        while !fields.is_empty() {
            let key: Ident = fields.parse()?;
            fields.parse::<Token![=]>()?;
            match key.to_string().as_str() {
                "name" => name = Some(fields.parse::<LitStr>()?),
                "binary" => binary = Some(fields.parse::<LitStr>()?),
                "args" => {
                    let list;
                    bracketed!(list in fields);
                    args = Punctuated::<LitStr, Token![,]>::parse_terminated(&list)?.into_iter().collect();
                }
                other => {
                    return Err(Error::new(
                        key.span(),
                        format!("unknown field `{other}`; the fields are name, binary, args"),
                    ));
                }
            }
            if fields.is_empty() {
                break;
            }
            fields.parse::<Token![,]>()?;
        }
        input.parse::<Option<Token![,]>>()?;
        let missing =
            |field: &str| Error::new(ident.span(), format!("`{field}` is missing: write {field} = \"...\""));
        let name = name.ok_or_else(|| missing("name"))?;
        let binary = binary.ok_or_else(|| missing("binary"))?;
        Ok(Declaration { ident, name, binary, args })
    }
}

/// Expands to the static that tests name.
pub(crate) fn expand(input: TokenStream) -> Result<TokenStream> {
    let Declaration { ident, name, binary, args } = syn::parse2(input)?;
    Ok(quote! {
        /// A scheduler under test.
        pub static #ident: ::ktstr::Scheduler =
            ::ktstr::Scheduler { name: #name, binary: #binary, args: &[#(#args),*] };
    })
}
