//! The `[server.tls]` table: where clients connect over TLS, and with which certificate.
//!
//! Deliberately absent: versions and cipher suites. It is TLS 1.3 with rustls' own choice, and nothing older.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::sections::one_or_many;

/// `[server.tls]`: `wss://`. Without addresses there is no TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    #[serde(deserialize_with = "one_or_many")]
    pub listen: Vec<SocketAddr>,
    /// PEM file: the server's certificate, and then those up to the root, without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_file: Option<PathBuf>,
    /// PEM file: the certificate's private key, not encrypted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
}
