//! What is no good token is refused, whatever it pretends. Tokens are put together by hand here, so that the
//! library that verifies them has no part in making them.

use std::sync::LazyLock;
use std::time::Duration;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use entitlements::{
    Algorithm, Claims, IssueError, Refusal, TokenHash, TokenHashes, TokenKey, TokenKeyError, TokenRules, Tokens,
    claimed_end,
};
use proptest::prelude::*;

const NOW: i64 = 1_763_654_400;
const LEEWAY_S: i64 = 5;
const SECRET: &[u8; 32] = b"0123456789abcdef0123456789abcdef";
const GOOD: &str = r#"{"sub":"alice","iat":1763654300,"exp":1763658000,"iss":"us","aud":"gateway"}"#;
const HS: &str = r#"{"alg":"HS256","typ":"JWT","kid":"hs"}"#;
const RS: &str = r#"{"alg":"RS256","typ":"JWT","kid":"rs"}"#;
const ES: &str = r#"{"alg":"ES256","typ":"JWT","kid":"es"}"#;

static RSA: LazyLock<RsaKeyPair> = LazyLock::new(|| RsaKeyPair::generate(KeySize::Rsa2048).unwrap());
static OTHER_RSA: LazyLock<RsaKeyPair> = LazyLock::new(|| RsaKeyPair::generate(KeySize::Rsa2048).unwrap());
static EC: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
    key.as_ref().to_vec()
});

fn base64(bytes: &[u8], alphabet_end: &[u8; 2]) -> String {
    let alphabet =
        [b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789".as_slice(), alphabet_end].concat();
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = (0..3).fold(0u32, |word, n| word << 8 | u32::from(chunk.get(n).copied().unwrap_or(0)));
        for n in 0..=chunk.len() {
            text.push(char::from(alphabet[(word >> (18 - 6 * n)) as usize & 63]));
        }
    }
    text
}

fn url(bytes: &[u8]) -> String {
    base64(bytes, b"-_")
}

fn pem(label: &str, der: &[u8]) -> String {
    let mut text = base64(der, b"+/");
    while !text.len().is_multiple_of(4) {
        text.push('=');
    }
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

fn rsa_public_pem(key: &RsaKeyPair) -> String {
    let der = AsDer::<aws_lc_rs::encoding::PublicKeyX509Der>::as_der(key.public_key()).unwrap();
    pem("PUBLIC KEY", der.as_ref())
}

fn ec_public_pem(key: &EcdsaKeyPair) -> String {
    let der = AsDer::<aws_lc_rs::encoding::PublicKeyX509Der>::as_der(key.public_key()).unwrap();
    pem("PUBLIC KEY", der.as_ref())
}

fn ec(algorithm: &'static EcdsaSigningAlgorithm) -> EcdsaKeyPair {
    EcdsaKeyPair::from_pkcs8(algorithm, &EC).unwrap()
}

/// A token of these texts, signed by `sign`.
fn jws(header: &str, claims: &str, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let message = format!("{}.{}", url(header.as_bytes()), url(claims.as_bytes()));
    let signature = url(&sign(message.as_bytes()));
    format!("{message}.{signature}")
}

fn by_secret(secret: &[u8]) -> impl Fn(&[u8]) -> Vec<u8> {
    move |message| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message).as_ref().to_vec()
}

fn by_rsa(key: &RsaKeyPair, padding: &'static dyn RsaEncoding) -> impl Fn(&[u8]) -> Vec<u8> {
    move |message| {
        let mut signature = vec![0; key.public_modulus_len()];
        key.sign(padding, &SystemRandom::new(), message, &mut signature).unwrap();
        signature
    }
}

fn by_ec(algorithm: &'static EcdsaSigningAlgorithm) -> impl Fn(&[u8]) -> Vec<u8> {
    move |message| ec(algorithm).sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
}

fn hs(claims: &str) -> String {
    jws(HS, claims, by_secret(SECRET))
}

fn rules() -> TokenRules {
    TokenRules { issuer: Some("us".into()), audience: Some("gateway".into()), ..TokenRules::default() }
}

/// One key of each algorithm: `hs`, `rs`, `es`.
static TOKENS: LazyLock<Tokens> = LazyLock::new(|| {
    let keys = vec![
        TokenKey::new("hs", Algorithm::HS256, SECRET).unwrap(),
        TokenKey::new("rs", Algorithm::RS256, rsa_public_pem(&RSA).as_bytes()).unwrap(),
        TokenKey::new("es", Algorithm::ES256, ec_public_pem(&ec(&ECDSA_P256_SHA256_FIXED_SIGNING)).as_bytes()).unwrap(),
    ];
    Tokens::new(keys, rules()).unwrap()
});

fn only(key: TokenKey) -> Tokens {
    Tokens::new(vec![key], TokenRules::default()).unwrap()
}

#[track_caller]
fn check(tokens: &Tokens, token: &str, expected: Result<&str, Refusal>) {
    let shown = token.get(..200).unwrap_or(token);
    match (tokens.verify(token, NOW), expected) {
        (Ok(claims), Ok(user)) => assert_eq!(claims.user, user, "{shown}"),
        (verified, expected) => assert_eq!(verified.map(|claims| claims.user), expected.map(str::to_owned), "{shown}"),
    }
}

#[test]
fn good_tokens_of_every_algorithm_are_accepted() {
    check(&TOKENS, &hs(GOOD), Ok("alice"));
    check(&TOKENS, &jws(RS, GOOD, by_rsa(&RSA, &RSA_PKCS1_SHA256)), Ok("alice"));
    check(&TOKENS, &jws(ES, GOOD, by_ec(&ECDSA_P256_SHA256_FIXED_SIGNING)), Ok("alice"));
    let claims = TOKENS.verify(&hs(GOOD), NOW);
    assert_eq!(claims, Ok(Claims { user: "alice".into(), expires_at: 1_763_658_000 + LEEWAY_S }));
}

#[test]
fn no_token_goes_unsigned() {
    for alg in ["none", "None", "NONE", "nOnE", ""] {
        for kid in ["hs", "rs", "es"] {
            let header = format!(r#"{{"alg":"{alg}","kid":"{kid}"}}"#);
            check(&TOKENS, &jws(&header, GOOD, |_| vec![]), Err(Refusal::TokenMalformed));
            check(&TOKENS, &jws(&header, GOOD, by_secret(SECRET)), Err(Refusal::TokenMalformed));
        }
    }
    for header in [HS, RS, ES] {
        check(&TOKENS, &jws(header, GOOD, |_| vec![]), Err(Refusal::TokenSignature));
        check(&TOKENS, &jws(header, GOOD, |_| vec![0; 32]), Err(Refusal::TokenSignature));
        check(&TOKENS, &jws(header, GOOD, |_| vec![0; 64]), Err(Refusal::TokenSignature));
        check(&TOKENS, &jws(header, GOOD, |_| vec![0; 256]), Err(Refusal::TokenSignature));
        let signed = jws(header, GOOD, by_secret(SECRET));
        let (unsigned, _) = signed.rsplit_once('.').unwrap();
        check(&TOKENS, unsigned, Err(Refusal::TokenMalformed));
    }
    check(&TOKENS, &jws(r#"{"kid":"hs"}"#, GOOD, by_secret(SECRET)), Err(Refusal::TokenMalformed));
}

#[test]
fn the_key_decides_the_algorithm() {
    let public = rsa_public_pem(&RSA);
    let der = AsDer::<aws_lc_rs::encoding::PublicKeyX509Der>::as_der(RSA.public_key()).unwrap();
    let pkcs1 = RSA.public_key().as_ref();
    for secret in [public.as_bytes(), public.trim_end().as_bytes(), der.as_ref(), pkcs1, b""] {
        let forged = jws(r#"{"alg":"HS256","kid":"rs"}"#, GOOD, by_secret(secret));
        check(&TOKENS, &forged, Err(Refusal::TokenAlgorithm));
        // The same where there is but one key and so no kid is needed.
        let rsa = only(TokenKey::new("rs", Algorithm::RS256, public.as_bytes()).unwrap());
        check(&rsa, &jws(r#"{"alg":"HS256"}"#, GOOD, by_secret(secret)), Err(Refusal::TokenAlgorithm));
    }
    let point = ec(&ECDSA_P256_SHA256_FIXED_SIGNING).public_key().as_ref().to_vec();
    check(&TOKENS, &jws(r#"{"alg":"HS256","kid":"es"}"#, GOOD, by_secret(&point)), Err(Refusal::TokenAlgorithm));
    let rs512 = jws(r#"{"alg":"RS512","kid":"rs"}"#, GOOD, by_rsa(&RSA, &RSA_PKCS1_SHA512));
    check(&TOKENS, &rs512, Err(Refusal::TokenAlgorithm));
    let ps256 = jws(r#"{"alg":"PS256","kid":"rs"}"#, GOOD, by_rsa(&RSA, &RSA_PSS_SHA256));
    check(&TOKENS, &ps256, Err(Refusal::TokenAlgorithm));
    check(&TOKENS, &jws(RS, GOOD, by_rsa(&RSA, &RSA_PSS_SHA256)), Err(Refusal::TokenSignature));
    for (alg, kid) in [("HS384", "hs"), ("HS512", "hs"), ("RS256", "hs"), ("ES256", "rs"), ("ES384", "es")] {
        let header = format!(r#"{{"alg":"{alg}","kid":"{kid}"}}"#);
        check(&TOKENS, &jws(&header, GOOD, by_secret(SECRET)), Err(Refusal::TokenAlgorithm));
    }
    // ECDSA signatures in tokens are r and s as they are, not their DER form.
    check(&TOKENS, &jws(ES, GOOD, by_ec(&ECDSA_P256_SHA256_ASN1_SIGNING)), Err(Refusal::TokenSignature));
}

#[test]
fn who_denies_an_es256_token_denies_its_twin() {
    let token = jws(ES, GOOD, by_ec(&ECDSA_P256_SHA256_FIXED_SIGNING));
    let twin = {
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let mut signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let half = |at: usize| u128::from_be_bytes(signature[at..at + 16].try_into().unwrap());
        // The order of P-256 less s.
        let (low, borrow) = 0xbce6_faad_a717_9e84_f3b9_cac2_fc63_2551u128.overflowing_sub(half(48));
        let high = 0xffff_ffff_0000_0000_ffff_ffff_ffff_ffffu128 - half(32) - u128::from(borrow);
        signature[32..48].copy_from_slice(&high.to_be_bytes());
        signature[48..].copy_from_slice(&low.to_be_bytes());
        format!("{signed}.{}", url(&signature))
    };
    check(&TOKENS, &twin, Ok("alice"));
    let hashes = |token: &str| TokenHashes::of(token).iter().collect::<Vec<_>>();
    assert_eq!(hashes(&token), [TokenHash::of(&token), TokenHash::of(&twin)]);
    assert_eq!(hashes(&twin), [TokenHash::of(&twin), TokenHash::of(&token)]);
    for token in [hs(GOOD), jws(RS, GOOD, by_rsa(&RSA, &RSA_PKCS1_SHA256)), "a.b.c".into(), String::new()] {
        assert_eq!(hashes(&token), [TokenHash::of(&token)]);
    }
}

#[test]
fn only_configured_keys_sign() {
    let with = |header: &str| jws(header, GOOD, by_secret(SECRET));
    check(&TOKENS, &with(r#"{"alg":"HS256"}"#), Err(Refusal::TokenUnknownKey));
    check(&TOKENS, &with(r#"{"alg":"HS256","kid":null}"#), Err(Refusal::TokenUnknownKey));
    for kid in ["", "HS", "hs ", "rs2", "../../dev/null", "' OR 1=1 --"] {
        check(&TOKENS, &with(&format!(r#"{{"alg":"HS256","kid":"{kid}"}}"#)), Err(Refusal::TokenUnknownKey));
    }
    check(&TOKENS, &with(r#"{"alg":"HS256","kid":7}"#), Err(Refusal::TokenMalformed));
    check(&TOKENS, &with(r#"{"alg":"HS256","kid":["hs"]}"#), Err(Refusal::TokenMalformed));

    let single = only(TokenKey::new("hs", Algorithm::HS256, SECRET).unwrap());
    check(&single, &with(r#"{"alg":"HS256"}"#), Ok("alice"));
    check(&single, &with(r#"{"alg":"HS256","kid":"old"}"#), Err(Refusal::TokenUnknownKey));

    check(&TOKENS, &jws(HS, GOOD, by_secret(b"another secret, also of 32 bytes")), Err(Refusal::TokenSignature));
    check(&TOKENS, &jws(RS, GOOD, by_rsa(&OTHER_RSA, &RSA_PKCS1_SHA256)), Err(Refusal::TokenSignature));
    let other = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let by_other = |message: &[u8]| other.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec();
    check(&TOKENS, &jws(ES, GOOD, by_other), Err(Refusal::TokenSignature));

    // A key that the token brings along is not believed.
    let components = aws_lc_rs::signature::RsaPublicKeyComponents::<Vec<u8>>::from(OTHER_RSA.public_key());
    let (n, e) = (url(&components.n), url(&components.e));
    for brought in [
        format!(r#""jwk":{{"kty":"RSA","alg":"RS256","use":"sig","kid":"rs","n":"{n}","e":"{e}"}}"#),
        r#""jku":"https://attacker.example/keys""#.to_owned(),
        r#""x5u":"https://attacker.example/chain.pem""#.to_owned(),
    ] {
        let header = format!(r#"{{"alg":"RS256","kid":"rs",{brought}}}"#);
        check(&TOKENS, &jws(&header, GOOD, by_rsa(&OTHER_RSA, &RSA_PKCS1_SHA256)), Err(Refusal::TokenSignature));
    }

    let none = Tokens::new(vec![], TokenRules::default()).unwrap();
    check(&none, &with(HS), Err(Refusal::TokenUnknownKey));
    check(&none, &with(r#"{"alg":"HS256"}"#), Err(Refusal::TokenUnknownKey));
}

#[test]
fn claims_are_checked() {
    let end = NOW + 60;
    let with = |claims: &str| hs(&format!(r#"{{"iss":"us","aud":"gateway",{claims}}}"#));
    let times = |claims: &str| with(&format!(r#""sub":"alice",{claims}"#));
    let good = format!(r#""exp":{end}"#);
    check(&TOKENS, &times(&good), Ok("alice"));

    for exp in [r#""exq":1"#, r#""exp":null"#, r#""exp":"1763658000""#, r#""exp":true"#, r#""exp":[1763658000]"#] {
        check(&TOKENS, &times(exp), Err(Refusal::TokenClaims));
    }
    for exp in [NOW - LEEWAY_S, NOW - 3_600, 0, -1, i64::MIN] {
        check(&TOKENS, &times(&format!(r#""exp":{exp}"#)), Err(Refusal::TokenExpired));
    }
    check(&TOKENS, &times(&format!(r#""exp":{}"#, NOW - LEEWAY_S + 1)), Ok("alice"));
    check(&TOKENS, &times(&format!(r#""exp":{}.75"#, NOW - LEEWAY_S)), Err(Refusal::TokenExpired));
    for exp in ["1763658000.5", "9223372036854775807", "18446744073709551615", "1e300"] {
        check(&TOKENS, &times(&format!(r#""exp":{exp}"#)), Ok("alice"));
    }
    check(&TOKENS, &times(&format!(r#"{good},"exp":1"#)), Err(Refusal::TokenClaims));

    for claim in ["nbf", "iat"] {
        let at = |seconds: &str| times(&format!(r#"{good},"{claim}":{seconds}"#));
        check(&TOKENS, &at(&(NOW + LEEWAY_S).to_string()), Ok("alice"));
        check(&TOKENS, &at(&(NOW + LEEWAY_S + 1).to_string()), Err(Refusal::TokenNotYetValid));
        check(&TOKENS, &at("1e300"), Err(Refusal::TokenNotYetValid));
        check(&TOKENS, &at("\"yesterday\""), Err(Refusal::TokenClaims));
        check(&TOKENS, &at("null"), Ok("alice"));
    }

    check(&TOKENS, &with(&good), Err(Refusal::TokenClaims));
    check(&TOKENS, &with(&format!(r#""sub":null,{good}"#)), Err(Refusal::TokenClaims));
    check(&TOKENS, &with(&format!(r#""sub":7,{good}"#)), Err(Refusal::TokenClaims));

    let from = |rest: &str| hs(&format!(r#"{{"sub":"alice",{good}{rest}}}"#));
    check(&TOKENS, &from(r#","aud":"gateway""#), Err(Refusal::TokenIssuer));
    check(&TOKENS, &from(r#","aud":"gateway","iss":"them""#), Err(Refusal::TokenIssuer));
    check(&TOKENS, &from(r#","aud":"gateway","iss":["us","them"]"#), Err(Refusal::TokenClaims));
    check(&TOKENS, &from(r#","iss":"us""#), Err(Refusal::TokenAudience));
    check(&TOKENS, &from(r#","iss":"us","aud":"billing""#), Err(Refusal::TokenAudience));
    check(&TOKENS, &from(r#","iss":"us","aud":["billing","mail"]"#), Err(Refusal::TokenAudience));
    check(&TOKENS, &from(r#","iss":"us","aud":[]"#), Err(Refusal::TokenAudience));
    check(&TOKENS, &from(r#","iss":"us","aud":{"0":"gateway"}"#), Err(Refusal::TokenClaims));
    check(&TOKENS, &from(r#","iss":"us","aud":["billing","gateway"]"#), Ok("alice"));

    for claims in ["", "{", "[]", "\"alice\"", "null", "{}", "\u{fffd}"] {
        check(&TOKENS, &hs(claims), Err(Refusal::TokenClaims));
    }
}

#[test]
fn a_changed_character_breaks_the_token() {
    let good = hs(GOOD);
    check(&TOKENS, &good, Ok("alice"));
    for at in 0..good.len() {
        for with in ["A", "B", "Q", "_", "=", ".", " ", "\u{0}", "é", ""] {
            if good.get(at..at + 1) != Some(with) {
                let changed = [&good[..at], with, &good[at + 1..]].concat();
                assert!(TOKENS.verify(&changed, NOW).is_err(), "{changed}");
            }
        }
    }
    for around in [format!(" {good}"), format!("{good} "), format!("{good}="), format!("{good}.{good}")] {
        assert!(TOKENS.verify(&around, NOW).is_err(), "{around}");
    }
    let bob = hs(&GOOD.replace("alice", "bob"));
    let parts: Vec<&str> = good.split('.').collect();
    let (_, signature_of_bob) = bob.rsplit_once('.').unwrap();
    check(&TOKENS, &[parts[0], parts[1], signature_of_bob].join("."), Err(Refusal::TokenSignature));
}

#[test]
fn garbage_and_the_huge_are_refused() {
    for token in [
        "",
        ".",
        "..",
        "...",
        "a.b",
        "a.b.c",
        "a.b.c.d",
        "ey.ey.ey",
        "\u{0}.\u{0}.\u{0}",
        "ключ.ключ.ключ",
        "e30.e30.e30",
    ] {
        check(&TOKENS, token, Err(Refusal::TokenMalformed));
    }
    for header in
        ["", "null", "[]", "{}", "{", r#"{"alg":7}"#, r#"{"alg":"HS256","alg":"none","kid":"hs"}"#, &"[".repeat(5_000)]
    {
        check(&TOKENS, &jws(header, GOOD, by_secret(SECRET)), Err(Refusal::TokenMalformed));
    }
    // RFC 7515: what must be understood and is not refuses the token, properly signed or not.
    for crit in [r#"["b64"]"#, "[]"] {
        let header = format!(r#"{{"alg":"HS256","kid":"hs","b64":false,"crit":{crit}}}"#);
        check(&TOKENS, &jws(&header, GOOD, by_secret(SECRET)), Err(Refusal::TokenMalformed));
    }
    check(&TOKENS, &"a".repeat(1 << 20), Err(Refusal::TokenMalformed));
    let padded = |bytes: usize| hs(&GOOD.replace("\"sub\"", &format!("\"pad\":\"{}\",\"sub\"", "x".repeat(bytes))));
    check(&TOKENS, &padded(5_000), Ok("alice"));
    check(&TOKENS, &padded(1 << 20), Err(Refusal::TokenMalformed));
    check(&TOKENS, &hs(&format!("{{\"sub\":{}", "[".repeat(5_000))), Err(Refusal::TokenClaims));
}

proptest! {
    #[test]
    fn nothing_that_is_made_up_is_accepted(token in any::<String>()) {
        prop_assert!(TOKENS.verify(&token, NOW).is_err());
    }

    #[test]
    fn no_header_or_claims_panic(header in r#"\{"alg":"(HS|RS|ES)256","kid":"(hs|rs|es)",?.{0,40}\}"#, claims in r#"\{"(sub|exp|aud)":.{0,60}\}"#) {
        let _ = TOKENS.verify(&jws(&header, &claims, by_secret(SECRET)), NOW);
    }
}

#[test]
fn weak_and_mistaken_keys_are_refused() {
    let refused = |algorithm, material: &[u8]| TokenKey::new("k", algorithm, material).map(drop).unwrap_err();
    assert_eq!(TokenKey::new("", Algorithm::HS256, SECRET).map(drop), Err(TokenKeyError::EmptyKid));
    assert_eq!(refused(Algorithm::HS256, &SECRET[..31]), TokenKeyError::ShortSecret { bytes: 31 });
    let rsa = rsa_public_pem(&RSA);
    assert_eq!(refused(Algorithm::HS256, rsa.as_bytes()), TokenKeyError::SecretIsPem);
    assert_eq!(refused(Algorithm::HS256, format!("\n{rsa}").as_bytes()), TokenKeyError::SecretIsPem);

    let p256 = ec_public_pem(&ec(&ECDSA_P256_SHA256_FIXED_SIGNING));
    let p384 = ec_public_pem(&EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap());
    let private = AsDer::<aws_lc_rs::encoding::Pkcs8V1Der>::as_der(&*RSA).unwrap();
    let private = pem("PRIVATE KEY", private.as_ref());
    let ec_private = pem("PRIVATE KEY", &EC);
    let pkcs1 = pem("RSA PUBLIC KEY", RSA.public_key().as_ref());
    assert!(TokenKey::new("k", Algorithm::RS256, pkcs1.as_bytes()).is_ok());
    for material in ["", "secret", &p256, &p384, &private, &ec_private, RSA_1024, &rsa[..200]] {
        assert_eq!(refused(Algorithm::RS256, material.as_bytes()), TokenKeyError::NotRsa, "{material}");
    }
    for material in ["", "secret", &rsa, &p384, &private, &ec_private, &p256[..100]] {
        assert_eq!(refused(Algorithm::ES256, material.as_bytes()), TokenKeyError::NotP256, "{material}");
    }
    let key = || TokenKey::new("k", Algorithm::HS256, SECRET).unwrap();
    let twice = Tokens::new(vec![key(), key()], TokenRules::default()).map(drop);
    assert_eq!(twice, Err(TokenKeyError::DuplicateKid { kid: "k".into() }));
}

#[test]
fn issued_tokens_are_accepted_until_they_end() {
    let token = TOKENS.issue("alice", Duration::from_secs(60), NOW).unwrap();
    let at = |now| TOKENS.verify(&token, now).map(|claims| claims.user);
    assert_eq!(at(NOW), Ok("alice".into()));
    assert_eq!(at(NOW + 60 + LEEWAY_S - 1), Ok("alice".into()));
    assert_eq!(at(NOW + 60 + LEEWAY_S), Err(Refusal::TokenExpired));
    assert_eq!(at(NOW - LEEWAY_S), Ok("alice".into()));
    assert_eq!(at(NOW - LEEWAY_S - 1), Err(Refusal::TokenNotYetValid));

    for ttl in [
        Duration::ZERO,
        Duration::from_millis(999),
        Duration::from_secs(u64::MAX),
        Duration::from_secs(i64::MAX as u64),
    ] {
        assert_eq!(TOKENS.issue("alice", ttl, NOW), Err(IssueError::Ttl));
    }
    let verify_only = only(TokenKey::new("rs", Algorithm::RS256, rsa_public_pem(&RSA).as_bytes()).unwrap());
    assert_eq!(verify_only.issue("alice", Duration::from_secs(60), NOW), Err(IssueError::NoSigningKey));
}

#[test]
fn when_a_token_ends_can_be_read_without_its_key() {
    let token = TOKENS.issue("alice", Duration::from_secs(60), NOW).unwrap();
    assert_eq!(claimed_end(&token), Some(NOW + 60));
    let unsigned = |claims: &str| claimed_end(&format!("e30.{}.", url(claims.as_bytes())));
    assert_eq!(unsigned(r#"{"exp":1763658000.75}"#), Some(1_763_658_000));
    assert_eq!([unsigned("{}"), unsigned(r#"{"exp":"soon"}"#), unsigned("[")], [None; 3]);
    assert_eq!(["", "a.b", "a.b.c", &format!("{token}.")].map(claimed_end), [None; 4]);
}

/// `openssl genrsa 1024 | openssl rsa -pubout`
const RSA_1024: &str = "-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDfFPD/g5q3IJ1yutrHWa7g0CQ/
Qig7MpFWBzVwqxvNZZ4liNGZJEPyjA+t4QuCJbtxSvyNDFWJV7sy92pEzaqzG0wZ
9yEkZR7SezgJr+xicm81McjzsmXDRDpKfTTHdgLrBevzR6/d5FoC9o1P0q6Tt+DC
SQN1YHBTw+e5Gc16JwIDAQAB
-----END PUBLIC KEY-----
";
