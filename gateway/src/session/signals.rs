//! Signals as clients ask for them: by symbol, by category, or all. To the hub each category is a kind of its own, so what is
//! asked for becomes subscriptions to the kinds of those categories that the user has; they are made anew where that changes.

use std::collections::HashSet;

use entitlements::{Category, Denial, Grant, Principal, decide};
use fanout::SubscribeOptions;
use protocol::message::SymbolLists;
use protocol::{Channel, ChannelKind, ErrorCode, InstrumentId, InstrumentTable, Selector, split_source};

use super::{Refused, Session, Turn, refuse};

const NAME: &str = ChannelKind::SIGNALS_NAME;

/// Which signals a client asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// `*`: of all categories that the user has, now or later.
    All,
    /// `@CRYPTO`
    Category(Category),
    /// Of all categories that the user has: a symbol's signals are of one as a rule.
    Symbol(InstrumentId),
}

impl Asked {
    /// What the client wrote. A symbol that no feed has brought yet is learnt, while less than half of the table is used:
    /// its first signal may be yet to come.
    fn parse(symbol: &str, instruments: &InstrumentTable) -> Option<Asked> {
        if symbol == "*" {
            return Some(Asked::All);
        }
        if let Some(category) = symbol.strip_prefix('@') {
            return Category::from_name(&category.to_ascii_lowercase()).map(Asked::Category);
        }
        if split_source(symbol).1.is_some() {
            return None;
        }
        let known = instruments.find(symbol);
        let learn =
            || (instruments.len() < instruments.capacity() / 2).then(|| instruments.learn(symbol).ok()).flatten();
        known.or_else(learn).map(Asked::Symbol)
    }

    /// As acknowledgements have it.
    fn symbol(self, instruments: &InstrumentTable) -> &str {
        match self {
            Asked::All => "*",
            Asked::Category(Category::Equity) => "@EQUITY",
            Asked::Category(Category::Forex) => "@FOREX",
            Asked::Category(Category::Crypto) => "@CRYPTO",
            Asked::Category(Category::Commodity) => "@COMMODITY",
            Asked::Symbol(instrument) => instruments.symbol(instrument),
        }
    }

    /// What the user may have of it.
    ///
    /// # Errors
    /// The denial, where that is nothing.
    fn grants(self, principal: &Principal, now_s: i64) -> Result<Vec<Grant>, Denial> {
        let (categories, selector) = match self {
            Asked::All => (&Category::ALL[..], Selector::All),
            Asked::Category(category) => (&Category::ALL[category as usize..=category as usize], Selector::All),
            Asked::Symbol(instrument) => (&Category::ALL[..], Selector::One(instrument)),
        };
        let mut granted = Vec::new();
        let mut denied = None;
        for category in categories {
            match decide(principal, Channel { kind: category.signals(), selector }, None, now_s) {
                Ok(grant) => granted.push(grant),
                Err(denial) => denied = denied.or(Some(denial)),
            }
        }
        match denied {
            Some(denial) if granted.is_empty() => Err(denial),
            _ => Ok(granted),
        }
    }
}

impl Session {
    fn asked_signals(&self) -> &[Asked] {
        self.signals.as_deref().map_or(&[], Vec::as_slice)
    }

    /// Channels that the session has, as its limit counts them: signals by what was asked for.
    pub(super) fn channel_count(&self, turn: &Turn<'_>) -> usize {
        let others = turn.hub.subscriptions(turn.key).filter(|(kind, _)| !kind.is_signals()).count();
        others + self.asked_signals().len()
    }

    /// Subscribes to signals. Returns the grants that there are of it, with the symbol that `since` has for each.
    pub(super) fn subscribe_signals<'r>(
        &mut self,
        symbols: &'r [String],
        channels: &mut usize,
        refused: &mut Vec<Refused<'r>>,
        unchanged: &mut SymbolLists<'r>,
        turn: &mut Turn<'_>,
    ) -> Vec<(Grant, &'r str)> {
        let mut granted = Vec::new();
        for symbol in symbols {
            let Some(asked) = Asked::parse(symbol, &turn.context.instruments) else {
                refuse(refused, ErrorCode::UnknownSymbol, NAME, symbol, None);
                continue;
            };
            let grants = match asked.grants(&self.principal, turn.now.wall_s()) {
                Ok(grants) => grants,
                Err(denial) => {
                    refuse(refused, code(denial), NAME, symbol, Some(denial.to_string()));
                    continue;
                }
            };
            let limit = self.principal.limits().channels as usize;
            if self.asked_signals().contains(&asked) {
                unchanged.push_signals(symbol);
            } else if *channels >= limit {
                let detail = Some(format!("at most {limit} channels"));
                refuse(refused, ErrorCode::SymbolLimitExceeded, NAME, symbol, detail);
                continue;
            } else {
                *channels += 1;
                self.signals.get_or_insert_default().push(asked);
            }
            let symbol = if matches!(asked, Asked::Symbol(_)) { symbol.as_str() } else { "*" };
            granted.extend(grants.into_iter().map(|grant| (grant, symbol)));
        }
        if !granted.is_empty() {
            self.listen_to_signals(turn);
        }
        granted
    }

    pub(super) fn unsubscribe_signals<'r>(
        &mut self,
        symbols: &'r [String],
        refused: &mut Vec<Refused<'r>>,
        turn: &mut Turn<'_>,
    ) {
        let before = self.asked_signals().len();
        for symbol in symbols {
            // Nothing is learnt here: what is not known was not asked for.
            let known = symbol.starts_with(['*', '@']) || turn.context.instruments.find(symbol).is_some();
            match known.then(|| Asked::parse(symbol, &turn.context.instruments)).flatten() {
                Some(asked) => self.signals.iter_mut().for_each(|all| all.retain(|one| *one != asked)),
                None => refuse(refused, ErrorCode::UnknownSymbol, NAME, symbol, None),
            }
        }
        if self.asked_signals().len() != before {
            self.listen_to_signals(turn);
        }
    }

    /// The rights are others: what the user may have no longer ends, and is refused by the words of the request.
    pub(super) fn decide_signals_again(&mut self, channels: usize, turn: &mut Turn<'_>) {
        let Some(asked) = self.signals.take() else { return };
        let mut refused = Vec::new();
        let room = (self.principal.limits().channels as usize).saturating_sub(channels);
        let mut kept = Vec::new();
        for one in *asked {
            let symbol = one.symbol(&turn.context.instruments);
            match one.grants(&self.principal, turn.now.wall_s()) {
                Ok(_) if kept.len() < room => kept.push(one),
                Ok(_) => {
                    let detail = Some(format!("at most {} channels", self.principal.limits().channels));
                    refuse(&mut refused, ErrorCode::SymbolLimitExceeded, NAME, symbol, detail);
                }
                Err(denial) => refuse(&mut refused, code(denial), NAME, symbol, Some(denial.to_string())),
            }
        }
        self.signals = (!kept.is_empty()).then(|| Box::new(kept));
        self.listen_to_signals(turn);
        super::send_refusals(&refused, &[], None, turn);
    }

    /// Makes the hub's subscriptions to signals those that were asked for and are granted.
    fn listen_to_signals(&mut self, turn: &mut Turn<'_>) {
        if self.asked_signals().is_empty() {
            self.signals = None;
        }
        let (now_s, now_ms) = (turn.now.wall_s(), turn.now.mono_ms);
        let mut before: HashSet<_> = turn.hub.subscriptions(turn.key).filter(|(kind, _)| kind.is_signals()).collect();
        let mut wanted = HashSet::new();
        let mut grants: Vec<Grant> = self
            .asked_signals()
            .iter()
            .flat_map(|asked| asked.grants(&self.principal, now_s).unwrap_or_default())
            .collect();
        // Those of one instrument before a `*` that covers them, so that they go on where they are.
        grants.sort_by_key(|grant| grant.channel().selector == Selector::All);
        for grant in grants {
            let Channel { kind, selector } = grant.channel();
            if !wanted.insert((kind, selector)) {
                continue;
            }
            if before.remove(&(kind, selector)) {
                turn.hub.regrant(turn.key, grant, now_ms);
            } else {
                turn.hub.subscribe(turn.key, grant, SubscribeOptions::default(), now_ms);
            }
        }
        for (kind, selector) in before {
            turn.hub.unsubscribe(turn.key, kind, selector, now_ms);
        }
    }

    /// Adds what was asked for to an acknowledgement.
    pub(super) fn list_signals<'i>(&self, instruments: &'i InstrumentTable, lists: &mut SymbolLists<'i>) {
        let mut symbols: Vec<&str> = self.asked_signals().iter().map(|asked| asked.symbol(instruments)).collect();
        symbols.sort_unstable();
        symbols.into_iter().for_each(|symbol| lists.push_signals(symbol));
    }
}

fn code(denial: Denial) -> ErrorCode {
    ErrorCode::from_code(denial.code()).unwrap_or(ErrorCode::InsufficientSubscription)
}
