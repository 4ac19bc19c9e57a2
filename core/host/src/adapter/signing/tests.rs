use std::fs;
use std::path::{Path, PathBuf};

use jsonwebtoken::{Header, encode};
use serde_json::json;

use super::*;

/// Made with OpenSSL from the key beside it.
const TOKEN: &str = include_str!("keys/token.jwt");

const CLAIMS: &str = r#"{"aud":["exec"],"exp":1700000300}"#;

fn key(name: &str) -> String {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/adapter/signing/keys");
    dir.join(name).to_str().unwrap().to_owned()
}

fn made(result: TaskResult) -> String {
    match result {
        TaskResult::Signed(token) => token,
        other => panic!("{other:?}"),
    }
}

fn seen(token: &str) -> Result<String, String> {
    match verify_token(&key("public.pem"), token) {
        TaskResult::Verified(result) => result,
        other => panic!("{other:?}"),
    }
}

fn failure(result: TaskResult) -> String {
    match result {
        TaskResult::Failed(text) => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_token_is_what_others_make_of_the_same_key_and_claims() {
    for file in ["private-pkcs1.pem", "private-pkcs8.pem"] {
        assert_eq!(made(sign_token(&key(file), CLAIMS)), TOKEN);
    }
    assert_eq!(seen(TOKEN).unwrap(), CLAIMS);
}

#[test]
fn every_rsa_algorithm_is_verified_and_no_other() {
    let pem = fs::read(key("private-pkcs1.pem")).unwrap();
    let private = EncodingKey::from_rsa_pem(&pem).unwrap();
    for algorithm in ALGORITHMS {
        let token = encode(&Header::new(algorithm), &json!({"aud": "x"}), &private).unwrap();
        assert_eq!(seen(&token).unwrap(), r#"{"aud":"x"}"#);
    }
    // The public key as a shared secret: the oldest trick.
    let public = fs::read(key("public.pem")).unwrap();
    let shared = EncodingKey::from_secret(&public);
    for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
        let token = encode(&Header::new(algorithm), &json!({"aud": "x"}), &shared).unwrap();
        assert_eq!(seen(&token).unwrap_err(), "key is of invalid type");
    }
    let encoded = |text: &str| BASE64URL_NOPAD.encode(text.as_bytes());
    for header in [r#"{"alg":"none"}"#, r#"{"alg":"None","typ":"JWT"}"#, "{}", "[]", "x"] {
        let token = format!("{}.{}.", encoded(header), encoded(CLAIMS));
        assert!(seen(&token).is_err(), "{header}");
    }
}

#[test]
fn what_is_not_signed_is_refused_in_the_classic_words() {
    let (message, signature) = TOKEN.rsplit_once('.').unwrap();
    let (header, _) = message.split_once('.').unwrap();
    let other = BASE64URL_NOPAD.encode(br#"{"aud":["other"],"exp":1700000300}"#);
    assert_eq!(
        seen(&format!("{header}.{other}.{signature}")).unwrap_err(),
        "crypto/rsa: verification error"
    );
    assert_eq!(
        seen(&format!("{message}.")).unwrap_err(),
        "crypto/rsa: verification error"
    );
    for bad in ["", "a", "a.b", "....", "\u{e9}.\u{e9}.\u{e9}"] {
        assert!(seen(bad).is_err(), "{bad}");
    }
    assert_eq!(
        seen("junk").unwrap_err(),
        "token contains an invalid number of segments"
    );
}

#[test]
fn what_is_wrong_with_a_key_file_is_said_with_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &[u8]| {
        let path: PathBuf = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let missing = dir.path().join("nothing").to_str().unwrap().to_owned();
    assert_eq!(
        failure(sign_token(&missing, "{}")),
        format!("open {missing}: no such file or directory")
    );
    assert_eq!(
        failure(verify_token(&missing, TOKEN)),
        format!("open {missing}: no such file or directory")
    );
    let directory = dir.path().to_str().unwrap();
    assert_eq!(
        failure(sign_token(directory, "{}")),
        format!("read {directory}: is a directory")
    );
    let junk = file("junk", b"\xff\x00");
    assert_eq!(
        failure(sign_token(&junk, "{}")),
        format!("no private keys in file {junk}")
    );
    // The wrong half of a pair.
    let (private, public) = (key("private-pkcs1.pem"), key("public.pem"));
    assert_eq!(
        failure(sign_token(&public, "{}")),
        format!("no private keys in file {public}")
    );
    assert_eq!(
        failure(verify_token(&private, TOKEN)),
        format!("no public keys in file {private}")
    );
    let pem = fs::read(&public).unwrap();
    let two = file("two", &[pem.as_slice(), &pem].concat());
    assert_eq!(
        failure(verify_token(&two, TOKEN)),
        format!("multiple keys in file {two}")
    );
    let blank = file("blank", &[pem.as_slice(), b"\n\n"].concat());
    assert!(matches!(verify_token(&blank, TOKEN), TaskResult::Verified(Ok(_))));
    let large = file("large", &vec![b'\n'; MAX_FILE + 1]);
    assert_eq!(
        failure(verify_token(&large, TOKEN)),
        format!("{large}: larger than 65536 bytes")
    );
    let hollow = file(
        "hollow",
        b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
    );
    assert!(failure(verify_token(&hollow, TOKEN)).starts_with(&format!("{hollow}: no usable RSA public key")));
    let small = key("small-public.pem");
    assert_eq!(
        failure(verify_token(&small, TOKEN)),
        format!("{small}: the RSA key is shorter than 2048 bits")
    );
    let small = key("small.pem");
    assert!(failure(sign_token(&small, "{}")).starts_with(&format!("{small}: no usable RSA private key")));
    assert!(check_private_key(&private).is_ok() && check_public_key(&public).is_ok());
}
