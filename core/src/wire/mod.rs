//! Bytes ↔ values, without state or time.
