//! Steady control traffic per link, in meshes of growing size: `docs/performance.md`.
//!
//! ```text
//! cargo run --release -p receptor-tests --example control_traffic [NODES ...]
//! ```

use receptor_tests::mixed::steady_traffic;

/// A period of advertisements, which holds six of routing updates.
const SECONDS: u64 = 60;

fn main() {
    let sizes: Vec<usize> = std::env::args().skip(1).filter_map(|arg| arg.parse().ok()).collect();
    println!("| nodes | links | ours: frames | ours: bytes | classic: frames | classic: bytes |");
    println!("|---|---|---|---|---|---|");
    for nodes in if sizes.is_empty() { vec![10, 100, 1000] } else { sizes } {
        let ours = steady_traffic(nodes, false, SECONDS);
        let classic = steady_traffic(nodes, true, SECONDS);
        println!(
            "| {nodes} | {} | {:.2} | {:.1} | {:.1} | {:.0} |",
            ours.links, ours.frames, ours.bytes, classic.frames, classic.bytes
        );
    }
}
