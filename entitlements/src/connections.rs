//! Live connections, counted per user and per address. A permit is held by the session and gives its place back
//! when it is dropped, on whichever thread that happens.
//!
//! Counting takes the lock of one map shard at sign-in and at the end of a session, never in between. Memory is
//! bounded by the number of users and addresses that are connected now: the last permit removes their entry.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use arc_swap::ArcSwapOption;
use dashmap::{DashMap, Entry};

use crate::principal::{Credential, Principal};
use crate::store::Store;

/// The limit was reached; nothing was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("connection limit of {limit} reached")]
pub struct LimitReached {
    pub limit: u32,
}

/// Live permits per key, and what is known of each key while it has any.
///
/// **Invariant**: a key is in the map exactly while it has permits. The count goes up only under the lock of the
/// key's map shard, and the entry is removed only under that lock and at zero, so no count is ever split between
/// two entries of one key.
#[derive(Debug)]
struct Counts<K: Eq + Hash, V>(DashMap<K, Arc<Place<K, V>>>);

struct Place<K, V> {
    key: K,
    live: AtomicU32,
    known: V,
}

/// One counted place, 16 bytes.
struct Permit<K: Eq + Hash, V> {
    place: Arc<Place<K, V>>,
    counts: Arc<Counts<K, V>>,
}

impl<K: Eq + Hash + Clone, V> Counts<K, V> {
    /// `known` is asked for where the key has no permit yet.
    fn acquire(self: &Arc<Self>, key: &K, limit: u32, known: impl FnOnce() -> V) -> Result<Permit<K, V>, LimitReached> {
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
            Entry::Vacant(entry) => {
                entry.insert(Arc::new(Place { key: key.clone(), live: AtomicU32::new(1), known: known() })).clone()
            }
        };
        Ok(Permit { place, counts: self.clone() })
    }

    fn live(&self, key: &K) -> u32 {
        // Relaxed: a count for people to look at.
        self.0.get(key).map_or(0, |place| place.live.load(Ordering::Relaxed))
    }
}

impl<K: Eq + Hash, V> Counts<K, V> {
    /// Removes the key's entry if no permit is left.
    fn sweep(&self, key: &K) {
        // Relaxed: the shard's lock, which remove_if holds, orders this with acquisitions.
        self.0.remove_if(key, |_, place| place.live.load(Ordering::Relaxed) == 0);
    }
}

impl<K: Eq + Hash, V> Drop for Permit<K, V> {
    fn drop(&mut self) {
        // Relaxed: nothing but the count is published. Someone may come in between this and the sweep, which is
        // why the sweep looks again.
        if self.place.live.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.counts.sweep(&self.place.key);
        }
    }
}

impl<K, V> fmt::Debug for Place<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} live", self.live.load(Ordering::Relaxed))
    }
}

impl<K: Eq + Hash, V> fmt::Debug for Permit<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Permit")
    }
}

/// What is known of a connected user.
struct Known {
    /// As of the newest version of its record that was heard of; `None` once it is gone.
    rights: ArcSwapOption<Principal>,
    /// The principals of sign-ins by API keys, by the key's prefix: those by one key share theirs.
    by_key: Mutex<Option<Box<ByKey>>>,
    /// Where its sessions are registered.
    store: Arc<dyn Store>,
}

type ByKey = HashMap<Arc<str>, Weak<Principal>>;

impl Known {
    /// The same principal, shared with other sign-ins by the same key.
    fn share(&self, principal: Arc<Principal>) -> Arc<Principal> {
        let Some(Credential::Key { prefix, .. }) = principal.credential() else { return principal };
        let mut by_key = self.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        let by_key = by_key.get_or_insert_default();
        if let Some(shared) = by_key.get(prefix).and_then(Weak::upgrade).filter(|shared| *shared == principal) {
            return shared;
        }
        // Those that nobody holds any more go as others come.
        if by_key.len().is_power_of_two() {
            by_key.retain(|_, shared| shared.strong_count() > 0);
        }
        by_key.insert(prefix.clone(), Arc::downgrade(&principal));
        principal
    }
}

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Known").field(&*self.rights.load()).finish()
    }
}

/// Live connections of this node per user, and each connected user's rights. Cloning shares them.
#[derive(Clone, Debug)]
pub struct Connections {
    counts: Arc<Counts<Arc<str>, Known>>,
    store: Arc<dyn Store>,
    last_number: Arc<AtomicU64>,
}

/// A user's place for one connection, given back on drop: here, and in the store where the session was registered there.
#[derive(Debug)]
pub struct ConnectionPermit {
    permit: Permit<Arc<str>, Known>,
    /// The session's number in the store; 0 until it is registered.
    number: u64,
}

/// What came of news about a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update {
    /// The user has no connection here.
    NotHere,
    /// A version that was known, or a newer one is.
    Known,
    /// These rights count from now on.
    New(Arc<Principal>),
}

impl Connections {
    /// Sessions are registered in `store`.
    pub fn new(store: Arc<dyn Store>) -> Connections {
        Connections { counts: Arc::new(Counts(DashMap::new())), store, last_number: Arc::default() }
    }

    /// Counts one more connection of the principal's user. Returns the rights that the session has: the principal's, or newer
    /// ones if this node has heard of them.
    ///
    /// # Errors
    /// [`LimitReached`] where the user already has as many as the principal's limit.
    pub fn acquire(&self, principal: &Arc<Principal>) -> Result<(ConnectionPermit, Arc<Principal>), LimitReached> {
        let known = || Known {
            rights: ArcSwapOption::from(Some(Arc::new(principal.rights()))),
            by_key: Mutex::default(),
            store: self.store.clone(),
        };
        let permit = self.counts.acquire(principal.user(), principal.limits().connections, known)?;
        let permit = ConnectionPermit { permit, number: 0 };
        let principal = match permit.rights() {
            Some(known) if known.version() > principal.version() || known.has_rights_of(principal) => {
                known.succeeding(principal)
            }
            _ => principal.clone(),
        };
        let principal = permit.share(principal);
        Ok((permit, principal))
    }

    /// A number for the next session: unique in this process, from 1.
    pub fn next_number(&self) -> u64 {
        // Relaxed: only that it is another one each time.
        self.last_number.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Takes new rights of a user in, unless newer ones are known. `None` means that the user is gone.
    pub fn update(&self, user: &Arc<str>, rights: Option<Principal>) -> Update {
        let Some(place) = self.counts.0.get(user).map(|place| place.clone()) else { return Update::NotHere };
        let known = place.known.rights.load_full();
        match (known, rights) {
            (None, None) => Update::Known,
            (_, None) => {
                place.known.rights.store(None);
                Update::Known
            }
            (Some(known), Some(new)) if known.version() > new.version() => Update::Known,
            (Some(known), Some(new)) if known.version() == new.version() && known.has_rights_of(&new) => Update::Known,
            (_, Some(new)) => {
                let new = Arc::new(new);
                place.known.rights.store(Some(new.clone()));
                Update::New(new)
            }
        }
    }

    /// Live connections of the principal's user.
    pub fn live(&self, principal: &Principal) -> u32 {
        self.counts.live(principal.user())
    }

    /// How many users have at least one connection.
    pub fn user_count(&self) -> usize {
        self.counts.0.len()
    }

    /// Users with at least one connection.
    pub fn users(&self) -> Vec<Arc<str>> {
        self.counts.0.iter().map(|entry| entry.key().clone()).collect()
    }
}

impl ConnectionPermit {
    /// The user's rights as of the newest version that this node has heard of; `None` where the user is gone.
    pub fn rights(&self) -> Option<Arc<Principal>> {
        self.permit.place.known.rights.load_full()
    }

    /// The same principal, shared with the user's other sessions by the same API key.
    pub fn share(&self, principal: Arc<Principal>) -> Arc<Principal> {
        self.permit.place.known.share(principal)
    }

    /// The session is registered in the store under this number, and is to be taken back with the permit.
    pub fn set_number(&mut self, number: u64) {
        self.number = number;
    }

    /// The session's number in the store; 0 where it is not registered.
    pub fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        if self.number != 0 {
            let place = &self.permit.place;
            place.known.store.close(self.number, &place.key);
        }
    }
}

/// Live connections per address, with one limit for all. An IPv6 host has a whole /64 to itself, so those are
/// counted by their first 64 bits, and IPv4 addresses in IPv6 form as IPv4. Cloning shares the counts.
#[derive(Clone, Debug)]
pub struct AddressLimit {
    counts: Arc<Counts<IpAddr, ()>>,
    limit: u32,
}

/// An address's place for one connection, given back on drop.
#[derive(Debug)]
pub struct AddressPermit {
    permit: Permit<IpAddr, ()>,
    /// The part of an IPv6 address that is not counted.
    host: u64,
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
        let permit = self.counts.acquire(&counted_as(address), self.limit, || ())?;
        let host = match address.to_canonical() {
            IpAddr::V6(address) => address.to_bits() as u64,
            IpAddr::V4(_) => 0,
        };
        Ok(AddressPermit { permit, host })
    }

    /// How many addresses have at least one connection.
    pub fn addresses(&self) -> usize {
        self.counts.0.len()
    }
}

impl AddressPermit {
    /// The whole address; an IPv4 one that was written as IPv6 as IPv4.
    pub fn address(&self) -> IpAddr {
        match self.permit.place.key {
            IpAddr::V6(network) => IpAddr::V6(Ipv6Addr::from_bits(network.to_bits() | u128::from(self.host))),
            v4 => v4,
        }
    }
}

/// The address under which a host is counted: the /64 of an IPv6 one, and IPv4 also where it is written as IPv6.
pub(crate) fn counted_as(address: IpAddr) -> IpAddr {
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
    use crate::principal::{Tier, User};
    use crate::store::{Embedded, Users};
    use crate::tiers::Tiers;

    fn principal(id: &str, connections: u32) -> Arc<Principal> {
        let user = User { connections: Some(connections), ..User::new(id, Tier::Premium) };
        Arc::new(Principal::new(&user, &Tiers::default()))
    }

    fn connections() -> Connections {
        Connections::new(Arc::new(Embedded::of(Users::default())))
    }

    #[test]
    fn a_dropped_permit_makes_room_and_the_last_one_leaves_nothing() {
        let connections = connections();
        let (alice, bob) = (principal("alice", 2), principal("bob", 1));
        let first = connections.acquire(&alice).unwrap();
        let second = connections.acquire(&alice).unwrap();
        assert_eq!(connections.acquire(&alice).map(drop), Err(LimitReached { limit: 2 }));
        let other = connections.acquire(&bob).unwrap();
        assert_eq!((connections.live(&alice), connections.live(&bob), connections.user_count()), (2, 1, 2));
        drop(first);
        let third = connections.acquire(&Arc::new(alice.until(9))).unwrap();
        assert!(connections.acquire(&alice).is_err());
        drop((second, third));
        assert_eq!((connections.live(&alice), connections.user_count()), (0, 1));
        drop(other);
        assert_eq!(connections.user_count(), 0);
    }

    #[test]
    fn a_limit_that_was_lowered_holds_for_the_next_connection() {
        let connections = connections();
        let before = [(); 3].map(|()| connections.acquire(&principal("alice", 3)).unwrap());
        assert_eq!(connections.acquire(&principal("alice", 1)).map(drop), Err(LimitReached { limit: 1 }));
        drop(before);
        assert!(connections.acquire(&principal("alice", 1)).is_ok());
        assert!(connections.acquire(&principal("alice", 0)).is_err());
    }

    #[test]
    fn who_comes_in_while_the_last_one_leaves_stays_counted() {
        let connections = connections();
        let alice = principal("alice", 1);
        let (leaving, _) = connections.acquire(&alice).unwrap();
        // A drop in two steps, with another connection between them.
        leaving.permit.place.live.fetch_sub(1, Ordering::Relaxed);
        let entering = connections.acquire(&alice).unwrap();
        connections.counts.sweep(alice.user());
        assert_eq!(connections.live(&alice), 1);
        assert!(connections.acquire(&alice).is_err());
        leaving.permit.place.live.fetch_add(1, Ordering::Relaxed);
        drop((leaving, entering));
        assert_eq!(connections.user_count(), 0);
    }

    #[test]
    fn the_newest_rights_count_whatever_the_order_of_news() {
        let connections = connections();
        let of = |tier, version| Principal::new(&User { version, ..User::new("alice", tier) }, &Tiers::default());
        let alice: Arc<str> = "alice".into();
        assert_eq!(connections.update(&alice, Some(of(Tier::Free, 9))), Update::NotHere);
        let (permit, held) = connections.acquire(&Arc::new(of(Tier::Free, 3).until(99))).unwrap();
        assert_eq!((held.version(), permit.rights().unwrap().expires_at()), (3, None));
        assert!(matches!(connections.update(&alice, Some(of(Tier::Premium, 5))), Update::New(_)));
        assert_eq!(connections.update(&alice, Some(of(Tier::Premium, 5))), Update::Known);
        assert_eq!(connections.update(&alice, Some(of(Tier::Free, 4))), Update::Known);
        assert_eq!(permit.rights().unwrap().tier(), Tier::Premium);
        // Sign-ins by key share one principal.
        let (again, shared) = connections.acquire(&Arc::new(of(Tier::Premium, 5))).unwrap();
        assert!(Arc::ptr_eq(&shared, &again.rights().unwrap()));
        // Who reads an old record while signing in has what the others have.
        let (other, held) = connections.acquire(&Arc::new(of(Tier::Free, 4).until(77))).unwrap();
        assert_eq!((held.tier(), held.version(), held.expires_at()), (Tier::Premium, 5, Some(77)));
        connections.update(&alice, None);
        assert_eq!((permit.rights(), other.rights()), (None, None));
        assert!(matches!(connections.update(&alice, Some(of(Tier::Free, 1))), Update::New(_)));
    }

    #[test]
    fn threads_never_exceed_the_limit_and_leave_nothing_behind() {
        let connections = connections();
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
        assert_eq!(connections.user_count(), 0);
        let full = [(); 2].map(|()| connections.acquire(&alice).unwrap());
        assert!(connections.acquire(&alice).is_err());
        drop(full);
    }

    #[test]
    fn sign_ins_by_one_key_share_their_principal() {
        let connections = connections();
        let by = |prefix: &str, version| {
            let key = Credential::Key { prefix: prefix.into(), version };
            connections.acquire(&Arc::new(principal("alice", 1_000).by(key))).unwrap()
        };
        let (one, same, other, rotated) = (by("a", 1), by("a", 1), by("b", 1), by("a", 2));
        assert!(Arc::ptr_eq(&one.1, &same.1));
        assert!(!Arc::ptr_eq(&one.1, &other.1) && !Arc::ptr_eq(&one.1, &rotated.1));
        assert!(Arc::ptr_eq(&rotated.1, &by("a", 2).1));
        // New rights are shared again, whichever session asks first.
        let new = Arc::new(principal("alice", 7));
        let [new_one, new_same] = [&one, &same].map(|(permit, old)| permit.share(new.succeeding(old)));
        assert!(Arc::ptr_eq(&new_one, &new_same) && new_one.limits().connections == 7);
        // Keys that come and go leave nothing behind.
        for number in 0..100 {
            by(&number.to_string(), 1);
        }
        assert!(one.0.permit.place.known.by_key.lock().unwrap().as_ref().unwrap().len() < 40);
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
        let addresses = held.each_ref().map(|permit| permit.address().to_string());
        assert_eq!(addresses, ["192.0.2.1", "2001:db8:0:1::1"]);
        drop(held);
        assert_eq!(limit.addresses(), 0);
        assert!(acquire("::ffff:192.0.2.1").is_ok());
    }

    #[test]
    fn permits_are_small() {
        assert_eq!(size_of::<ConnectionPermit>(), 24);
        assert_eq!(size_of::<AddressPermit>(), 24);
    }
}
