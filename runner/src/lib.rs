//! The command line of ktstr as a library.
