//! What each tier includes, with the platform's defaults. Plain values, made once from the configuration.

use protocol::ChannelKind;
use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::principal::Tier;

/// A set of channel kinds; in configuration a list of their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Kinds(u32);

impl Kinds {
    pub const NONE: Kinds = Kinds(0);
    pub const ALL: Kinds = Kinds((1 << ChannelKind::COUNT) - 1);

    /// This set and `kind`.
    pub const fn with(self, kind: ChannelKind) -> Kinds {
        Kinds(self.0 | 1 << kind as u32)
    }

    pub const fn contains(self, kind: ChannelKind) -> bool {
        self.0 & 1 << kind as u32 != 0
    }

    /// The kinds in the set, in the order of [`ChannelKind::ALL`].
    pub fn iter(self) -> impl Iterator<Item = ChannelKind> {
        ChannelKind::ALL.into_iter().filter(move |kind| self.contains(*kind))
    }

    /// This set and the kinds of the name; `signals` are those of all categories. `None` for a name of nothing.
    pub fn with_named(self, name: &str) -> Option<Kinds> {
        let named = ChannelKind::all_of_name(name);
        (!named.is_empty()).then(|| named.iter().copied().fold(self, Kinds::with))
    }

    /// The names of the kinds in the set.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let signals = ChannelKind::SIGNALS.into_iter().all(|kind| self.contains(kind));
        let kinds = self.iter().filter(move |kind| !(signals && kind.is_signals())).map(ChannelKind::name);
        kinds.chain(signals.then_some(ChannelKind::SIGNALS_NAME))
    }
}

impl Serialize for Kinds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut names = serializer.serialize_seq(None)?;
        self.names().try_for_each(|name| names.serialize_element(name))?;
        names.end()
    }
}

impl<'de> Deserialize<'de> for Kinds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Kinds, D::Error> {
        let names = Vec::<String>::deserialize(deserializer)?;
        names.iter().try_fold(Kinds::NONE, |kinds, name| {
            kinds.with_named(name).ok_or_else(|| {
                let names: Vec<&str> = Kinds::ALL.names().collect();
                let names = names.join(", ");
                serde::de::Error::custom(format_args!("unknown channel kind {name:?}, expected one of {names}"))
            })
        })
    }
}

/// What one tier includes. Limits are at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Rights {
    /// Subscribed channels of one connection.
    pub channels: u32,
    /// Live connections of one user.
    pub connections: u32,
    /// Requests at the door, and as many of signed-in clients.
    pub requests_per_minute: u32,
    pub requests_per_hour: u32,
    /// Live signals; a day's are not limited unless the user's record says so, or the configuration.
    pub signals_per_hour: u32,
    #[serde(skip_serializing_if = "is_unlimited")]
    pub signals_per_day: u32,
    /// Live data; delayed data otherwise. A user's own record may say otherwise.
    pub real_time: bool,
    /// Whether `*` may be asked for.
    pub wildcard: bool,
    /// Kinds of channel.
    pub kinds: Kinds,
}

/// Absent in the configuration stands for it.
fn is_unlimited(limit: &u32) -> bool {
    *limit == u32::MAX
}

/// What the tiers include. The default is the platform's contract; a configuration names only what differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Overrides")]
pub struct Tiers {
    pub free: Rights,
    pub premium: Rights,
    pub enterprise: Rights,
}

impl Tiers {
    pub const fn rights(&self, tier: Tier) -> &Rights {
        match tier {
            Tier::Free => &self.free,
            Tier::Premium => &self.premium,
            Tier::Enterprise => &self.enterprise,
        }
    }
}

impl Default for Tiers {
    fn default() -> Tiers {
        let free = [ChannelKind::Trades, ChannelKind::Quotes, ChannelKind::Bars];
        let free_kinds = free.into_iter().chain(ChannelKind::SIGNALS).fold(Kinds::NONE, Kinds::with);
        Tiers {
            free: Rights {
                channels: 30,
                connections: 5,
                requests_per_minute: 100,
                requests_per_hour: 1_000,
                signals_per_hour: 100,
                signals_per_day: u32::MAX,
                real_time: false,
                wildcard: false,
                kinds: free_kinds,
            },
            premium: Rights {
                channels: 1_000,
                connections: 5_000,
                requests_per_minute: 5_000,
                requests_per_hour: 50_000,
                signals_per_hour: 1_000,
                signals_per_day: u32::MAX,
                real_time: true,
                wildcard: true,
                kinds: Kinds::ALL,
            },
            enterprise: Rights {
                channels: 10_000,
                connections: 100_000,
                requests_per_minute: 10_000,
                requests_per_hour: 100_000,
                signals_per_hour: 10_000,
                signals_per_day: u32::MAX,
                real_time: true,
                wildcard: true,
                kinds: Kinds::ALL,
            },
        }
    }
}

/// The configuration's view of [`Tiers`]: everything optional.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Overrides {
    free: RightsOverrides,
    premium: RightsOverrides,
    enterprise: RightsOverrides,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RightsOverrides {
    channels: Option<u32>,
    connections: Option<u32>,
    requests_per_minute: Option<u32>,
    requests_per_hour: Option<u32>,
    signals_per_hour: Option<u32>,
    signals_per_day: Option<u32>,
    real_time: Option<bool>,
    wildcard: Option<bool>,
    kinds: Option<Kinds>,
}

impl RightsOverrides {
    fn over(self, tier: Tier, default: Rights) -> Result<Rights, String> {
        let rights = Rights {
            channels: self.channels.unwrap_or(default.channels),
            connections: self.connections.unwrap_or(default.connections),
            requests_per_minute: self.requests_per_minute.unwrap_or(default.requests_per_minute),
            requests_per_hour: self.requests_per_hour.unwrap_or(default.requests_per_hour),
            signals_per_hour: self.signals_per_hour.unwrap_or(default.signals_per_hour),
            signals_per_day: self.signals_per_day.unwrap_or(default.signals_per_day),
            real_time: self.real_time.unwrap_or(default.real_time),
            wildcard: self.wildcard.unwrap_or(default.wildcard),
            kinds: self.kinds.unwrap_or(default.kinds),
        };
        for (key, limit) in [
            ("channels", rights.channels),
            ("connections", rights.connections),
            ("requests_per_minute", rights.requests_per_minute),
            ("requests_per_hour", rights.requests_per_hour),
            ("signals_per_hour", rights.signals_per_hour),
            ("signals_per_day", rights.signals_per_day),
        ] {
            if limit == 0 {
                return Err(format!("{}.{key} must be at least 1", tier.name()));
            }
        }
        Ok(rights)
    }
}

impl TryFrom<Overrides> for Tiers {
    type Error = String;

    fn try_from(overrides: Overrides) -> Result<Tiers, String> {
        let default = Tiers::default();
        Ok(Tiers {
            free: overrides.free.over(Tier::Free, default.free)?,
            premium: overrides.premium.over(Tier::Premium, default.premium)?,
            enterprise: overrides.enterprise.over(Tier::Enterprise, default.enterprise)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Tiers, String> {
        toml::from_str(text).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn a_configuration_names_only_what_differs() {
        assert_eq!(read(""), Ok(Tiers::default()));
        let mut tiers = Tiers::default();
        tiers.free.channels = 2;
        tiers.free.kinds = Kinds::NONE.with(ChannelKind::UpdatedBars);
        tiers.premium.wildcard = false;
        let text = "free.channels = 2\nfree.kinds = [\"updatedBars\"]\npremium.wildcard = false";
        assert_eq!(read(text), Ok(tiers));
    }

    #[test]
    fn what_is_printed_reads_back() {
        let text = toml::to_string(&Tiers::default()).unwrap();
        assert!(text.contains("kinds = [\"trades\", \"quotes\", \"bars\", \"signals\"]"), "{text}");
        assert_eq!(read(&text), Ok(Tiers::default()));
    }

    #[test]
    fn refuses_what_makes_no_sense() {
        for (text, error) in [
            ("premium.channels = 0", "premium.channels must be at least 1"),
            ("free.connections = 0", "free.connections must be at least 1"),
            ("gold.channels = 1", "unknown field `gold`, expected one of `free`, `premium`, `enterprise`"),
        ] {
            assert_eq!(read(text), Err(error.to_owned()), "{text}");
        }
        let unknown = read("free.kinds = [\"books\"]").unwrap_err();
        assert!(unknown.starts_with("unknown channel kind \"books\", expected one of trades, quotes, "), "{unknown}");
        assert!(read("free.chanels = 1").unwrap_err().starts_with("unknown field `chanels`"));
    }
}
