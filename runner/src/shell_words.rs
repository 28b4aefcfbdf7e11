//! Words quoted for a shell.

/// `s` as one word of a POSIX shell.
pub(crate) fn quoted(s: &str) -> String {
    if !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/+:@".contains(&b)) {
        return s.into();
    }
    format!("'{}'", s.replace('\'', r"'\''"))
}
