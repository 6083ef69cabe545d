//! Servers of Redis that speak TLS, and an authority that vouches for them and for their clients.

use std::path::PathBuf;

use rcgen::{BasicConstraints, Certificate, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use crate::support::{Server, cluster_with, free_port};

pub(crate) struct Authority {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
    /// Where the servers find their files.
    directory: PathBuf,
}

impl Authority {
    pub(crate) fn new() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let directory = std::env::temp_dir().join(format!("gateway-redis-tls-{}-{}", std::process::id(), free_port()));
        std::fs::create_dir_all(&directory).unwrap();
        let authority = Authority { certificate, issuer: Issuer::new(params, key), directory };
        let (certificate, key) = authority.identity();
        for (name, text) in [("ca.crt", authority.certificate()), ("server.crt", certificate), ("server.key", key)] {
            std::fs::write(authority.directory.join(name), text).unwrap();
        }
        authority
    }

    /// PEM.
    pub(crate) fn certificate(&self) -> Vec<u8> {
        self.certificate.pem().into_bytes()
    }

    /// A certificate for this machine, and its key: PEM.
    pub(crate) fn identity(&self) -> (Vec<u8>, Vec<u8>) {
        let key = KeyPair::generate().unwrap();
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names).unwrap();
        // Another name than the authority's, or OpenSSL takes it for signed by itself.
        params.distinguished_name.push(DnType::CommonName, "localhost");
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem().into_bytes(), key.serialize_pem().into_bytes())
    }

    fn file(&self, name: &str) -> String {
        self.directory.join(name).to_str().unwrap().to_owned()
    }

    fn arguments(&self) -> Vec<String> {
        let port = free_port().to_string();
        let files = ["ca.crt", "server.crt", "server.key"].map(|name| self.file(name));
        let [authority, certificate, key] = &files;
        let texts = ["--tls-port", &port, "--tls-ca-cert-file", authority, "--tls-cert-file", certificate];
        let rest = ["--tls-key-file", key, "--tls-auth-clients", "yes"];
        texts.into_iter().chain(rest).map(str::to_owned).collect()
    }

    /// Asks its clients for certificates on one port, and nobody on the other.
    pub(crate) fn server(&self) -> Server {
        let arguments = self.arguments();
        Server::start(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Three masters with a replica each, who speak TLS to each other as well.
    pub(crate) fn cluster(&self) -> Vec<Server> {
        let [authority, certificate, key] = ["ca.crt", "server.crt", "server.key"].map(|name| self.file(name));
        let cli = ["--tls", "--cacert", &authority, "--cert", &certificate, "--key", &key];
        let among = ["--tls-cluster", "yes", "--tls-replication", "yes"].map(str::to_owned);
        cluster_with(&cli, || [self.arguments(), among.to_vec()].concat())
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}
