//! From the configuration to the door: which users may sign in, and with which token keys.
//!
//! Reads the files that the configuration names, once, at the start. Signing in itself is `entitlements`'.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use entitlements::demo::{self as users, DemoUser};
use entitlements::{
    Algorithm, Door, Embedded, HashKey, IssueError, KeySource, Redis, RedisLogin, RedisMode, RedisSettings, RedisTls,
    Store, TokenKey, TokenRules, Tokens, random_bytes,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::{self, Config, ConfigError};
use crate::demo::{Credential, master_secret};
use crate::jwks::{Jwks, Pace, SharedJwks};
use crate::metrics::Metrics;

/// How long the tokens hold that are printed at the start.
const DEMO_TOKEN_TTL: Duration = Duration::from_secs(24 * 3_600);

/// The door, and the demo users where they are the ones who may come in.
#[derive(Debug)]
pub struct Entrance {
    pub door: Arc<Door>,
    pub users: UserStore,
    pub demo: Option<Demo>,
    /// The keys that the issuer of tokens publishes, where it does.
    pub(crate) jwks: Option<Arc<Jwks>>,
}

/// Where the users are.
#[derive(Clone, Debug)]
pub enum UserStore {
    /// In a file, which may be read again, or made for the demo.
    Embedded(Arc<Embedded>),
    Redis(Arc<Redis>),
}

impl UserStore {
    fn store(&self) -> Arc<dyn Store> {
        match self {
            UserStore::Embedded(store) => store.clone(),
            UserStore::Redis(store) => store.clone(),
        }
    }
}

/// The demo users.
#[derive(Debug)]
pub struct Demo {
    users: [DemoUser; 3],
    /// Why their secrets end with this process, where they do.
    pub ephemeral: Option<io::Error>,
}

impl Entrance {
    /// Opens the door that `config` describes. `state` is the directory in which the demo's secret is kept;
    /// where that does not work, the demo users' secrets are good for this process only.
    ///
    /// # Errors
    /// [`ConfigError`] names the key whose file cannot be read or used.
    pub fn open(config: &Config, state: Option<&Path>, metrics: &Metrics) -> Result<Entrance, ConfigError> {
        let entitlements = &config.entitlements;
        let hash_key = hash_key(entitlements)?;
        let jwks = jwks(&entitlements.jwks, metrics)?.map(Arc::new);
        let mut keys = Vec::new();
        let (users, demo) = match &entitlements.users {
            Some(path) => {
                let store = Embedded::open(path).map_err(|e| ConfigError::of("entitlements.users", e))?;
                (UserStore::Embedded(Arc::new(store)), None)
            }
            None if entitlements.redis.is_used() => {
                (UserStore::Redis(Arc::new(open_redis(&entitlements.redis)?)), None)
            }
            None => {
                let (master, ephemeral) = match kept(state) {
                    Ok(master) => (master, None),
                    Err(e) => {
                        tracing::warn!(reason = %e, "the demo users' secrets end with this process: no place to keep them");
                        (random_bytes().map_err(no_demo)?, Some(e))
                    }
                };
                let demo = users::users(&master).map_err(no_demo)?;
                // First, because the first key that can sign does.
                keys.push(demo.token_key);
                let store = UserStore::Embedded(Arc::new(Embedded::of(demo.users)));
                (store, Some(Demo { users: demo.credentials, ephemeral }))
            }
        };
        for (i, key) in entitlements.token_keys.iter().enumerate() {
            keys.push(token_key(i, key)?);
        }
        let rules = TokenRules {
            issuer: entitlements.issuer.clone(),
            audience: entitlements.audience.clone(),
            leeway: entitlements.leeway,
        };
        let tokens = Tokens::new(keys, rules).map_err(|e| ConfigError::of("entitlements.token_keys", e))?;
        let key_source = jwks.clone().map(|jwks| Arc::new(SharedJwks(jwks)) as Arc<dyn KeySource>);
        let door = Door::new(users.store(), tokens, entitlements.tiers)
            .with_rules(entitlements.sign_ins.rules())
            .with_hash_key(hash_key)
            .with_key_source(key_source);
        Ok(Entrance { door: Arc::new(door), users, demo, jwks })
    }

    /// The demo users' credentials, to be printed once; empty where the users come from a file.
    ///
    /// # Errors
    /// [`IssueError`] where a token cannot be made.
    pub fn credentials(&self) -> Result<Vec<Credential>, IssueError> {
        let users = self.demo.as_ref().map_or(&[][..], |demo| &demo.users);
        let credential = |user: &DemoUser| {
            let token = self.door.tokens().issue(user.id(), DEMO_TOKEN_TTL, unix_seconds())?;
            let (user, key, secret) = (user.id().to_owned(), user.id().to_owned(), user.secret().to_owned());
            Ok(Credential { user, key, secret, token })
        };
        users.iter().map(credential).collect()
    }
}

/// This machine's clock, Unix seconds.
pub fn unix_seconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn kept(state: Option<&Path>) -> io::Result<[u8; 32]> {
    let unnamed = || io::Error::new(io::ErrorKind::NotFound, "neither XDG_STATE_HOME nor HOME names a directory");
    master_secret(state.ok_or_else(unnamed)?)
}

/// The store in Redis. That nobody is there is no error: it is away then.
pub(crate) fn open_redis(config: &config::RedisStore) -> Result<Redis, ConfigError> {
    let password = |key: &str, file: &Option<PathBuf>| {
        let Some(file) = file else { return Ok(None) };
        let no_text = |_| ConfigError::of(key, format_args!("{}: holds no text", file.display()));
        String::from_utf8(secret(key, file)?).map_err(no_text).map(Some)
    };
    let wrong = |error: &dyn std::fmt::Display| ConfigError::of("entitlements.redis.urls", error);
    let node = random_bytes::<8>().map_err(|e| wrong(&e))?.map(|byte| format!("{byte:02x}")).concat();
    let master = || config.master.clone().unwrap_or_default();
    Redis::start(RedisSettings {
        urls: config.urls.iter().map(|url| url.as_str().to_owned()).collect(),
        mode: match config.mode {
            config::RedisMode::Single => RedisMode::Single,
            config::RedisMode::Cluster => RedisMode::Cluster,
            config::RedisMode::Sentinel => RedisMode::Sentinel { master: master() },
        },
        login: RedisLogin {
            username: config.username.clone(),
            password: password("entitlements.redis.password_file", &config.password_file)?,
        },
        sentinel_login: RedisLogin {
            username: config.sentinel_username.clone(),
            password: password("entitlements.redis.sentinel_password_file", &config.sentinel_password_file)?,
        },
        tls: redis_tls(config)?,
        timeout: config.timeout,
        refresh: config.refresh,
        lease: config.lease,
        grace: config.grace,
        hash_tags: config.hash_tags,
        node,
    })
    .map_err(|e| wrong(&e))
}

fn redis_tls(config: &config::RedisStore) -> Result<RedisTls, ConfigError> {
    let certificates = |key: &str, file: &Option<PathBuf>| {
        let Some(file) = file else { return Ok(None) };
        let text = secret(key, file)?;
        let wrong = |error: &dyn std::fmt::Display| ConfigError::of(key, format_args!("{}: {error}", file.display()));
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
        match found {
            Ok(found) if found.is_empty() => Err(wrong(&"holds no certificate")),
            Ok(_) => Ok(Some(text)),
            Err(error) => Err(wrong(&error)),
        }
    };
    let key = |file: &PathBuf| {
        const NAME: &str = "entitlements.redis.key_file";
        let text = secret(NAME, file)?;
        let wrong = |error| ConfigError::of(NAME, format_args!("{}: no private key: {error}", file.display()));
        PrivateKeyDer::from_pem_slice(&text).map_err(wrong)?;
        Ok::<_, ConfigError>(text)
    };
    let certificate = certificates("entitlements.redis.certificate_file", &config.certificate_file)?;
    Ok(RedisTls {
        authorities: certificates("entitlements.redis.ca_file", &config.ca_file)?,
        identity: certificate.zip(config.key_file.as_ref().map(key).transpose()?),
    })
}

/// Keys of the issuer, at the address that is configured.
fn jwks(config: &config::Jwks, metrics: &Metrics) -> Result<Option<Jwks>, ConfigError> {
    let Some(url) = &config.url else { return Ok(None) };
    let pace = Pace { refresh: config.refresh, cooldown: config.cooldown, stale_max: config.stale_max };
    let jwks = Jwks::new(url, pace, metrics.register("jwks"));
    jwks.map(Some).map_err(|error| ConfigError::of("entitlements.jwks.url", error))
}

/// The key that secrets are hashed under, where there is one.
pub(crate) fn hash_key(config: &config::Entitlements) -> Result<Option<HashKey>, ConfigError> {
    const NAME: &str = "entitlements.hash_key_file";
    let Some(file) = &config.hash_key_file else { return Ok(None) };
    let (key, place) = (secret(NAME, file)?, file.display());
    let short = || ConfigError::of(NAME, format_args!("{place}: has less than {} bytes", HashKey::BYTES_MIN));
    HashKey::new(&key).ok_or_else(short).map(Some)
}

/// What a file of a secret holds. An editor or `echo` ends it with a line end that is not part of it.
fn secret(name: &str, file: &Path) -> Result<Vec<u8>, ConfigError> {
    let place = file.display();
    let mut material = std::fs::read(file).map_err(|e| ConfigError::of(name, format_args!("{place}: {e}")))?;
    for end in [b'\n', b'\r'] {
        material.pop_if(|last| *last == end);
    }
    Ok(material)
}

fn no_demo(reason: impl std::fmt::Display) -> ConfigError {
    ConfigError::of("entitlements.users", format_args!("is absent, and the demo users cannot be made: {reason}"))
}

fn token_key(index: usize, key: &config::TokenKey) -> Result<TokenKey, ConfigError> {
    let (field, file) = match key.algorithm {
        Algorithm::HS256 => ("secret_file", &key.secret_file),
        Algorithm::RS256 | Algorithm::ES256 => ("public_key_file", &key.public_key_file),
    };
    let name = format!("entitlements.token_keys[{index}].{field}");
    let file = file.as_deref().ok_or_else(|| ConfigError::of(&name, "is missing"))?;
    let (material, place) = (secret(&name, file)?, file.display());
    TokenKey::new(&key.kid, key.algorithm, &material).map_err(|e| ConfigError::of(&name, format_args!("{place}: {e}")))
}
