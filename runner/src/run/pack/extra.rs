//! A file that travels into the guest.

use std::path::PathBuf;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Extra {
    /// Where it is on the host.
    pub host: PathBuf,
    /// Where it goes.
    pub guest: String,
    /// It is a program, which the libraries that it needs go with.
    pub is_program: bool,
}
