//! Two streams against each other, under virtual time.

mod chaos;
mod machine;
mod net;
mod peers;
mod recovery;
mod table;
