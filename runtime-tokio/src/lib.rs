//! Runs a receptor-core node on tokio: sockets, timers, processes, files, and an async API.
