//! JSON Web Tokens: verified against configured keys, and issued with an HS256 one.
//!
//! The key decides the algorithm, never the token: a token whose header names another one is refused before its
//! signature is looked at, which rules out `none` and the use of a public key as an HMAC secret. Keys that a token
//! brings along (`jwk`, `jku`, `x5u`, `x5c`) are ignored. Times are compared with the caller's `now`, because this
//! crate has no clock; the signature is checked first, so that claims of strangers are never read.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::digest;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ParsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{DecodingKey, EncodingKey, Header, Validation, errors::ErrorKind};
use serde::{Deserialize, Serialize};

use crate::api_key::{hex, parse_hex};
use crate::door::{IssueError, Refusal};
use crate::principal::is_user_id;

/// Longest token that is looked at. With one 4096-bit RSA signature (683 characters) this leaves 7 KiB of claims.
const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// Shortest HS256 secret: as long as the hash (RFC 7518, section 3.2).
const HMAC_SECRET_BYTES_MIN: usize = 32;
/// RSA keys of 2048 to 8192 bits.
const RSA_MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// SHA-256 of a token as it was shown: by it a token is denied, and named where the token itself must not be.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// The hash of a whole token.
    pub fn of(token: &str) -> TokenHash {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
        TokenHash(hash)
    }

    /// The first 8 bytes.
    pub(crate) fn prefix(&self) -> u64 {
        self.0.first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
    }

    /// Reads 64 hexadecimal digits, of either case.
    pub fn from_hex(text: &str) -> Option<TokenHash> {
        parse_hex(text).map(TokenHash)
    }
}

/// What one token may be denied by: its hash, and that of its twin, where it has one. Of an ES256 signature (r, s) anybody can make
/// (r, n - s), which verifies as well and has the token written otherwise: who denies the one means both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TokenHashes {
    shown: TokenHash,
    twin: Option<TokenHash>,
}

impl TokenHashes {
    /// The hashes of a token as it was shown, which has been verified.
    pub fn of(token: &str) -> TokenHashes {
        TokenHashes { shown: TokenHash::of(token), twin: twin(token).map(|twin| TokenHash::of(&twin)) }
    }

    pub fn iter(&self) -> impl Iterator<Item = TokenHash> + use<> {
        std::iter::once(self.shown).chain(self.twin)
    }
}

/// The order of P-256, n (SEC 2, section 2.4.2).
const P256_ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa,
    0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

/// The token with (r, n - s) for a signature (r, s): one of 64 bytes, which of the algorithms here only ES256's has.
fn twin(token: &str) -> Option<String> {
    let (signed, signature) = token.rsplit_once('.')?;
    let mut signature: [u8; 64] = URL_SAFE_NO_PAD.decode(signature).ok()?.try_into().ok()?;
    let mut borrow = false;
    for (s, n) in signature[32..].iter_mut().zip(P256_ORDER).rev() {
        let (difference, below) = n.overflowing_sub(*s);
        let (difference, still_below) = difference.overflowing_sub(u8::from(borrow));
        (*s, borrow) = (difference, below || still_below);
    }
    Some(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

/// When a token says that it ends (`exp`), Unix seconds. **Not verified:** it says how long to deny the token, and nothing else.
/// `None` where it is no JSON Web Token, or has no end.
pub fn claimed_end(token: &str) -> Option<i64> {
    let [_, claims, _] = token.split('.').collect::<Vec<_>>()[..] else { return None };
    let claims = URL_SAFE_NO_PAD.decode(claims).ok()?;
    serde_json::from_slice::<WireClaims>(&claims).ok()?.exp.map(|exp| exp.seconds())
}

/// 64 hexadecimal digits, as in the name of the deny list's key.
impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenHash({self})")
    }
}

/// The signature algorithms that a key may be configured for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Algorithm {
    HS256,
    RS256,
    ES256,
}

impl Algorithm {
    pub const fn name(self) -> &'static str {
        match self {
            Algorithm::HS256 => "HS256",
            Algorithm::RS256 => "RS256",
            Algorithm::ES256 => "ES256",
        }
    }

    const fn jose(self) -> jsonwebtoken::Algorithm {
        match self {
            Algorithm::HS256 => jsonwebtoken::Algorithm::HS256,
            Algorithm::RS256 => jsonwebtoken::Algorithm::RS256,
            Algorithm::ES256 => jsonwebtoken::Algorithm::ES256,
        }
    }
}

/// Why a key cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenKeyError {
    #[error("kid is empty")]
    EmptyKid,
    #[error("kid {kid:?} is used twice")]
    DuplicateKid { kid: String },
    #[error("an HS256 secret has at least 32 bytes, this one has {bytes}")]
    ShortSecret { bytes: usize },
    #[error("an HS256 key is a secret, but this is a PEM file")]
    SecretIsPem,
    #[error("expected the PEM file of an RSA public key of 2048 to 8192 bits")]
    NotRsa,
    #[error("expected the PEM file of an elliptic-curve public key on P-256")]
    NotP256,
}

/// A key that tokens are verified with, pinned to one algorithm.
pub struct TokenKey {
    kid: String,
    algorithm: Algorithm,
    verifying: DecodingKey,
    /// Present for HS256, whose secret also signs.
    signing: Option<EncodingKey>,
}

impl TokenKey {
    /// `material` is the secret's bytes as they are for HS256, and a PEM file with the public key for the others.
    ///
    /// # Errors
    /// [`TokenKeyError`] where the key is weak, or not of the algorithm's kind.
    pub fn new(kid: &str, algorithm: Algorithm, material: &[u8]) -> Result<TokenKey, TokenKeyError> {
        if kid.is_empty() {
            return Err(TokenKeyError::EmptyKid);
        }
        let (verifying, signing) = match algorithm {
            Algorithm::HS256 => {
                if material.trim_ascii_start().starts_with(b"-----BEGIN") {
                    return Err(TokenKeyError::SecretIsPem);
                }
                if material.len() < HMAC_SECRET_BYTES_MIN {
                    return Err(TokenKeyError::ShortSecret { bytes: material.len() });
                }
                (DecodingKey::from_secret(material), Some(EncodingKey::from_secret(material)))
            }
            Algorithm::RS256 => (rsa_key(material).ok_or(TokenKeyError::NotRsa)?, None),
            Algorithm::ES256 => (p256_key(material).ok_or(TokenKeyError::NotP256)?, None),
        };
        Ok(TokenKey { kid: kid.to_owned(), algorithm, verifying, signing })
    }

    /// An RS256 key of modulus and exponent, as a JWK Set has them. `None` for a weak or malformed one.
    pub(crate) fn from_rsa_components(kid: &str, n: &[u8], e: &[u8]) -> Option<TokenKey> {
        let components = aws_lc_rs::rsa::PublicKeyComponents { n, e };
        let public: aws_lc_rs::rsa::PublicEncryptingKey = components.try_into().ok()?;
        RSA_MODULUS_BYTES.contains(&public.key_size_bytes()).then_some(())?;
        let verifying = DecodingKey::from_rsa_raw_components(n, e);
        Some(TokenKey { kid: kid.to_owned(), algorithm: Algorithm::RS256, verifying, signing: None })
    }

    /// An ES256 key. `None` where it is no point on P-256.
    pub(crate) fn from_p256(kid: &str, verifying: DecodingKey) -> Option<TokenKey> {
        ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, verifying.try_get_as_bytes().ok()?).ok()?;
        Some(TokenKey { kid: kid.to_owned(), algorithm: Algorithm::ES256, verifying, signing: None })
    }

    pub fn kid(&self) -> &str {
        &self.kid
    }

    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

/// An RSA public key, from `PUBLIC KEY` or `RSA PUBLIC KEY`.
fn rsa_key(pem: &[u8]) -> Option<DecodingKey> {
    let key = DecodingKey::from_rsa_pem(pem).ok()?;
    // The PEM reader takes the first bit string it finds, also in a certificate or a private key.
    let public = aws_lc_rs::rsa::PublicKey::from_der(key.try_get_as_bytes().ok()?).ok()?;
    RSA_MODULUS_BYTES.contains(&public.modulus_len()).then_some(key)
}

/// A P-256 public key, from `PUBLIC KEY`.
fn p256_key(pem: &[u8]) -> Option<DecodingKey> {
    let key = DecodingKey::from_ec_pem(pem).ok()?;
    let point = key.try_get_as_bytes().ok()?;
    ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).ok()?;
    Some(key)
}

/// What is asked of every token beside its signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRules {
    /// The only `iss` that is accepted, and the one of issued tokens; `None`: not looked at.
    pub issuer: Option<String>,
    /// One of a token's `aud`, and the one of issued tokens; `None`: not looked at.
    pub audience: Option<String>,
    /// How far the issuer's clock may be off, in whole seconds.
    pub leeway: Duration,
}

impl Default for TokenRules {
    fn default() -> TokenRules {
        TokenRules { issuer: None, audience: None, leeway: Duration::from_secs(5) }
    }
}

/// What a verified token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// The user's id (`sub`).
    pub user: String,
    /// Unix seconds from which the token is refused: `exp` and the leeway.
    pub expires_at: i64,
}

/// The claims as they stand in a token. Times may have a fraction (RFC 7519, section 2), which is cut off.
#[derive(Deserialize)]
struct WireClaims {
    sub: Option<String>,
    exp: Option<NumericDate>,
    nbf: Option<NumericDate>,
    iat: Option<NumericDate>,
    iss: Option<String>,
    aud: Option<Audience>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum NumericDate {
    Whole(i64),
    Fraction(f64),
}

impl NumericDate {
    fn seconds(&self) -> i64 {
        match self {
            NumericDate::Whole(seconds) => *seconds,
            NumericDate::Fraction(seconds) => *seconds as i64,
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Audience {
    fn holds(&self, audience: &str) -> bool {
        match self {
            Audience::One(one) => one == audience,
            Audience::Many(many) => many.iter().any(|one| one == audience),
        }
    }
}

#[derive(Serialize)]
struct IssuedClaims<'a> {
    sub: &'a str,
    iat: i64,
    exp: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
}

struct PinnedKey {
    key: TokenKey,
    /// Accepts the key's algorithm alone, and leaves all claims to [`Tokens::check`].
    validation: Validation,
}

impl PinnedKey {
    fn new(key: TokenKey) -> PinnedKey {
        let mut validation = Validation::new(key.algorithm.jose());
        validation.required_spec_claims.clear();
        (validation.validate_exp, validation.validate_nbf, validation.validate_aud) = (false, false, false);
        PinnedKey { key, validation }
    }
}

/// Verifies and issues tokens. Without keys no token is accepted.
pub struct Tokens {
    keys: Vec<PinnedKey>,
    /// Those that the issuer publishes (JWKS), as of the last time they were fetched.
    fetched: ArcSwap<Vec<PinnedKey>>,
    rules: TokenRules,
    leeway_s: i64,
}

impl Tokens {
    /// # Errors
    /// [`TokenKeyError::DuplicateKid`] where two keys have the same `kid`.
    pub fn new(keys: Vec<TokenKey>, rules: TokenRules) -> Result<Tokens, TokenKeyError> {
        let mut pinned: Vec<PinnedKey> = Vec::with_capacity(keys.len());
        for key in keys {
            if pinned.iter().any(|earlier| earlier.key.kid == key.kid) {
                return Err(TokenKeyError::DuplicateKid { kid: key.kid });
            }
            pinned.push(PinnedKey::new(key));
        }
        let leeway_s = i64::try_from(rules.leeway.as_secs()).unwrap_or(i64::MAX);
        Ok(Tokens { keys: pinned, fetched: ArcSwap::default(), rules, leeway_s })
    }

    /// Takes the keys that the issuer publishes in place of those that it published before. A configured key wins over a
    /// published one of its `kid`; of published ones the first.
    pub fn set_fetched(&self, keys: Vec<TokenKey>) {
        self.fetched.store(Arc::new(keys.into_iter().map(PinnedKey::new).collect()));
    }

    /// Checks the signature and the claims of `token` at `now` (Unix seconds).
    ///
    /// # Errors
    /// [`Refusal`], for counters only: the client must not learn which it was.
    pub fn verify(&self, token: &str, now: i64) -> Result<Claims, Refusal> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Refusal::TokenMalformed);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| Refusal::TokenMalformed)?;
        // RFC 7515, section 4.1.11: extensions that are not understood refuse the token, and none is understood.
        if header.crit.is_some() {
            return Err(Refusal::TokenMalformed);
        }
        let fetched = self.fetched.load();
        let pinned = self.key(&fetched, header.kid.as_deref()).ok_or(Refusal::TokenUnknownKey)?;
        // The library compares again while decoding; here it says which check refused, and leaves no doubt.
        if header.alg != pinned.key.algorithm.jose() {
            return Err(Refusal::TokenAlgorithm);
        }
        let verified = jsonwebtoken::decode::<WireClaims>(token, &pinned.key.verifying, &pinned.validation);
        match verified {
            Ok(token) => self.check(token.claims, now),
            Err(error) => Err(match error.kind() {
                ErrorKind::InvalidSignature => Refusal::TokenSignature,
                ErrorKind::InvalidAlgorithm => Refusal::TokenAlgorithm,
                ErrorKind::Json(_) => Refusal::TokenClaims,
                _ => Refusal::TokenMalformed,
            }),
        }
    }

    /// The key a token asks for. A token without a `kid` is for the only key, if there is just one.
    fn key<'a>(&'a self, fetched: &'a [PinnedKey], kid: Option<&str>) -> Option<&'a PinnedKey> {
        let mut keys = self.keys.iter().chain(fetched);
        match kid {
            None => keys.next().filter(|_| self.keys.len() + fetched.len() == 1),
            Some(kid) => keys.find(|pinned| pinned.key.kid == kid),
        }
    }

    fn check(&self, claims: WireClaims, now: i64) -> Result<Claims, Refusal> {
        let user = claims.sub.filter(|sub| is_user_id(sub)).ok_or(Refusal::TokenClaims)?;
        let expires_at = claims.exp.ok_or(Refusal::TokenClaims)?.seconds().saturating_add(self.leeway_s);
        if now >= expires_at {
            return Err(Refusal::TokenExpired);
        }
        let latest = now.saturating_add(self.leeway_s);
        if [claims.nbf, claims.iat].iter().flatten().any(|begin| begin.seconds() > latest) {
            return Err(Refusal::TokenNotYetValid);
        }
        if self.rules.issuer.is_some() && claims.iss != self.rules.issuer {
            return Err(Refusal::TokenIssuer);
        }
        let for_us = |audience: &String| claims.aud.as_ref().is_some_and(|aud| aud.holds(audience));
        if !self.rules.audience.as_ref().is_none_or(for_us) {
            return Err(Refusal::TokenAudience);
        }
        Ok(Claims { user, expires_at })
    }

    /// Issues a token for `user`, from `now` (Unix seconds) for `ttl` (whole seconds), signed with the first HS256
    /// key. Whether the user exists is the caller's question.
    ///
    /// # Errors
    /// [`IssueError::NoSigningKey`] without an HS256 key, [`IssueError::Ttl`] for less than a second or beyond the
    /// range of time.
    pub fn issue(&self, user: &str, ttl: Duration, now: i64) -> Result<String, IssueError> {
        let signers = self.keys.iter().filter_map(|pinned| Some((&pinned.key, pinned.key.signing.as_ref()?)));
        let (key, secret) = signers.into_iter().next().ok_or(IssueError::NoSigningKey)?;
        let seconds = i64::try_from(ttl.as_secs()).ok().filter(|seconds| *seconds > 0);
        let exp = seconds.and_then(|seconds| now.checked_add(seconds)).ok_or(IssueError::Ttl)?;
        let header = Header { kid: Some(key.kid.clone()), ..Header::new(key.algorithm.jose()) };
        let (iss, aud) = (self.rules.issuer.as_deref(), self.rules.audience.as_deref());
        let claims = IssuedClaims { sub: user, iat: now, exp, iss, aud };
        jsonwebtoken::encode(&header, &claims, secret).map_err(|_| IssueError::Signing)
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenKey({}, {}, ***)", self.kid, self.algorithm.name())
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<&TokenKey> = self.keys.iter().map(|pinned| &pinned.key).collect();
        f.debug_struct("Tokens").field("keys", &keys).field("rules", &self.rules).finish()
    }
}
