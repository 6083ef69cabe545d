//! What the tests of TLS share: certificates of their own, and clients that trust them.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};

use super::Certificates;
use crate::config::Tls;

/// A certificate for `localhost`, signed by itself.
pub(crate) struct Identity {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) certificate_pem: String,
    pub(crate) key_pem: String,
}

impl Identity {
    pub(crate) fn new() -> Identity {
        Identity::of(CertificateParams::new(vec!["localhost".to_owned()]).unwrap())
    }

    pub(crate) fn of(params: CertificateParams) -> Identity {
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Identity {
            certificate: certificate.der().clone(),
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        }
    }

    /// Clients that trust it, and speak only these versions.
    pub(crate) fn client_config(&self, versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.enable_secret_extraction = true;
        Arc::new(config)
    }

    pub(crate) fn client(&self) -> ClientConnection {
        connection(&self.client_config(rustls::ALL_VERSIONS))
    }
}

pub(crate) fn connection(config: &Arc<ClientConfig>) -> ClientConnection {
    ClientConnection::new(config.clone(), ServerName::try_from("localhost").unwrap()).unwrap()
}

/// Certificate and key in files, which go away with this.
pub(crate) struct Files {
    directory: PathBuf,
    pub(crate) tls: Tls,
}

impl Files {
    pub(crate) fn new(identity: &Identity) -> Files {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("gateway-tls-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let tls = Tls {
            listen: Vec::new(),
            certificate_file: Some(directory.join("server.crt")),
            key_file: Some(directory.join("server.key")),
        };
        let files = Files { directory, tls };
        files.write_certificate(&identity.certificate_pem);
        files.write_key(&identity.key_pem);
        files
    }

    pub(crate) fn write_certificate(&self, pem: &str) {
        std::fs::write(self.directory.join("server.crt"), pem).unwrap();
    }

    pub(crate) fn write_key(&self, pem: &str) {
        std::fs::write(self.directory.join("server.key"), pem).unwrap();
    }

    pub(crate) fn open(&self) -> Certificates {
        Certificates::open(&self.tls).unwrap().unwrap()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}
