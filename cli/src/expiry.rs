//! How long certificates are still valid: looked at by `check`, at the start, and once a day while a node runs.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use receptor_core::tls::node_ids;
use receptor_host::error_text::os_text;
use receptor_host::tls_files::TlsFiles;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use crate::check::{Finding, Severity};

/// From so many days before its end on a certificate is warned about.
pub const WARN_DAYS: i64 = 30;

/// Most bytes of a file that are looked at, as where it is used.
const FILE_MAX: u64 = 1 << 20;

const DAY_SECONDS: i64 = 24 * 3600;

/// The certificates in a file, in DER.
///
/// # Errors
/// It cannot be read, or is no PEM file.
pub fn certificates(path: &str) -> Result<Vec<Vec<u8>>, String> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(FILE_MAX).read_to_end(&mut bytes));
    read.map_err(|error| format!("open {path}: {}", os_text(&error)))?;
    let blocks = pem::parse_many(&bytes).map_err(|error| format!("{path}: {error}"))?;
    let certificates = blocks.into_iter().filter(|block| block.tag() == "CERTIFICATE");
    Ok(certificates.map(pem::Pem::into_contents).collect())
}

/// Looks at every certificate of these configs. What cannot be read is left to who reads it.
pub fn look(tls: &TlsFiles, now: Timestamp) -> Vec<Finding> {
    let own = tls.servers.iter().map(|server| &server.cert);
    let own: BTreeSet<&str> = own
        .chain(tls.clients.iter().map(|client| &client.cert))
        .map(String::as_str)
        .collect();
    let authorities = tls.servers.iter().map(|server| &server.client_cas);
    let authorities: BTreeSet<&str> = authorities
        .chain(tls.clients.iter().map(|client| &client.root_cas))
        .map(String::as_str)
        .collect();
    let mut findings = Vec::new();
    for (files, is_own) in [(own, true), (authorities, false)] {
        for path in files.into_iter().filter(|path| !path.is_empty()) {
            for (number, der) in certificates(path).unwrap_or_default().iter().enumerate() {
                // Of an own chain every part is needed; of several authorities one that has ended may be a relic.
                findings.extend(judge(path, number, der, is_own, now));
            }
        }
    }
    findings
}

fn judge(path: &str, number: usize, der: &[u8], is_own: bool, now: Timestamp) -> Option<Finding> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let day = |seconds: i64| Timestamp::from_second(seconds).map_or_else(|_| "never".into(), |at| at.to_string());
    let valid = certificate.validity();
    let (from, to) = (valid.not_before.timestamp(), valid.not_after.timestamp());
    let mut who = certificate.subject().to_string();
    let nodes = node_ids(der).unwrap_or_default();
    if !nodes.is_empty() {
        who = format!("{who}, node {}", nodes.join(", "));
    }
    let subject = match number {
        0 => format!("certificate {path}"),
        _ => format!("certificate {} of {path}", number + 1),
    };
    let left = to.saturating_sub(now.as_second());
    let bad = |text: String| match is_own {
        true => Finding::error(&subject, text),
        false => Finding::warning(&subject, text),
    };
    Some(if left < 0 {
        bad(format!("{who}: expired at {}", day(to)))
    } else if from > now.as_second() {
        bad(format!("{who}: not valid before {}", day(from)))
    } else if left < WARN_DAYS * DAY_SECONDS {
        Finding::warning(
            &subject,
            format!("{who}: expires in {} days, at {}", left / DAY_SECONDS, day(to)),
        )
    } else {
        Finding::ok(&subject, format!("{who}: valid until {}", day(to)))
    })
}

/// Logs what is not in order, now and every day from now on, in a thread of its own. Files are read anew each time.
pub fn watch(tls: &TlsFiles) {
    if tls.files().next().is_none() {
        return;
    }
    let tls = tls.clone();
    let look_daily = move || loop {
        for finding in look(&tls, Timestamp::now()) {
            match finding.severity {
                Severity::Ok => {}
                Severity::Warning => tracing::warn!("{}: {}", finding.subject, finding.text),
                Severity::Error => tracing::error!("{}: {}", finding.subject, finding.text),
            }
        }
        thread::sleep(Duration::from_secs(DAY_SECONDS.unsigned_abs()));
    };
    if let Err(error) = thread::Builder::new().name("expiry".into()).spawn(look_daily) {
        tracing::warn!("certificates will not be watched for their end: {error}");
    }
}
