//! Runs what is committed through every target, without libFuzzer: `cargo test --no-default-features`.

use std::fs;
use std::path::{Path, PathBuf};

use receptor_core::rng::Rng;
use receptor_fuzz::{MACHINES, PARSERS, targets};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// All files below a folder, in a fixed order.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            found.extend(files(&path))
        } else {
            found.push(path)
        }
    }
    found.sort();
    found
}

/// The bytes of a golden vector: hex digits, comments from `#` to the end of the line.
fn vector(path: &Path) -> Vec<u8> {
    let text = fs::read_to_string(path).expect("a readable vector");
    let digits: Vec<u32> = text
        .lines()
        .flat_map(|line| line.split('#').next().unwrap_or_default().chars())
        .filter_map(|c| c.to_digit(16))
        .collect();
    digits
        .chunks_exact(2)
        .map(|pair| (pair[0] << 4 | pair[1]) as u8)
        .collect()
}

#[test]
fn every_target_takes_its_corpus() {
    for (name, target) in targets() {
        let corpus = files(&folder("corpus").join(name));
        assert!(!corpus.is_empty(), "{name} has no corpus");
        for path in corpus {
            println!("{name} {}", path.display());
            target(&fs::read(&path).expect("a readable corpus file"));
        }
    }
}

#[test]
fn every_parser_takes_all_vectors_whole_cut_short_and_damaged() {
    let paths = files(&folder("../tests/vectors"));
    let vectors: Vec<_> = paths
        .iter()
        .filter(|path| path.extension().is_some_and(|e| e == "hex"))
        .collect();
    assert!(!vectors.is_empty());
    for path in vectors {
        let bytes = vector(path);
        for (name, target) in PARSERS {
            println!("{name} {}", path.display());
            for len in 0..=bytes.len() {
                target(&bytes[..len]);
            }
            for at in 0..bytes.len() {
                for bit in [0x01, 0x20, 0x80] {
                    let mut damaged = bytes.clone();
                    damaged[at] ^= bit;
                    target(&damaged);
                }
            }
        }
    }
}

/// A little of what a fuzzer does, the same in every run: noise, and corpus files with bytes changed.
#[test]
fn every_machine_takes_new_input() {
    const ROUNDS: usize = 200;
    for (name, target) in MACHINES {
        let corpus: Vec<_> = files(&folder("corpus").join(name))
            .iter()
            .map(|path| fs::read(path).expect("a readable corpus file"))
            .collect();
        let mut rng = Rng::from_seed([9; 32]);
        for round in 0..ROUNDS {
            let mut input = match rng.below(corpus.len() as u64 + 1).checked_sub(1) {
                Some(at) => corpus[at as usize].clone(),
                None => (0..rng.below(500)).map(|_| rng.next_u64() as u8).collect(),
            };
            for _ in 0..rng.below(8).min(input.len() as u64) {
                let at = rng.below(input.len() as u64) as usize;
                input[at] = rng.next_u64() as u8;
            }
            println!("{name} round {round}: {input:?}");
            target(&input);
        }
    }
}

#[test]
fn every_target_has_a_binary() {
    let manifest = fs::read_to_string(folder("Cargo.toml")).expect("the manifest");
    let binaries = manifest.lines().filter(|line| *line == "[[bin]]").count();
    assert_eq!(binaries, targets().count());
    for (name, _) in targets() {
        assert!(
            manifest.contains(&format!("name = \"{name}\"")),
            "{name} is not in Cargo.toml"
        );
        assert!(
            folder("fuzz_targets").join(name).with_extension("rs").is_file(),
            "{name} has no file"
        );
    }
}
