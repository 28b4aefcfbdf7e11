//! Declarations of schedulers that are wrong.

use ktstr::declare_scheduler;

declare_scheduler!(NO_BINARY, { name = "s" });
declare_scheduler!(NO_NAME, { binary = "s" });
declare_scheduler!(UNKNOWN_FIELD, { name = "s", path = "p" });
declare_scheduler!({ name = "s", binary = "s" });

fn main() {}
