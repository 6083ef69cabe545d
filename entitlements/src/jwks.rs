//! The keys that an issuer of tokens publishes (JWK Set, RFC 7517): bytes in, verifying keys out.
//!
//! A published key is as pinned to its algorithm as a configured one. Only public keys for RS256 and ES256 are taken: a
//! symmetric key has no business in a public document, and one that names no algorithm gets that of its kind.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use serde::Deserialize;

use crate::token::{Algorithm, TokenKey};

/// Most keys that are taken of one set.
pub const JWKS_KEYS_MAX: usize = 64;

/// The document is no JWK Set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the document is no JWK Set: {{\"keys\": [...]}}")]
pub struct JwksError;

#[derive(Deserialize)]
struct Set {
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// The keys of a set that tokens may be verified with, and how many others there were. Of keys with the same `kid` the first
/// is taken.
///
/// # Errors
/// [`JwksError`] for what is no JWK Set at all.
pub fn parse_jwks(document: &[u8]) -> Result<(Vec<TokenKey>, usize), JwksError> {
    let set: Set = serde_json::from_slice(document).map_err(|_| JwksError)?;
    let count = set.keys.len();
    let mut keys: Vec<TokenKey> = Vec::new();
    for key in set.keys.into_iter().take(JWKS_KEYS_MAX) {
        let key = serde_json::from_value::<Jwk>(key).ok().and_then(|jwk| token_key(&jwk));
        keys.extend(key.filter(|key| keys.iter().all(|taken| taken.kid() != key.kid())));
    }
    let left_out = count - keys.len();
    Ok((keys, left_out))
}

fn token_key(jwk: &Jwk) -> Option<TokenKey> {
    if jwk.purpose.as_deref().is_some_and(|purpose| purpose != "sig") {
        return None;
    }
    let kid = jwk.kid.as_deref()?;
    let fits = |algorithm: Algorithm| jwk.alg.as_deref().is_none_or(|alg| alg == algorithm.name());
    let decoded = |text: &Option<String>| URL_SAFE_NO_PAD.decode(text.as_deref()?).ok();
    match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("RSA", _) if fits(Algorithm::RS256) => {
            let (n, e) = (decoded(&jwk.n)?, decoded(&jwk.e)?);
            TokenKey::from_rsa_components(kid, &n, &e)
        }
        ("EC", Some("P-256")) if fits(Algorithm::ES256) => {
            let (x, y) = (jwk.x.as_deref()?, jwk.y.as_deref()?);
            let key = DecodingKey::from_ec_components(x, y).ok()?;
            TokenKey::from_p256(kid, key)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// The keys of RFC 7517, appendix A.1.
    const EC: &str = r#"{"kty":"EC","crv":"P-256","kid":"1","use":"sig",
        "x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}"#;
    const RSA: &str = r#"{"kty":"RSA","alg":"RS256","kid":"2011-04-29","e":"AQAB",
        "n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"}"#;

    fn kids(keys: &[String]) -> (Vec<(String, Algorithm)>, usize) {
        let (keys, left_out) = parse_jwks(format!("{{\"keys\":[{}]}}", keys.join(",")).as_bytes()).unwrap();
        (keys.iter().map(|key| (key.kid().to_owned(), key.algorithm())).collect(), left_out)
    }

    #[test]
    fn public_keys_are_taken_with_the_algorithm_of_their_kind() {
        let (ec, rsa) = (("1".to_owned(), Algorithm::ES256), ("2011-04-29".to_owned(), Algorithm::RS256));
        assert_eq!(kids(&[EC.into(), RSA.into()]), (vec![ec.clone(), rsa.clone()], 0));
        assert_eq!(kids(&[RSA.replace(r#""alg":"RS256","#, "")]), (vec![rsa], 0));
        assert_eq!(kids(&[EC.into(), EC.into()]), (vec![ec], 1));
    }

    #[test]
    fn everything_else_is_left_out() {
        for other in [
            json!({"kty": "oct", "kid": "1", "alg": "HS256", "k": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"})
                .to_string(),
            RSA.replace("RS256", "HS256"),
            RSA.replace("RS256", "none"),
            RSA.replace("\"kid\":\"2011-04-29\",", ""),
            RSA.replace("0vx7agoebGcQSuuPiLJXZptN9nndrQmb", ""),
            RSA.replace("AQAB", "!"),
            EC.replace("sig", "enc"),
            EC.replace("P-256", "P-384"),
            EC.replace("4Etl6SRW", "AAAAAAAA"),
            "7".to_owned(),
            "{}".to_owned(),
        ] {
            assert_eq!(kids(std::slice::from_ref(&other)), (vec![], 1), "{other}");
        }
        assert_eq!(kids(&[]), (vec![], 0));
        for document in ["", "[]", "{}", "{\"keys\":{}}"] {
            assert_eq!(parse_jwks(document.as_bytes()).map(drop), Err(JwksError));
        }
    }

    proptest! {
        #[test]
        fn no_document_is_too_strange(text: String) {
            let _ = parse_jwks(text.as_bytes());
        }
    }
}
