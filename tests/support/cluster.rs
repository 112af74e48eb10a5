//! Nodes of a cluster in one process, whose membership the test decides.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use weir::cluster::member::Node;
use weir::cluster::owner::{Owner, Ownership};
use weir::cluster::{Members, Secret, secret};
use weir::config::ClusterSecret;
use weir::route::{Keys, PathIdentity, identity};
use weir::server::{Joined, start_among};
use weir::systemd::Inherited;
use weir::{Config, Handle};

use super::http::{Answer, Client};

/// A running node.
pub struct Member {
    pub weir: Handle,
    pub node: Node,
    pub members: Arc<Members>,
}

/// How nodes are started.
pub struct Plan<'a> {
    pub upstream: String,
    pub ca_file: Option<PathBuf>,
    pub secret: Option<&'a str>,
}

/// Starts `count` nodes, on 127.0.0.1 and the addresses after it, that know nobody yet.
pub fn start(plan: &Plan<'_>, count: u8, change: impl Fn(u8, &mut Config)) -> Vec<Member> {
    let start = |index| {
        let ip = Ipv4Addr::new(127, 0, 0, 1 + index);
        let mut config = super::config(&plan.upstream, plan.ca_file.clone());
        config.bind_ip = ip.into();
        config.workers = Some(2);
        change(index, &mut config);
        // It learns who it is with the others.
        let members = Members::unattended(&Node::at((Ipv4Addr::UNSPECIFIED, 0).into()));
        let joined = Joined {
            members: members.clone(),
            secret: plan.secret.map(shared),
        };
        let tls = config.tls_cert_file.is_some();
        let weir = start_among(config, Inherited::default(), Some(joined));
        let weir = weir.expect("weir starts");
        let node = Node {
            tls,
            ..node_at(weir.proxy_addr())
        };
        Member {
            weir,
            node,
            members,
        }
    };
    (0..count).map(start).collect()
}

/// The same, and all know each other.
pub fn together(plan: &Plan<'_>, count: u8, change: impl Fn(u8, &mut Config)) -> Vec<Member> {
    let members = start(plan, count, change);
    let nodes: Vec<Node> = members.iter().map(|member| member.node).collect();
    for member in &members {
        member.know(&nodes);
    }
    members
}

/// A node that takes requests at `proxy`.
pub fn node_at(proxy: SocketAddr) -> Node {
    Node {
        generation: 1,
        proxy_port: proxy.port(),
        ..Node::at(SocketAddr::new(proxy.ip(), 7654))
    }
}

/// A bot's token that `owner` owns among `nodes`; different ones for different `number`s.
pub fn token(nodes: &[Node], owner: &Node, secret: Option<&str>, number: u64) -> String {
    let mut tokens = (0..).map(|index| {
        // Each bot's id differs, and so what is counted for it.
        let id = 203_039_963_636_301_824 + number * 1_000_000 + index;
        format!(
            "Bot {}.GGGGGG.abcdefghijklmnopqrstuvwxyz0123456789AB",
            base64(id)
        )
    });
    let owned = tokens.find(|token| owns(nodes, owner, secret, token));
    owned.expect("one of some")
}

/// Whether `owner` owns this token among `nodes`.
pub fn owns(nodes: &[Node], owner: &Node, secret: Option<&str>, token: &str) -> bool {
    let seeds = secret::seeds(secret.map(shared).as_deref());
    let sender = identity::parse(Some(token.as_bytes()));
    let key = Keys::with_seeds(seeds).identity_key(&PathIdentity::Authorization, &sender);
    Ownership::new(nodes, owner).owner(key) == Owner::Here
}

fn shared(secret: &str) -> Arc<Secret> {
    Arc::new(Secret::new(&ClusterSecret::new(secret).expect("a secret")))
}

/// The base64 of a number's digits, without padding.
fn base64(number: u64) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in number.to_string().as_bytes().chunks(3) {
        let mut bits = [0; 4];
        bits[1..=three.len()].copy_from_slice(three);
        let bits = u32::from_be_bytes(bits);
        for place in 0..=three.len() {
            text.push(char::from(DIGITS[(bits >> (18 - 6 * place)) as usize & 63]));
        }
    }
    text
}

impl Member {
    /// From now on it takes these for the members; it leaves if it is none of them.
    pub fn know(&self, nodes: &[Node]) {
        self.members.publish(match nodes.contains(&self.node) {
            true => Ownership::new(nodes, &self.node),
            false => Ownership::leaving(nodes, &self.node),
        });
    }

    pub fn addr(&self) -> SocketAddr {
        self.weir.proxy_addr()
    }

    /// One request on a connection of its own.
    pub fn ask(&self, request: &str) -> Answer {
        Client::connect(self.addr()).ask(request)
    }

    /// The sum of a metric's samples, now.
    pub fn now(&self, name: &str) -> u64 {
        let addr = self.weir.metrics_addr().expect("metrics are on");
        let request = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
        let text = Client::connect(addr).ask(request).text();
        let lines = text.lines().filter(|line| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with([' ', '{']))
        });
        let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
        values.sum()
    }

    /// The same once no request is under way: one is counted a moment after its answer.
    pub fn metric(&self, name: &str) -> u64 {
        let until = Instant::now() + Duration::from_secs(10);
        while self.now("nirn_proxy_open_connections") > 0 && Instant::now() < until {
            thread::sleep(Duration::from_millis(2));
        }
        self.now(name)
    }

    /// Requests that it had answered by Discord.
    pub fn answered(&self) -> u64 {
        self.metric("nirn_proxy_requests_count")
    }
}
