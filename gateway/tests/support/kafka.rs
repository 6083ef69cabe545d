//! Real brokers of Apache Kafka, in KRaft mode, on free ports of loopback and in a directory of their own, ended
//! when dropped. `tests/kafka/prepare` brings the jars.
//!
//! Each node is broker and controller. It listens in three places: for the tests' clients, for the other nodes, and
//! as a controller. Only the first ever asks for TLS and a password, as in the platform.

use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::{Directory, PATIENCE, wait_until};

/// The one user of a cluster that asks for a password.
pub const USER: &str = "gateway";
pub const PASSWORD: &str = "a-password-of-the-tests";

/// How long one question to the cluster may take; who asks, asks again.
const QUESTION: Duration = Duration::from_secs(5);

/// Where Kafka is, or why there is none. A test without one says that it is left out, and passes.
fn find() -> &'static Result<PathBuf, String> {
    static HOME: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    HOME.get_or_init(|| {
        let prepare = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/kafka/prepare");
        let said = Command::new(prepare).arg("--find").output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if said.status.success() { Ok(text(&said.stdout).into()) } else { Err(text(&said.stderr)) }
    })
}

pub fn is_here() -> bool {
    if let Err(reason) = find() {
        println!("left out: there is no Kafka on this machine: {reason}");
    }
    find().is_ok()
}

/// A free port below those that the system gives to whoever connects: a broker that was killed finds it free again,
/// and who tries meanwhile does not meet itself.
fn free_port() -> u16 {
    loop {
        let port = 10_000 + (RandomState::new().hash_one(()) % 20_000) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A program of Kafka with these jars.
fn java(main: &str) -> Command {
    let mut java = Command::new("java");
    // Small, and compiled no better than a few minutes need: half the time and memory of the defaults.
    java.args(["-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dlog4j2.level=INFO"]);
    java.arg("-cp").arg(find().as_ref().unwrap().join("libs/*")).arg(main).stdin(Stdio::null());
    java
}

/// Runs one to its end, and returns what it says.
#[track_caller]
fn run(mut program: Command) -> String {
    let said = program.output().unwrap();
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.status.success(), "{program:?}: {text}{}", String::from_utf8_lossy(&said.stderr));
    text
}

/// Brokers that know each other, one or three. Nodes are counted from 0 here, and from 1 in Kafka.
pub struct Cluster {
    nodes: Vec<Node>,
    /// The authority of its certificates, as PEM, where it asks for TLS and a password.
    authority: Option<String>,
    directory: Directory,
}

struct Node {
    /// Of clients, of the other nodes, of the controller.
    ports: [u16; 3],
    /// Its configuration, beside its data and its log.
    properties: PathBuf,
    log: PathBuf,
    child: Option<Child>,
}

impl Node {
    fn spawn(&mut self) {
        let log = File::options().create(true).append(true).open(&self.log).unwrap();
        let mut broker = java("kafka.Kafka");
        let broker = broker.arg(&self.properties).stdout(log.try_clone().unwrap()).stderr(log).spawn();
        self.child = Some(broker.unwrap());
    }

    #[track_caller]
    fn assert_runs(&mut self) {
        let ended = self.child.as_mut().is_none_or(|broker| broker.try_wait().unwrap().is_some());
        assert!(!ended, "a broker has ended: {}", std::fs::read_to_string(&self.log).unwrap_or_default());
    }

    fn kill(&mut self) {
        if let Some(mut broker) = self.child.take() {
            broker.kill().unwrap();
            broker.wait().unwrap();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Cluster {
    /// Clients come in as they are.
    pub fn start(nodes: usize) -> Cluster {
        Cluster::with(nodes, false)
    }

    /// Clients come in over TLS, and with a password by SCRAM-SHA-512.
    pub fn start_secured(nodes: usize) -> Cluster {
        Cluster::with(nodes, true)
    }

    fn with(count: usize, is_secured: bool) -> Cluster {
        let directory = Directory::new();
        let authority = is_secured.then(|| write_certificate(&directory));
        let ports: Vec<[u16; 3]> = (0..count).map(|_| [free_port(), free_port(), free_port()]).collect();
        let node = |index: usize| {
            let id = index + 1;
            let log = directory.path().join(format!("{id}.log"));
            let properties = properties(id, &ports, directory.path(), is_secured);
            let properties = directory.write(&format!("{id}.properties"), properties).into();
            Node { ports: ports[index], properties, log, child: None }
        };
        let nodes: Vec<Node> = (0..count).map(node).collect();
        let mut cluster = Cluster { nodes, authority, directory };
        cluster.format();
        cluster.nodes.iter_mut().for_each(Node::spawn);
        cluster.wait_until_whole();
        cluster
    }

    /// What a broker wants to find in its directory before its first start.
    fn format(&self) {
        let format = |node: &Node| {
            let mut format = java("kafka.tools.StorageTool");
            format.args(["format", "--cluster-id", "c2lnbmFsLWdhdGV3YXkAAA", "--config"]).arg(&node.properties);
            if self.authority.is_some() {
                format.args(["--add-scram", &format!("SCRAM-SHA-512=[name={USER},password={PASSWORD}]")]);
            }
            run(format);
        };
        std::thread::scope(|scope| {
            for node in &self.nodes {
                scope.spawn(move || format(node));
            }
        });
    }

    /// Waits until every node that runs is known as a broker to each of the others, and leads or follows as it should:
    /// the state before anything happened, and after it is repaired.
    #[track_caller]
    pub fn wait_until_whole(&mut self) {
        wait_until("the brokers", || {
            self.nodes.iter_mut().for_each(Node::assert_runs);
            let count = self.nodes.len();
            self.nodes.iter().all(|node| {
                let node = self.inside(std::slice::from_ref(node)).create::<BaseConsumer>().unwrap();
                node.fetch_metadata(None, QUESTION).is_ok_and(|seen| {
                    let mut partitions = seen.topics().iter().flat_map(|topic| topic.partitions());
                    seen.brokers().len() == count && partitions.all(|p| p.isr().len() == p.replicas().len())
                })
            })
        });
    }

    /// The addresses where clients begin.
    pub fn bootstrap(&self) -> String {
        addresses(&self.nodes, 0)
    }

    /// The authority of its certificates, as PEM.
    pub fn authority(&self) -> &str {
        self.authority.as_ref().expect("a cluster that was started secured")
    }

    /// What a client needs to come in.
    pub fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", self.bootstrap());
        if let Some(authority) = &self.authority {
            client.set("security.protocol", "sasl_ssl").set("ssl.ca.pem", authority);
            client.set("sasl.mechanism", "SCRAM-SHA-512").set("sasl.username", USER).set("sasl.password", PASSWORD);
        }
        client
    }

    /// What a client needs that comes in where the nodes meet each other.
    fn inside(&self, nodes: &[Node]) -> ClientConfig {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", addresses(nodes, 1));
        client
    }

    /// Creates a topic that is on every node, and waits until it has leaders. `settings` are those of Kafka.
    #[track_caller]
    pub fn create_topic(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) {
        let admin: AdminClient<DefaultClientContext> = self.inside(&self.nodes).create().unwrap();
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(self.nodes.len() as i32));
        topic.config = settings.to_vec();
        let options = AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let created = runtime.block_on(admin.create_topics([&topic], &options)).unwrap();
        assert_eq!(created, [Ok(name.to_owned())]);
        wait_until("leaders of a topic", || (0..partitions).all(|partition| self.leader(name, partition).is_some()));
    }

    /// The node that leads a partition, as the nodes that answer see it.
    pub fn leader(&self, topic: &str, partition: i32) -> Option<usize> {
        let client: BaseConsumer = self.inside(&self.nodes).create().unwrap();
        let seen = client.fetch_metadata(Some(topic), QUESTION).ok()?;
        let partition = seen.topics().first()?.partitions().iter().find(|p| p.id() == partition)?;
        usize::try_from(partition.leader() - 1).ok()
    }

    /// What one of Kafka's own command-line tools prints, by the name of its class, such as
    /// `org.apache.kafka.tools.TopicCommand`.
    #[track_caller]
    pub fn tool(&self, class: &str, arguments: &[&str]) -> String {
        let mut tool = java(class);
        tool.args(["--bootstrap-server", &addresses(&self.nodes, 1)]).args(arguments);
        run(tool)
    }

    /// Ends a node as a power cut does.
    pub fn kill(&mut self, node: usize) {
        self.nodes[node].kill();
    }

    /// Starts a node again where it was, with what it had, and waits until the cluster is whole.
    #[track_caller]
    pub fn start_again(&mut self, node: usize) {
        self.nodes[node].spawn();
        self.wait_until_whole();
    }

    /// A node that is there and says nothing.
    pub fn pause(&self, node: usize) {
        self.signal(node, "-STOP");
    }

    pub fn resume(&self, node: usize) {
        self.signal(node, "-CONT");
    }

    fn signal(&self, node: usize, signal: &str) {
        let broker = self.nodes[node].child.as_ref().expect("a node that runs").id();
        assert!(Command::new("kill").args([signal, &broker.to_string()]).status().unwrap().success());
    }
}

fn addresses(nodes: &[Node], listener: usize) -> String {
    let addresses: Vec<String> = nodes.iter().map(|node| format!("127.0.0.1:{}", node.ports[listener])).collect();
    addresses.join(",")
}

/// The configuration of one node: a small one of the platform's, and quick to see what has happened.
fn properties(id: usize, ports: &[[u16; 3]], directory: &Path, is_secured: bool) -> String {
    let [clients, nodes, controller] = ports[id - 1];
    let voters: Vec<String> = ports.iter().zip(1..).map(|([.., port], id)| format!("{id}@127.0.0.1:{port}")).collect();
    let (voters, directory, replicas) = (voters.join(","), directory.display(), ports.len());
    // The platform's: of three that have a record, one may be away.
    let in_sync_min = replicas.div_ceil(2);
    let protocol = if is_secured { "SASL_SSL" } else { "PLAINTEXT" };
    let mut properties = format!(
        "node.id={id}
process.roles=broker,controller
controller.quorum.voters={voters}
listeners=CLIENTS://127.0.0.1:{clients},NODES://127.0.0.1:{nodes},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=CLIENTS://127.0.0.1:{clients},NODES://127.0.0.1:{nodes}
listener.security.protocol.map=CLIENTS:{protocol},NODES:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=NODES
controller.listener.names=CONTROLLER
log.dirs={directory}/{id}

auto.create.topics.enable=false
default.replication.factor={replicas}
min.insync.replicas={in_sync_min}
offsets.topic.replication.factor={replicas}
transaction.state.log.replication.factor={replicas}
transaction.state.log.min.isr={in_sync_min}
share.coordinator.state.topic.replication.factor={replicas}
share.coordinator.state.topic.min.isr={in_sync_min}

# Of the 50 each that would be created at first use.
offsets.topic.num.partitions=3
transaction.state.log.num.partitions=3
share.coordinator.state.topic.num.partitions=3
# Of 128 MiB.
log.cleaner.dedupe.buffer.size=2097152

# A node that is away is so after 3 s instead of 9, and groups settle at once.
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
# The same for a controller: after 30 s else, in which nobody gets an id as a producer.
controller.socket.timeout.ms=3000
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=500
group.consumer.min.session.timeout.ms=500
group.consumer.min.heartbeat.interval.ms=100
group.consumer.session.timeout.ms=3000
group.consumer.heartbeat.interval.ms=200
"
    );
    if is_secured {
        properties += &format!(
            "
listener.name.clients.ssl.keystore.type=PEM
listener.name.clients.ssl.keystore.location={directory}/keystore.pem
listener.name.clients.sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.clients.scram-sha-512.sasl.jaas.config=\
             org.apache.kafka.common.security.scram.ScramLoginModule required;
"
        );
    }
    properties
}

/// Writes a key and a certificate for loopback, signed by an authority; returns that of the authority.
fn write_certificate(directory: &Directory) -> String {
    let mut authority = CertificateParams::new([]).unwrap();
    // Of another name than the certificate's, which would look signed by itself.
    authority.distinguished_name.push(DnType::CommonName, "an authority of the tests");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().unwrap();
    let authority_pem = authority.self_signed(&authority_key).unwrap().pem();
    let authority = Issuer::new(authority, authority_key);

    let key = KeyPair::generate().unwrap();
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &authority).unwrap();
    directory.write("keystore.pem", key.serialize_pem() + &certificate.pem());
    authority_pem
}
