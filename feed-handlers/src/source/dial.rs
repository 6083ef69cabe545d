//! A connection to a venue over TCP, with TLS where the address says so.
//!
//! Used inside the source's tokio runtime. Deliberately absent: how long it may take, which is for whoever dials, and
//! proxies.

use std::io;

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::MaybeTlsStream;

/// Bytes to a venue and from it.
pub(super) type Line = MaybeTlsStream<TcpStream>;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    #[error("cannot connect to {host}: {error}")]
    NotConnected { host: String, error: io::Error },
    #[error("no TLS with {host}: {error}")]
    NoTls { host: String, error: io::Error },
}

/// Connects; with `tls` the other side has to be who it is called.
///
/// # Errors
/// [`DialError`] where nobody answers, or not as TLS has it.
pub(super) async fn dial(host: &str, port: u16, tls: Option<&TlsConnector>) -> Result<Line, DialError> {
    let not_connected = |error| DialError::NotConnected { host: host.to_owned(), error };
    let socket = TcpStream::connect((host, port)).await.map_err(not_connected)?;
    socket.set_nodelay(true).map_err(not_connected)?;
    let Some(tls) = tls else { return Ok(MaybeTlsStream::Plain(socket)) };
    let no_tls = |error| DialError::NoTls { host: host.to_owned(), error };
    let name = ServerName::try_from(host.to_owned()).map_err(|error| no_tls(io::Error::other(error)))?;
    Ok(MaybeTlsStream::Rustls(tls.connect(name, socket).await.map_err(no_tls)?))
}
