//! The guest agent and its BPF probes.
