//! How clients reach the gateway. Each transport brings connections up to a signed-in session; what follows
//! is the same for all of them.

pub(crate) mod http;
pub(crate) mod listener;
pub(crate) mod opening;
pub(crate) mod peer;
pub(crate) mod proxy_protocol;
pub(crate) mod stream;
pub(crate) mod tls;
