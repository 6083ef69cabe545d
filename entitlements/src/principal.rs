//! Users as the store knows them, and principals: signed-in users with their rights worked out.
//!
//! A principal is immutable and shared: sign-ins by one API key all hold the same `Arc<Principal>`,
//! a sign-in by token holds one of its own, because the token's end is part of it. Rights are worked out once,
//! when the principal is made, so that [`decide`](crate::decide) is a handful of bit tests. Deliberately
//! absent: anything secret.

use std::sync::Arc;

use protocol::{AssetClass, ChannelKind, Freshness};
use serde::{Deserialize, Serialize};

use crate::limits::Quota;
use crate::tiers::{Kinds, Tiers};
use crate::token::TokenHashes;

/// What a user pays for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    Free,
    Premium,
    Enterprise,
}

impl Tier {
    pub const ALL: [Tier; 3] = [Tier::Free, Tier::Premium, Tier::Enterprise];

    /// The platform's name of the tier.
    pub const fn name(self) -> &'static str {
        match self {
            Tier::Free => "free",
            Tier::Premium => "premium",
            Tier::Enterprise => "enterprise",
        }
    }

    /// The tier of that name.
    pub fn from_name(name: &str) -> Option<Tier> {
        Self::ALL.into_iter().find(|tier| tier.name() == name)
    }
}

/// State of a user's subscription. Only `Active` opens more than the free tier; `Blocked` opens nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Active,
    Cancelled,
    Expired,
    Paused,
    Blocked,
}

impl Status {
    pub const ALL: [Status; 5] = [Status::Active, Status::Cancelled, Status::Expired, Status::Paused, Status::Blocked];

    /// The platform's name of the status.
    pub const fn name(self) -> &'static str {
        match self {
            Status::Active => "active",
            Status::Cancelled => "cancelled",
            Status::Expired => "expired",
            Status::Paused => "paused",
            Status::Blocked => "blocked",
        }
    }

    /// The status of that name.
    pub fn from_name(name: &str) -> Option<Status> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }
}

/// The platform's categories of instruments and signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Category {
    Equity,
    Forex,
    Crypto,
    /// Signals only: no instrument of the market-data channels is of this category.
    Commodity,
}

impl Category {
    pub const ALL: [Category; 4] = [Category::Equity, Category::Forex, Category::Crypto, Category::Commodity];

    /// The platform's name of the category.
    pub const fn name(self) -> &'static str {
        match self {
            Category::Equity => "equity",
            Category::Forex => "forex",
            Category::Crypto => "crypto",
            Category::Commodity => "commodity",
        }
    }

    /// The category of that name.
    pub fn from_name(name: &str) -> Option<Category> {
        Self::ALL.into_iter().find(|category| category.name() == name)
    }

    /// The category of a kind of signals; `None` for the other kinds, whose category is that of the instrument.
    pub const fn of_signals(kind: ChannelKind) -> Option<Category> {
        match kind {
            ChannelKind::SignalsEquity => Some(Category::Equity),
            ChannelKind::SignalsForex => Some(Category::Forex),
            ChannelKind::SignalsCrypto => Some(Category::Crypto),
            ChannelKind::SignalsCommodity => Some(Category::Commodity),
            _ => None,
        }
    }

    /// The kind of its signals.
    pub const fn signals(self) -> ChannelKind {
        match self {
            Category::Equity => ChannelKind::SignalsEquity,
            Category::Forex => ChannelKind::SignalsForex,
            Category::Crypto => ChannelKind::SignalsCrypto,
            Category::Commodity => ChannelKind::SignalsCommodity,
        }
    }

    /// The category that instruments of this class belong to.
    pub const fn of(asset: AssetClass) -> Category {
        match asset {
            AssetClass::Equity => Category::Equity,
            AssetClass::Forex => Category::Forex,
            AssetClass::Crypto => Category::Crypto,
        }
    }
}

/// A set of categories.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Categories(u8);

impl Categories {
    pub const NONE: Categories = Categories(0);
    pub const ALL: Categories =
        Categories::NONE.with(Category::Equity).with(Category::Forex).with(Category::Crypto).with(Category::Commodity);
    /// What instruments can be of; a wildcard needs all of these.
    pub const INSTRUMENTS: Categories = Categories::NONE
        .with(Category::of(AssetClass::Equity))
        .with(Category::of(AssetClass::Forex))
        .with(Category::of(AssetClass::Crypto));

    /// This set and `category`.
    pub const fn with(self, category: Category) -> Categories {
        Categories(self.0 | 1 << category as u8)
    }

    /// Whether every category of `other` is in this set.
    pub const fn contains(self, other: Categories) -> bool {
        self.0 & other.0 == other.0
    }

    /// The categories in the set, in the order of [`Category::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Category> {
        Category::ALL.into_iter().filter(move |category| self.contains(Categories::NONE.with(*category)))
    }
}

/// How much of the gateway one user may take up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Live connections of the user.
    pub connections: u32,
    /// Subscribed channels of one connection; a wildcard counts as one.
    pub channels: u32,
    /// Requests at the door, and as many of signed-in clients; `u32::MAX` where they are not limited. So are the next three.
    pub requests_per_minute: u32,
    pub requests_per_hour: u32,
    pub signals_per_hour: u32,
    pub signals_per_day: u32,
}

impl Limits {
    /// What requests are held to, at the door and of a session.
    pub const fn requests(&self) -> [Quota; 2] {
        [Quota::per_minute(self.requests_per_minute), Quota::per_hour(self.requests_per_hour)]
    }

    /// What live signals are held to.
    pub const fn signals(&self) -> [Quota; 2] {
        [Quota::per_hour(self.signals_per_hour), Quota::per_day(self.signals_per_day)]
    }
}

/// A user as recorded. `None` means: as the tier has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// See [`is_user_id`].
    pub id: Arc<str>,
    pub tier: Tier,
    pub status: Status,
    pub categories: Categories,
    pub real_time: Option<bool>,
    pub connections: Option<u32>,
    pub channels: Option<u32>,
    pub signals_per_day: Option<u32>,
    /// Rises with each change of the record; 0 where nobody counts them.
    pub version: u64,
}

impl User {
    /// An active user of a tier, with all categories and nothing of its own.
    pub fn new(id: &str, tier: Tier) -> User {
        User {
            id: id.into(),
            tier,
            status: Status::Active,
            categories: Categories::ALL,
            real_time: None,
            connections: None,
            channels: None,
            signals_per_day: None,
            version: 0,
        }
    }
}

/// Longest user id, in bytes.
pub const USER_ID_BYTES_MAX: usize = 128;

/// Whether a text can be a user's id: 1 to [`USER_ID_BYTES_MAX`] visible ASCII characters without braces. Braces are what
/// Redis Cluster takes a key's slot from, and an id stands between them in the names of keys.
pub fn is_user_id(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'{' | b'}');
    (1..=USER_ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(fits)
}

/// What a sign-in was by, without anything secret, so that it can be taken back while the session lives.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Credential {
    Token(TokenHashes),
    /// An API key, and the version of its record (see [`ApiKeyRecord::version`](crate::ApiKeyRecord::version)).
    Key {
        prefix: Arc<str>,
        version: u64,
    },
}

/// A signed-in user and what the user may have. Made by [`Principal::new`], shared as `Arc<Principal>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    user: Arc<str>,
    /// The tier whose rights apply: the recorded one only while the status is `Active`.
    tier: Tier,
    status: Status,
    pub(crate) kinds: Kinds,
    pub(crate) wildcard: bool,
    categories: Categories,
    freshness: Freshness,
    limits: Limits,
    /// What the API key of the sign-in is for; all kinds where there is none.
    pub(crate) scope: Kinds,
    /// Of the user's record.
    version: u64,
    /// Unix seconds from which the sign-in no longer holds; `i64::MAX` where it has no end.
    expires_at: i64,
    /// What the sign-in was by; boxed, because there is one principal for each session by a token.
    credential: Option<Box<Credential>>,
}

impl Principal {
    /// Works out what `user` may have. A user whose status is not `Active` has at most what the free tier has,
    /// delayed; settings of the user's own may only lower that.
    pub fn new(user: &User, tiers: &Tiers) -> Principal {
        let active = user.status == Status::Active;
        let tier = if active { user.tier } else { Tier::Free };
        let rights = tiers.rights(tier);
        let bounded = |own: Option<u32>, of_tier: u32| match own {
            Some(own) if active => own,
            Some(own) => own.min(of_tier),
            None => of_tier,
        };
        let real_time = active && user.real_time.unwrap_or(rights.real_time);
        Principal {
            user: user.id.clone(),
            tier,
            status: user.status,
            kinds: rights.kinds,
            wildcard: rights.wildcard,
            categories: user.categories,
            freshness: if real_time { Freshness::RealTime } else { Freshness::Delayed },
            limits: Limits {
                connections: bounded(user.connections, rights.connections),
                channels: bounded(user.channels, rights.channels),
                requests_per_minute: rights.requests_per_minute,
                requests_per_hour: rights.requests_per_hour,
                signals_per_hour: rights.signals_per_hour,
                signals_per_day: bounded(user.signals_per_day, rights.signals_per_day),
            },
            scope: Kinds::ALL,
            version: user.version,
            expires_at: i64::MAX,
            credential: None,
        }
    }

    /// The same principal, signed in until `expires_at` (Unix seconds).
    pub fn until(&self, expires_at: i64) -> Principal {
        Principal { expires_at, ..self.clone() }
    }

    /// The same principal, signed in by this.
    pub fn by(&self, credential: Credential) -> Principal {
        Principal { credential: Some(Box::new(credential)), ..self.clone() }
    }

    /// The same principal, signed in by an API key for these kinds only.
    pub fn scoped(&self, scope: Kinds) -> Principal {
        Principal { scope, ..self.clone() }
    }

    /// These rights for the sign-in of `session`: its end, its credential and its scope are kept. Shared where that has none
    /// of them.
    pub fn succeeding(self: &Arc<Self>, session: &Principal) -> Arc<Principal> {
        if session.expires_at == i64::MAX && session.credential.is_none() && session.scope == Kinds::ALL {
            return self.clone();
        }
        Arc::new(Principal {
            expires_at: session.expires_at,
            credential: session.credential.clone(),
            scope: session.scope,
            ..Principal::clone(self)
        })
    }

    /// The rights alone, without what the sign-in was.
    pub fn rights(&self) -> Principal {
        Principal { expires_at: i64::MAX, credential: None, scope: Kinds::ALL, ..self.clone() }
    }

    /// Whether both give the same rights, whatever the sign-in was.
    pub fn has_rights_of(&self, other: &Principal) -> bool {
        let rights = |p: &Principal| (p.tier, p.status, p.kinds, p.wildcard, p.categories, p.freshness, p.limits);
        rights(self) == rights(other)
    }

    /// Version of the user's record that the rights are of; 0 where nobody counts them.
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// What the sign-in was by.
    pub fn credential(&self) -> Option<&Credential> {
        self.credential.as_deref()
    }

    /// The user's id.
    pub fn user(&self) -> &Arc<str> {
        &self.user
    }

    /// The tier whose rights apply: `Free` for a user whose subscription is not active.
    pub const fn tier(&self) -> Tier {
        self.tier
    }

    pub const fn status(&self) -> Status {
        self.status
    }

    pub const fn categories(&self) -> Categories {
        self.categories
    }

    /// Whether the user's data are live or delayed.
    pub const fn freshness(&self) -> Freshness {
        self.freshness
    }

    pub const fn limits(&self) -> Limits {
        self.limits
    }

    /// Unix seconds from which the sign-in no longer holds (the clock leeway is in it); `None`: no end.
    pub const fn expires_at(&self) -> Option<i64> {
        if self.expires_at == i64::MAX { None } else { Some(self.expires_at) }
    }

    /// Whether the sign-in no longer holds at `now` (Unix seconds).
    pub const fn has_expired(&self, now: i64) -> bool {
        now >= self.expires_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(tier: Tier, status: Status, connections: Option<u32>, channels: Option<u32>) -> (u32, u32) {
        let user = User { status, connections, channels, ..User::new("u", tier) };
        let limits = Principal::new(&user, &Tiers::default()).limits();
        (limits.connections, limits.channels)
    }

    #[test]
    fn limits_are_the_tiers_unless_the_user_has_its_own() {
        assert_eq!(limits(Tier::Free, Status::Active, None, None), (5, 30));
        assert_eq!(limits(Tier::Premium, Status::Active, None, None), (5_000, 1_000));
        assert_eq!(limits(Tier::Enterprise, Status::Active, None, None), (100_000, 10_000));
        assert_eq!(limits(Tier::Free, Status::Active, Some(9), Some(99)), (9, 99));
        assert_eq!(limits(Tier::Premium, Status::Active, Some(1), None), (1, 1_000));
    }

    #[test]
    fn own_limits_of_a_lapsed_user_only_lower_those_of_free() {
        for status in [Status::Cancelled, Status::Expired, Status::Paused, Status::Blocked] {
            assert_eq!(limits(Tier::Enterprise, status, Some(2), Some(20_000)), (2, 30));
            assert_eq!(limits(Tier::Enterprise, status, None, None), (5, 30));
        }
    }

    #[test]
    fn names_are_read_back() {
        assert!(Tier::ALL.into_iter().all(|tier| Tier::from_name(tier.name()) == Some(tier)));
        assert!(Status::ALL.into_iter().all(|status| Status::from_name(status.name()) == Some(status)));
        assert!(Category::ALL.into_iter().all(|category| Category::from_name(category.name()) == Some(category)));
        assert_eq!((Tier::from_name("Free"), Status::from_name(""), Category::from_name("*")), (None, None, None));
    }

    #[test]
    fn a_principal_is_small() {
        assert!(size_of::<Principal>() <= 88, "{}", size_of::<Principal>());
    }

    #[test]
    fn new_rights_keep_what_the_sign_in_was() {
        let of = |tier, version| Arc::new(Principal::new(&User { version, ..User::new("u", tier) }, &Tiers::default()));
        let (before, after) = (of(Tier::Free, 1), of(Tier::Premium, 2));
        assert!(Arc::ptr_eq(&after.succeeding(&before), &after));
        let trades = Kinds::NONE.with(protocol::ChannelKind::Trades);
        let signed_in = before.until(9).by(Credential::Token(TokenHashes::of("t"))).scoped(trades);
        let succeeded = after.succeeding(&signed_in);
        assert_eq!(*succeeded, after.until(9).by(Credential::Token(TokenHashes::of("t"))).scoped(trades));
        assert!(succeeded.has_rights_of(&after) && !succeeded.has_rights_of(&before));
        assert_eq!((succeeded.version(), succeeded.tier()), (2, Tier::Premium));
    }

    #[test]
    fn ids_are_visible_ascii_without_braces() {
        let long = "a".repeat(128);
        for id in ["a", "alice", "auth0|5f7c", "bob@example.org", "a:b/c", "%7B", &long] {
            assert!(is_user_id(id), "{id}");
        }
        for id in ["", "a b", "{a}", "a}", "jos\u{e9}", "a\n", "a\0", "\u{202e}ecila", &"a".repeat(129)] {
            assert!(!is_user_id(id), "{id}");
        }
    }
}
