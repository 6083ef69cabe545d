//! The names of keys, as the platform has them. Who or what a key is of stands in braces: Redis Cluster takes a key's slot from
//! there, so that all keys of one user are in one slot.

use std::fmt::Display;
use std::net::IpAddr;

use crate::limits::{Meter, Subject};
use crate::token::TokenHash;

/// Fields are networks, values reasons.
pub(super) const IP_BLOCKLIST: &str = "ip_blocklist";
pub(super) const ACTIVE_USERS: &str = "active_users";
/// Sorted set: each node, and until when its lease holds, Unix ms of the server.
pub(super) const NODES: &str = "gateway:nodes";
/// Where changes are announced.
pub(super) const CHANGES: &str = "entitlement:changes";

#[derive(Clone, Copy, Debug)]
pub(super) struct Names {
    pub(super) hash_tags: bool,
}

impl Names {
    fn tagged(self, before: &str, of: impl Display, after: &str) -> String {
        if self.hash_tags { format!("{before}{{{of}}}{after}") } else { format!("{before}{of}{after}") }
    }

    pub(super) fn entitlement(self, user: &str) -> String {
        self.tagged("entitlement:", user, "")
    }

    pub(super) fn connections(self, user: &str) -> String {
        self.tagged("websocket:connections:", user, "")
    }

    pub(super) fn counted(self, subject: &Subject, meter: Meter) -> String {
        let after = format!(":{}", meter.name());
        match subject {
            Subject::User(user) => self.tagged("rate_limit:api:", user, &after),
            Subject::Address(address) => self.tagged("rate_limit:address:", address as &IpAddr, &after),
        }
    }

    pub(super) fn api_key(self, prefix: &str) -> String {
        format!("api_key:{prefix}")
    }

    pub(super) fn certificate(self, name: &str) -> String {
        format!("client_cert:{name}")
    }

    pub(super) fn denied(self, token: &TokenHash) -> String {
        format!("jwt_blacklist:{token}")
    }

    /// What describes one session, for others to look at.
    pub(super) fn session(self, member: &str) -> String {
        format!("session:{member}")
    }

    /// Hash: the sessions of a node, and their users.
    pub(super) fn sessions(self, node: &str) -> String {
        format!("gateway:sessions:{node}")
    }

    /// Held by whoever takes back the sessions of a dead node.
    pub(super) fn janitor(self, node: &str) -> String {
        format!("gateway:janitor:{node}")
    }
}
