//! TLS as a client: whom we believe, and by which implementation.
//!
//! Plain data, any thread. Deliberately absent: the machine's own certificates, client certificates, and a way not to
//! check.

use std::sync::Arc;

use rustls::{ClientConfig, Error, RootCertStore};

/// Believes what the roots of Mozilla's programme vouch for.
///
/// The provider is named, not taken from the process: there is one, and a test must not have to install it.
///
/// # Errors
/// What rustls says where the provider does not know its default protocol versions.
pub(super) fn client_config() -> Result<Arc<ClientConfig>, Error> {
    config_with(RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()))
}

/// As [`client_config`], for other roots.
fn config_with(roots: RootCertStore) -> Result<Arc<ClientConfig>, Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

/// A server named `localhost`, and how a client that believes it does TLS.
#[cfg(test)]
pub(super) fn local_server() -> (tokio_rustls::TlsAcceptor, Arc<ClientConfig>) {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};

    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate = CertificateDer::from(made.cert.der().to_vec());
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let server = server.with_no_client_auth().with_single_cert(vec![certificate.clone()], key).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    (tokio_rustls::TlsAcceptor::from(Arc::new(server)), config_with(roots).unwrap())
}
