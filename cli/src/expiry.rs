//! How long certificates are still valid: looked at by `check`, at the start, and once a day while a node runs.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
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

/// Logs what is not in order with the certificates in force: at once, every day, and when they may have changed. Files are read
/// anew each time, in a thread of its own, which there is none of without files.
#[derive(Debug)]
pub struct ExpiryWatch(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    told: fn(&Finding),
}

#[derive(Default, Debug)]
struct State {
    tls: TlsFiles,
    /// Counts the reasons to look.
    reasons: u64,
    has_thread: bool,
    has_ended: bool,
}

impl ExpiryWatch {
    /// With the files that are in force from the start.
    pub fn new(tls: &TlsFiles) -> Self {
        Self::with(tls, log)
    }

    fn with(tls: &TlsFiles, told: fn(&Finding)) -> Self {
        let this = Self(Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            told,
        }));
        this.set(tls);
        this
    }

    /// Looks at these files from now on, and at once if they are others than before.
    pub fn set(&self, tls: &TlsFiles) {
        let mut state = self.0.lock();
        if state.tls == *tls {
            return;
        }
        state.tls = tls.clone();
        self.look(state);
    }

    /// Looks at once: what is in the files has changed.
    pub fn again(&self) {
        self.look(self.0.lock());
    }

    fn look(&self, mut state: MutexGuard<'_, State>) {
        state.reasons += 1;
        self.0.changed.notify_all();
        if state.has_thread || state.tls.files().next().is_none() {
            return;
        }
        let shared = Arc::clone(&self.0);
        match thread::Builder::new().name("expiry".into()).spawn(move || shared.run()) {
            Ok(_) => state.has_thread = true,
            Err(error) => tracing::warn!("certificates will not be watched for their end: {error}"),
        }
    }
}

impl Drop for ExpiryWatch {
    fn drop(&mut self) {
        self.0.lock().has_ended = true;
        self.0.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let day = Duration::from_secs(DAY_SECONDS.unsigned_abs());
        loop {
            let (tls, reasons) = {
                let state = self.lock();
                (state.tls.clone(), state.reasons)
            };
            look(&tls, Timestamp::now()).iter().for_each(self.told);
            let state = self.lock();
            let is_quiet = |state: &mut State| state.reasons == reasons && !state.has_ended;
            let waited = self.changed.wait_timeout_while(state, day, is_quiet);
            if waited.unwrap_or_else(PoisonError::into_inner).0.has_ended {
                return;
            }
        }
    }
}

fn log(finding: &Finding) {
    match finding.severity {
        Severity::Ok => {}
        Severity::Warning => tracing::warn!("{}: {}", finding.subject, finding.text),
        Severity::Error => tracing::error!("{}: {}", finding.subject, finding.text),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use receptor_host::tls_files::TlsClient;

    /// What was told, one text after the other.
    static TOLD: Mutex<Option<mpsc::Sender<String>>> = Mutex::new(None);

    fn tell(finding: &Finding) {
        if let Some(told) = &*TOLD.lock().unwrap() {
            let _ = told.send(finding.subject.clone());
        }
    }

    fn of(path: &str) -> TlsFiles {
        TlsFiles {
            clients: vec![TlsClient {
                root_cas: path.into(),
                ..TlsClient::default()
            }],
            ..TlsFiles::default()
        }
    }

    #[test]
    fn the_files_in_force_are_looked_at_whenever_they_may_have_changed() {
        const PATIENCE: Duration = Duration::from_secs(60);
        let dir = tempfile::tempdir().unwrap();
        let [one, two] = ["one", "two"].map(|name| dir.path().join(name).to_str().unwrap().to_owned());
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::default().self_signed(&key).unwrap();
        for file in [&one, &two] {
            std::fs::write(file, certificate.pem()).unwrap();
        }
        let (told, tellings) = mpsc::channel();
        *TOLD.lock().unwrap() = Some(told);
        let next = || tellings.recv_timeout(PATIENCE).unwrap();
        let watch = ExpiryWatch::with(&TlsFiles::default(), tell);
        assert!(!watch.0.lock().has_thread, "a thread for nothing");
        watch.set(&of(&one));
        assert_eq!(next(), format!("certificate {one}"));
        watch.set(&of(&one));
        watch.set(&of(&two));
        assert_eq!(next(), format!("certificate {two}"));
        watch.again();
        assert_eq!(next(), format!("certificate {two}"));
        drop(watch);
        *TOLD.lock().unwrap() = None;
        assert!(tellings.recv_timeout(PATIENCE).is_err(), "told once too often");
    }
}
