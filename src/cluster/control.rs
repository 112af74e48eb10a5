//! The thread that keeps the cluster's membership: one UDP socket, one [`Member`], no more than a
//! few hundred datagrams a second. Workers never wait for it.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::address::{Address, way_to};
use super::change::Change;
use super::finder::Finder;
use super::handover::{Receiver, Sender, Shared};
use super::member::{Event, Input, Member, Node, Output};
use super::members::{Members, Moved};
use super::owner::Ownership;
use super::secret::Secret;
use super::unreached::Unreached;
use super::wire::{self, Body, ENVELOPE_BYTES_MAX, Mac, Replays, Stamp};
use crate::clock::{self, Instant};
use crate::config::Config;
use crate::error::StartError;
use crate::identify::Queues;
use crate::mesh::Mesh;
use crate::route::slot::SlotSet;
use crate::tls::{Credentials, NodeTrust};

/// The longest that the thread sleeps: a wake-up that was lost is made up for by then.
const SLEEP_MAX: Duration = Duration::from_millis(100);
/// Datagrams that are read before deadlines are looked at again. After the thread stood still, what
/// others said meanwhile is heard before it is concluded that they said nothing.
const BATCH: usize = 256;
/// The largest datagram that UDP carries.
const DATAGRAM_BYTES: usize = 65_536;
/// Ports that are tried where any will do: with most of them free, one of these is.
const BIND_TRIES_MAX: u32 = 64;
/// How often what was ignored is told of.
const TELL_PERIOD: Duration = Duration::from_secs(60);
/// When it is told first: whoever is there has been found by then.
const FIRST_TELL: Duration = Duration::from_secs(5);
/// How long what was relayed to a node that leaves is left to it: twice the default of `SHUTDOWN_TIMEOUT`,
/// within which it answers or closes.
const ENDING_MAX: Duration = Duration::from_secs(60);
/// How often what was handed over and not asked for is looked through.
const SWEEP_PERIOD: Duration = Duration::from_secs(60);
/// How often it is looked who of those that were configured is there: what a person sees is as old.
const LOOK_PERIOD: Duration = Duration::from_millis(500);

/// This node's part in the cluster, from [`Cluster::bind`] to [`Cluster::end`].
pub struct Cluster {
    members: Arc<Members>,
    sockets: Option<(UdpSocket, TcpListener)>,
    secret: Option<Arc<Secret>>,
    thread: Option<JoinHandle<Sender>>,
    receiver: Option<Receiver>,
}

/// What of the process is shared with the cluster's threads.
pub struct Parts {
    /// The limiter and the mailboxes.
    pub mesh: Arc<Mesh>,
    /// What [`Keys::probe`](crate::route::Keys::probe) says here.
    pub probe: u64,
    /// What nodes show each other.
    pub tls: Tls,
    /// The identify queue; `None` if each node has one of its own, or none.
    pub identify: Option<Arc<Mutex<Queues>>>,
}

/// What nodes show each other, and believe.
#[derive(Clone, Default)]
pub struct Tls {
    /// What this node shows; `None` if it speaks plain.
    pub shown: Option<Arc<Credentials>>,
    /// Whom it believes; `None`: nobody.
    pub trust: Option<Arc<NodeTrust>>,
}

impl Cluster {
    /// Binds the cluster's port; `None` if no cluster is to be formed.
    ///
    /// # Errors
    /// The port cannot be had.
    pub fn bind(config: &Config) -> Result<Option<Self>, StartError> {
        if !config.is_clustered() {
            return Ok(None);
        }
        let address = SocketAddr::new(config.bind_ip, config.cluster_port);
        let failed = |source| StartError::listening("CLUSTER_PORT", address, source);
        let (socket, listener) = bind(address).map_err(failed)?;
        let own = Node::at(socket.local_addr().map_err(failed)?);
        Ok(Some(Self {
            members: Members::new(&own, &socket).map_err(failed)?,
            sockets: Some((socket, listener)),
            secret: config
                .cluster_secret
                .as_ref()
                .map(|s| Arc::new(Secret::new(s))),
            thread: None,
            receiver: None,
        }))
    }

    /// What workers read.
    pub const fn members(&self) -> &Arc<Members> {
        &self.members
    }

    /// What relays are authenticated with.
    pub const fn secret(&self) -> Option<&Arc<Secret>> {
        self.secret.as_ref()
    }

    /// What identities and routes are hashed with, the same on all nodes.
    pub fn seeds(&self) -> [u64; 4] {
        super::secret::seeds(self.secret.as_deref())
    }

    /// Starts to look for others, and to be found.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn start(
        &mut self,
        config: &Config,
        proxy: SocketAddr,
        parts: Parts,
    ) -> Result<(), StartError> {
        let Some((socket, listener)) = self.sockets.take() else {
            return Ok(());
        };
        let Parts {
            mesh,
            probe,
            tls,
            identify,
        } = parts;
        let me = *self.members.ownership().me();
        if self.secret.is_none() {
            tracing::warn!(
                address = %me,
                "whoever reaches this address can join the cluster; CLUSTER_SECRET keeps strangers out"
            );
        }
        let finder = Finder::start(config, cluster_port(config, me), &self.members);
        let finder = finder.map_err(StartError::Thread)?;
        let shared = Arc::new(Shared {
            members: self.members.clone(),
            mesh: mesh.clone(),
            secret: self.secret.clone(),
            probe,
            nonce: AtomicU64::new(ambient()),
            tls: tls.clone(),
            identify: identify.clone(),
        });
        let receiver = Receiver::start(listener, &shared).map_err(StartError::Thread)?;
        self.receiver = Some(receiver);
        let control = Control {
            sender: Sender::start(&shared).map_err(StartError::Thread)?,
            members: self.members.clone(),
            mesh,
            identify,
            finder,
            secret: self.secret.clone(),
            socket,
            me: Node {
                generation: clock::unix_ms(),
                proxy_port: proxy.port(),
                tls: tls.shown.is_some(),
                ..me
            },
            trust: tls.trust,
            address: Address::default(),
            member: None,
            replays: Replays::default(),
            nonce: ambient(),
            envelope: Vec::new(),
            tell_at: clock::now() + FIRST_TELL,
            told: 0,
            sweep_at: clock::now() + SWEEP_PERIOD,
            look_at: clock::now(),
            unreached: Unreached::default(),
        };
        let thread = thread::Builder::new().name("weir-cluster".to_owned());
        let thread = thread.spawn(move || control.run());
        self.thread = Some(thread.map_err(StartError::Thread)?);
        Ok(())
    }

    /// Tells the others that this node goes; requests that come all the same are served.
    pub fn leave(&self) {
        self.members.leave();
    }

    /// Ends the threads. Who was not told before that this node goes is told now; what is known of its
    /// identities and not handed over yet is until `until`, but for one attempt in any case.
    pub fn end(&mut self, until: Instant) {
        self.members.end();
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(mut sender)) => sender.finish(until),
            Some(Err(_)) => tracing::error!("the cluster's thread panicked"),
            None => {}
        }
        self.receiver = None;
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.end(clock::now());
    }
}

/// The same port for datagrams and for streams.
fn bind(address: SocketAddr) -> io::Result<(UdpSocket, TcpListener)> {
    let mut tries = 0;
    loop {
        let socket = UdpSocket::bind(address)?;
        match TcpListener::bind(socket.local_addr()?) {
            Ok(listener) => return Ok((socket, listener)),
            // Any port was asked for, and somebody has this one's other half.
            Err(_) if address.port() == 0 && tries < BIND_TRIES_MAX => tries += 1,
            Err(error) => return Err(error),
        }
    }
}

/// The port of members that are named without one.
fn cluster_port(config: &Config, me: Node) -> u16 {
    match config.cluster_port {
        0 => me.addr.port(),
        port => port,
    }
}

struct Control {
    sender: Sender,
    members: Arc<Members>,
    mesh: Arc<Mesh>,
    identify: Option<Arc<Mutex<Queues>>>,
    finder: Arc<Finder>,
    secret: Option<Arc<Secret>>,
    socket: UdpSocket,
    me: Node,
    trust: Option<Arc<NodeTrust>>,
    address: Address,
    /// `None` until it is known at which address the others see this node.
    member: Option<Member>,
    replays: Replays,
    nonce: u64,
    envelope: Vec<u8>,
    tell_at: Instant,
    told: u64,
    sweep_at: Instant,
    look_at: Instant,
    unreached: Unreached,
}

impl Control {
    fn run(mut self) -> Sender {
        if !self.me.addr.ip().is_unspecified() {
            self.begin();
        }
        let mut buffer = vec![0; DATAGRAM_BYTES];
        let mut left = false;
        while !self.members.is_ending() {
            if self.members.is_leaving() && !left {
                left = true;
                self.input(Input::Leave);
            }
            self.hear();
            let now = clock::now();
            if self.deadline() <= now {
                self.input(Input::Deadline);
            }
            self.periodically(now);
            let sleep = self.deadline().saturating_duration_since(clock::now());
            if let Err(error) = self.receive(&mut buffer, sleep) {
                tracing::warn!(%error, "the cluster's port cannot be read");
                thread::sleep(SLEEP_MAX);
            }
        }
        if !left {
            self.input(Input::Leave);
        }
        self.finder.stop();
        self.sender
    }

    fn deadline(&self) -> Instant {
        let member = self.member.as_ref();
        member
            .and_then(Member::next_deadline)
            .unwrap_or(Instant::FAR)
    }

    /// What other threads of this process have to say.
    fn hear(&mut self) {
        if let Some(found) = self.finder.take() {
            self.input(Input::Seeds(&found.seeds));
            self.address.found(found);
        }
        if self.member.is_none()
            && !self.members.is_leaving()
            && let Some(ip) = self.address.look(clock::now(), way_to)
        {
            self.me.addr.set_ip(ip);
            self.begin();
            let seeds = self.address.take();
            self.input(Input::Seeds(&seeds));
        }
        for node in self.members.take_suspects() {
            if self.unreached.failed(clock::now(), node) {
                tracing::warn!(
                    %node,
                    proxy = %node.proxy_addr(),
                    "relays to a node's proxy port fail: it is passed over for a moment each time, and what \
                     it owns is served elsewhere. If it lives, look whether TCP reaches that port from here"
                );
            }
            self.input(Input::Suspect(node));
        }
    }

    fn begin(&mut self) {
        tracing::info!(node = %self.me, proxy = %self.me.proxy_addr(), "looking for the cluster");
        let trust = self.trust.as_ref();
        let doubt = trust.and_then(|trust| trust.doubt(self.me.addr.ip(), clock::unix_ms()));
        if let Some(why) = doubt {
            tracing::error!(
                node = %self.me,
                %why,
                "the other nodes will not believe TLS_CERT_FILE, if their CLUSTER_CA_FILE and CLUSTER_TLS_NAME \
                 are this node's: it must carry this node's address, or that name"
            );
        }
        // Somebody may serve them who has not been heard of yet.
        let limiter = self.mesh.limiter();
        limiter.be_careful(clock::now(), &SlotSet::ALL, || ());
        self.members.publish(Ownership::new(&[], &self.me));
        self.member = Some(Member::new(clock::now(), self.me, ambient()));
    }

    /// Waits for a datagram and takes in those that are there.
    fn receive(&mut self, buffer: &mut [u8], sleep: Duration) -> io::Result<()> {
        // Zero would wait for ever.
        let patience = sleep.clamp(Duration::from_millis(1), SLEEP_MAX);
        self.socket.set_read_timeout(Some(patience))?;
        if !self.receive_one(buffer)? {
            return Ok(());
        }
        self.socket.set_nonblocking(true)?;
        let rest = (0..BATCH).try_fold(true, |more, _| Ok(more && self.receive_one(buffer)?));
        self.socket.set_nonblocking(false)?;
        rest.map(drop)
    }

    /// Takes in a datagram; `false`: there was none.
    fn receive_one(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        match self.socket.recv_from(buffer) {
            Ok((_, from)) if self.members.is_wake(from) => Ok(true),
            Ok((length, from)) => {
                self.datagram(buffer.get(..length).unwrap_or_default(), from);
                Ok(true)
            }
            Err(error) if is_pause(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn datagram(&mut self, envelope: &[u8], from: SocketAddr) {
        let secret = self.secret.clone();
        let keyed = secret
            .as_deref()
            .map(|secret| (secret as &dyn Mac, &mut self.replays));
        let vouched = keyed.is_some();
        match wire::open(envelope, keyed, clock::unix_ms()) {
            Ok(Body::Gossip(bytes)) => {
                let from = (!vouched).then_some(from);
                self.input(Input::Datagram { from, bytes });
            }
            // Comes on a stream, where there is room for it.
            Ok(Body::HandOver(_)) => self.members.count_ignored(wire::Ignored::Version),
            Err(why) => {
                self.members.count_ignored(why);
                self.members.sight().ignore(clock::now(), why, from);
            }
        }
    }

    fn input(&mut self, input: Input<'_>) {
        let Some(member) = &mut self.member else {
            return;
        };
        if let Err(refused) = member.handle(clock::now(), input) {
            self.members.count_refused(refused);
        }
        while let Some(output) = self.member.as_mut().and_then(Member::poll_output) {
            match output {
                Output::Send { to, bytes } => self.send(to, &bytes),
                Output::Event(event) => self.event(&event),
            }
        }
    }

    fn send(&mut self, to: SocketAddr, bytes: &[u8]) {
        self.envelope.clear();
        self.nonce = self.nonce.wrapping_add(1);
        let stamp = Stamp {
            unix_ms: clock::unix_ms(),
            nonce: self.nonce,
        };
        let keyed = self
            .secret
            .as_deref()
            .map(|secret| (secret as &dyn Mac, stamp));
        wire::seal(&Body::Gossip(bytes), keyed, &mut self.envelope);
        debug_assert!(self.envelope.len() <= bytes.len() + ENVELOPE_BYTES_MAX);
        // Lost, as datagrams may be.
        if let Err(error) = self.socket.send_to(&self.envelope, to) {
            tracing::debug!(%to, %error, "a node cannot be sent anything");
        }
    }

    fn event(&mut self, event: &Event) {
        if let Some(member) = &self.member {
            self.members.set_passed_over(member.passed_over());
        }
        match event {
            Event::Suspected(node) => self.members.set_suspected(*node, true),
            Event::Cleared(node) => self.members.set_suspected(*node, false),
            Event::Left(node) => self.left(*node, false),
            Event::Died(node) => self.left(*node, true),
            Event::Changed
            | Event::Joined(_)
            | Event::Renewed(_)
            | Event::Alone
            | Event::Rejoined(_) => {}
        }
        match event {
            Event::Changed => self.changed(),
            Event::Joined(node) => {
                tracing::info!(%node, proxy = %node.proxy_addr(), tls = node.tls, "a node joined the cluster");
                if node.tls && !self.trust.as_ref().is_some_and(|trust| trust.is_any()) {
                    tracing::error!(
                        %node,
                        "it speaks TLS, and this node has no CLUSTER_CA_FILE to believe it by: what belongs to \
                         it is served elsewhere, and limits may be overstepped"
                    );
                }
            }
            // Told where it is known which of the two.
            Event::Left(_) | Event::Died(_) => {}
            Event::Renewed(node) => tracing::info!(%node, "a node of the cluster is there anew"),
            // Told of by saying that relays to it fail.
            Event::Suspected(node) | Event::Cleared(node)
                if self.unreached.explains(clock::now(), *node) =>
            {
                tracing::debug!(%node, ?event, "a node to which relays fail");
            }
            Event::Suspected(node) => tracing::warn!(%node, "a node of the cluster may be dead"),
            Event::Cleared(node) => {
                tracing::info!(%node, "a node of the cluster is alive after all");
            }
            Event::Alone => tracing::warn!("this node is alone and serves everybody"),
            Event::Rejoined(_) => {
                tracing::warn!("the cluster took this node for dead; it joins again");
            }
        }
    }

    /// A node is no member any more.
    fn left(&self, node: Node, is_dead: bool) {
        self.members.set_suspected(node, false);
        let now = clock::now();
        if is_dead {
            tracing::warn!(%node, "a node of the cluster is dead: its bots are others' now");
            self.members.set_gone(node, now);
        } else {
            tracing::info!(%node, "a node has left the cluster: its bots are others' now");
            self.members.set_gone(node, now + ENDING_MAX);
        }
        for worker in 0..self.mesh.limiter().shards() {
            self.mesh.nudge(worker);
        }
    }

    fn changed(&mut self) {
        if let Some(member) = &self.member {
            self.share_out(Ownership::of(member));
        }
    }

    /// From now on this is so; what [changes](Change) by it is done.
    fn share_out(&mut self, ownership: Ownership) {
        let before = self.members.published();
        let change = Change::between(&before, &ownership, &mut self.members.told());
        // Before anybody goes by it: what goes to the new owner comes after what is known of it.
        self.members.set_untold(&change.gone, true);
        if let Some(identify) = &self.identify {
            let mut queues = identify.lock().unwrap_or_else(PoisonError::into_inner);
            queues.lost(clock::now(), &change.gone);
        }
        let (was, is) = (before.nodes(), ownership.nodes());
        if self.unreached.tells(clock::now(), was, is) {
            tracing::info!(
                nodes = is.len(),
                slots = ownership.slots_of(ownership.me()).len(),
                gained = change.gained.len(),
                lost = change.gone.len(),
                "the cluster shares out its work anew"
            );
        }
        self.members.publish(ownership);
        for worker in 0..self.mesh.limiter().shards() {
            // Those who wait for what is another's now ask there.
            self.mesh.nudge(worker);
        }
        let counts = &self.members.moves;
        Moved::count(&counts.gained, change.gained.len());
        Moved::count(&counts.lost, change.gone.len());
        if !change.gone.is_empty() {
            self.sender.lost(Box::new(change.gone.clone()));
        }
        let at = clock::now();
        let careful = change.careful(at, &self.members.told());
        if !careful.is_empty() {
            self.mesh.limiter().be_careful(at, &careful, || ());
        }
    }

    fn periodically(&mut self, now: Instant) {
        if self.look_at <= now {
            self.look_at = now + LOOK_PERIOD;
            self.members.look(now);
        }
        if self.sweep_at <= now {
            self.sweep_at = now + SWEEP_PERIOD;
            self.mesh.limiter().sweep_restored(now, || ());
        }
        if self.tell_at <= now {
            self.tell_at = now + TELL_PERIOD;
            let ignored: u64 = self.members.ignored().map(|(_, count)| count).sum();
            if ignored > self.told {
                let why = self.members.ignored().filter(|(_, count)| *count > 0);
                let commonest = self.members.sight().take_commonest();
                let (reason, remedy) = commonest.map_or(("refused", REFUSED_REMEDY), |(why, _)| {
                    (why.label(), why.remedy())
                });
                tracing::warn!(
                    datagrams = ignored - self.told,
                    since_the_start = ?why.collect::<Vec<_>>(),
                    reason,
                    from = commonest.map(|(_, from)| tracing::field::display(from)),
                    remedy,
                    "datagrams that came to the cluster's port were ignored"
                );
            }
            if self.members.ownership().nodes().len() == 1 && !self.members.is_leaving() {
                tracing::warn!(
                    "no other node of the cluster is in sight: this one serves everybody. If there are \
                     others, look at CLUSTER_MEMBERS or CLUSTER_DNS, at CLUSTER_SECRET, which must be the \
                     same, and whether UDP and TCP reach CLUSTER_PORT"
                );
            }
            self.told = ignored;
        }
    }
}

/// What to do about those that were opened and not taken in, and those that came on a stream.
const REFUSED_REMEDY: &str = "without CLUSTER_SECRET a node must send from the address that it has; look for \
     NAT between the nodes, and for strangers at CLUSTER_PORT";

fn is_pause(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}

/// A number that nobody outside can guess.
fn ambient() -> u64 {
    RandomState::new().hash_one(clock::now().as_nanos())
}

#[cfg(test)]
mod tests;
