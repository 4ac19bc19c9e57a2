//! PEM files with one item of a certain kind (`security.md` §14.4).

use pem::{EncodeConfig, LineEnding, Pem};

use super::{Result, ToolError, files};

pub(super) const CERTIFICATE: &str = "CERTIFICATE";
pub(super) const REQUEST: &str = "CERTIFICATE REQUEST";
pub(super) const RSA_KEY: &str = "RSA PRIVATE KEY";
pub(super) const KEY: &str = "PRIVATE KEY";

/// Every kind of block a file may have.
const KNOWN: [&str; 5] = [CERTIFICATE, REQUEST, RSA_KEY, KEY, "PUBLIC KEY"];

/// Reads a file with exactly one block of one of these kinds; `what` names them in errors.
///
/// The classic node refuses blank lines behind the last block; here they do no harm.
pub(super) fn read_one(path: &str, kinds: &[&str], what: &str) -> Result<Pem> {
    let mut found = blocks(path)?.into_iter().filter(|block| kinds.contains(&block.tag()));
    match (found.next(), found.next()) {
        (None, _) => Err(ToolError::new(format!("no {what}s in file {path}"))),
        (Some(block), None) => Ok(block),
        _ => Err(ToolError::new(format!("multiple {what}s in file {path}"))),
    }
}

fn blocks(path: &str) -> Result<Vec<Pem>> {
    let bytes = files::read(path)?;
    let fault = |why: String| ToolError::new(format!("failed to decode PEM block in {path}: {why}"));
    let blocks = pem::parse_many(&bytes).map_err(|error| fault(error.to_string()))?;
    if blocks.is_empty() {
        return Err(fault("there is none".into()));
    }
    if !rest(&bytes).trim_ascii().is_empty() {
        return Err(fault("something else follows the last one".into()));
    }
    for block in &blocks {
        if !KNOWN.contains(&block.tag()) {
            return Err(ToolError::new(format!("unknown block type {} in {path}", block.tag())));
        }
        if block.headers().iter().next().is_some() {
            return Err(fault(
                "it has headers, as encrypted keys do, which are not supported".into(),
            ));
        }
    }
    Ok(blocks)
}

/// What follows the last line that ends a block.
fn rest(bytes: &[u8]) -> &[u8] {
    const END: &[u8] = b"-----END ";
    let end = bytes.windows(END.len()).rposition(|window| window == END);
    let after = &bytes[end.map_or(0, |at| at + END.len())..];
    let dashes = after.windows(5).position(|window| window == b"-----");
    &after[dashes.map_or(0, |at| at + 5)..]
}

pub(super) fn write(kind: &str, der: &[u8]) -> Vec<u8> {
    let config = EncodeConfig::new().set_line_ending(LineEnding::LF);
    pem::encode_config(&Pem::new(kind, der), config).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<u8>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let path = file.path().to_str().unwrap();
        read_one(path, &[RSA_KEY, KEY], "private key")
            .map(Pem::into_contents)
            .map_err(|error| ToolError::new(error.to_string().replace(path, "FILE")))
    }

    fn block(kind: &str, der: &[u8]) -> String {
        String::from_utf8(write(kind, der)).unwrap()
    }

    #[test]
    fn one_item_of_the_right_kind_with_text_before_it() {
        let key = block(RSA_KEY, &[7; 100]);
        assert_eq!(key.lines().map(str::len).max(), Some(64));
        assert_eq!(read(&key), Ok(vec![7; 100]));
        let cert = block(CERTIFICATE, b"c");
        for text in [
            format!("a comment\n{key}\n\n"),
            format!("{cert}{key}"),
            key.replace('\n', "\r\n"),
        ] {
            assert_eq!(read(&text), Ok(vec![7; 100]), "{text}");
        }
        for (text, error) in [
            (
                format!("{key}{}", block(KEY, b"x")),
                "multiple private keys in file FILE",
            ),
            (cert.clone(), "no private keys in file FILE"),
            (String::new(), "failed to decode PEM block in FILE: there is none"),
            (
                format!("{key}junk"),
                "failed to decode PEM block in FILE: something else follows the last one",
            ),
            (
                block("EC PRIVATE KEY", b"x"),
                "unknown block type EC PRIVATE KEY in FILE",
            ),
        ] {
            assert_eq!(read(&text), Err(ToolError::new(error)), "{text}");
        }
        for text in [
            "-----BEGIN PRIVATE KEY-----\nAAAA",
            "-----BEGIN PRIVATE KEY-----\n=?\n-----END PRIVATE KEY-----\n",
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.starts_with("failed to decode PEM block in FILE: "), "{error}");
        }
        let encrypted = key.replacen(
            "-----\n",
            "-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n",
            1,
        );
        assert!(read(&encrypted).unwrap_err().to_string().contains("not supported"));
    }
}
