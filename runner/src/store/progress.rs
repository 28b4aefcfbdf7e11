//! The bar of a build or download; without a terminal, a line at every tenth.

use std::io::{self, IsTerminal};

use indicatif::{ProgressBar, ProgressStyle};

/// How far something of known length is. The bar goes when this is dropped.
#[derive(Debug)]
pub(crate) struct Progress {
    what: &'static str,
    bar: ProgressBar,
    length: u64,
    tenths: u64,
}

impl Progress {
    /// `start` of `length` is there already; each line begins with `what`.
    pub(crate) fn new(what: &'static str, start: u64, length: u64) -> Progress {
        let length = length.max(1);
        let bar = ProgressBar::new(length).with_position(start);
        bar.reset_eta();
        let template = format!("{what}: [{{bar:40}}] {{percent}}% {{elapsed}} (about {{eta}} left)");
        let style = ProgressStyle::with_template(&template);
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Progress { what, bar, length, tenths: start.saturating_mul(10) / length }
    }

    /// Now so much is there.
    pub(crate) fn set(&mut self, position: u64) {
        let position = position.min(self.length);
        self.bar.set_position(position);
        let tenths = position.saturating_mul(10) / self.length;
        if tenths > self.tenths && !io::stderr().is_terminal() {
            eprintln!("{}: {} % after {} s", self.what, tenths * 10, self.bar.elapsed().as_secs());
        }
        self.tenths = tenths;
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
