//! The connection to Redis, whatever is there: one server, a cluster, or a server that sentinels know.

use std::io;
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection, PubSub};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, Pipeline,
    RedisFuture, RedisResult, TlsCertificates, TlsMode, Value,
};

use super::{PATIENCE, RedisLogin, RedisMode, RedisSettings};

/// A connection that many share: cloning it is cheap, and what they ask at the same time goes out together.
#[derive(Clone)]
pub(super) enum Link {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl ConnectionLike for Link {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Link::One(link) => link.req_packed_command(cmd),
            Link::Cluster(link) => link.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Link::One(link) => link.req_packed_commands(pipeline, offset, count),
            Link::Cluster(link) => link.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        0
    }
}

/// Where to connect.
pub(super) struct Place {
    mode: RedisMode,
    servers: Vec<ConnectionInfo>,
    login: RedisLogin,
    sentinel_login: RedisLogin,
    certificates: Option<TlsCertificates>,
    timeout: Duration,
}

/// From the attempt to connect to the end of its handshakes, TLS and authentication included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

impl Place {
    /// # Errors
    /// The library's, where an address is none.
    pub(super) fn new(settings: &RedisSettings) -> io::Result<Place> {
        let RedisSettings { mode, login, sentinel_login, tls, timeout, .. } = settings.clone();
        let theirs = if matches!(mode, RedisMode::Sentinel { .. }) { &sentinel_login } else { &login };
        let servers = settings.urls.iter().map(|url| {
            let info = url.as_str().into_connection_info().map_err(io::Error::other)?;
            Ok(with_login(info, theirs))
        });
        let servers: Vec<ConnectionInfo> = servers.collect::<io::Result<_>>()?;
        let certificates = (tls.authorities.is_some() || tls.identity.is_some()).then(|| TlsCertificates {
            client_tls: tls.identity.map(|(client_cert, client_key)| ClientTlsConfig { client_cert, client_key }),
            root_cert: tls.authorities,
        });
        Ok(Place { servers, mode, login, sentinel_login, certificates, timeout })
    }

    fn client(&self, server: ConnectionInfo) -> RedisResult<Client> {
        match &self.certificates {
            Some(certificates) if is_tls(&server) => Client::build_with_tls(server, certificates.clone()),
            _ => Client::open(server),
        }
    }

    fn config(&self) -> AsyncConnectionConfig {
        AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(self.timeout.max(PATIENCE)))
    }

    fn first(&self) -> RedisResult<Client> {
        let server = self.servers.first().cloned();
        self.client(server.ok_or((redis::ErrorKind::InvalidClientConfig, "no address of Redis"))?)
    }

    /// A client of the server that sentinels name now.
    async fn master(&self, name: &str) -> RedisResult<Client> {
        let sentinels = self.servers.iter().map(|server| server.addr().clone());
        let mut builder = SentinelClientBuilder::new(sentinels, name, SentinelServerType::Master)?;
        if let Some(username) = &self.login.username {
            builder = builder.set_client_to_redis_username(username);
        }
        if let Some(password) = &self.login.password {
            builder = builder.set_client_to_redis_password(password);
        }
        if let Some(username) = &self.sentinel_login.username {
            builder = builder.set_client_to_sentinel_username(username);
        }
        if let Some(password) = &self.sentinel_login.password {
            builder = builder.set_client_to_sentinel_password(password);
        }
        if self.servers.iter().any(is_tls) {
            builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
            if let Some(certificates) = &self.certificates {
                builder = builder
                    .set_client_to_redis_certificates(certificates.clone())
                    .set_client_to_sentinel_certificates(certificates.clone());
            }
        }
        builder.build()?.async_get_client().await
    }

    /// Connects, and makes sure that who is there answers and takes writes.
    pub(super) async fn connect(&self) -> RedisResult<Link> {
        let config = self.config();
        let connecting = async {
            let mut link = match &self.mode {
                RedisMode::Single => {
                    Link::One(self.first()?.get_multiplexed_async_connection_with_config(&config).await?)
                }
                RedisMode::Sentinel { master } => {
                    let client = self.master(master).await?;
                    Link::One(client.get_multiplexed_async_connection_with_config(&config).await?)
                }
                RedisMode::Cluster => {
                    // Within the time that an answer has, where a node has just gone or a slot was moved.
                    let timeout_ms = self.timeout.as_millis() as u64 / 4;
                    let mut builder = ClusterClient::builder(self.servers.clone());
                    if let Some(certificates) = &self.certificates {
                        builder = builder.certs(certificates.clone());
                    }
                    let client = builder
                        .connection_timeout(CONNECT_TIMEOUT)
                        .response_timeout(self.timeout.max(PATIENCE))
                        .retries(3)
                        .min_retry_wait(5)
                        .max_retry_wait(timeout_ms.max(10))
                        .build()?;
                    Link::Cluster(client.get_async_connection().await?)
                }
            };
            redis::cmd("PING").query_async::<()>(&mut link).await?;
            Ok(link)
        };
        within(CONNECT_TIMEOUT * 2, connecting).await
    }

    /// A connection of its own for announcements. In a cluster any node hears all of them.
    pub(super) async fn listen(&self) -> RedisResult<PubSub> {
        let listening = async {
            let client = match &self.mode {
                RedisMode::Single => self.first()?,
                RedisMode::Sentinel { master } => self.master(master).await?,
                RedisMode::Cluster => return self.listen_somewhere().await,
            };
            client.get_async_pubsub().await
        };
        within(CONNECT_TIMEOUT * 2, listening).await
    }

    async fn listen_somewhere(&self) -> RedisResult<PubSub> {
        let mut refused = None;
        for server in &self.servers {
            match within(CONNECT_TIMEOUT, self.client(server.clone())?.get_async_pubsub()).await {
                Ok(listening) => return Ok(listening),
                Err(error) => refused = Some(error),
            }
        }
        Err(refused.unwrap_or_else(|| (redis::ErrorKind::InvalidClientConfig, "no address of Redis").into()))
    }
}

fn is_tls(server: &ConnectionInfo) -> bool {
    matches!(server.addr(), ConnectionAddr::TcpTls { .. })
}

fn with_login(server: ConnectionInfo, login: &RedisLogin) -> ConnectionInfo {
    let mut settings = server.redis_settings().clone();
    if let Some(username) = &login.username {
        settings = settings.set_username(username);
    }
    if let Some(password) = &login.password {
        settings = settings.set_password(password);
    }
    server.set_redis_settings(settings)
}

async fn within<T>(limit: Duration, answer: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    let late = || io::Error::new(io::ErrorKind::TimedOut, "no answer in time").into();
    tokio::time::timeout(limit, answer).await.unwrap_or_else(|_| Err(late()))
}
