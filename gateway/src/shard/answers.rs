//! What the store answers to sessions that had to wait for it. Owned by the shard's thread.
//!
//! The queue holds at most one answer for each session that waits: a session asks one question at a time. A task of the
//! shard's runtime puts it in, the shard's turn takes it out. The client may be gone by then.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use fanout::SubscriberKey;
use tokio::sync::Notify;

use crate::session::{Answer, Question};

#[derive(Debug, Default)]
pub(super) struct Answers {
    queue: RefCell<VecDeque<(SubscriberKey, Answer)>>,
    came: Notify,
}

impl Answers {
    /// Leaves the waiting to a task.
    pub(super) fn await_for(self: &Rc<Self>, key: SubscriberKey, question: Question) {
        let answers = self.clone();
        tokio::task::spawn_local(async move {
            let answer = question.0.await;
            answers.queue.borrow_mut().push_back((key, answer));
            answers.came.notify_one();
        });
    }

    pub(super) fn take(&self) -> Option<(SubscriberKey, Answer)> {
        self.queue.borrow_mut().pop_front()
    }

    pub(super) async fn came(&self) {
        self.came.notified().await;
    }
}
