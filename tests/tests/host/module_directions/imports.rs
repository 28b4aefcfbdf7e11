//! Which file of a crate names which other one, by its tokens: `use` declarations, and paths that begin with `crate`, `super`,
//! `self` or a module declared in the file, inside macros too. What a module re-exports counts as its owner's.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A module's path below the crate's root.
pub type Module = Vec<String>;

/// For each file the files that it names.
pub type Edges = BTreeMap<Module, BTreeSet<Module>>;

/// The module of a file below `src`.
pub fn module_of(relative: &Path) -> Module {
    let mut parts: Module =
        relative.with_extension("").iter().map(|p| p.to_string_lossy().into_owned()).collect();
    if parts.last().is_some_and(|last| last == "mod" || last == "lib") {
        parts.pop();
    }
    parts
}

/// A path as it is written, where it is written, and whether it is a re-export.
struct Written {
    inside: Module,
    path: Vec<String>,
    /// The name by which others may ask for it.
    exported_as: Option<String>,
}

fn tokens(text: &str) -> Vec<TokenTree> {
    text.parse::<TokenStream>().unwrap_or_else(|e| panic!("{e}: {text:.80}")).into_iter().collect()
}

fn is_punct(token: Option<&TokenTree>, c: char) -> bool {
    matches!(token, Some(TokenTree::Punct(p)) if p.as_char() == c)
}

fn ident(token: Option<&TokenTree>) -> Option<String> {
    match token {
        Some(TokenTree::Ident(i)) => Some(i.to_string()),
        _ => None,
    }
}

fn group(token: Option<&TokenTree>, delimiter: Delimiter) -> Option<Vec<TokenTree>> {
    match token {
        Some(TokenTree::Group(g)) if g.delimiter() == delimiter => Some(g.stream().into_iter().collect()),
        _ => None,
    }
}

/// `#[cfg(test)]`, also beside other conditions.
fn is_test_only(attribute: &[TokenTree]) -> bool {
    let text: String = attribute.iter().map(ToString::to_string).collect();
    text.starts_with("cfg") && text.contains("test") && !text.contains("not(test")
}

/// Leaves out modules that are compiled for tests only: those inside of files, and files of their own.
pub fn without_tests(mut all: BTreeMap<Module, String>) -> BTreeMap<Module, String> {
    let mut tests = Vec::new();
    for (module, text) in &all {
        collect_test_files(&tokens(text), module, &mut tests);
    }
    all.retain(|module, _| !tests.iter().any(|t| module.starts_with(t)) && !is_named_as_tests(module));
    all
}

/// Files that a `#[path]` makes the tests of the file beside them.
fn is_named_as_tests(module: &Module) -> bool {
    module.last().is_some_and(|name| name.ends_with("_tests"))
}

fn collect_test_files(tokens: &[TokenTree], module: &Module, found: &mut Vec<Module>) {
    let mut test_only = false;
    for (i, token) in tokens.iter().enumerate() {
        if is_punct(Some(token), '#') {
            test_only |= group(tokens.get(i + 1), Delimiter::Bracket).is_some_and(|a| is_test_only(&a));
        } else if ident(Some(token)).as_deref() == Some("mod") && is_punct(tokens.get(i + 2), ';') {
            if let Some(name) = ident(tokens.get(i + 1)).filter(|_| test_only) {
                found.push(module.iter().cloned().chain([name]).collect());
            }
            test_only = false;
        } else if is_punct(Some(token), ';') || group(Some(token), Delimiter::Brace).is_some() {
            test_only = false;
        }
    }
}

/// Reads a `use` tree: every leaf as a path with the name that it gets.
fn leaves(tokens: &[TokenTree], prefix: &[String], out: &mut Vec<(Vec<String>, Option<String>)>) {
    let mut path = prefix.to_vec();
    let mut name = None;
    let mut i = 0;
    while i < tokens.len() {
        if is_punct(tokens.get(i), ',') {
            end_leaf(&mut path, &mut name, prefix, out);
        } else if let Some(inner) = group(tokens.get(i), Delimiter::Brace) {
            leaves(&inner, &path, out);
            path = prefix.to_vec();
        } else if is_punct(tokens.get(i), '*') {
            out.push((path.clone(), None));
            path = prefix.to_vec();
        } else if let Some(word) = ident(tokens.get(i)) {
            if word == "as" {
                name = ident(tokens.get(i + 1));
                i += 1;
            } else if word != "self" || path.is_empty() {
                path.push(word);
                name = path.last().cloned();
            } else {
                name = path.last().cloned();
            }
        }
        i += 1;
    }
    end_leaf(&mut path, &mut name, prefix, out);
}

fn end_leaf(
    path: &mut Vec<String>,
    name: &mut Option<String>,
    prefix: &[String],
    out: &mut Vec<(Vec<String>, Option<String>)>,
) {
    if path.len() > prefix.len() || name.is_some() {
        out.push((std::mem::take(path), name.take()));
    }
    *path = prefix.to_vec();
}

/// Every path of a file that may lead to another one.
fn written(tokens: &[TokenTree], inside: &Module, out: &mut Vec<Written>) {
    let mut test_only = false;
    let mut i = 0;
    while i < tokens.len() {
        if is_punct(tokens.get(i), '#') {
            test_only |= group(tokens.get(i + 1), Delimiter::Bracket).is_some_and(|a| is_test_only(&a));
            i += 2;
            continue;
        }
        match ident(tokens.get(i)).as_deref() {
            Some("use") => {
                let end = (i..tokens.len()).find(|j| is_punct(tokens.get(*j), ';')).unwrap_or(tokens.len());
                let public = is_public(tokens, i);
                let mut all = Vec::new();
                leaves(&tokens[i + 1..end], &[], &mut all);
                let one = |(path, name): (Vec<String>, Option<String>)| Written {
                    inside: inside.clone(),
                    path,
                    exported_as: name.filter(|_| public),
                };
                out.extend(all.into_iter().filter(|_| !test_only).map(one));
                (i, test_only) = (end + 1, false);
            }
            Some("mod") if group(tokens.get(i + 2), Delimiter::Brace).is_some() => {
                let body = group(tokens.get(i + 2), Delimiter::Brace).unwrap_or_default();
                let name = ident(tokens.get(i + 1)).unwrap_or_default();
                if !test_only {
                    written(&body, &inside.iter().cloned().chain([name]).collect(), out);
                }
                (i, test_only) = (i + 3, false);
            }
            Some(_) if is_punct(tokens.get(i + 1), ':') && !follows_path(tokens, i) => {
                let path = path_at(tokens, &mut i);
                if path.len() > 1 && !test_only {
                    out.push(Written { inside: inside.clone(), path, exported_as: None });
                }
            }
            _ => {
                if let Some(TokenTree::Group(g)) = tokens.get(i) {
                    let inner: Vec<TokenTree> = g.stream().into_iter().collect();
                    if !test_only {
                        written(&inner, inside, out);
                    }
                    test_only &= g.delimiter() != Delimiter::Brace;
                } else if is_punct(tokens.get(i), ';') {
                    test_only = false;
                }
                i += 1;
            }
        }
    }
}

/// `pub use`, `pub(crate) use`.
fn is_public(tokens: &[TokenTree], at: usize) -> bool {
    let before = |n: usize| at.checked_sub(n).and_then(|i| tokens.get(i));
    ident(before(1)).as_deref() == Some("pub")
        || group(before(1), Delimiter::Parenthesis).is_some() && ident(before(2)).as_deref() == Some("pub")
}

/// Whether the identifier is not the first of its path, or a field.
fn follows_path(tokens: &[TokenTree], at: usize) -> bool {
    let before = at.checked_sub(1).and_then(|i| tokens.get(i));
    is_punct(before, '.') || is_punct(before, ':') && at >= 2 && is_punct(tokens.get(at - 2), ':')
}

/// The path that begins at `i`; leaves `i` behind it.
fn path_at(tokens: &[TokenTree], i: &mut usize) -> Vec<String> {
    let mut path: Vec<String> = ident(tokens.get(*i)).into_iter().collect();
    *i += 1;
    while is_punct(tokens.get(*i), ':') && is_punct(tokens.get(*i + 1), ':') {
        let Some(next) = ident(tokens.get(*i + 2)) else { break };
        path.push(next);
        *i += 3;
    }
    path
}

/// The file in which a path is written, the path from the crate's root, the name that it gets for others, and the module there.
type Resolved<'a> = (&'a Module, Option<Vec<String>>, Option<String>, Module);

/// Which file names which.
pub fn edges(sources: &BTreeMap<Module, String>) -> Edges {
    let mut all = Vec::new();
    for (module, text) in sources {
        let mut found = Vec::new();
        written(&tokens(text), module, &mut found);
        all.extend(found.into_iter().map(|w| (module, w)));
    }
    let absolute: Vec<Resolved<'_>> =
        all.into_iter().map(|(module, w)| (module, absolute(sources, &w), w.exported_as, w.inside)).collect();
    let mut exports: BTreeMap<(Module, String), Vec<String>> = BTreeMap::new();
    for (_, path, name, inside) in &absolute {
        if let (Some(path), Some(name)) = (path, name) {
            exports.insert((inside.clone(), name.clone()), path.clone());
        }
    }
    let mut edges = Edges::new();
    for (module, path, ..) in absolute {
        let owner = path.and_then(|p| owner(sources, &exports, p, 0));
        if let Some(owner) = owner.filter(|o| o != module) {
            edges.entry(module.clone()).or_default().insert(owner);
        }
    }
    edges
}

/// The path from the crate's root; `None`: another crate's.
fn absolute(sources: &BTreeMap<Module, String>, w: &Written) -> Option<Vec<String>> {
    let first = w.path.first()?;
    let mut from = match first.as_str() {
        "crate" => Vec::new(),
        "self" => w.inside.clone(),
        "super" => {
            let up = w.path.iter().take_while(|p| *p == "super").count();
            w.inside[..w.inside.len().checked_sub(up)?].to_vec()
        }
        name => {
            let child: Module = w.inside.iter().cloned().chain([name.to_string()]).collect();
            return sources
                .contains_key(&child)
                .then(|| w.inside.iter().cloned().chain(w.path.iter().cloned()).collect());
        }
    };
    from.extend(w.path.iter().skip_while(|p| ["crate", "self", "super"].contains(&p.as_str())).cloned());
    Some(from)
}

/// The file that owns what a path names.
fn owner(
    sources: &BTreeMap<Module, String>,
    exports: &BTreeMap<(Module, String), Vec<String>>,
    path: Vec<String>,
    depth: u32,
) -> Option<Module> {
    let n = (0..=path.len()).rev().find(|n| sources.contains_key(&path[..*n]))?;
    let module = path[..n].to_vec();
    let exported = path.get(n).and_then(|name| exports.get(&(module.clone(), name.clone())));
    match exported {
        Some(to) if depth < 8 => {
            owner(sources, exports, to.iter().chain(&path[n + 1..]).cloned().collect(), depth + 1)
        }
        _ => Some(module),
    }
}
