//! The decision on one subscription. Pure, without allocation, and the only place where a [`Grant`] is made.

use protocol::{AssetClass, Channel, ChannelKind, Freshness, Selector};

use crate::principal::{Categories, Category, Principal, Status, Tier};

/// Leave to receive one channel. Only [`decide`] makes one, and the fan-out takes nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    channel: Channel,
    freshness: Freshness,
}

impl Grant {
    pub const fn channel(self) -> Channel {
        self.channel
    }

    /// Which of the channel's two streams the grant is for.
    pub const fn freshness(self) -> Freshness {
        self.freshness
    }
}

/// Why a subscription is refused. The message goes to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    #[error("the sign-in has expired")]
    SignInExpired,
    #[error("the account is blocked")]
    Blocked,
    #[error("{} is not part of {}", kind.name(), standing(*tier, *status))]
    Kind { kind: ChannelKind, tier: Tier, status: Status },
    #[error("\"*\" is not part of {}", standing(*tier, *status))]
    Wildcard { tier: Tier, status: Status },
    #[error("{} is not in the scopes of the API key", kind.name())]
    Scope { kind: ChannelKind },
    /// `asset` is `None` where instruments of all classes were asked for.
    #[error("{}", category(*asset))]
    Category { asset: Option<AssetClass> },
    #[error("signals of {} are not among the categories of the account", category.name())]
    Signals { category: Category },
}

impl Denial {
    /// The client protocol's error code: 401 not authenticated, 409 insufficient subscription, 411 insufficient
    /// scope.
    pub const fn code(self) -> u16 {
        match self {
            Denial::SignInExpired => 401,
            Denial::Blocked | Denial::Kind { .. } | Denial::Wildcard { .. } => 409,
            Denial::Scope { .. } | Denial::Category { .. } | Denial::Signals { .. } => 411,
        }
    }
}

fn standing(tier: Tier, status: Status) -> String {
    match status {
        Status::Active => format!("the {} tier", tier.name()),
        _ => format!("the {} tier, which applies while the subscription is {}", tier.name(), status.name()),
    }
}

fn category(asset: Option<AssetClass>) -> String {
    match asset {
        Some(asset) => format!("{} is not among the categories of the account", asset.name()),
        None => "the account does not have the categories of all instruments".to_owned(),
    }
}

/// Decides whether `principal` may have `channel` at `now` (Unix seconds). `asset` is the class of the channel's
/// instrument, and `None` where the channel is of all instruments; that takes all their categories.
///
/// A `const fn`, which is the proof that it neither allocates nor locks.
///
/// # Errors
/// [`Denial`]; the most general reason wins: sign-in, then tier, then the API key's scopes, then category.
pub const fn decide(
    principal: &Principal,
    channel: Channel,
    asset: Option<AssetClass>,
    now: i64,
) -> Result<Grant, Denial> {
    let (tier, status) = (principal.tier(), principal.status());
    if principal.has_expired(now) {
        return Err(Denial::SignInExpired);
    }
    if matches!(status, Status::Blocked) {
        return Err(Denial::Blocked);
    }
    if !principal.kinds.contains(channel.kind) {
        return Err(Denial::Kind { kind: channel.kind, tier, status });
    }
    if !principal.scope.contains(channel.kind) {
        return Err(Denial::Scope { kind: channel.kind });
    }
    // A signal's category is its own, not that of its instrument, and there is a kind for each: whoever has the category may
    // have all of it.
    if let Some(category) = Category::of_signals(channel.kind) {
        return match principal.categories().contains(Categories::NONE.with(category)) {
            true => Ok(Grant { channel, freshness: principal.freshness() }),
            false => Err(Denial::Signals { category }),
        };
    }
    let asset = match channel.selector {
        Selector::All if !principal.wildcard => return Err(Denial::Wildcard { tier, status }),
        Selector::All => None,
        Selector::One(_) => asset,
    };
    let needed = match asset {
        Some(asset) => Categories::NONE.with(Category::of(asset)),
        None => Categories::INSTRUMENTS,
    };
    if !principal.categories().contains(needed) {
        return Err(Denial::Category { asset });
    }
    Ok(Grant { channel, freshness: principal.freshness() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::principal::User;
    use crate::tiers::Tiers;
    use AssetClass::{Crypto, Equity, Forex};
    use ChannelKind::{Bars, Quotes, Trades, UpdatedBars};
    use Freshness::{Delayed, RealTime};
    use Status::{Active, Blocked, Cancelled, Expired, Paused};
    use Tier::{Enterprise, Free, Premium};
    use protocol::InstrumentId;

    const NOW: i64 = 1_763_654_400;
    const CRYPTO: Categories = Categories::NONE.with(Category::Crypto);

    fn principal(tier: Tier, status: Status, real_time: Option<bool>, categories: Categories) -> Principal {
        let user = User { status, categories, real_time, ..User::new("u", tier) };
        Principal::new(&user, &Tiers::default())
    }

    fn one(kind: ChannelKind) -> Channel {
        Channel { kind, selector: Selector::One(InstrumentId(3)) }
    }

    fn all(kind: ChannelKind) -> Channel {
        Channel { kind, selector: Selector::All }
    }

    #[track_caller]
    fn check(principal: &Principal, channel: Channel, asset: Option<AssetClass>, expected: Result<Freshness, Denial>) {
        let decided = decide(principal, channel, asset, NOW);
        assert_eq!(decided.map(Grant::freshness), expected, "{principal:?} {channel:?} {asset:?}");
        if let Ok(grant) = decided {
            assert_eq!(grant.channel(), channel);
        }
    }

    #[test]
    fn tiers() {
        let of = |tier| principal(tier, Active, None, Categories::ALL);
        check(&of(Free), one(Trades), Some(Crypto), Ok(Delayed));
        check(&of(Free), one(Quotes), Some(Equity), Ok(Delayed));
        check(&of(Free), one(Bars), Some(Forex), Ok(Delayed));
        let denied = Denial::Kind { kind: UpdatedBars, tier: Free, status: Active };
        check(&of(Free), one(UpdatedBars), Some(Crypto), Err(denied));
        check(&of(Free), all(Trades), None, Err(Denial::Wildcard { tier: Free, status: Active }));
        for tier in [Premium, Enterprise] {
            check(&of(tier), one(UpdatedBars), Some(Crypto), Ok(RealTime));
            check(&of(tier), all(Quotes), None, Ok(RealTime));
        }
    }

    #[test]
    fn only_an_active_subscription_opens_more_than_free() {
        for status in [Cancelled, Expired, Paused] {
            let of = principal(Enterprise, status, Some(true), Categories::ALL);
            check(&of, one(Trades), Some(Crypto), Ok(Delayed));
            check(&of, one(UpdatedBars), Some(Crypto), Err(Denial::Kind { kind: UpdatedBars, tier: Free, status }));
            check(&of, all(Trades), None, Err(Denial::Wildcard { tier: Free, status }));
            assert_eq!((of.tier(), of.limits()), (Free, principal(Free, Active, None, CRYPTO).limits()));
        }
        check(
            &principal(Enterprise, Blocked, Some(true), Categories::ALL),
            one(Trades),
            Some(Crypto),
            Err(Denial::Blocked),
        );
    }

    #[test]
    fn categories() {
        let of = |categories| principal(Premium, Active, None, categories);
        check(&of(CRYPTO), one(Trades), Some(Crypto), Ok(RealTime));
        check(&of(CRYPTO), one(Trades), Some(Equity), Err(Denial::Category { asset: Some(Equity) }));
        check(&of(Categories::NONE), one(Trades), Some(Crypto), Err(Denial::Category { asset: Some(Crypto) }));
        check(&of(CRYPTO), all(Trades), None, Err(Denial::Category { asset: None }));
        // A class given with a wildcard does not narrow what the wildcard needs.
        check(&of(CRYPTO), all(Trades), Some(Crypto), Err(Denial::Category { asset: None }));
        // An instrument of unknown class may be of any.
        check(&of(CRYPTO), one(Trades), None, Err(Denial::Category { asset: None }));
        // No instrument is a commodity, so a wildcard needs the other three.
        check(&of(Categories::INSTRUMENTS), all(Trades), None, Ok(RealTime));
        check(
            &of(CRYPTO.with(Category::Equity).with(Category::Commodity)),
            all(Trades),
            None,
            Err(Denial::Category { asset: None }),
        );
    }

    #[test]
    fn signals_go_by_their_own_category() {
        use ChannelKind::{SignalsCommodity, SignalsCrypto};
        let of = principal(Free, Active, None, CRYPTO);
        check(&of, one(SignalsCrypto), Some(Crypto), Ok(Delayed));
        // All of a category is no wildcard of market data.
        check(&of, all(SignalsCrypto), None, Ok(Delayed));
        let denied = Err(Denial::Signals { category: Category::Commodity });
        check(&of, one(SignalsCommodity), Some(Crypto), denied);
        check(&of, all(SignalsCommodity), None, denied);
        check(&principal(Premium, Active, None, Categories::ALL), all(SignalsCommodity), None, Ok(RealTime));
    }

    #[test]
    fn real_time() {
        check(&principal(Free, Active, Some(true), CRYPTO), one(Trades), Some(Crypto), Ok(RealTime));
        check(&principal(Premium, Active, Some(false), CRYPTO), one(Trades), Some(Crypto), Ok(Delayed));
        check(&principal(Enterprise, Active, Some(false), Categories::ALL), all(Trades), None, Ok(Delayed));
        check(&principal(Premium, Paused, Some(true), CRYPTO), one(Trades), Some(Crypto), Ok(Delayed));
    }

    #[test]
    fn scopes_of_a_key_narrow_and_never_widen() {
        let trades = crate::tiers::Kinds::NONE.with(Trades);
        let premium = principal(Premium, Active, None, Categories::ALL).scoped(trades);
        check(&premium, one(Trades), Some(Crypto), Ok(RealTime));
        check(&premium, all(Trades), None, Ok(RealTime));
        check(&premium, one(Quotes), Some(Crypto), Err(Denial::Scope { kind: Quotes }));
        let bars = crate::tiers::Kinds::NONE.with(UpdatedBars);
        let denied = Denial::Kind { kind: UpdatedBars, tier: Free, status: Active };
        check(
            &principal(Free, Active, None, Categories::ALL).scoped(bars),
            one(UpdatedBars),
            Some(Crypto),
            Err(denied),
        );
    }

    #[test]
    fn a_sign_in_ends() {
        let of = principal(Enterprise, Active, None, Categories::ALL);
        check(&of.until(NOW + 1), one(Trades), Some(Crypto), Ok(RealTime));
        check(&of.until(NOW), one(Trades), Some(Crypto), Err(Denial::SignInExpired));
        assert_eq!((of.expires_at(), of.until(NOW).expires_at()), (None, Some(NOW)));
        assert!(!of.has_expired(i64::MAX - 1));
    }

    #[test]
    fn denials_say_what_is_missing() {
        for (denial, code, message) in [
            (Denial::SignInExpired, 401, "the sign-in has expired"),
            (Denial::Blocked, 409, "the account is blocked"),
            (
                Denial::Kind { kind: UpdatedBars, tier: Free, status: Active },
                409,
                "updatedBars is not part of the free tier",
            ),
            (
                Denial::Wildcard { tier: Free, status: Paused },
                409,
                "\"*\" is not part of the free tier, which applies while the subscription is paused",
            ),
            (Denial::Scope { kind: Quotes }, 411, "quotes is not in the scopes of the API key"),
            (Denial::Category { asset: Some(Equity) }, 411, "equity is not among the categories of the account"),
            (Denial::Category { asset: None }, 411, "the account does not have the categories of all instruments"),
            (
                Denial::Signals { category: Category::Commodity },
                411,
                "signals of commodity are not among the categories of the account",
            ),
        ] {
            assert_eq!((denial.code(), denial.to_string().as_str()), (code, message));
        }
    }

    /// Every combination against the rules as the platform states them, one after the other.
    #[test]
    fn agrees_with_the_rules_everywhere() {
        let subsets = (0..16u8).map(|bits| {
            let named = Category::ALL.into_iter().filter(|category| bits & 1 << *category as u8 != 0);
            named.fold(Categories::NONE, Categories::with)
        });
        let mut granted = 0;
        for categories in subsets {
            for (tier, status) in Tier::ALL.into_iter().flat_map(|t| Status::ALL.map(|s| (t, s))) {
                for real_time in [None, Some(false), Some(true)] {
                    let principal = principal(tier, status, real_time, categories);
                    let paid = status == Active && tier != Free;
                    let live = status == Active && real_time.unwrap_or(tier != Free);
                    let has = |asset: AssetClass| categories.iter().any(|c| c.name() == asset.name());
                    for kind in ChannelKind::ALL {
                        let free = matches!(kind, Trades | Quotes | Bars) || kind.is_signals();
                        let open = status != Blocked && (paid || free);
                        let freshness = if live { RealTime } else { Delayed };
                        if let Some((_, category)) = kind.name().split_once("signals.") {
                            let has = categories.iter().any(|c| c.name() == category);
                            for channel in [one(kind), all(kind)] {
                                let decided = decide(&principal, channel, Some(Crypto), NOW).ok();
                                let expected = (open && has).then_some(freshness);
                                assert_eq!(decided.map(Grant::freshness), expected, "{principal:?} {channel:?}");
                            }
                            continue;
                        }
                        for asset in [Equity, Forex, Crypto] {
                            let decided = decide(&principal, one(kind), Some(asset), NOW).ok();
                            let expected = (open && has(asset)).then_some(freshness);
                            assert_eq!(decided.map(Grant::freshness), expected, "{principal:?} {kind:?} {asset:?}");
                            granted += usize::from(decided.is_some());
                        }
                        let decided = decide(&principal, all(kind), None, NOW).ok();
                        let expected =
                            (open && paid && [Equity, Forex, Crypto].into_iter().all(has)).then_some(freshness);
                        assert_eq!(decided.map(Grant::freshness), expected, "{principal:?} {kind:?} *");
                        granted += usize::from(decided.is_some());
                    }
                }
            }
        }
        assert!(granted > 1_000, "{granted}");
    }

    #[test]
    fn a_grant_is_a_word_or_two() {
        assert!(size_of::<Grant>() <= 16, "{}", size_of::<Grant>());
    }
}
