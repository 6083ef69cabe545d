//! Users as the store knows them, and principals: signed-in users with their rights worked out.
//!
//! A principal is immutable and shared: sign-ins by API key all hold the one `Arc<Principal>` of their user,
//! a sign-in by token holds one of its own, because the token's end is part of it. Rights are worked out once,
//! when the principal is made, so that [`decide`](crate::decide) is a handful of bit tests. Deliberately
//! absent: anything secret.

use std::sync::Arc;

use protocol::{AssetClass, Freshness};
use serde::{Deserialize, Serialize};

use crate::tiers::{Kinds, Tiers};

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

/// How much of the gateway one user may take up at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Live connections of the user.
    pub connections: u32,
    /// Subscribed channels of one connection; a wildcard counts as one.
    pub channels: u32,
}

/// A user as recorded. `None` means: as the tier has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub id: Arc<str>,
    pub tier: Tier,
    pub status: Status,
    pub categories: Categories,
    pub real_time: Option<bool>,
    pub connections: Option<u32>,
    pub channels: Option<u32>,
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
    /// Unix seconds from which the sign-in no longer holds; `i64::MAX` where it has no end.
    expires_at: i64,
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
            },
            expires_at: i64::MAX,
        }
    }

    /// The same principal, signed in until `expires_at` (Unix seconds).
    pub fn until(&self, expires_at: i64) -> Principal {
        Principal { expires_at, ..self.clone() }
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
        let user =
            User { id: "u".into(), tier, status, categories: Categories::ALL, real_time: None, connections, channels };
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
        assert!(size_of::<Principal>() <= 48, "{}", size_of::<Principal>());
    }
}
