//! What commands print: output that cannot be written ends the program with a message, and text from guests and files reaches
//! no terminal as it is.

use std::fmt::Arguments;
use std::io::{self, Write};

use crate::exit;

/// Prints a line to standard output, as `println!` does, which panics where the output cannot be written.
macro_rules! outln {
    ($($text:tt)*) => { $crate::output::write(format_args!("{}\n", format_args!($($text)*))) };
}
pub(crate) use outln;

/// Writes to standard output. If that fails (a full disk, a reader that has gone), this says so and ends the program, with
/// the exit status of [`exit::of_io`].
pub(crate) fn write(text: Arguments<'_>) {
    let mut out = io::stdout().lock();
    if let Err(e) = out.write_fmt(text).and_then(|()| out.flush()) {
        eprintln!("error: standard output: {e}");
        std::process::exit(i32::from(exit::of_io(&e, exit::INTERNAL)));
    }
}

/// Characters that change the direction of text, and so what it seems to say.
fn turns_text(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Text without characters that command a terminal; escapes stand for them. Lines and tabs stay.
pub(crate) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => out.push(c),
            c if c.is_control() || turns_text(c) => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}

/// [`plain`] text in one line.
pub(crate) fn one_line(text: &str) -> String {
    plain(text).replace(['\n', '\t'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_commands_no_terminal() {
        assert_eq!(plain("a\x1b[2J\x07\u{9b}31m\r\n\tb é"), "a\\u{1b}[2J\\u{7}\\u{9b}31m\\u{d}\n\tb é");
        assert_eq!(plain("x\u{202e}y"), "x\\u{202e}y");
        assert_eq!(one_line("a\nb\tc"), "a b c");
    }
}
