//! Listening sockets: every shard has its own on the same address (`SO_REUSEPORT`), so that a connection is
//! accepted, signed in and served by one thread.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::config::ProxyProtocol;
use crate::context::Context;
use crate::metrics::{Counter, Gauge, ThreadMetrics};
use crate::sign_in::{SignedIn, sign_in};
use crate::transport::http::HttpRefusal;
use crate::transport::opening::Opening;
use crate::transport::peer::Peer;
use crate::transport::tls::{Certificates, TlsSession};

/// Connections that wait in the kernel for `accept`.
const BACKLOG: i32 = 4096;

/// One of a shard's listening sockets.
#[derive(Debug)]
pub(crate) struct Listening {
    pub(crate) socket: std::net::TcpListener,
    /// Where clients are to speak TLS.
    pub(crate) certificates: Option<Arc<Certificates>>,
}

/// Binds `address` once for each shard; port 0 becomes the same free port for all.
///
/// # Errors
/// The system's, also where another program has the port: `SO_REUSEPORT` alone would share it silently.
pub(crate) fn bind(
    address: SocketAddr,
    shards: usize,
    unsent_bytes_max: usize,
) -> io::Result<Vec<std::net::TcpListener>> {
    // Alone first, which another program's listener does not allow.
    let probe = bound(address, false)?;
    probe.listen(1)?;
    drop(probe);
    let listen = |address: SocketAddr| -> io::Result<std::net::TcpListener> {
        let socket = bound(address, true)?;
        // What is set here, the accepted connections have from the start.
        socket.set_tcp_nodelay(true)?;
        // Without it the kernel takes megabytes for a client that does not read, all of them old news when it does.
        socket.set_tcp_notsent_lowat(u32::try_from(unsent_bytes_max).unwrap_or(u32::MAX))?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    let first = listen(address)?;
    let address = first.local_addr()?;
    std::iter::once(Ok(first)).chain((1..shards).map(|_| listen(address))).collect()
}

fn bound(address: SocketAddr, reuse_port: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Lets a restart bind while old connections are in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Where sign-ins put the connections that their shard is to take over.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    queue: RefCell<VecDeque<SignedIn>>,
    came: Notify,
    /// Handshakes and sign-ins under way.
    under_way: Cell<usize>,
}

impl Arrivals {
    pub(crate) fn take(&self) -> Option<SignedIn> {
        self.queue.borrow_mut().pop_front()
    }

    /// Waits until there is one.
    pub(crate) async fn came(&self) {
        self.came.notified().await;
    }
}

/// Accepts connections for one shard until the task is dropped.
pub(crate) async fn accept(
    listener: TcpListener,
    certificates: Option<Arc<Certificates>>,
    context: Arc<Context>,
    metrics: Arc<ThreadMetrics>,
    arrivals: Rc<Arrivals>,
) {
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, or the connection went away: others may still come.
                metrics.add(Counter::AcceptErrors, 1);
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                continue;
            }
        };
        metrics.add(Counter::ConnectionsOpened, 1);
        let admitted = Peer::connected(address.ip(), &context).and_then(|peer| {
            if arrivals.under_way.get() < context.server.handshakes_max {
                return Ok(peer);
            }
            Err(HttpRefusal::too_many_connections(Counter::HandshakeTooMany, "too many sign-ins in progress"))
        });
        let peer = match admitted {
            Ok(peer) => peer,
            Err(refusal) => {
                metrics.add(refusal.counter(), 1);
                refuse(&stream, certificates.is_some(), refusal);
                continue;
            }
        };
        if context.server.proxy_protocol == ProxyProtocol::V2 && !context.proxies.trusts(address.ip()) {
            metrics.add(Counter::HandshakeNoProxy, 1);
            continue;
        }
        let tls = match certificates.as_ref().map(|certificates| TlsSession::accept(certificates.current())) {
            None => None,
            Some(Ok(session)) => Some(Box::new(session)),
            Some(Err(error)) => {
                metrics.add(Counter::AcceptErrors, 1);
                tracing::error!(%error, "no TLS could be made");
                continue;
            }
        };
        arrivals.under_way.set(arrivals.under_way.get() + 1);
        metrics.set(Gauge::Handshakes, arrivals.under_way.get() as u64);
        let (context, metrics, arrivals) = (context.clone(), metrics.clone(), arrivals.clone());
        tokio::task::spawn_local(async move {
            if let Some(signed_in) = sign_in(Opening::new(stream, tls), peer, &context, &metrics).await {
                arrivals.queue.borrow_mut().push_back(signed_in);
                arrivals.came.notify_one();
            }
            arrivals.under_way.set(arrivals.under_way.get() - 1);
            metrics.set(Gauge::Handshakes, arrivals.under_way.get() as u64);
        });
    }
}

/// Answers a connection that is not even read from, without waiting for it. One that is to speak TLS is just closed:
/// shaking hands first is what is to be saved.
fn refuse(stream: &TcpStream, tls: bool, refusal: HttpRefusal) {
    if !tls {
        // An empty socket buffer takes these few bytes; if not, the client learns nothing but the close.
        let _ = stream.try_write(&refusal.into_response(false));
    }
}
