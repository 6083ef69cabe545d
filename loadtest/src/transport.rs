//! Byte streams of clients: TCP, and TLS over it, non-blocking, over mio.
//!
//! Owned by the worker's thread. Another transport is another variant of [`Transport`]. Deliberately absent: buffers of
//! received bytes for TCP (the worker has one for all its clients; a TLS session keeps its own).

use std::io::{self, IoSliceMut, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use mio::net::TcpStream;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
use nix::sys::time::TimeSpec;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::orders::TlsTrust;

/// The connection of one client.
#[derive(Debug)]
pub enum Transport {
    Plain { socket: TcpStream, stamped: bool },
    Tls(Box<Tls>),
}

#[derive(Debug)]
pub struct Tls {
    socket: TcpStream,
    session: ClientConnection,
}

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Bytes; 0 is the end of the stream.
    pub len: usize,
    /// Nothing more is there until the next readiness.
    pub drained: bool,
    /// When the kernel received the newest of them, Unix ns, where it was asked to say.
    pub kernel_ns: Option<i64>,
}

/// How far an opening connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    UnderWay,
    Open,
}

impl Transport {
    /// Begins a connection. With `stamped`, the kernel notes when bytes arrive (plain TCP only).
    ///
    /// # Errors
    /// Whatever the system says: no descriptor, no port, no route.
    pub fn connect(
        to: SocketAddr,
        from: Option<IpAddr>,
        stamped: bool,
        tls: Option<(&Arc<ClientConfig>, &ServerName<'static>)>,
    ) -> io::Result<Transport> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        socket.set_tcp_nodelay(true)?;
        if let Some(from) = from {
            // The port is chosen at connect, when the peer is known: only then may the same one serve several peers.
            if from.is_ipv4() {
                setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
            }
            socket.bind(&SocketAddr::new(from, 0).into())?;
        }
        let stamped = stamped && tls.is_none() && setsockopt(&socket, sockopt::ReceiveTimestampns, &true).is_ok();
        match socket.connect(&to.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(nix::errno::Errno::EINPROGRESS as i32) => {}
            Err(error) => return Err(error),
        }
        let socket = TcpStream::from_std(socket.into());
        match tls {
            None => Ok(Transport::Plain { socket, stamped }),
            Some((config, name)) => {
                let session = ClientConnection::new(Arc::clone(config), name.clone()).map_err(io::Error::other)?;
                Ok(Transport::Tls(Box::new(Tls { socket, session })))
            }
        }
    }

    /// The socket, for the epoll set.
    pub fn socket(&mut self) -> &mut TcpStream {
        match self {
            Transport::Plain { socket, .. } => socket,
            Transport::Tls(tls) => &mut tls.socket,
        }
    }

    /// Goes on with an opening connection after a readiness.
    ///
    /// # Errors
    /// The connection was refused, or the TLS handshake failed.
    pub fn go_on(&mut self) -> io::Result<Opening> {
        if let Some(error) = self.socket().take_error()? {
            return Err(error);
        }
        match self.socket().peer_addr() {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotConnected => return Ok(Opening::UnderWay),
            Err(error) => return Err(error),
        }
        let Transport::Tls(tls) = self else { return Ok(Opening::Open) };
        while tls.session.is_handshaking() {
            let wrote = tls.flush()?;
            match tls.session.read_tls(&mut tls.socket) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {
                    if let Err(error) = tls.session.process_new_packets() {
                        // The alert says to the server what was wrong; whether it arrives does not matter.
                        let _ = tls.flush();
                        return Err(io::Error::other(error));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !wrote || !tls.session.wants_write() {
                        return Ok(Opening::UnderWay);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        tls.flush()?;
        Ok(Opening::Open)
    }

    /// Reads what is there, at most as much as `into` holds, which is not empty.
    ///
    /// # Errors
    /// `WouldBlock` where nothing is there, or the end of the connection.
    pub fn read(&mut self, into: &mut [u8]) -> io::Result<Received> {
        let room = into.len();
        match self {
            Transport::Plain { socket, stamped: false } => loop {
                match socket.read(into) {
                    // A read that leaves room has taken everything; the end of the stream is told by a readiness.
                    Ok(len) => return Ok(Received { len, drained: len < room, kernel_ns: None }),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            },
            Transport::Plain { socket, stamped: true } => read_stamped(socket, into),
            Transport::Tls(tls) => tls.read(into),
        }
    }

    /// Writes as much as the system takes. Returns how much; the rest is for the next readiness.
    ///
    /// # Errors
    /// The end of the connection.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Transport::Plain { socket, .. } => match socket.write(bytes) {
                Ok(len) => Ok(len),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(0),
                Err(error) => Err(error),
            },
            Transport::Tls(tls) => {
                // The session buffers without bound by itself; what clients send is short.
                let len = tls.session.writer().write(bytes)?;
                tls.flush()?;
                Ok(len)
            }
        }
    }

    /// After a readiness to write: what a TLS session holds back.
    ///
    /// # Errors
    /// The end of the connection.
    pub fn flush(&mut self) -> io::Result<()> {
        match self {
            Transport::Plain { .. } => Ok(()),
            Transport::Tls(tls) => tls.flush().map(|_| ()),
        }
    }

    /// From now on the end of the connection is a reset, so that the port is free again at once.
    pub fn reset_on_drop(&mut self) {
        // Without it the port rests for a minute, which only matters to the next run.
        let _ = SockRef::from(&*self.socket()).set_linger(Some(Duration::ZERO));
    }
}

impl Tls {
    /// Writes records until the socket is full. Returns whether anything was written.
    fn flush(&mut self) -> io::Result<bool> {
        let mut wrote = false;
        while self.session.wants_write() {
            match self.session.write_tls(&mut self.socket) {
                Ok(_) => wrote = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(wrote)
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<Received> {
        let (mut len, mut drained) = (0, false);
        while len < into.len() {
            match self.session.reader().read(&mut into[len..]) {
                Ok(0) => return Ok(Received { len, drained: len == 0, kernel_ns: None }),
                Ok(more) => {
                    len += more;
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // The stream ended without a closing alert: it is an end all the same.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Ok(Received { len, drained: len == 0, kernel_ns: None });
                }
                Err(error) => return Err(error),
            }
            match self.session.read_tls(&mut self.socket) {
                Ok(_) => {
                    self.session.process_new_packets().map_err(io::Error::other)?;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    drained = true;
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.flush()?;
        if len == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(Received { len, drained, kernel_ns: None }) }
    }
}

/// A read that also tells when the kernel received the newest of the bytes.
fn read_stamped(socket: &TcpStream, into: &mut [u8]) -> io::Result<Received> {
    let room = into.len();
    let mut space = nix::cmsg_space!(TimeSpec);
    let mut parts = [IoSliceMut::new(into)];
    loop {
        match recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::empty()) {
            Ok(message) => {
                let kernel_ns = message.cmsgs().ok().and_then(|mut parts| {
                    parts.find_map(|part| match part {
                        ControlMessageOwned::ScmTimestampns(at) => Some(at.tv_sec() * 1_000_000_000 + at.tv_nsec()),
                        _ => None,
                    })
                });
                let len = message.bytes;
                return Ok(Received { len, drained: len < room, kernel_ns });
            }
            Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// How TLS clients of a worker check their servers.
///
/// # Errors
/// The authority's PEM text holds no certificate.
pub fn tls_config(trust: &TlsTrust) -> io::Result<Arc<ClientConfig>> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let versions = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    let mut roots = RootCertStore::empty();
    let mut config = match trust {
        TlsTrust::Anybody => {
            versions.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider))).with_no_client_auth()
        }
        TlsTrust::Public => {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
            versions.with_root_certificates(roots).with_no_client_auth()
        }
        TlsTrust::Authority(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                roots.add(certificate.map_err(io::Error::other)?).map_err(io::Error::other)?;
            }
            if roots.is_empty() {
                return Err(io::Error::other("the file of --ca holds no certificate"));
            }
            versions.with_root_certificates(roots).with_no_client_auth()
        }
    };
    // Each client is another customer: none resumes the session of another one.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

/// Takes any certificate: for servers with one of their own making. Signatures are checked all the same.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
