//! The connection to Redis, whatever is there: one server, a cluster, or a server that sentinels know.

use std::io;
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection, PubSub};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClient, SentinelNodeConnectionInfo, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionInfo, IntoConnectionInfo, Pipeline, RedisFuture, RedisResult,
    TlsMode, Value,
};

use super::{PATIENCE, RedisMode, RedisSettings};

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
    username: Option<String>,
    password: Option<String>,
    timeout: Duration,
}

/// From the attempt to connect to the end of its handshakes, TLS and authentication included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

impl Place {
    /// # Errors
    /// The library's, where an address is none.
    pub(super) fn new(settings: &RedisSettings) -> io::Result<Place> {
        let RedisSettings { mode, username, password, timeout, .. } = settings.clone();
        let sentinels = matches!(mode, RedisMode::Sentinel { .. });
        let servers = settings.urls.iter().map(|url| {
            let info = url.as_str().into_connection_info().map_err(io::Error::other)?;
            // The user and password are the server's, not the sentinels'.
            Ok(if sentinels { info } else { with_login(info, username.as_deref(), password.as_deref()) })
        });
        Ok(Place { servers: servers.collect::<io::Result<_>>()?, mode, username, password, timeout })
    }

    fn config(&self) -> AsyncConnectionConfig {
        AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(self.timeout.max(PATIENCE)))
    }

    fn first(&self) -> RedisResult<Client> {
        let server = self.servers.first().cloned();
        Client::open(server.ok_or((redis::ErrorKind::InvalidClientConfig, "no address of Redis"))?)
    }

    /// A client of the server that sentinels name now.
    async fn master(&self, name: &str) -> RedisResult<Client> {
        let mut node = SentinelNodeConnectionInfo::default();
        let mut login = redis::RedisConnectionInfo::default();
        if let Some(username) = &self.username {
            login = login.set_username(username);
        }
        if let Some(password) = &self.password {
            login = login.set_password(password);
        }
        node = node.set_redis_connection_info(login);
        if self.servers.iter().any(|server| matches!(server.addr(), redis::ConnectionAddr::TcpTls { .. })) {
            node = node.set_tls_mode(TlsMode::Secure);
        }
        let servers = self.servers.clone();
        SentinelClient::build(servers, name, Some(node), SentinelServerType::Master)?.async_get_client().await
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
                    let client = ClusterClient::builder(self.servers.clone())
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
            match within(CONNECT_TIMEOUT, Client::open(server.clone())?.get_async_pubsub()).await {
                Ok(listening) => return Ok(listening),
                Err(error) => refused = Some(error),
            }
        }
        Err(refused.unwrap_or_else(|| (redis::ErrorKind::InvalidClientConfig, "no address of Redis").into()))
    }
}

fn with_login(info: ConnectionInfo, username: Option<&str>, password: Option<&str>) -> ConnectionInfo {
    let mut login = info.redis_settings().clone();
    if let Some(username) = username {
        login = login.set_username(username);
    }
    if let Some(password) = password {
        login = login.set_password(password);
    }
    info.set_redis_settings(login)
}

async fn within<T>(limit: Duration, answer: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    let late = || io::Error::new(io::ErrorKind::TimedOut, "no answer in time").into();
    tokio::time::timeout(limit, answer).await.unwrap_or_else(|_| Err(late()))
}
