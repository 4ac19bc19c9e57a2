//! Simulator, conformance suite, real-peer and real-client tests.
pub mod live;
