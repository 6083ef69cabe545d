//! A session that waits for the store. Most answers are there at once (the embedded store's always); where one is not, the
//! shard reads nothing more from the client until it has come, so that a client's requests are done in their order.
//!
//! What a session keeps meanwhile is bounded: the request, and what came in one read with it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use entitlements::{Meter, Principal, SignInError, Verdict};
use protocol::ErrorCode;
use protocol::command::{Request, RequestId};
use protocol::frame::Message;
use protocol::message::ErrorMessage;

use super::{Next, Session, Turn, answered, send_error};
use crate::metrics::Counter;
use crate::platform::audit::Event;
use crate::sign_in::Early;

/// What came of a question.
#[derive(Debug)]
pub(crate) enum Answer {
    /// Whether the request is within the user's quotas.
    Charged(Request, Verdict),
    /// What a new token of the session is worth, and the id of the request.
    SignedIn(Option<RequestId>, Result<Arc<Principal>, SignInError>),
}

/// A question to the store.
pub(crate) struct Question(pub(crate) Pin<Box<dyn Future<Output = Answer>>>);

impl Question {
    pub(super) fn new(question: impl Future<Output = Answer> + 'static) -> Question {
        Question(Box::pin(question))
    }
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Question")
    }
}

/// What a session keeps while it waits.
#[derive(Debug)]
pub(super) struct Waiting {
    /// Until the shard has taken it.
    question: Option<Question>,
    /// What the client said after the request.
    later: Vec<Early>,
}

impl Waiting {
    pub(super) fn keep(&mut self, message: &Message<'_>) {
        self.later.extend(Early::of(message));
    }
}

impl Session {
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// The question that the shard is to have answered.
    pub(crate) fn take_question(&mut self) -> Option<Question> {
        self.waiting.as_mut()?.question.take()
    }

    /// Waits no longer: the session ends. True where it did.
    pub(crate) fn stop_waiting(&mut self) -> bool {
        self.waiting.take().is_some()
    }

    /// Goes on at once where the answer is there, or waits for it.
    pub(super) fn ask(&mut self, mut question: Question, turn: &mut Turn<'_>) -> Next {
        match question.0.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => self.conclude(answer, turn),
            Poll::Pending => {
                self.waiting = Some(Box::new(Waiting { question: Some(question), later: Vec::new() }));
                Next::Wait
            }
        }
    }

    /// Takes the answer that the session waits for, and does what the client has said meanwhile.
    pub(crate) fn resume(&mut self, answer: Answer, turn: &mut Turn<'_>) -> Next {
        let Some(waiting) = self.waiting.take() else { return Next::Continue };
        let mut next = self.conclude(answer, turn);
        for message in &waiting.later {
            if !matches!(next, Next::Close(_)) {
                next = self.handle(message.message(), turn);
            }
        }
        next
    }

    fn conclude(&mut self, answer: Answer, turn: &mut Turn<'_>) -> Next {
        match answer {
            Answer::Charged(request, verdict) if verdict.allowed => {
                self.limited = false;
                self.act(request, turn)
            }
            Answer::Charged(Request { id, .. }, verdict) => {
                turn.metrics.add(Counter::CommandErrorQuota, 1);
                // Once, however often the client tries before it may again.
                if !std::mem::replace(&mut self.limited, true) {
                    turn.context.audit.record(Event::Limited {
                        user_id: self.principal.user().clone(),
                        limit: Meter::Command.name(),
                        max: verdict.quota.limit,
                    });
                }
                let retry_after = Some(verdict.retry_after);
                let error =
                    ErrorMessage { id: id.as_ref(), retry_after, ..ErrorMessage::new(ErrorCode::TooManyRequests) };
                answered(send_error(turn.hub, turn.key, &error), turn.hub, turn.key)
            }
            Answer::SignedIn(id, signed_in) => self.refreshed(id.as_ref(), signed_in, turn),
        }
    }
}

#[cfg(test)]
mod tests;
