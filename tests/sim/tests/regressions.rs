//! Plans that have found something once.

use std::fs;
use std::path::Path;

use receptor_sim::plan::Plan;
use receptor_sim::run::run;

#[test]
fn what_was_found_once_stays_mended() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
    let mut count = 0;
    for entry in fs::read_dir(&dir).expect("the plans are there") {
        let path = entry.expect("a file").path();
        let text = fs::read_to_string(&path).expect("text");
        let plan: Plan = text
            .parse()
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        if let Err(failure) = run(&plan, None) {
            panic!(
                "{}: at {:?}: {}\n{}",
                path.display(),
                failure.at,
                failure.violation,
                failure.tail
            );
        }
        count += 1;
    }
    assert!(count > 0, "no plans in {}", dir.display());
}
