//! Meshes of ours and Go nodes, each put through the same checks: the table of `docs/interop.md`.
//!
//! With `RECEPTOR_BLESS=1` the table in the page is written anew; without, it must say what was seen.

mod checks;
mod mesh;
mod table;

use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use checks::CHECKS;
use mesh::{Kind, Mesh, Plan};
use receptor_tests::live::go_node;
use table::Row;

/// Meshes at a time: most of what they do is waiting for the intervals of Go nodes.
const AT_ONCE: usize = 6;

const O: Kind = Kind::Ours;
const G: Kind = Kind::Go;

/// Every chain of two and of three that mixes both, two of four, and a ring.
const PLANS: [Plan; 11] = [
    Plan::chain(&[O, G]),
    Plan::chain(&[G, O]),
    Plan::chain(&[O, O, G]),
    Plan::chain(&[O, G, O]),
    Plan::chain(&[O, G, G]),
    Plan::chain(&[G, O, O]),
    Plan::chain(&[G, O, G]),
    Plan::chain(&[G, G, O]),
    Plan::chain(&[O, G, O, G]),
    Plan::chain(&[G, O, O, G]),
    Plan::ring(&[O, G, O, G]),
];

#[test]
fn every_mesh_of_both_kinds_does_everything() {
    let Some(go) = go_node() else { return };
    let next = Mutex::new(0);
    let rows: Mutex<Vec<(usize, Row)>> = Mutex::default();
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let index = {
                        let mut next = next.lock().expect("nobody panics with it");
                        *next += 1;
                        *next - 1
                    };
                    let Some(plan) = PLANS.get(index) else { break };
                    let row = run(plan, go);
                    rows.lock().expect("nobody panics with it").push((index, row));
                }
            });
        }
    });
    let mut rows = rows.into_inner().expect("nobody panicked with it");
    rows.sort_by_key(|&(index, _)| index);
    let rows: Vec<Row> = rows.into_iter().map(|(_, row)| row).collect();
    table::compare(&rows, go);
}

/// One mesh through all checks. What fails is a cell of the table, so that one failure does not hide the others.
fn run(plan: &Plan, go: &std::path::Path) -> Row {
    let mut mesh = Mesh::start(plan, go);
    let cells = CHECKS.map(|check| {
        let begun = Instant::now();
        let cell = (check.applies)(&mesh).then(|| (check.run)(&mut mesh));
        if let Some(outcome) = &cell {
            eprintln!("{plan}: {}: {outcome:?} after {:.1?}", check.name, begun.elapsed());
        }
        cell
    });
    for node in &mut mesh.nodes {
        node.assert_alive();
    }
    Row {
        mesh: plan.to_string(),
        cells: cells.into(),
    }
}
