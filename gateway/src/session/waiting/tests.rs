//! Sessions whose store takes its time.

use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use entitlements::{
    AddressBlocks, AddressLimit, ApiKeyRecord, Charge, Connections, ConnectionsExceeded, Door, Embedded, Health, Meter,
    SessionRecord, Store, StoreError, Tier, Tiers, TokenHashes, TokenKey, TokenRules, Tokens, User, UserLookup, Users,
};
use fanout::{Hub, HubConfig, Interest, SlowConsumer, SubscriberKey};
use protocol::frame::{MessageReader, Opcode, encode_client_frame, frame_len, server_frame};
use protocol::{Encoding, InstrumentTable};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::*;
use crate::context::Now;
use crate::metrics::{Metrics, ThreadMetrics};

/// A store that lets requests wait until the test decides on them.
#[derive(Debug)]
struct Slow {
    embedded: Embedded,
    asked: Mutex<Vec<oneshot::Sender<Verdict>>>,
}

type Told<T> = entitlements::Answer<T>;

impl Store for Slow {
    fn user(&self, id: &Arc<str>, token: Option<TokenHashes>) -> Told<Result<UserLookup, StoreError>> {
        self.embedded.user(id, token)
    }

    fn api_key(&self, prefix: &str) -> Told<Result<Option<ApiKeyRecord>, StoreError>> {
        self.embedded.api_key(prefix)
    }

    fn certificate(&self, name: &str) -> Told<Result<Option<Arc<str>>, StoreError>> {
        self.embedded.certificate(name)
    }

    fn take(&self, charge: Charge) -> Told<Verdict> {
        if charge.meter != Meter::Command {
            return self.embedded.take(charge);
        }
        let (sender, receiver) = oneshot::channel();
        self.asked.lock().unwrap().push(sender);
        Box::pin(async move { receiver.await.unwrap() })
    }

    fn open(&self, session: SessionRecord) -> Told<Result<(), ConnectionsExceeded>> {
        self.embedded.open(session)
    }

    fn close(&self, number: u64, user: &Arc<str>) {
        self.embedded.close(number, user);
    }

    fn blocks(&self) -> Arc<AddressBlocks> {
        self.embedded.blocks()
    }

    fn health(&self) -> Health {
        Health::Up
    }
}

struct Rig {
    store: Arc<Slow>,
    context: crate::context::Context,
    hub: Hub,
    metrics: Arc<ThreadMetrics>,
    key: SubscriberKey,
    session: Session,
}

impl Rig {
    fn new() -> Rig {
        let user = User::new("alice", Tier::Premium);
        let users = Users::of([(user.clone(), Vec::new())]);
        let store = Arc::new(Slow { embedded: Embedded::of(users), asked: Mutex::default() });
        let key = TokenKey::new("k", entitlements::Algorithm::HS256, &[7; 32]).unwrap();
        let tokens = Tokens::new(vec![key], TokenRules::default()).unwrap();
        let door = Arc::new(Door::new(store.clone(), tokens, Tiers::default()));
        let instruments = Arc::new(InstrumentTable::with_capacity(8));
        instruments.learn("BTC/USD").unwrap();
        let context = crate::context::Context {
            server: Default::default(),
            session: Default::default(),
            drain: Default::default(),
            door,
            audit: crate::platform::audit::Audit::off(crate::metrics::Metrics::new().register("test")),
            proxies: Default::default(),
            connections: Connections::new(store.clone()),
            addresses: AddressLimit::new(8),
            instruments: instruments.clone(),
            epoch: 1,
            delay: Duration::from_secs(1),
            venues: Vec::new(),
            draining: AtomicBool::new(false),
            start: None,
            started: Instant::now(),
        };
        let config = HubConfig {
            shard: 0,
            slow_consumer: SlowConsumer::Gap,
            retain_bytes: 1 << 20,
            control_bytes_max: 1 << 16,
            heartbeat_ms: 15_000,
            stall_ms: 30_000,
        };
        let mut hub = Hub::new(config, instruments.clone(), Arc::new(Interest::new(1, instruments)), 0);
        let key = hub.open(Encoding::Json, 0);
        let principal = Arc::new(Principal::new(&user, &Tiers::default()));
        let (permit, principal) = context.connections.acquire(&principal).unwrap();
        let address = context.addresses.acquire(IpAddr::from([192, 0, 2, 1])).unwrap();
        let session = Session::new(principal, permit, address, Encoding::Json, MessageReader::new(), NOW);
        Rig { store, context, hub, metrics: Metrics::new().register("test"), key, session }
    }

    fn turn(&mut self, work: impl FnOnce(&mut Session, &mut Turn<'_>) -> Next) -> Next {
        let Rig { context, hub, metrics, key, session, .. } = self;
        work(session, &mut Turn { key: *key, hub, context, metrics, now: NOW })
    }

    /// One read with these requests.
    fn receive(&mut self, requests: &[Value]) -> Next {
        let mut bytes = Vec::new();
        for request in requests {
            encode_client_frame(Opcode::Text, request.to_string().as_bytes(), [1, 2, 3, 4], &mut bytes);
        }
        self.turn(|session, turn| session.receive(&mut bytes, turn))
    }

    /// The store decides on the first request that waits for it, and the session goes on.
    fn decide(&mut self, verdict: Verdict) -> Next {
        let Question(mut question) = self.session.take_question().expect("a question");
        self.store.asked.lock().unwrap().remove(0).send(verdict).unwrap();
        let Poll::Ready(answer) = question.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
            panic!("the store has decided");
        };
        self.turn(|session, turn| session.resume(answer, turn))
    }

    /// What the client was told: the kind and the id of each message.
    fn told(&mut self) -> Vec<(String, Value)> {
        let mut written = Vec::new();
        self.hub.begin_round(0);
        while let Some(key) = self.hub.next_dirty() {
            self.hub.flush(key, &mut written, 0);
        }
        let (mut at, mut told) = (0, Vec::new());
        while let Some((_, payload)) = server_frame(&written[at..]) {
            let message: Value = serde_json::from_slice(payload).unwrap();
            told.push((message[0]["T"].as_str().unwrap().to_owned(), message[0]["id"].clone()));
            at += frame_len(&written[at..]).unwrap();
        }
        told
    }
}

const NOW: Now = Now { mono_ms: 1_000, wall_ns: 1_763_654_400_000_000_000 };

fn subscribe(id: u64) -> Value {
    json!({"action": "subscribe", "id": id, "trades": ["BTC/USD"]})
}

fn answers(told: &[(&str, u64)]) -> Vec<(String, Value)> {
    told.iter().map(|(kind, id)| ((*kind).to_owned(), json!(id))).collect()
}

#[test]
fn requests_are_done_in_order_however_long_the_store_takes() {
    let mut rig = Rig::new();
    // The third cannot be understood, and needs no store; it is answered in its place all the same.
    let wrong = json!({"action": "dance", "id": 3});
    assert_eq!(rig.receive(&[subscribe(1), subscribe(2), wrong, subscribe(4)]), Next::Wait);
    assert!(rig.session.is_waiting() && rig.told().is_empty());
    assert_eq!(rig.decide(Verdict::UNLIMITED), Next::Wait);
    assert_eq!(rig.told(), answers(&[("subscription", 1)]));
    let refused = Verdict { allowed: false, retry_after: Duration::from_secs(3), ..Verdict::UNLIMITED };
    assert_eq!(rig.decide(refused), Next::Wait);
    assert_eq!(rig.told(), answers(&[("error", 2), ("error", 3)]));
    assert_eq!(rig.decide(Verdict::UNLIMITED), Next::Continue);
    assert_eq!(rig.told(), answers(&[("subscription", 4)]));
    assert!(!rig.session.is_waiting());
}

#[test]
fn an_answer_to_a_session_that_has_ended_meanwhile_is_nothing() {
    let mut rig = Rig::new();
    assert_eq!(rig.receive(&[subscribe(1)]), Next::Wait);
    let Question(mut question) = rig.session.take_question().unwrap();
    assert!(rig.session.stop_waiting() && !rig.session.stop_waiting());
    rig.store.asked.lock().unwrap().remove(0).send(Verdict::UNLIMITED).unwrap();
    let Poll::Ready(answer) = question.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("the store has decided");
    };
    assert_eq!(rig.turn(|session, turn| session.resume(answer, turn)), Next::Continue);
    assert!(rig.told().is_empty());
}
