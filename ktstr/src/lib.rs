//! What a scheduler test imports.
