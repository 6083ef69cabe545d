//! The server's certificate and its key: read from their files at the start, and again while the gateway runs, without
//! an effect on connections that there are. Read by the shards; exchanged by a thread of its own and by SIGHUP.
//!
//! A key that is exchanged may have been stolen, so a new certificate also ends what the old one's tickets are good
//! for: each has ticket keys of its own.

use std::fmt;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{InconsistentKeys, ServerConfig};

use super::validity::validity;
use crate::config::{self, ConfigError};
use crate::context::wall_ns;
use crate::metrics::{Counter, ThreadMetrics};

const CERTIFICATE_KEY: &str = "server.tls.certificate_file";
const KEY_KEY: &str = "server.tls.key_file";

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(2);

/// Tickets with which a client may resume, for each handshake: it is to use each once.
const TICKETS: usize = 1;

/// Why certificate and key cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", .file.display())]
pub(crate) struct CertificateError {
    /// The key of the configuration that names the file.
    key: &'static str,
    file: PathBuf,
    problem: Problem,
}

#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    #[error("is no PEM file: {0}")]
    NotPem(pem::Error),
    #[error("holds no certificate")]
    NoCertificate,
    #[error("the first certificate in it cannot be used: {0}")]
    BadCertificate(rustls::Error),
    #[error("holds no private key")]
    NoKey,
    #[error("the key in it is encrypted: it must not be")]
    EncryptedKey,
    #[error("the key in it cannot be used: {0}")]
    BadKey(rustls::Error),
    #[error("the key in it does not belong to the certificate in {}", .0.display())]
    Mismatch(PathBuf),
    #[error("no TLS can be made of it: {0}")]
    Tls(rustls::Error),
}

impl From<CertificateError> for ConfigError {
    fn from(error: CertificateError) -> ConfigError {
        ConfigError::of(error.key, &error)
    }
}

/// What tells one version of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    device: u64,
    inode: u64,
    bytes: u64,
    /// Seconds and ns.
    modified: (i64, i64),
}

impl Version {
    fn of(file: &Path) -> Option<Version> {
        fs::metadata(file).ok().as_ref().map(Version::from)
    }
}

impl From<&Metadata> for Version {
    fn from(of: &Metadata) -> Version {
        Version { device: of.dev(), inode: of.ino(), bytes: of.len(), modified: (of.mtime(), of.mtime_nsec()) }
    }
}

/// The certificate that handshakes use.
pub(crate) struct Certificates {
    files: Files,
    current: ArcSwap<ServerConfig>,
    /// The versions of both files that were last tried, good or not. Also keeps two from reading at a time.
    tried: Mutex<[Option<Version>; 2]>,
}

#[derive(Clone, Debug)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

impl Certificates {
    /// Reads both files. `None` where the configuration names none.
    ///
    /// # Errors
    /// [`CertificateError`] names the key of the configuration, the file and what is wrong with it.
    pub(crate) fn open(tls: &config::Tls) -> Result<Option<Certificates>, CertificateError> {
        let (Some(certificate), Some(key)) = (&tls.certificate_file, &tls.key_file) else { return Ok(None) };
        let files = Files { certificate: certificate.clone(), key: key.clone() };
        // Before the files are read: a change in between is seen at the next look.
        let tried = Mutex::new(files.versions());
        let current = ArcSwap::new(files.read()?);
        Ok(Some(Certificates { files, current, tried }))
    }

    /// What a new connection shakes hands with.
    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }

    /// Reads the files again. Connections that there are go on; where the files are not good, so does the old
    /// certificate.
    pub(crate) fn reload(&self, metrics: &ThreadMetrics) {
        let mut tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        *tried = self.files.versions();
        match self.files.read() {
            Ok(config) => {
                self.current.store(config);
                metrics.add(Counter::CertificatesReloaded, 1);
                tracing::info!(certificate = %self.files.certificate.display(), "certificate reloaded");
            }
            Err(error) => {
                metrics.add(Counter::CertificatesNotReloaded, 1);
                tracing::error!(%error, "certificate not reloaded: the old one stays");
            }
        }
    }

    /// Reads the files again if one of them is another than the last time.
    fn look(&self, metrics: &ThreadMetrics) {
        let changed = *self.tried.lock().unwrap_or_else(PoisonError::into_inner) != self.files.versions();
        if changed {
            self.reload(metrics);
        }
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Certificates").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Files {
    fn versions(&self) -> [Option<Version>; 2] {
        [Version::of(&self.certificate), Version::of(&self.key)]
    }

    fn read(&self) -> Result<Arc<ServerConfig>, CertificateError> {
        let chain = self.chain()?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let private = self.private_key()?;
        self.warn_of_times(&chain[0]);
        let config = server_config(provider, chain, private).map_err(|error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                self.bad_key(Problem::Mismatch(self.certificate.clone()))
            }
            error @ rustls::Error::InvalidCertificate(_) => self.bad_certificate(Problem::BadCertificate(error)),
            error @ rustls::Error::General(_) => self.bad_key(Problem::BadKey(error)),
            error => self.bad_certificate(Problem::Tls(error)),
        })?;
        Ok(Arc::new(config))
    }

    /// At least one certificate.
    fn chain(&self) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
        let text = fs::read(&self.certificate).map_err(|error| self.bad_certificate(Problem::Unreadable(error)))?;
        let chain: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&text).collect();
        let chain = chain.map_err(|error| self.bad_certificate(Problem::NotPem(error)))?;
        if chain.is_empty() { Err(self.bad_certificate(Problem::NoCertificate)) } else { Ok(chain) }
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>, CertificateError> {
        let text = fs::read(&self.key).map_err(|error| self.bad_key(Problem::Unreadable(error)))?;
        PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
            let is_encrypted = text.windows(9).any(|part| part == b"ENCRYPTED");
            self.bad_key(match error {
                // PKCS#8 has a label of its own for it, older files a header.
                _ if is_encrypted => Problem::EncryptedKey,
                pem::Error::NoItemsFound => Problem::NoKey,
                error => Problem::NotPem(error),
            })
        })
    }

    fn bad_certificate(&self, problem: Problem) -> CertificateError {
        CertificateError { key: CERTIFICATE_KEY, file: self.certificate.clone(), problem }
    }

    fn bad_key(&self, problem: Problem) -> CertificateError {
        CertificateError { key: KEY_KEY, file: self.key.clone(), problem }
    }

    /// A certificate out of its time is used all the same: some clients may not look, and none is better off without.
    fn warn_of_times(&self, certificate: &[u8]) {
        let file = self.certificate.display();
        let now = wall_ns().div_euclid(1_000_000_000);
        match validity(certificate) {
            Some(valid) if *valid.end() < now => {
                tracing::warn!(%file, key = CERTIFICATE_KEY, "the certificate has expired")
            }
            Some(valid) if *valid.start() > now => {
                tracing::warn!(%file, key = CERTIFICATE_KEY, "the certificate is not valid yet");
            }
            _ => {}
        }
    }
}

fn server_config(
    provider: Arc<CryptoProvider>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    config.send_tls13_tickets = TICKETS;
    Ok(config)
}

/// The thread that looks at the files every few seconds. Dropping it ends the thread.
#[derive(Debug)]
pub(crate) struct Watch {
    certificates: Arc<Certificates>,
    metrics: Arc<ThreadMetrics>,
    /// Dropped to end the thread.
    alive: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// # Errors
    /// The system's, where there can be no more threads.
    pub(crate) fn start(certificates: Arc<Certificates>, metrics: Arc<ThreadMetrics>) -> io::Result<Watch> {
        let (alive, ended) = mpsc::channel();
        let (watched, counters) = (certificates.clone(), metrics.clone());
        let thread = std::thread::Builder::new().name("certificates".into()).spawn(move || {
            while ended.recv_timeout(LOOK) == Err(mpsc::RecvTimeoutError::Timeout) {
                watched.look(&counters);
            }
        })?;
        Ok(Watch { certificates, metrics, alive: Some(alive), thread: Some(thread) })
    }

    /// Reads the files now, changed or not.
    pub(crate) fn reload(&self) {
        self.certificates.reload(&self.metrics);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.alive = None;
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("the certificates' thread panicked");
        }
    }
}
