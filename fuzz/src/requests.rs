//! Requests for certificates, through the tool that signs them.

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

use jiff::Timestamp;
use receptor_cli::certificates::{self, Init, MakeRequest, Names, RequestKey, SignRequest, Terminal, Tool};
use receptor_core::tls::node_ids;

use crate::source::Source;

/// A directory with an authority and a request.
struct Office {
    dir: PathBuf,
    request: Vec<u8>,
}

impl Office {
    fn path(&self, name: &str) -> String {
        self.dir.join(name).to_str().expect("text").to_owned()
    }
}

fn run(tool: &Tool) -> Result<Vec<u8>, certificates::ToolError> {
    let mut output = Vec::new();
    let mut terminal = Terminal {
        input: &mut &b"yes\n"[..],
        output: &mut output,
    };
    let now = Timestamp::from_second(1_782_000_000).expect("a time");
    certificates::run(tool, now, &mut terminal).map(|()| output)
}

fn office() -> &'static Office {
    static OFFICE: OnceLock<Office> = OnceLock::new();
    OFFICE.get_or_init(|| {
        let dir = std::env::temp_dir().join(format!("receptor-fuzz-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory");
        let mut office = Office {
            dir,
            request: Vec::new(),
        };
        run(&Tool::Init(Init {
            common_name: "mesh".into(),
            bits: 2048,
            validity: Default::default(),
            out_cert: office.path("ca.crt"),
            out_key: office.path("ca.key"),
        }))
        .expect("an authority");
        run(&Tool::MakeRequest(MakeRequest {
            common_name: "node".into(),
            names: Names {
                dns: vec!["hub".into()],
                ips: vec!["127.0.0.1".parse().expect("an address")],
                nodes: vec!["peer".into()],
            },
            key: RequestKey::New {
                bits: 2048,
                out_key: office.path("req.key"),
            },
            out_request: office.path("req"),
        }))
        .expect("a request");
        office.request = fs::read(office.path("req")).expect("a request");
        office
    })
}

/// A request to be signed: that of a node with changes, or the input. What is signed was shown, names and all.
pub fn requests(input: &[u8]) {
    let office = office();
    let mut source = Source::new(input);
    let request = match source.byte() % 3 {
        0 => input[1.min(input.len())..].to_vec(),
        1 => changed(&office.request, &mut source),
        _ => pem_of(&changed(&der_of(&office.request), &mut source)),
    };
    fs::write(office.path("in"), &request).expect("a file");
    let _ = fs::remove_file(office.path("out"));
    let signed = run(&Tool::SignRequest(SignRequest {
        request: office.path("in"),
        ca_cert: office.path("ca.crt"),
        ca_key: office.path("ca.key"),
        validity: Default::default(),
        out_cert: office.path("out"),
        is_verified: false,
    }));
    match signed {
        Ok(shown) => {
            let shown = String::from_utf8(shown).expect("text");
            let der = der_of(&fs::read(office.path("out")).expect("a certificate"));
            for node in node_ids(&der).expect("names") {
                assert!(shown.contains(&format!("Receptor Node ID: {node}")), "{node}: {shown}");
            }
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            assert!(!PathBuf::from(office.path("out")).exists(), "{error}");
        }
    }
}

fn changed(bytes: &[u8], source: &mut Source<'_>) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..source.below(5) {
        let at = source.number() as usize % (bytes.len() + 1);
        let end = (at + source.below(64)).min(bytes.len());
        let new = source.bytes();
        bytes.splice(at..end, new.iter().copied());
    }
    bytes
}

fn der_of(pem: &[u8]) -> Vec<u8> {
    use rustls::pki_types::pem::{PemObject as _, SectionKind};
    let section = <(SectionKind, Vec<u8>)>::from_pem_slice(pem);
    section.expect("a block").1
}

/// In one block, with a line for each 48 bytes.
fn pem_of(der: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = b"-----BEGIN CERTIFICATE REQUEST-----\n".to_vec();
    for line in der.chunks(48) {
        for three in line.chunks(3) {
            let bits = three.iter().fold(0_u32, |bits, &byte| bits << 8 | u32::from(byte)) << (8 * (3 - three.len()));
            for digit in 0..4 {
                let is_there = digit <= three.len();
                let value = bits >> (18 - 6 * digit) & 63;
                text.push(if is_there { DIGITS[value as usize] } else { b'=' });
            }
        }
        text.push(b'\n');
    }
    text.extend_from_slice(b"-----END CERTIFICATE REQUEST-----\n");
    text
}
