//! `cargo ktstr emulator build | list | clean`.

use clap::{Args, Subcommand};

use crate::emulator::{EmulatorError, build, cache, source};
use crate::output::outln;
use crate::store::cache::Entry;

/// `cargo ktstr emulator`.
#[derive(Debug, Args)]
pub(crate) struct EmulatorArgs {
    #[command(subcommand)]
    command: EmulatorCommand,
}

#[derive(Debug, Subcommand)]
enum EmulatorCommand {
    /// Build the emulator of `--accel sim` into the cache, unless it is there.
    #[command(after_help = "Examples:
  cargo ktstr emulator build

Environment:
  KTSTR_EMULATOR_MIRROR  a directory of a server that has QEMU's source as Debian names it, tried before Debian's servers
  KTSTR_CACHE_DIR        where the download and the emulator are kept [default: ~/.cache/ktstr]

The source is checked against a SHA-256 that is part of ktstr.")]
    Build,
    /// List the built emulators, the newest last.
    List {
        /// Machine-readable
        #[arg(long)]
        json: bool,
    },
    /// Remove built emulators.
    Clean {
        /// Key, as `list` shows it
        #[arg(required_unless_present = "all")]
        key: Option<String>,
        /// All of them, and the source
        #[arg(long)]
        all: bool,
    },
}

impl EmulatorArgs {
    /// It changes nothing.
    pub(crate) fn only_lists(&self) -> bool {
        matches!(self.command, EmulatorCommand::List { .. })
    }
}

/// Does what the arguments say.
pub(crate) fn run(args: &EmulatorArgs) -> Result<(), EmulatorError> {
    match &args.command {
        EmulatorCommand::Build => {
            let entry = build::cached_or_built()?;
            outln!("{} {}", entry.meta.release, entry.dir.display());
            Ok(())
        }
        EmulatorCommand::List { json } => list(*json),
        EmulatorCommand::Clean { key, .. } => clean(key.as_deref()),
    }
}

fn list(json: bool) -> Result<(), EmulatorError> {
    let (entries, current) = (cache::store()?.entries()?, source::key());
    if json {
        let row = |e: &Entry| serde_json::json!({"key": e.key, "dir": e.dir, "meta": e.meta, "current": e.key == current});
        outln!("{}", serde_json::Value::from(entries.iter().map(row).collect::<Vec<_>>()));
        return Ok(());
    }
    if entries.is_empty() {
        outln!("no emulator; build it with: cargo ktstr emulator build");
    }
    for e in entries {
        let note =
            if e.key == current { "this version of ktstr uses it" } else { "of another version of ktstr" };
        outln!("{}  QEMU {}  {note}", e.key, e.meta.release);
    }
    Ok(())
}

fn clean(wanted: Option<&str>) -> Result<(), EmulatorError> {
    let store = cache::store()?;
    let doomed: Vec<Entry> =
        store.entries()?.into_iter().filter(|e| wanted.is_none_or(|w| e.key == w)).collect();
    if let (true, Some(wanted)) = (doomed.is_empty(), wanted) {
        return Err(EmulatorError::NotFound(wanted.into()));
    }
    for entry in doomed {
        store.remove(&entry)?;
        outln!("removed {}", entry.dir.display());
    }
    if wanted.is_none() {
        store.remove_abandoned();
        let downloads = store.root.join("downloads");
        if store.remove_sources(&downloads)? {
            outln!("removed {}", downloads.display());
        }
    }
    Ok(())
}
