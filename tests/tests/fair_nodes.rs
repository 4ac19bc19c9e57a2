//! Streams through whole nodes, whose own queues share a slow link.

use bytes::Bytes;
use receptor_core::time::Duration;
use receptor_tests::line::Line;

#[test]
fn sixty_four_streams_share_a_hop_within_a_fifth() {
    const STREAMS: usize = 64;
    const PIECE: usize = 16 << 10;
    /// 320 Mbit/s.
    const BYTES_PER_MS: usize = 40_000;
    const SECONDS: u32 = 3;
    let data = Bytes::from(vec![7; PIECE]);
    let mut line = Line::new();
    let streams: Vec<_> = (0..STREAMS).map(|_| line.dial()).collect();
    for end in 0..2 * STREAMS {
        line.secured(end);
    }
    line.limit(BYTES_PER_MS);
    let run = |line: &mut Line, seconds: u32| {
        for _ in 0..seconds * 1_000 {
            for &stream in &streams {
                while line.ends[stream].credit >= PIECE {
                    line.send(stream, data.clone());
                }
            }
            line.pass(Duration::from_millis(1));
        }
        let received = streams.iter().map(|stream| line.ends[stream + 1].received);
        received.collect::<Vec<_>>()
    };
    let before = run(&mut line, 2);
    let after = run(&mut line, SECONDS);
    let shares: Vec<_> = after.iter().zip(before).map(|(after, before)| after - before).collect();
    let (least, most) = (shares.iter().min().expect("64"), shares.iter().max().expect("64"));
    let total: u64 = shares.iter().sum();
    println!("{STREAMS} streams through whole nodes: {least} to {most} bytes, {total} in all");
    assert!(least * 100 >= most * 80, "{least} to {most}");
    // And they use it.
    let link = u64::from(SECONDS) * 1_000 * BYTES_PER_MS as u64;
    assert!(total * 100 >= link * 85, "{total} of {link}");
}
