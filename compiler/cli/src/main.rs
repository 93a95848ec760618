//! The heron command.
fn main() {}
