//! TLS for the tests: certificates of their own, clients that trust them, and a socket that speaks it.

use std::io::{self, IoSlice, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};

use super::Directory;

/// Files with a certificate for `localhost`, signed by itself, and its key.
pub struct Certificate {
    files: Directory,
    pub certificate_file: String,
    pub key_file: String,
    trust: Trust,
}

/// Who trusts one certificate, and no other.
#[derive(Clone)]
pub struct Trust {
    config: Arc<ClientConfig>,
    pub certificate: CertificateDer<'static>,
}

/// A certificate and its key, as PEM.
pub struct Pems {
    pub certificate: String,
    pub key: String,
    pub trust: Trust,
}

impl Pems {
    pub fn new() -> Pems {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        Pems {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            trust: Trust::of(certificate.der().clone(), rustls::ALL_VERSIONS),
        }
    }
}

impl Certificate {
    pub fn new() -> Certificate {
        let Pems { certificate, key, trust } = Pems::new();
        let files = Directory::new();
        let certificate_file = files.write("server.crt", certificate);
        let key_file = files.write("server.key", key);
        Certificate { files, certificate_file, key_file, trust }
    }

    /// The settings of a gateway with it, on a free port.
    pub fn settings(&self) -> [(&str, &str); 3] {
        [
            ("server.tls.listen", "127.0.0.1:0"),
            ("server.tls.certificate_file", &self.certificate_file),
            ("server.tls.key_file", &self.key_file),
        ]
    }

    /// Who trusts the first certificate.
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    pub fn write_certificate(&self, pem: &str) {
        self.files.write("server.crt", pem);
    }

    pub fn write_key(&self, pem: &str) {
        self.files.write("server.key", pem);
    }
}

impl Trust {
    fn of(certificate: CertificateDer<'static>, versions: &[&'static SupportedProtocolVersion]) -> Trust {
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        // A certificate is only shown in a full handshake.
        config.resumption = rustls::client::Resumption::disabled();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Trust { config: Arc::new(config), certificate }
    }

    /// A client that speaks no version but this.
    pub fn with_version(&self, version: &'static SupportedProtocolVersion) -> Trust {
        Trust::of(self.certificate.clone(), &[version])
    }

    /// A client's TLS on this socket, whose handshake comes with the first byte.
    pub fn shake(&self, socket: TcpStream) -> Wire {
        self.shake_on(Link { socket, bytes_max: usize::MAX })
    }

    /// The same, but each byte comes and goes alone.
    pub fn shake_by_bytes(&self, socket: TcpStream) -> Wire {
        self.shake_on(Link { socket, bytes_max: 1 })
    }

    fn shake_on(&self, link: Link) -> Wire {
        let name = ServerName::try_from("localhost").unwrap();
        let connection = ClientConnection::new(self.config.clone(), name).unwrap();
        Wire::Tls(Box::new(StreamOwned::new(connection, link)))
    }
}

/// A socket that takes and gives only so much at a time.
pub struct Link {
    socket: TcpStream,
    bytes_max: usize,
}

impl Read for Link {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = buffer.len().min(self.bytes_max);
        self.socket.read(&mut buffer[..length])
    }
}

impl Write for Link {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.write(&bytes[..bytes.len().min(self.bytes_max)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        // rustls writes its last alert once, behind what else there is.
        if self.bytes_max < usize::MAX {
            return slices.iter().find(|slice| !slice.is_empty()).map_or(Ok(0), |slice| self.write(slice));
        }
        self.socket.write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

/// A client's end of a connection.
pub enum Wire {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, Link>>),
}

impl From<TcpStream> for Wire {
    fn from(socket: TcpStream) -> Wire {
        Wire::Plain(socket)
    }
}

impl Wire {
    pub fn socket(&self) -> &TcpStream {
        match self {
            Wire::Plain(socket) => socket,
            Wire::Tls(stream) => &stream.sock.socket,
        }
    }

    /// The certificate of whom it turned out to be.
    #[track_caller]
    pub fn certificate(&mut self) -> CertificateDer<'static> {
        self.handshake().unwrap().peer_certificates().unwrap()[0].clone().into_owned()
    }

    /// Shakes hands, and returns what there is to say about the connection.
    #[track_caller]
    pub fn handshake(&mut self) -> io::Result<&ClientConnection> {
        let Wire::Tls(stream) = self else { panic!("this is no TLS") };
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(&stream.conn)
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Wire::Plain(socket) => socket.read(buffer),
            Wire::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Wire::Plain(socket) => socket.write(bytes),
            Wire::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Wire::Plain(socket) => socket.flush(),
            Wire::Tls(stream) => stream.flush(),
        }
    }
}
