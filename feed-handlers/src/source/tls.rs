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
pub(super) fn config_with(roots: RootCertStore) -> Result<Arc<ClientConfig>, Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}
