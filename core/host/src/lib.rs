//! Blocking host pieces shared by the runtime adapters: unit store, unit runner, process identity, socket files.
