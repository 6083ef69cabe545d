//! A signed-in client's socket, with or without TLS: what a shard reads from and the hub writes into. Owned by the
//! shard's thread; never blocks.
//!
//! The buffers that TLS needs while it works are the shard's ([`Scratch`]), so that a silent client has none.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::Shutdown;

use mio::net::TcpStream;

use super::tls::{Sealer, TlsError, TlsSession};

/// Ciphertext that is read at a time, bytes.
const READ_BYTES: usize = 64 * 1024;

/// A client's socket.
#[derive(Debug)]
pub(crate) struct Stream {
    socket: TcpStream,
    tls: Option<Box<TlsSession>>,
}

/// What a shard works with for all of its clients. Holds nothing until the first client with TLS.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    incoming: Vec<u8>,
    sealer: Sealer,
}

impl Stream {
    pub(crate) fn new(socket: std::net::TcpStream, tls: Option<Box<TlsSession>>) -> Stream {
        Stream { socket: TcpStream::from_std(socket), tls }
    }

    pub(crate) fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// The socket, to be watched. Nothing is read from it or written into it but by this.
    pub(crate) fn socket(&mut self) -> &mut TcpStream {
        &mut self.socket
    }

    /// Reads what has come; 0 where the client has closed its side. `WouldBlock` alone means that there is no more for
    /// now: with TLS a short read says nothing. `into` has room for more than a record.
    ///
    /// # Errors
    /// The system's; `InvalidData` where the client broke TLS.
    pub(crate) fn read(&mut self, into: &mut [u8], scratch: &mut Scratch) -> io::Result<usize> {
        match &mut self.tls {
            None => self.socket.read(into),
            Some(session) => read_tls(&mut self.socket, session, into, &mut scratch.incoming),
        }
    }

    /// What the hub writes into.
    pub(crate) fn writer<'a>(&'a mut self, scratch: &'a mut Scratch) -> StreamWriter<'a> {
        StreamWriter { stream: self, sealer: &mut scratch.sealer }
    }

    /// The socket takes bytes again: sends what was encrypted before. True where it takes more, so that the hub may be
    /// told.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn writable(&mut self) -> io::Result<bool> {
        match &mut self.tls {
            None => Ok(true),
            Some(session) => send_unsent(&mut self.socket, session),
        }
    }

    /// Closes our side, as soon as everything is sent that was written.
    pub(crate) fn shut(&mut self) {
        match &mut self.tls {
            None => drop(self.socket.shutdown(Shutdown::Write)),
            Some(session) => {
                session.close();
                // A socket that is gone is reported as an event of its own.
                let _ = send_unsent(&mut self.socket, session);
            }
        }
    }
}

/// A client's bytes into its socket, through TLS where there is. All that it takes is sent, or kept and sent first.
#[derive(Debug)]
pub(crate) struct StreamWriter<'a> {
    stream: &'a mut Stream,
    sealer: &'a mut Sealer,
}

impl Write for StreamWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Stream { socket, tls } = &mut *self.stream;
        match tls {
            // A `send`, which costs the system some 5 % less than a vectored write of one piece.
            None => socket.write(bytes),
            Some(session) => write_tls(socket, session, &[IoSlice::new(bytes)], self.sealer),
        }
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let Stream { socket, tls } = &mut *self.stream;
        match tls {
            None => socket.write_vectored(slices),
            Some(session) => write_tls(socket, session, slices, self.sealer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn read_tls(
    socket: &mut TcpStream,
    session: &mut TlsSession,
    into: &mut [u8],
    incoming: &mut Vec<u8>,
) -> io::Result<usize> {
    incoming.resize(READ_BYTES, 0);
    loop {
        if session.is_closed() {
            return Ok(0);
        }
        // What is decrypted is less than what was encrypted, so it fits.
        let room = incoming.len().min(into.len().saturating_sub(session.partial_bytes()));
        debug_assert!(room > 0, "the reader has room for more than a record");
        let received = socket.read(&mut incoming[..room])?;
        if received == 0 {
            return Ok(0);
        }
        let mut read = 0;
        let taken = session.receive(&mut incoming[..received], &mut |plaintext| {
            into[read..read + plaintext.len()].copy_from_slice(plaintext);
            read += plaintext.len();
        });
        if let Err(error) = taken {
            // The alert that says why; the socket is closed in any case.
            let _ = send_unsent(socket, session);
            return Err(invalid(error));
        }
        if read > 0 {
            return Ok(read);
        }
    }
}

/// Takes as much plaintext as the socket takes of it encrypted, and the rest of the last piece: less than was offered
/// only where the socket is full. Nothing where it was full before.
fn write_tls(
    socket: &mut TcpStream,
    session: &mut TlsSession,
    slices: &[IoSlice<'_>],
    sealer: &mut Sealer,
) -> io::Result<usize> {
    if !send_unsent(socket, session)? {
        return Err(ErrorKind::WouldBlock.into());
    }
    let mut taken = 0;
    loop {
        let (piece, sealed) = sealer.seal(session, slices, taken).map_err(invalid)?;
        if piece == 0 {
            return Ok(taken);
        }
        taken += piece;
        if !session.unsent().is_empty() {
            // An answer to the client, such as a key update, goes first.
            session.keep(sealed);
            if !send_unsent(socket, session)? {
                return Ok(taken);
            }
            continue;
        }
        let sent = write(socket, sealed)?;
        if sent < sealed.len() {
            session.keep(&sealed[sent..]);
            return Ok(taken);
        }
    }
}

/// True where nothing is left.
fn send_unsent(socket: &mut TcpStream, session: &mut TlsSession) -> io::Result<bool> {
    while !session.unsent().is_empty() {
        let sent = write(socket, session.unsent())?;
        if sent == 0 {
            return Ok(false);
        }
        session.advance(sent);
    }
    if session.has_ended() {
        let _ = socket.shutdown(Shutdown::Write);
    }
    Ok(true)
}

/// Writes what the socket takes: 0 where it is full.
fn write(socket: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match socket.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

fn invalid(error: TlsError) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::{Duration, Instant};

    use rustls::{ClientConnection, StreamOwned};

    use super::*;
    use crate::transport::tls::testing::{Files, Identity};

    type Client = StreamOwned<ClientConnection, std::net::TcpStream>;

    /// Looks until there is something; what never comes fails the test.
    #[track_caller]
    fn wait<T>(mut look: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(Instant::now() < deadline, "waited for 30 s");
            std::thread::yield_now();
        }
    }

    /// What a read comes to, when it does not block.
    #[track_caller]
    fn read(stream: &mut Stream, buffer: &mut [u8], scratch: &mut Scratch) -> io::Result<usize> {
        wait(|| match stream.read(buffer, scratch) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            result => Some(result),
        })
    }

    /// Both ends of a connection whose handshake is done, over the loopback; ours does not block.
    fn pair() -> (Stream, Client, Scratch) {
        let identity = Identity::new();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let (ours, _) = listener.accept().unwrap();
        ours.set_nonblocking(true).unwrap();
        let session = TlsSession::accept(Files::new(&identity).open().current()).unwrap();
        let mut stream = Stream::new(ours, Some(Box::new(session)));
        let mut client = StreamOwned::new(identity.client(), socket);
        let mut scratch = Scratch::default();
        let greeting = std::thread::spawn(move || {
            client.write_all(b"hello").unwrap();
            client
        });
        let mut buffer = vec![0; READ_BYTES];
        let read = wait(|| {
            let read = stream.read(&mut buffer, &mut scratch);
            stream.writable().unwrap();
            read.ok()
        });
        assert_eq!(&buffer[..read], b"hello");
        (stream, greeting.join().unwrap(), scratch)
    }

    /// Bytes that tell where they stand.
    fn content(from: usize, length: usize) -> Vec<u8> {
        (from..from + length).map(|at| (at % 251) as u8).collect()
    }

    #[test]
    fn a_full_socket_bounds_what_is_kept() {
        let (mut stream, mut client, mut scratch) = pair();
        let mut written = 0;
        loop {
            let (one, two) = (content(written, 70_000), content(written + 70_000, 30_001));
            let slices = [IoSlice::new(&one), IoSlice::new(&two)];
            match stream.writer(&mut scratch).write_vectored(&slices) {
                Ok(taken) => {
                    assert!(taken > 0 && taken <= 100_001);
                    written += taken;
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    break;
                }
            }
            let kept = stream.tls.as_ref().unwrap().unsent().len();
            assert!(kept <= 33 * 1024, "{kept} bytes are kept");
        }
        assert!(!stream.writable().unwrap());
        // The end comes behind what was taken, in its order, and is no truncation.
        stream.shut();
        let reader = std::thread::spawn(move || {
            let mut received = Vec::new();
            client.read_to_end(&mut received).map(|_| received)
        });
        wait(|| {
            stream.writable().unwrap();
            reader.is_finished().then_some(())
        });
        let received = reader.join().unwrap().unwrap();
        assert!(received == content(0, written), "{} of {written} bytes", received.len());
        assert_eq!(stream.tls.as_ref().unwrap().unsent(), b"");
    }

    #[test]
    fn everything_that_came_is_read_before_it_would_block() {
        let (mut stream, mut client, mut scratch) = pair();
        let sent = content(0, 300_000);
        let expected = sent.clone();
        let writer = std::thread::spawn(move || {
            client.write_all(&sent).unwrap();
            client.conn.send_close_notify();
            client.flush().unwrap();
            client
        });
        let (mut received, mut buffer) = (Vec::new(), vec![0; READ_BYTES]);
        while let count @ 1.. = read(&mut stream, &mut buffer, &mut scratch).unwrap() {
            received.extend_from_slice(&buffer[..count]);
        }
        drop(writer.join().unwrap());
        assert!(received == expected, "{} bytes", received.len());
    }

    #[test]
    fn a_broken_record_is_told_apart_from_a_lost_connection() {
        let (mut stream, mut client, mut scratch) = pair();
        client.sock.write_all(&[23, 3, 3, 0, 17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).unwrap();
        let mut buffer = vec![0; READ_BYTES];
        let error = read(&mut stream, &mut buffer, &mut scratch).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        assert_eq!(stream.writer(&mut scratch).write(b"more").unwrap_err().kind(), ErrorKind::InvalidData);
        let told = client.read(&mut buffer).unwrap_err();
        assert!(told.to_string().contains("BadRecordMac"), "{told}");
    }
}
