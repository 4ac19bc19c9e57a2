//! The unit runner: a small process that outlives the daemon and owns one unit's command.
