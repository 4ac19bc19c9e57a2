//! The unit runner as a program of its own.

fn main() {}
