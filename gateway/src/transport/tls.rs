//! TLS 1.3 for `wss://`, on rustls.
//!
//! - [`session`]: one client's TLS, sans-IO: bytes in, bytes out.
//! - [`certificates`]: the server's certificate and key, read again while the gateway runs.
//!
//! Deliberately absent: TLS 1.2, early data (a replayed request would sign in twice), client certificates, and choosing
//! a certificate by server name.

mod certificates;
mod session;
#[cfg(test)]
pub(crate) mod testing;
mod validity;

pub(crate) use certificates::{Certificates, Watch};
pub(crate) use session::{Sealer, TlsError, TlsSession};
