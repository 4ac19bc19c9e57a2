//! Two streams against each other, under virtual time.

mod chaos;
mod machine;
mod net;
mod recovery;
mod table;
