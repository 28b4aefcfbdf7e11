//! The pages of the repository, and what the tests look for in them: links, anchors, fenced blocks.
#![allow(clippy::unwrap_used)] // what tests call may panic as they may

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

use crate::boot::workspace;

/// One Markdown file.
pub struct Page {
    /// Path from the root of the repository.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
}

/// A fenced block.
pub struct Fence {
    /// The word after the fence.
    pub language: String,
    /// Its lines.
    pub text: String,
}

impl Page {
    /// Reads the page at a path from the root of the repository.
    pub fn read(path: impl Into<PathBuf>) -> Page {
        let path = path.into();
        let text = fs::read_to_string(workspace().join(&path));
        Page { text: text.unwrap_or_else(|e| panic!("{}: {e}", path.display())), path }
    }

    fn events(&self) -> Parser<'_> {
        Parser::new_ext(&self.text, Options::ENABLE_TABLES)
    }

    /// The fenced blocks in order.
    pub fn fences(&self) -> Vec<Fence> {
        let mut fences = Vec::new();
        let mut is_inside = false;
        for event in self.events() {
            match event {
                Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(language))) => {
                    is_inside = true;
                    fences.push(Fence { language: language.to_string(), text: String::new() });
                }
                Event::End(TagEnd::CodeBlock) => is_inside = false,
                Event::Text(text) if is_inside => fences.last_mut().unwrap().text += &text,
                _ => {}
            }
        }
        fences
    }

    /// The destinations of links and pictures.
    pub fn links(&self) -> Vec<String> {
        let destination = |event| match event {
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                Some(dest_url.to_string())
            }
            _ => None,
        };
        self.events().filter_map(destination).collect()
    }

    /// The anchors of its headings, as GitHub and mdBook make them.
    pub fn anchors(&self) -> Vec<String> {
        let mut heading = None;
        let (mut seen, mut anchors) = (BTreeMap::new(), Vec::new());
        for event in self.events() {
            match event {
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::Text(text) | Event::Code(text) => {
                    heading.iter_mut().for_each(|h: &mut String| h.push_str(&text));
                }
                Event::End(TagEnd::Heading(_)) => {
                    let anchor = anchor(&heading.take().unwrap());
                    let nr = seen.entry(anchor.clone()).or_insert(0);
                    anchors.push(if *nr == 0 { anchor } else { format!("{anchor}-{nr}") });
                    *nr += 1;
                }
                _ => {}
            }
        }
        anchors
    }
}

fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || "-_ ".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

/// The pages of the book in the order of its summary.
pub fn book() -> Vec<Page> {
    let summary = Page::read("docs/SUMMARY.md");
    summary.links().into_iter().map(|link| Page::read(Path::new("docs").join(link))).collect()
}

/// README and the book.
pub fn readme_and_book() -> Vec<Page> {
    std::iter::once(Page::read("README.md")).chain(book()).collect()
}
