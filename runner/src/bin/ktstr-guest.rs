//! The guest agent, `/init` of every guest.

fn main() {
    ktstr_guest::main()
}
