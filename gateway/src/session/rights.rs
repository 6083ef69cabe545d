//! What changes while a session lives: its user's rights, and the token that it was signed in with.

use std::sync::Arc;

use entitlements::{Credentials, Grant, Principal, SignInError, Status, decide};
use protocol::command::RequestId;
use protocol::message::{ErrorMessage, SymbolLists};
use protocol::{AssetClass, Channel, CloseCode, ErrorCode, Selector, ServerMessage};

use super::waiting::{Answer, Question};
use super::{Next, Session, Turn, answered, close, refuse, send_error, send_refusals};
use crate::metrics::Counter;
use crate::platform::audit::Event;
use crate::sign_in::{authenticated, refused};

impl Session {
    /// The user's rights are these from now on (`None`: the user is gone). What is subscribed is decided on again: it goes
    /// on, goes over to the other freshness, or ends, and the client is told.
    pub(crate) fn apply_rights(&mut self, rights: Option<&Arc<Principal>>, turn: &mut Turn<'_>) -> Next {
        let Some(rights) = rights.filter(|rights| rights.status() != Status::Blocked) else {
            return self.revoke(CloseCode::Revoked, turn);
        };
        if rights.version() < self.principal.version() {
            return Next::Continue;
        }
        let same = rights.has_rights_of(&self.principal);
        self.principal = self.permit.share(rights.succeeding(&self.principal));
        if same {
            return Next::Continue;
        }
        turn.metrics.add(Counter::EntitlementsChanged, 1);
        let status = self.principal.status();
        turn.context.audit.record(Event::EntitlementChanged {
            user_id: self.principal.user().clone(),
            session: self.permit.number(),
            tier: self.principal.tier().name(),
            status: status.name(),
            version: self.principal.version(),
        });
        let reason = match status {
            Status::Active => None,
            _ => Some(format!("the free tier applies while the subscription is {}", status.name())),
        };
        let message = ServerMessage::Entitlement {
            tier: self.principal.tier().name(),
            status: status.name(),
            delayed_ms: turn.context.delayed_ms(self.principal.freshness()),
            version: self.principal.version(),
            reason: reason.as_deref(),
        };
        let mut sent = turn.hub.control(turn.key, |encoding, out| message.encode(encoding, out));
        if self.subscribed {
            self.decide_again(turn);
            sent &= self.acknowledge(None, SymbolLists::default(), turn);
        }
        answered(sent, turn.hub, turn.key)
    }

    /// Ends the session, because its user, its token or its address may not be here any longer.
    pub(crate) fn revoke(&self, code: CloseCode, turn: &mut Turn<'_>) -> Next {
        turn.context.audit.record(Event::Revoked {
            user_id: self.principal.user().clone(),
            session: self.permit.number(),
            reason: code.reason(),
        });
        close(turn.hub, turn.key, code)
    }

    fn decide_again(&mut self, turn: &mut Turn<'_>) {
        let context = turn.context;
        let subscribed: Vec<_> = turn.hub.subscriptions(turn.key).filter(|(kind, _)| !kind.is_signals()).collect();
        let (mut refusals, mut granted): (_, Vec<Grant>) = (Vec::new(), Vec::new());
        let channels_max = self.principal.limits().channels;
        for (kind, selector) in subscribed {
            let (symbol, asset) = match selector {
                Selector::All => ("*", None),
                Selector::One(instrument) => {
                    let symbol = context.instruments.symbol(instrument);
                    (symbol, Some(AssetClass::of(symbol)))
                }
            };
            let (code, detail) = match decide(&self.principal, Channel { kind, selector }, asset, turn.now.wall_s()) {
                Ok(grant) if granted.len() < channels_max as usize => {
                    granted.push(grant);
                    continue;
                }
                Ok(_) => (ErrorCode::SymbolLimitExceeded, format!("at most {channels_max} channels")),
                Err(denial) => {
                    let code = ErrorCode::from_code(denial.code()).unwrap_or(ErrorCode::InsufficientSubscription);
                    (code, denial.to_string())
                }
            };
            turn.hub.unsubscribe(turn.key, kind, selector, turn.now.mono_ms);
            refuse(&mut refusals, code, kind.name(), symbol, Some(detail));
        }
        // Those of one instrument before a `*` that covers them, so that they go on where they are.
        granted.sort_by_key(|grant| grant.channel().selector == Selector::All);
        let channels = granted.len();
        for grant in granted {
            turn.hub.regrant(turn.key, grant, turn.now.mono_ms);
        }
        send_refusals(&refusals, &[], None, turn);
        self.decide_signals_again(channels, turn);
    }

    /// A token on a session that is signed in.
    pub(super) fn refresh(&mut self, token: String, id: Option<RequestId>, turn: &mut Turn<'_>) -> Next {
        let (door, address, now_s) = (turn.context.door.clone(), self.address(), turn.now.wall_s());
        let question = async move {
            let signed_in = door.sign_in(&Credentials::Token(token), address, now_s).await;
            Answer::SignedIn(id, signed_in)
        };
        self.ask(Question::new(question), turn)
    }

    /// What the token is worth: a good one of the same user carries the session on, any other changes nothing.
    pub(super) fn refreshed(
        &mut self,
        id: Option<&RequestId>,
        signed_in: Result<Arc<Principal>, SignInError>,
        turn: &mut Turn<'_>,
    ) -> Next {
        let error = match signed_in {
            Ok(principal) if principal.user() == self.principal.user() => {
                turn.metrics.add(Counter::TokensRefreshed, 1);
                self.principal = self.principal.succeeding(&principal);
                let message = authenticated(&self.principal, turn.context);
                let sent = turn.hub.control(turn.key, |encoding, out| message.encode(encoding, out));
                if !sent {
                    return close(turn.hub, turn.key, CloseCode::ControlLaneFull);
                }
                // The token's end is another, and the record was read on the way.
                return match self.handle_timer(turn.key, turn.hub, turn.now) {
                    Next::Continue => self.apply_rights(Some(&Arc::new(principal.rights())), turn),
                    next => next,
                };
            }
            Ok(_) => {
                turn.metrics.add(Counter::CommandErrorState, 1);
                ErrorMessage { id, ..ErrorMessage::new(ErrorCode::AlreadyAuthenticated) }
            }
            Err(error) => {
                turn.metrics.add(Counter::from(error.reason()), 1);
                let (code, _) = refused(error);
                ErrorMessage { id, retry_after: error.retry_after(), ..ErrorMessage::new(code) }
            }
        };
        answered(send_error(turn.hub, turn.key, &error), turn.hub, turn.key)
    }
}
