//! Puts a member together, runs it, and takes it apart.
//!
//! Source: `ARCHITECTURE.md`. In: a member's directory. Out: [`Node`].
//! Holds: no vote leaves before the consensus key is bound to its log; every thread that fails
//! ends the process and says why.
//! Elsewhere: signals and the door (`launch`), exit codes (`cli`), the HTTP server (`api`).

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use super::bell::{self, Bell, Ringing};
use super::bootstrap::{self, Setup};
use super::carried::Carried;
use super::clock::Clock;
use super::config::{CONFIG_FILE, Config, ConfigError};
use super::driver::{Driver, INTERNAL_MAX, Internal, Sources};
use super::ears::{Checks, Dropped, Hearing, INBOX_MAX, Inputs};
use super::error::{GenesisFile, NodeError, RootError, UNFIT, Unusable};
use super::executor::Latest;
use super::handle::{Counts, Handle, Parts, Who};
use super::herald::Waiters;
use super::host;
use super::index::Index;
use super::keys;
use super::launch::signalled;
use super::newcomer::Newcomer;
use super::outlets::Smith;
use super::peers::Peers;
use super::progress::Progress;
use super::recovery::{self, Opening, Recovered};
use super::scribe::{NOTES_MAX, Scribe};
use super::seat_keys::SeatKeys;
use super::selftest::{self, Verdict};
use super::threads::{Helpers, Spawner, no_thread};
use super::views::{self, Opened};
use super::watch::{Certified, Tip, Watch};
use crate::application::{Plugin, Registry};
use crate::blocks::Genesis;
use crate::bootstrap::Pin;
use crate::committee::{Certificate, Height, MemberId, View};
use crate::consortium::serve::Archive;
use crate::consortium::{Command, Consortium, Options as ReplicaOptions, Restored};
use crate::crypto::{SecretKey, Verifier, threshold};
use crate::net::{self, Net};
use crate::storage::{GroupCommit, GroupOptions, Store};

/// What a node is started with.
#[derive(Debug)]
pub struct Options {
    /// The member's directory.
    pub dir: PathBuf,
    /// Its settings.
    pub config: Config,
    /// A socket for members that is bound already; else the address in the settings is bound.
    pub p2p: Option<TcpListener>,
}

impl Options {
    /// The member in `dir` with the settings of its file and of the environment.
    ///
    /// Errors: [`NodeError::Config`].
    pub fn load(dir: &Path) -> Result<Self, NodeError> {
        Ok(Self {
            dir: dir.into(),
            config: Config::load(dir)?,
            p2p: None,
        })
    }
}

/// A running member.
pub struct Node {
    handle: Handle,
    net: Arc<Net>,
    internal: Ringing<Internal>,
    threads: Vec<JoinHandle<()>>,
    watch: Arc<Watch>,
    // Held until everything else has ended.
    _store: Store,
}

/// Reads the genesis document that `config` names for the member in `dir`.
///
/// Errors: [`GenesisFile`].
pub fn read_genesis(dir: &Path, config: &Config) -> Result<Genesis, GenesisFile> {
    let path = dir.join(&config.genesis);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(source) => return Err(GenesisFile::Read { path, source }),
    };
    Genesis::from_json(&text).map_err(|source| GenesisFile::Wrong { path, source })
}

/// The checked files of a member.
pub(super) struct Files {
    pub(super) genesis: Genesis,
    /// What the ledger starts from, where it is a successor.
    carried: Option<Carried>,
    view: View,
    plugin: &'static Plugin,
    pub(super) identity: SecretKey,
    pub(super) me: MemberId,
    store: Store,
    pub(super) keys: SeatKeys,
    /// Whether a key of ours may have voted.
    has_voted: bool,
}

impl Files {
    pub(super) fn open(options: &Options) -> Result<Self, NodeError> {
        let dir = &options.dir;
        let genesis = read_genesis(dir, &options.config)?;
        let plugin = Registry::standard()?.get(&genesis.parameters.application)?;
        let document = dir.join(&options.config.genesis);
        let carried = Carried::load(&genesis, &document, plugin.make)?;
        let identity = keys::identity(dir)?;
        let held = keys::held(dir)?;
        let me = MemberId::of(&identity.public());
        let view = genesis.view();
        let view = view.expect("a document that was read makes a view");
        let is_founder = view.seat_of(&me).is_some();
        if is_founder == options.config.observer {
            let (dir, chain, member) = (dir.clone(), genesis.chain(), me);
            return Err(match is_founder {
                true => Unusable::Seated { dir, member },
                false => Unusable::Stranger { dir, member, chain },
            }
            .into());
        }
        let data = dir.join(&options.config.data);
        let has_voted = held.iter().flatten().any(|key| key.is_bound);
        if has_voted && !data.join("log").is_dir() {
            return Err(Unusable::Wiped { dir: data }.into());
        }
        let expected = match held.iter().flatten().next() {
            Some(key) => key.store,
            // Who lost its seat has no key, and its log goes on.
            None => Store::read_id(&data).or_else(|_| keys::consensus(dir).map(|key| key.store))?,
        };
        let store = Store::open(&data, expected)?;
        if store.id() != expected {
            let found = store.id();
            return Err(Unusable::OtherStore {
                dir: data,
                found,
                expected,
            }
            .into());
        }
        Ok(Self {
            genesis,
            carried,
            view,
            plugin,
            identity,
            me,
            keys: SeatKeys::open(dir, me, store.id())?,
            store,
            has_voted,
        })
    }

    /// What the replica is made of, with the seed of its chance and its first counter.
    pub(super) fn replica(
        &self,
        config: &Config,
        (seed, first_counter): ([u8; 32], u64),
    ) -> ReplicaOptions {
        ReplicaOptions {
            me: self.me,
            genesis: self.genesis.clone(),
            verifier: Verifier::ed25519(),
            identity: self.identity.clone(),
            overlay: config.neighbours.overlay.clone(),
            seed,
            first_counter,
            pace: config.timing.pace(),
            resend: config.timing.resend(),
            makes_keys: true,
        }
    }

    /// Brings tables and log to the last block of the log.
    ///
    /// Errors: [`NodeError`].
    pub(super) fn recover(
        &self,
        config: &Config,
        progress: &Progress,
    ) -> Result<Recovered, NodeError> {
        let opening = Opening {
            store: &self.store,
            genesis: &self.genesis,
            view: &self.view,
            tables: (
                &config.tables,
                u64::from(config.resources.tables_cache_mib) << 20,
            ),
            log_file_bytes: config.resources.log_file_mib << 20,
            make: self.plugin.make,
            carried: self.carried.as_ref(),
            progress,
        };
        let recovered = recovery::recover(&opening, &|view| self.keys.secret(view))?;
        if self.has_voted && recovered.is_new {
            let dir = self.store.dir().into();
            return Err(Unusable::Wiped { dir }.into());
        }
        Ok(recovered)
    }
}

impl Node {
    /// Starts the member in `options.dir`.
    ///
    /// Returns once everything of the disk is read and the member takes part. Errors:
    /// [`NodeError`]; nothing was voted.
    pub fn start(options: Options) -> Result<Self, NodeError> {
        Self::start_under(options, &Progress::default())
    }

    /// As [`Node::start`], which `progress` is told of and may end.
    ///
    /// Errors: [`NodeError::Ended`] beside those of [`Node::start`].
    pub(super) fn start_under(
        mut options: Options,
        progress: &Progress,
    ) -> Result<Self, NodeError> {
        let mut files = Files::open(&options)?;
        try_timing(&files, &options)?;
        progress.go_on()?;
        catch_up(&files, &mut options, progress)?;
        let recovered = files.recover(&options.config, progress)?;
        files.carried = None; // The tables have it from here on.
        files.keys.resume(&recovered.restored.view)?;
        fits_build(&recovered)?;
        fits_pin(options.config.pin, &recovered)?;
        progress.go_on()?;
        Machinery::new(&options.config)?.run(files, recovered, options)
    }

    /// Whether the member is to be started again once it has ended: it has to fetch a checkpoint
    /// first.
    pub fn restarts(&self) -> bool {
        self.watch.restarts()
    }

    /// Asks and submits from any thread.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Where members reach us.
    pub fn p2p_addr(&self) -> SocketAddr {
        self.net.local_addr()
    }

    /// Waits until SIGTERM or SIGINT, or until something fails.
    pub async fn wait(&self) {
        let mut ending = self.watch.ending();
        tokio::select! {
            () = signalled() => {}
            // An error says that nobody ends it any more.
            _ended = ending.wait_for(|ends| *ends) => {}
        }
        self.watch.end();
    }

    /// Ends every thread, after what was taken in is on the disk.
    ///
    /// Errors: [`NodeError::Failed`] when the member ended because something failed.
    pub fn shutdown(self) -> Result<(), NodeError> {
        self.watch.end();
        self.internal.send(Internal::End).ok(); // a replica that is gone needs no end
        self.net.shutdown();
        for thread in self.threads {
            // A thread that panicked has said why to the watch.
            thread.join().ok();
        }
        match self.watch.failure() {
            Some(reason) => Err(NodeError::Failed { reason }),
            None => Ok(()),
        }
    }
}

/// A build without threshold keys cannot follow a ledger whose committees are samples: it would
/// come to other blocks than the others.
fn fits_build(recovered: &Recovered) -> Result<(), NodeError> {
    let register = recovered.restored.ledger.register();
    if !threshold::IS_BUILT && register.needs_threshold() {
        let reason = UNFIT.into();
        return Err(NodeError::Failed { reason });
    }
    Ok(())
}

/// Refuses a log that follows another chain than the pinned one; one that ends below the pin is
/// watched, see [`Watch::enter`].
fn fits_pin(pin: Option<Pin>, recovered: &Recovered) -> Result<(), NodeError> {
    let Some(pin) = pin else {
        return Ok(());
    };
    let view = &recovered.restored.view;
    let newest = Opened {
        view: view.id(),
        at: view.opening().height,
    };
    match views::opened(&recovered.index, newest, pin.view) {
        Ok(Some(opened)) if opened != pin.digest => {
            Err(RootError::OwnLog { view: pin.view }.into())
        }
        Ok(Some(_) | None) => Ok(()),
        Err(error) => {
            let reason = format!("the view chain cannot be read: {error}");
            Err(NodeError::Failed { reason })
        }
    }
}

/// The channels between the threads.
struct Machinery {
    bell: Arc<Bell>,
    inbox: (Ringing<Inputs>, Receiver<Inputs>),
    internal: (Ringing<Internal>, Receiver<Internal>),
    threads: usize,
}

impl Machinery {
    fn new(config: &Config) -> Result<Self, NodeError> {
        let bell = Arc::new(Bell::default());
        Ok(Self {
            inbox: bell::under(&bell, INBOX_MAX),
            internal: bell::under(&bell, INTERNAL_MAX),
            bell,
            threads: config.verify_threads(),
        })
    }

    fn run(self, files: Files, recovered: Recovered, options: Options) -> Result<Node, NodeError> {
        let (keeper, index) = (recovered.keeper, recovered.index);
        let clock = Clock::start();
        let (replica, watch) = wake(&files, &options, &index, recovered.restored, clock)?;
        let latest = Arc::new(Latest::new(&*recovered.application));
        let (waiters, dropped) = (Arc::<Waiters>::default(), Arc::<Dropped>::default());
        let neighbours = options.config.neighbours.clone();
        let peers = Peers::new(files.me, neighbours, replica.ledger().register());
        let (observers, met) = (peers.observers(), peers.met());
        let (ears, validator) = (replica.ears(), (files.plugin.make)());
        let checks = Arc::new(Checks::new(ears, validator, Arc::clone(&dropped)));
        let hearing = Arc::new(self.hearing(&checks, &waiters)?);
        let gate = hearing.submissions();
        let who = who(&files, &options.config);
        let resources = options.config.resources.clone();
        let net = Arc::new(self.net(&files, options, met, hearing)?);
        let log = GroupCommit::start(recovered.log, GroupOptions::default())?;
        let counts = Counts::new(log.counts());

        let smith = Smith::new(files.keys, &who, checks, gate.clone());
        let newcomer = Newcomer::new(&who, gate.clone());
        let mut spawn = Spawner::new(&watch);
        let (notes, noted) = sync_channel(NOTES_MAX);
        let internal = self.internal.0.clone();
        let scribe = Scribe::new(keeper, internal.clone());
        spawn.scribe(scribe, noted)?;
        let ports = spawn.helpers(
            Helpers {
                net: Arc::clone(&net),
                index: Arc::clone(&index),
                latest: Arc::clone(&latest),
                waiters: Arc::clone(&waiters),
                internal: internal.clone(),
                notes,
                smith,
                peers,
                newcomer,
                genesis: files.genesis.clone(),
                clock,
                data: files.store.dir().into(),
                resources,
                missed: counts.missed.clone(),
            },
            recovered.application,
            log,
        )?;
        let driver = Driver::new(replica, observers, ports, Arc::clone(&watch), clock);
        spawn.driver(driver, self.sources())?;
        let handle = Handle::new(Parts {
            who,
            gate,
            internal: internal.clone(),
            index,
            latest,
            waiters,
            dropped,
            net: Arc::downgrade(&net),
            watch: Arc::clone(&watch),
            application: (files.plugin.make)(),
            counts,
        });
        Ok(Node {
            handle,
            net,
            internal,
            threads: spawn.threads,
            watch,
            _store: files.store,
        })
    }

    fn sources(self) -> Sources {
        Sources {
            inbox: self.inbox.1,
            internal: self.internal.1,
            bell: self.bell,
        }
    }

    fn hearing(&self, checks: &Arc<Checks>, waiters: &Arc<Waiters>) -> Result<Hearing, NodeError> {
        let hearing = Hearing::start(checks, waiters, &self.inbox.0, self.threads);
        hearing.map_err(no_thread)
    }

    fn net(
        &self,
        files: &Files,
        options: Options,
        peers: Vec<net::Peer>,
        hearing: Arc<Hearing>,
    ) -> Result<Net, NodeError> {
        let config = &options.config;
        let listen = match options.p2p {
            Some(socket) => net::Listen::Bound(socket),
            None => net::Listen::Address(config.listen_p2p),
        };
        let [a, b, c, d, e, f, g, h, ..] = keys::entropy().map_err(no_entropy)?;
        let seed = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        let internal = self.internal.0.clone();
        let notice = move |event| {
            let command = match event {
                net::Event::Up(peer) => Command::Connected(MemberId(peer)),
                net::Event::Down(peer) => Command::Disconnected(MemberId(peer)),
            };
            // At the end of the process nobody listens.
            internal.send(Internal::Command(command)).ok();
        };
        let options = net::Options {
            identity: files.identity.clone(),
            chain: files.genesis.chain(),
            listen,
            peers,
            limits: net::Limits::default(),
            seed,
        };
        Ok(Net::start(
            options,
            move |frame| hearing.hear(frame),
            notice,
        )?)
    }
}

/// Fetches a checkpoint first, where this member has to.
fn catch_up(files: &Files, options: &mut Options, progress: &Progress) -> Result<(), NodeError> {
    let data = files.store.dir();
    if bootstrap::wanted(data)?.is_none() {
        let is_new = !files.has_voted && is_bare(&files.store.log_dir());
        if options.config.pin.is_none() || !is_new {
            return Ok(());
        }
        // Blocks one after the other would be believed up to the pin: the view chain leads there.
        bootstrap::want(data, Height(0))?;
    }
    let listen = match &options.p2p {
        Some(socket) => {
            let what = || "cannot share the socket for members".into();
            let shared = socket.try_clone();
            net::Listen::Bound(shared.map_err(|source| NodeError::System {
                what: what(),
                source,
            })?)
        }
        None => net::Listen::Address(options.config.listen_p2p),
    };
    bootstrap::run(Setup {
        data,
        genesis: &files.genesis,
        identity: &files.identity,
        own: files.keys.publics(),
        neighbours: &options.config.neighbours,
        resources: &options.config.resources,
        pin: options.config.pin,
        listen,
        progress,
        seed: keys::entropy().map_err(no_entropy)?,
    })
}

/// Whether nothing is in `folder`, or it is not there.
fn is_bare(folder: &Path) -> bool {
    !fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some())
}

/// Refuses timeouts that this machine cannot keep on its best day, and warns of tight ones.
fn try_timing(files: &Files, options: &Options) -> Result<(), NodeError> {
    let (dir, config) = (&options.dir, &options.config);
    let measured = selftest::run(dir, config, &files.genesis, &files.me);
    let measured = measured.map_err(|source| {
        let what = format!("self-test in {}", dir.join(&config.data).display());
        NodeError::System { what, source }
    })?;
    match measured.judge_start(&config.timing) {
        Verdict::Calm => {}
        Verdict::Tight => {
            let why = measured.explain(&config.timing, measured.works_ms());
            tracing::warn!("timeouts are tight: {why}");
        }
        Verdict::Deadly => {
            let place = dir.join(CONFIG_FILE).display().to_string();
            let reason = measured.explain(&config.timing, measured.floor_ms());
            return Err(ConfigError::Refused { place, reason }.into());
        }
    }
    Ok(())
}

/// The replica with what the disk had, and what everybody may look at.
fn wake(
    files: &Files,
    options: &Options,
    index: &Index,
    restored: Restored,
    clock: Clock,
) -> Result<(Consortium, Arc<Watch>), NodeError> {
    let certified = certified(index, restored.certificate.as_ref());
    let tip = Tip {
        header: restored.ledger.tip().clone(),
        digest: restored.ledger.tip_digest(),
    };
    let seed = keys::entropy().map_err(no_entropy)?;
    let first_counter = (clock.now().0 / 1_000) << 20;
    let replica = files.replica(&options.config, (seed, first_counter));
    let faults = restored.faults.clone();
    let replica = Consortium::new(replica, restored, clock.now()).map_err(NodeError::Plug)?;
    let register = Arc::clone(replica.ledger().register());
    let view = replica.view().clone();
    let watch = Arc::new(Watch::new(
        tip,
        (register, view),
        certified,
        replica.overview(),
    ));
    watch.pin(options.config.pin);
    watch.restore(faults);
    Ok((replica, watch))
}

/// Who the member is, for those who ask it.
fn who(files: &Files, config: &Config) -> Who {
    let signs = config.signs_operations;
    Who {
        genesis: files.genesis.clone(),
        identity: files.identity.clone(),
        me: files.me,
        name: name_of(&files.genesis, &files.me, config),
        client: signs.then(|| host::client_key(&files.identity)),
    }
}

/// The name of `me` in the settings, or else in the genesis document.
pub(super) fn name_of(genesis: &Genesis, me: &MemberId, config: &Config) -> String {
    let mut founders = genesis.founders.iter();
    let found = founders.find(|founder| MemberId::of(&founder.identity) == *me);
    match (config.name.is_empty(), found) {
        (true, Some(founder)) => founder.name.clone(),
        (true, None) | (false, _) => config.name.clone(),
    }
}

/// The newest certified block of the disk, with its header.
fn certified(index: &Index, certificate: Option<&Certificate>) -> Option<Certified> {
    let certificate = certificate?;
    let block = index.block(certificate.ballot.height)?;
    Some(Certified {
        header: block.header,
        certificate: certificate.clone(),
    })
}

fn no_entropy(source: std::io::Error) -> NodeError {
    let what = "the system gives no random bytes".into();
    NodeError::System { what, source }
}
