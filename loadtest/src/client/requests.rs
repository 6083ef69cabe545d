//! What clients send, as complete frames: the upgrade, `auth`, `subscribe`, `unsubscribe`.
//!
//! One for a worker. The upgrade request is the same for all clients of a target, but for a token of the client's own, with one
//! nonce: what the server answers to it is checked, and a nonce each would tell no more.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD as BASE64, URL_SAFE_NO_PAD};
use protocol::frame::encode_client_frame;
use protocol::{ChannelKind, Encoding};
use serde_json::{Map, Value, json};

use crate::clock::Now;
use crate::orders::{Assignment, Basket, Credentials, Interest, SignIn, TokenSigner, WireEncoding};
use crate::platform::user_id;
use crate::random::Random;
use crate::symbols::{Key, Symbols};

/// What a server appends to the nonce, RFC 6455 1.3.
const ACCEPT_GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// How long the tokens hold that are made here, s.
const TOKEN_S: i64 = 24 * 3_600;

pub struct Requests {
    /// By target; without the empty line at its end.
    upgrades: Vec<Vec<u8>>,
    accept: String,
    sign_in: SignIn,
    auth: Value,
    /// Where each client has a token of its own, and how many users there are.
    tokens: Option<(TokenMaker, u64)>,
    interest: Interest,
    seed: u64,
    /// `weights[i]`: share of the symbols `0..=i` in what is drawn; the last is 1.
    weights: Vec<f64>,
}

/// The credentials are in it.
impl std::fmt::Debug for Requests {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Requests").field("interest", &self.interest).finish_non_exhaustive()
    }
}

impl Requests {
    pub(super) fn new(assignment: &Assignment, random: &mut Random) -> Requests {
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&random.next_u64().to_ne_bytes());
        nonce[8..].copy_from_slice(&random.next_u64().to_ne_bytes());
        let nonce = BASE64.encode(nonce);
        let accept = digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{nonce}{ACCEPT_GUID}").as_bytes());
        let mut extra = String::new();
        if assignment.encoding == WireEncoding::MessagePack {
            extra.push_str("Content-Type: application/msgpack\r\n");
        }
        match &assignment.credentials {
            Some(Credentials::Key { key, secret }) if assignment.sign_in == SignIn::Header => {
                extra.push_str(&format!("X-API-Key: {key}.{secret}\r\n"));
            }
            Some(Credentials::Token(token)) if assignment.sign_in == SignIn::Header => {
                extra.push_str(&format!("Authorization: Bearer {token}\r\n"));
            }
            _ => {}
        }
        let upgrade = |path: &str, authority: &str| {
            format!(
                "GET {path} HTTP/1.1\r\nHost: {authority}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Key: {nonce}\r\nSec-WebSocket-Version: 13\r\n{extra}"
            )
            .into_bytes()
        };
        let interest = assignment.interest.clone();
        Requests {
            upgrades: assignment.targets.iter().map(|target| upgrade(&target.path, &target.authority)).collect(),
            accept: BASE64.encode(accept),
            sign_in: assignment.sign_in,
            tokens: match &assignment.credentials {
                Some(Credentials::Users { signer, users }) => Some((TokenMaker::new(signer), *users)),
                _ => None,
            },
            auth: match &assignment.credentials {
                Some(Credentials::Key { key, secret }) => json!({"action": "auth", "key": key, "secret": secret}),
                Some(Credentials::Token(token)) => json!({"action": "auth", "token": token}),
                Some(Credentials::Users { .. }) => Value::Null,
                None => json!({"action": "auth", "key": "", "secret": ""}),
            },
            seed: assignment.seed,
            weights: weights(&interest),
            interest,
        }
    }

    pub(super) fn write_upgrade(&self, target: usize, client: u64, now: Now, out: &mut Vec<u8>) {
        let Some(request) = self.upgrades.get(target) else { return };
        out.extend_from_slice(request);
        if let Some(token) = self.token(client, now).filter(|_| self.sign_in == SignIn::Header) {
            out.extend_from_slice(format!("Authorization: Bearer {token}\r\n").as_bytes());
        }
        out.extend_from_slice(b"\r\n");
    }

    /// A client's own token, where it has one.
    fn token(&self, client: u64, now: Now) -> Option<String> {
        let (maker, users) = self.tokens.as_ref()?;
        Some(maker.make(&user_id(client % users), now.wall_ns / 1_000_000_000))
    }

    /// What `Sec-WebSocket-Accept` must be.
    pub(super) fn accept(&self) -> &str {
        &self.accept
    }

    /// The symbols of a client, by their place in the list of all; empty with `*`.
    pub(super) fn basket(&self, client: u64) -> Vec<u32> {
        let all = self.interest.symbols.len() as u32;
        match self.interest.basket {
            Basket::All => (0..all).collect(),
            Basket::Wildcard => Vec::new(),
            Basket::Drawn { each, .. } if each >= all => (0..all).collect(),
            Basket::Drawn { each, .. } => {
                let mut random = Random::of_stream(self.seed, client);
                let mut drawn = vec![false; all as usize];
                let mut left = each;
                // The rarest may take very long to come up: after so many draws the most popular that lack are taken.
                for _ in 0..each.saturating_mul(64) {
                    let unit = random.unit();
                    let symbol = self.weights.partition_point(|sum| *sum <= unit).min(drawn.len() - 1);
                    if !std::mem::replace(&mut drawn[symbol], true) {
                        left -= 1;
                        if left == 0 {
                            break;
                        }
                    }
                }
                for taken in drawn.iter_mut().filter(|taken| !**taken).take(left as usize) {
                    *taken = true;
                }
                (0..all).filter(|symbol| drawn[*symbol as usize]).collect()
            }
        }
    }

    /// How many symbols a client has; 0 with `*`.
    pub(super) fn basket_len(&self) -> usize {
        match self.interest.basket {
            Basket::All => self.interest.symbols.len(),
            Basket::Wildcard => 0,
            Basket::Drawn { each, .. } => self.interest.symbols.len().min(each as usize),
        }
    }

    pub(super) fn write_auth(&self, client: u64, now: Now, encoding: Encoding, mask: [u8; 4], out: &mut Vec<u8>) {
        match self.token(client, now) {
            Some(token) => write(&json!({"action": "auth", "token": token}), encoding, mask, out),
            None => write(&self.auth, encoding, mask, out),
        }
    }

    /// Subscribes to these channels, or to `*`, from `since` (epoch and positions) on.
    #[expect(clippy::too_many_arguments, reason = "one request, written once")]
    pub(super) fn write_subscribe(
        &self,
        id: u64,
        keys: impl Iterator<Item = Key>,
        since: Option<(u64, &[(Key, u64)])>,
        symbols: &Symbols,
        encoding: Encoding,
        mask: [u8; 4],
        out: &mut Vec<u8>,
    ) {
        let mut lists = <[Vec<Value>; ChannelKind::COUNT]>::default();
        if self.interest.basket == Basket::Wildcard {
            for channel in &self.interest.channels {
                lists[channel.kind() as usize].push("*".into());
            }
        } else {
            for key in keys {
                lists[key.kind() as usize].push(symbols.name(key.symbol()).into());
            }
        }
        let mut request = Map::new();
        request.insert("action".to_owned(), "subscribe".into());
        request.insert("id".to_owned(), id.into());
        for (kind, list) in ChannelKind::ALL.into_iter().zip(lists) {
            if !list.is_empty() {
                request.insert(kind.name().to_owned(), list.into());
            }
        }
        if let Some(max_rate) = self.interest.max_rate {
            request.insert("max_rate".to_owned(), max_rate.into());
        }
        if let Some((epoch, positions)) = since {
            let mut since = Map::new();
            since.insert("epoch".to_owned(), epoch.into());
            for (key, last) in positions {
                let channel = since.entry(key.kind().name()).or_insert_with(|| Map::new().into());
                if let Value::Object(channel) = channel {
                    channel.insert(symbols.name(key.symbol()).to_owned(), (*last).into());
                }
            }
            request.insert("since".to_owned(), since.into());
        }
        write(&request.into(), encoding, mask, out);
    }

    /// Subscribes to one channel, or unsubscribes from it.
    #[expect(clippy::too_many_arguments, reason = "one request, written once")]
    pub(super) fn write_change(
        &self,
        id: u64,
        key: Key,
        adds: bool,
        symbols: &Symbols,
        encoding: Encoding,
        mask: [u8; 4],
        out: &mut Vec<u8>,
    ) {
        let action = if adds { "subscribe" } else { "unsubscribe" };
        let request = json!({"action": action, "id": id, key.kind().name(): [symbols.name(key.symbol())]});
        write(&request, encoding, mask, out);
    }
}

/// Signs JSON Web Tokens with HS256.
struct TokenMaker {
    key: hmac::Key,
    /// The header, as it stands in each.
    header: String,
}

impl TokenMaker {
    fn new(signer: &TokenSigner) -> TokenMaker {
        let mut header = json!({"alg": "HS256", "typ": "JWT"});
        if let Some(kid) = &signer.kid {
            header["kid"] = kid.as_str().into();
        }
        TokenMaker {
            key: hmac::Key::new(hmac::HMAC_SHA256, &signer.secret),
            header: URL_SAFE_NO_PAD.encode(header.to_string()),
        }
    }

    /// From `now_s` on, Unix s.
    fn make(&self, user: &str, now_s: i64) -> String {
        let claims = json!({"sub": user, "iat": now_s, "exp": now_s + TOKEN_S});
        let signed = format!("{}.{}", self.header, URL_SAFE_NO_PAD.encode(claims.to_string()));
        let signature = hmac::sign(&self.key, signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// The sums of the symbols' weights, as shares of all.
fn weights(interest: &Interest) -> Vec<f64> {
    let Basket::Drawn { exponent, .. } = interest.basket else { return Vec::new() };
    let weights = (1..=interest.symbols.len()).map(|rank| (rank as f64).powf(-exponent));
    let total: f64 = weights.clone().sum();
    weights
        .scan(0.0, |sum, weight| {
            *sum += weight / total;
            Some(*sum)
        })
        .collect()
}

fn write(request: &Value, encoding: Encoding, mask: [u8; 4], out: &mut Vec<u8>) {
    let payload = match encoding {
        Encoding::Json => serde_json::to_vec(request).map_err(|e| e.to_string()),
        Encoding::MessagePack => rmp_serde::to_vec(request).map_err(|e| e.to_string()),
    };
    match payload {
        Ok(payload) => encode_client_frame(encoding.opcode(), &payload, mask, out),
        Err(error) => panic!("Invariant: a request of texts and numbers can always be written ({error})"),
    }
}
