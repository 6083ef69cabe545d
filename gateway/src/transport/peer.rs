//! Who is at the other end of a connection: the client, or for a while a proxy that has not yet said whom it stands for.
//! Owned by the task that opens the connection.
//!
//! Whoever is known is looked up in the block list and takes its address's place for a connection, once, before more is read.

use std::net::IpAddr;

use entitlements::AddressPermit;
use http::StatusCode;

use super::http::HttpRefusal;
use crate::context::Context;
use crate::metrics::Counter;
use crate::platform::audit::Event;

/// The other end.
#[derive(Debug)]
pub(crate) struct Peer {
    address: IpAddr,
    /// Absent while it is a proxy.
    permit: Option<AddressPermit>,
}

impl Peer {
    /// Whoever has connected from `address`.
    ///
    /// # Errors
    /// The answer, where it may not.
    pub(crate) fn connected(address: IpAddr, context: &Context) -> Result<Peer, HttpRefusal> {
        let mut peer = Peer { address, permit: None };
        peer.is_at(address, context)?;
        Ok(peer)
    }

    /// A proxy that is trusted has named the other end.
    ///
    /// # Errors
    /// The answer, where that one may not connect.
    pub(crate) fn is_at(&mut self, address: IpAddr, context: &Context) -> Result<(), HttpRefusal> {
        self.address = address.to_canonical();
        // It stands for others, who are not to be told by its address.
        if context.proxies.trusts(address) { Ok(()) } else { self.settle(context) }
    }

    /// The request has come, with these lines of `X-Forwarded-For`: nobody will be named any more.
    ///
    /// # Errors
    /// The answer, where the client may not connect.
    pub(crate) fn is_client<'a>(
        &mut self,
        forwarded: impl DoubleEndedIterator<Item = &'a str>,
        context: &Context,
    ) -> Result<(), HttpRefusal> {
        self.address = context.proxies.client(self.address, forwarded);
        self.settle(context)
    }

    fn settle(&mut self, context: &Context) -> Result<(), HttpRefusal> {
        if let Some(reason) = context.door.store().blocks().reason(self.address) {
            let (address, reason) = (self.address, Some(reason.into()));
            context.audit.record(Event::RequestRefused { address, error: "IP_BLOCKED", reason });
            let message = "connections from this address are not accepted";
            return Err(HttpRefusal::new(StatusCode::FORBIDDEN, "IP_BLOCKED", Counter::HandshakeBlocked, message));
        }
        if self.permit.is_none() {
            let message = "too many connections from this address";
            let refused = || HttpRefusal::too_many_connections(Counter::HandshakeAddressLimit, message);
            self.permit = Some(context.addresses.acquire(self.address).map_err(|_| refused())?);
        }
        Ok(())
    }

    pub(crate) fn address(&self) -> IpAddr {
        self.address
    }

    /// The address's place for the connection.
    pub(crate) fn into_permit(self) -> Option<AddressPermit> {
        self.permit
    }
}
