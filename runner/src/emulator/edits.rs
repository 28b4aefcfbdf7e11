//! Changes to files of QEMU: each text to find stands exactly once in its file.

use std::fs;
use std::path::Path;

use serde::Deserialize;

use crate::emulator::error::EmulatorError;
use crate::store::error::file_error;

/// One change.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Edit {
    /// The file, below QEMU's source.
    pub file: String,
    /// The text that finds the place.
    pub find: String,
    /// What stands there afterwards.
    pub replace: String,
    /// What it is for.
    pub why: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Edits {
    edit: Vec<Edit>,
}

/// The edits in a text of `[[edit]]` tables.
pub(crate) fn parse(text: &str) -> Result<Vec<Edit>, EmulatorError> {
    let edits: Edits = toml::from_str(text).map_err(|e| EmulatorError::Edits(e.to_string()))?;
    Ok(edits.edit)
}

impl Edit {
    /// The changed text.
    fn applied(&self, text: &str) -> Result<String, EmulatorError> {
        match text.matches(&self.find).count() {
            1 => Ok(text.replacen(&self.find, &self.replace, 1)),
            times => Err(EmulatorError::Edit { file: self.file.clone(), why: self.why.clone(), times }),
        }
    }
}

/// Changes the files below `source`.
pub(crate) fn apply(edits: &[Edit], source: &Path) -> Result<(), EmulatorError> {
    for edit in edits {
        let path = source.join(&edit.file);
        let text = fs::read_to_string(&path).map_err(file_error(&path))?;
        fs::write(&path, edit.applied(&text)?).map_err(file_error(&path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emulator::source::EDITS;

    #[test]
    fn edit_applies_only_where_its_text_stands_once() {
        let edit = |find: &str| Edit {
            file: "a.c".into(),
            find: find.into(),
            replace: "X".into(),
            why: "to see".into(),
        };
        assert_eq!(edit("b").applied("abc").unwrap(), "aXc");
        for (find, times) in [("d", "0 times"), ("a", "2 times")] {
            let error = edit(find).applied("aba").unwrap_err().to_string();
            assert!(error.contains(times) && error.contains("a.c"), "{error}");
        }
    }

    #[test]
    fn edits_of_this_version_are_well_formed_and_give_their_reasons() {
        let edits = parse(EDITS).unwrap();
        assert!(edits.len() > 10);
        assert!(edits.iter().all(|e| !e.why.is_empty() && e.find != e.replace && !e.find.is_empty()));
        assert!(parse("[[edit]]\nfile = \"a\"").is_err());
    }
}
