//! Steady control traffic per link, in meshes of growing size: `docs/performance.md`.
//!
//! ```text
//! cargo run --release -p receptor-tests --example control_traffic [NODES ...]
//! ```
//!
//! Meshes of classic nodes are played up to [`PLAYED`] nodes. Beyond, where a minute has millions of frames, the figure is
//! computed and marked with `~`: every node's message crosses `2 L - N + 1` links of the `L` that `N` nodes have.

use receptor_tests::mixed::{Traffic, steady_traffic};

/// A period of advertisements, which holds six of routing updates.
const SECONDS: u64 = 60;

/// Most classic nodes that are played.
const PLAYED: usize = 150;

fn main() {
    let sizes: Vec<usize> = std::env::args().skip(1).filter_map(|arg| arg.parse().ok()).collect();
    println!("| nodes | links | ours: frames | ours: bytes | classic: frames | classic: bytes |");
    println!("|---|---|---|---|---|---|");
    for nodes in if sizes.is_empty() { vec![10, 100, 1000] } else { sizes } {
        let ours = steady_traffic(nodes, false, SECONDS);
        let (mark, classic) = if nodes <= PLAYED {
            ("", steady_traffic(nodes, true, SECONDS))
        } else {
            ("~", computed(nodes, ours.links))
        };
        println!(
            "| {nodes} | {} | {:.2} | {:.1} | {mark}{:.1} | {mark}{:.0} |",
            ours.links, ours.frames, ours.bytes, classic.frames, classic.bytes
        );
    }
}

/// An update per node every ten seconds and an advertisement every sixty, as large as those of a hundred nodes.
fn computed(nodes: usize, links: usize) -> Traffic {
    let played = steady_traffic(100, true, SECONDS);
    let crossings = (2 * links - nodes + 1) as f64 / links as f64;
    let frames = crossings * nodes as f64 * (0.1 + 1.0 / 60.0);
    Traffic {
        links,
        frames,
        bytes: frames * played.bytes / played.frames,
    }
}
