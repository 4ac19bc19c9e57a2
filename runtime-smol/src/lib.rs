//! Runs a receptor-core node on the smol crates (placeholder).
