//! Live connections, counted per user and per address. A permit is held by the session and gives its place back
//! when it is dropped, on whichever thread that happens.
//!
//! Counting takes the lock of one map shard at sign-in and at the end of a session, never in between. Memory is
//! bounded by the number of users and addresses that are connected now: the last permit removes their entry.

use std::fmt;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use dashmap::{DashMap, Entry};

use crate::principal::Principal;

/// The limit was reached; nothing was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("connection limit of {limit} reached")]
pub struct LimitReached {
    pub limit: u32,
}

/// Live permits per key.
///
/// **Invariant**: a key is in the map exactly while it has permits. The count goes up only under the lock of the
/// key's map shard, and the entry is removed only under that lock and at zero, so no count is ever split between
/// two entries of one key.
#[derive(Debug)]
struct Counts<K: Eq + Hash>(DashMap<K, Arc<Place<K>>>);

struct Place<K> {
    key: K,
    live: AtomicU32,
}

/// One counted place, 16 bytes.
struct Permit<K: Eq + Hash> {
    place: Arc<Place<K>>,
    counts: Arc<Counts<K>>,
}

impl<K: Eq + Hash + Clone> Counts<K> {
    fn acquire(self: &Arc<Self>, key: &K, limit: u32) -> Result<Permit<K>, LimitReached> {
        if limit == 0 {
            return Err(LimitReached { limit });
        }
        let place = match self.0.entry(key.clone()) {
            Entry::Occupied(entry) => {
                // Relaxed: the shard's lock orders this with other acquisitions; against releases only the count
                // itself matters.
                let counted = entry
                    .get()
                    .live
                    .try_update(Ordering::Relaxed, Ordering::Relaxed, |live| (live < limit).then_some(live + 1));
                counted.map_err(|_| LimitReached { limit })?;
                entry.get().clone()
            }
            Entry::Vacant(entry) => entry.insert(Arc::new(Place { key: key.clone(), live: AtomicU32::new(1) })).clone(),
        };
        Ok(Permit { place, counts: self.clone() })
    }

    fn live(&self, key: &K) -> u32 {
        // Relaxed: a count for people to look at.
        self.0.get(key).map_or(0, |place| place.live.load(Ordering::Relaxed))
    }
}

impl<K: Eq + Hash> Counts<K> {
    /// Removes the key's entry if no permit is left.
    fn sweep(&self, key: &K) {
        // Relaxed: the shard's lock, which remove_if holds, orders this with acquisitions.
        self.0.remove_if(key, |_, place| place.live.load(Ordering::Relaxed) == 0);
    }
}

impl<K: Eq + Hash> Drop for Permit<K> {
    fn drop(&mut self) {
        // Relaxed: nothing but the count is published. Someone may come in between this and the sweep, which is
        // why the sweep looks again.
        if self.place.live.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.counts.sweep(&self.place.key);
        }
    }
}

impl<K> fmt::Debug for Place<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} live", self.live.load(Ordering::Relaxed))
    }
}

impl<K: Eq + Hash> fmt::Debug for Permit<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Permit")
    }
}

/// Live connections per user. Cloning shares the counts.
#[derive(Clone, Debug)]
pub struct Connections {
    counts: Arc<Counts<Arc<str>>>,
}

/// A user's place for one connection, given back on drop.
#[derive(Debug)]
pub struct ConnectionPermit {
    _permit: Permit<Arc<str>>,
}

impl Default for Connections {
    fn default() -> Connections {
        Connections::new()
    }
}

impl Connections {
    pub fn new() -> Connections {
        Connections { counts: Arc::new(Counts(DashMap::new())) }
    }

    /// Counts one more connection of the principal's user.
    ///
    /// # Errors
    /// [`LimitReached`] where the user already has as many as the principal's limit.
    pub fn acquire(&self, principal: &Principal) -> Result<ConnectionPermit, LimitReached> {
        let permit = self.counts.acquire(principal.user(), principal.limits().connections)?;
        Ok(ConnectionPermit { _permit: permit })
    }

    /// Live connections of the principal's user.
    pub fn live(&self, principal: &Principal) -> u32 {
        self.counts.live(principal.user())
    }

    /// Users with at least one connection.
    pub fn users(&self) -> usize {
        self.counts.0.len()
    }
}

/// Live connections per address, with one limit for all. An IPv6 host has a whole /64 to itself, so those are
/// counted by their first 64 bits, and IPv4 addresses in IPv6 form as IPv4. Cloning shares the counts.
#[derive(Clone, Debug)]
pub struct AddressLimit {
    counts: Arc<Counts<IpAddr>>,
    limit: u32,
}

/// An address's place for one connection, given back on drop.
#[derive(Debug)]
pub struct AddressPermit {
    _permit: Permit<IpAddr>,
}

impl AddressLimit {
    /// At most `limit` connections from one address.
    pub fn new(limit: u32) -> AddressLimit {
        AddressLimit { counts: Arc::new(Counts(DashMap::new())), limit }
    }

    /// Counts one more connection from `address`.
    ///
    /// # Errors
    /// [`LimitReached`] where there are already as many as allowed.
    pub fn acquire(&self, address: IpAddr) -> Result<AddressPermit, LimitReached> {
        let permit = self.counts.acquire(&counted_as(address), self.limit)?;
        Ok(AddressPermit { _permit: permit })
    }

    /// Addresses with at least one connection.
    pub fn addresses(&self) -> usize {
        self.counts.0.len()
    }
}

fn counted_as(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = address.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from_bits(network))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::principal::{Categories, Status, Tier, User};
    use crate::tiers::Tiers;

    fn principal(id: &str, connections: u32) -> Principal {
        let user = User {
            id: id.into(),
            tier: Tier::Premium,
            status: Status::Active,
            categories: Categories::ALL,
            real_time: None,
            connections: Some(connections),
            channels: None,
        };
        Principal::new(&user, &Tiers::default())
    }

    #[test]
    fn a_dropped_permit_makes_room_and_the_last_one_leaves_nothing() {
        let connections = Connections::new();
        let (alice, bob) = (principal("alice", 2), principal("bob", 1));
        let first = connections.acquire(&alice).unwrap();
        let second = connections.acquire(&alice).unwrap();
        assert_eq!(connections.acquire(&alice).map(drop), Err(LimitReached { limit: 2 }));
        let other = connections.acquire(&bob).unwrap();
        assert_eq!((connections.live(&alice), connections.live(&bob), connections.users()), (2, 1, 2));
        drop(first);
        let third = connections.acquire(&alice.until(9)).unwrap();
        assert!(connections.acquire(&alice).is_err());
        drop((second, third));
        assert_eq!((connections.live(&alice), connections.users()), (0, 1));
        drop(other);
        assert_eq!(connections.users(), 0);
    }

    #[test]
    fn a_limit_that_was_lowered_holds_for_the_next_connection() {
        let connections = Connections::new();
        let before = [(); 3].map(|()| connections.acquire(&principal("alice", 3)).unwrap());
        assert_eq!(connections.acquire(&principal("alice", 1)).map(drop), Err(LimitReached { limit: 1 }));
        drop(before);
        assert!(connections.acquire(&principal("alice", 1)).is_ok());
        assert!(connections.acquire(&principal("alice", 0)).is_err());
    }

    #[test]
    fn who_comes_in_while_the_last_one_leaves_stays_counted() {
        let connections = Connections::new();
        let alice = principal("alice", 1);
        let leaving = connections.acquire(&alice).unwrap();
        // A drop in two steps, with another connection between them.
        leaving._permit.place.live.fetch_sub(1, Ordering::Relaxed);
        let entering = connections.acquire(&alice).unwrap();
        connections.counts.sweep(alice.user());
        assert_eq!(connections.live(&alice), 1);
        assert!(connections.acquire(&alice).is_err());
        leaving._permit.place.live.fetch_add(1, Ordering::Relaxed);
        drop((leaving, entering));
        assert_eq!(connections.users(), 0);
    }

    #[test]
    fn threads_never_exceed_the_limit_and_leave_nothing_behind() {
        let connections = Connections::new();
        let alice = principal("alice", 2);
        let inside = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut taken = 0;
                    while taken < 2_000 {
                        let Ok(permit) = connections.acquire(&alice) else {
                            std::thread::yield_now();
                            continue;
                        };
                        assert!(inside.fetch_add(1, Ordering::SeqCst) < 2, "more than the limit inside");
                        std::thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                        drop(permit);
                        taken += 1;
                    }
                });
            }
        });
        assert_eq!(connections.users(), 0);
        let full = [(); 2].map(|()| connections.acquire(&alice).unwrap());
        assert!(connections.acquire(&alice).is_err());
        drop(full);
    }

    #[test]
    fn one_host_is_one_address() {
        let limit = AddressLimit::new(1);
        let acquire = |text: &str| limit.acquire(text.parse().unwrap());
        let held = [acquire("192.0.2.1").unwrap(), acquire("2001:db8:0:1::1").unwrap()];
        for same in ["192.0.2.1", "::ffff:192.0.2.1", "2001:db8:0:1::1", "2001:db8:0:1:ffff::2"] {
            assert!(acquire(same).is_err(), "{same}");
        }
        for other in ["192.0.2.2", "2001:db8:0:2::1"] {
            assert!(acquire(other).is_ok(), "{other}");
        }
        assert_eq!(limit.addresses(), 2);
        drop(held);
        assert_eq!(limit.addresses(), 0);
        assert!(acquire("::ffff:192.0.2.1").is_ok());
    }

    #[test]
    fn permits_are_small() {
        assert_eq!(size_of::<ConnectionPermit>(), 16);
        assert_eq!(size_of::<AddressPermit>(), 16);
    }
}
