//! The start: tables give a recent state, the log gives the rest.
//!
//! Source: `ARCHITECTURE.md`. In: a member's data directory. Out: everything that the replica
//! resumes with.
//! Holds: the log is the truth; a replayed header equals the stored one, or the member ends and
//! names the height; tables that do not fit are rebuilt.
//! Elsewhere: reading the log after a crash (`storage`), what is applied (`consortium::ledger`).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::bootstrap;
use super::carried::Carried;
use super::entries::{Entries, UNREAD};
use super::error::{NodeError, ReplayError};
use super::executor::execute;
use super::index::{self, Index, kept};
use super::keeper::{Files, Keeper, STANDING, Standing};
use super::progress::Progress;
use super::rebase::{RebaseError, rebase};
use super::scan::{Scan, reaches_back};
use super::shelf::Shelf;
use super::tiles;
use crate::api::BootstrapStage;
use crate::application::Application;
use crate::blocks::{BatchRef, CheckedBatch, Genesis, Group, Parameters};
use crate::committee::{Height, View};
use crate::consortium::ledger::Name as ClientName;
use crate::consortium::records::Name;
use crate::consortium::restoring::{self, Beside, Restoring};
use crate::consortium::{Block, Decided, Executed, Ledger, Restored};
use crate::crypto::{Digest, SecretKey, Verified};
use crate::membership::register::{ROW_KEYS, Register, RowsError};
use crate::storage::{
    Direction, Log, Options, Position, Range, Reading, Store, TableError, TableOptions, Tables,
    open_tables,
};

/// How often a long start says how far it is.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);

/// Every table.
pub(crate) const TABLES: [&str; 8] = [
    index::META,
    index::BLOCKS,
    index::CERTIFICATES,
    index::BATCHES,
    index::RESULTS,
    index::SEQUENCES,
    index::STATE,
    tiles::TILES,
];

/// What is opened and how.
pub(crate) struct Opening<'a> {
    /// The data directory.
    pub(crate) store: &'a Store,
    /// The chain.
    pub(crate) genesis: &'a Genesis,
    /// The view of the start.
    pub(crate) view: &'a View,
    /// The engine of the tables, and its cache in bytes.
    pub(crate) tables: (&'a str, u64),
    /// Length of a log file in bytes.
    pub(crate) log_file_bytes: u32,
    /// Makes an application at height 0.
    pub(crate) make: fn() -> Box<dyn Application>,
    /// What the ledger starts from, where it is a successor.
    pub(crate) carried: Option<&'a Carried>,
    /// What is told how far it is.
    pub(crate) progress: &'a Progress,
}

/// What the disk had.
pub(crate) struct Recovered {
    pub(crate) restored: Restored,
    pub(crate) application: Box<dyn Application>,
    pub(crate) keeper: Keeper,
    pub(crate) index: Arc<Index>,
    pub(crate) log: Log,
    /// Whether the log held nothing.
    pub(crate) is_new: bool,
}

/// What the tables gave, or a snapshot.
pub(super) struct Start {
    pub(super) ledger: Ledger,
    pub(super) application: Box<dyn Application>,
    pub(super) saved: Position,
    pub(super) files: Files,
    /// Whether the tables hold nothing.
    pub(super) is_fresh: bool,
}

/// Opens tables and log and brings everything to the last block of the log.
///
/// Errors: [`NodeError`]; nothing was voted.
pub(crate) fn recover(
    opening: &Opening<'_>,
    secret: &dyn Fn(&View) -> Option<SecretKey>,
) -> Result<Recovered, NodeError> {
    let go_on = || !opening.progress.is_ended();
    let shelf = Arc::new(Shelf::open(opening.store.dir(), &go_on)?);
    let (tables, mut start) = open(opening)?;
    let newest = shelf.newest();
    if start.is_fresh {
        start = from_snapshot(opening, &*tables, &shelf, start)?;
    }
    let mut scan = Scan::new(opening, &start, &shelf)?;
    let options = Options {
        file_bytes: opening.log_file_bytes,
        ..Options::default()
    };
    let reading = Reading {
        file: start.files.settled,
        go_on: &go_on,
    };
    let (log, found) = Log::open_from(
        reading,
        (&opening.store.log_dir(), opening.store.id()),
        options,
        |record| scan.visit(record),
    )?;
    scan.check(opening, found.end)?;
    if !start.is_fresh {
        reaches_back(&start.files, found.first_file)?;
    }
    if let Some(held) = newest.as_ref().filter(|held| held.taken.height > scan.top) {
        // What the log has ends below: the blocks between were never here.
        let open = std::mem::take(&mut start.files.open);
        start = rebase(opening, &*tables, &shelf, held)
            .map_err(|error| anew(opening.store.dir(), scan.top, error))?;
        start.files.open = open;
        scan.feed((&shelf, opening.progress), scan.top, held.taken.height)?;
    }
    // Whatever counts below the first file was read, or saved again: from now on none may be lost.
    start.files.settled = start.files.settled.max(found.first_file);
    let base = start.ledger.height();
    let bottom = newest.map_or(base, |held| held.taken.height.max(base));
    let index = Index::new(tables, (log.reader(), opening.log_file_bytes), shelf);
    let index = Arc::new(index);
    let names = match start.files.base.0 == base {
        true => scan.above(base, (&index, opening.progress), &mut start.files.open)?,
        false => std::mem::take(&mut scan.names),
    };
    let names = opened_again(&start, names);
    let (keeper, open) = keep(opening, &index, &start, names);
    let mut replay = Replay {
        opening,
        index: Arc::clone(&index),
        keeper,
        ledger: start.ledger,
        application: start.application,
        open,
        base: bottom,
    };
    replay.run(scan.top.max(base))?;
    let (restored, application, keeper) = replay.restored(scan.restoring, secret)?;
    Ok(Recovered {
        restored,
        application,
        keeper,
        index,
        log,
        is_new: found.is_new,
    })
}

/// A snapshot that was fetched makes no tables: the next start fetches it again. One that was not
/// waited for may make them at the next start.
fn anew(data: &Path, local: Height, why: RebaseError) -> NodeError {
    if matches!(why, RebaseError::Ended) {
        return why.into();
    }
    match bootstrap::want(data, local) {
        Ok(()) => NodeError::Snapshot {
            reason: format!("{why}; the next start fetches it again"),
        },
        Err(unnoted) => unnoted.into(),
    }
}

fn open(opening: &Opening<'_>) -> Result<(Arc<dyn Tables>, Start), NodeError> {
    opening.progress.enter(BootstrapStage::Open);
    let dir = opening.store.tables_dir();
    let found = open_engine(opening, &dir).and_then(|tables| {
        let start = load(opening, &*tables)?;
        Ok((tables, start))
    });
    // Tables of which a part was read say nothing against themselves.
    opening.progress.go_on()?;
    let why = match found {
        Ok((tables, Ok(start))) => return Ok((tables, start)),
        Ok((_, Err(why))) => why,
        Err(TableError::Damaged { place, what }) => format!("{place}: {what}"),
        Err(other) => return Err(other.into()),
    };
    tracing::warn!(%why, "the tables are rebuilt from the log");
    fs::remove_dir_all(&dir).map_err(|source| NodeError::System {
        what: format!("cannot remove damaged tables in {}", dir.display()),
        source,
    })?;
    let tables = open_engine(opening, &dir)?;
    Ok((tables, fresh(opening)))
}

/// The records with those of open batches, in order, whose rows went when tables were filled anew.
fn opened_again(start: &Start, names: Vec<(Name, Position)>) -> Vec<(Name, Position)> {
    let open = start.files.open.iter();
    let open = open.filter(|(_, position)| **position > start.saved);
    let mut open: Vec<_> = open
        .map(|(digest, position)| (Name::Batch(*digest), *position))
        .collect();
    open.sort_by_key(|(_, position)| *position);
    open.extend(names);
    open
}

/// The keeper that goes on from `start` with these records, and the batches that no block names.
fn keep(
    opening: &Opening<'_>,
    index: &Arc<Index>,
    start: &Start,
    names: Vec<(Name, Position)>,
) -> (Keeper, BTreeMap<Digest, Position>) {
    let mut open = start.files.open.clone();
    let span = opening.genesis.parameters.expiry_blocks_max.into();
    let mut keeper = Keeper::new(
        Arc::clone(index),
        span,
        start.ledger.parts().clone(),
        start.saved,
        start.files.clone(),
    );
    if let Some(carried) = opening.carried.filter(|_| start.is_fresh) {
        let put = |(key, value): &(Bytes, Bytes)| (key.clone(), Some(value.clone()));
        keeper.changed(Height(0), carried.entries().iter().map(put).collect());
    }
    for (name, position) in names {
        index.saved(name, position);
        keeper.saved(name, position);
        if let Name::Batch(digest) = name {
            open.insert(digest, position);
        }
    }
    (keeper, open)
}

/// The start out of the newest snapshot that can be read; `fresh` where there is none.
fn from_snapshot(
    opening: &Opening<'_>,
    tables: &dyn Tables,
    shelf: &Shelf,
    fresh: Start,
) -> Result<Start, NodeError> {
    let mut failure = None;
    for held in shelf.certified() {
        match rebase(opening, tables, shelf, &held) {
            Ok(start) => return Ok(start),
            Err(RebaseError::Ended) => return Err(NodeError::Ended),
            Err(error) => {
                let height = held.taken.height;
                tracing::error!(%height, %error, "a snapshot cannot be read");
                failure = Some(error);
            }
        }
    }
    failure.map_or(Ok(fresh), |error| Err(error.into()))
}

fn open_engine(opening: &Opening<'_>, dir: &Path) -> Result<Arc<dyn Tables>, TableError> {
    let (engine, cache_bytes) = opening.tables;
    let options = TableOptions {
        tables: TABLES.map(str::to_owned).to_vec(),
        cache_bytes,
    };
    Ok(Arc::from(open_tables(dir, engine, &options)?))
}

fn fresh(opening: &Opening<'_>) -> Start {
    let (mut application, mut ledger) = ((opening.make)(), Ledger::genesis(opening.genesis));
    if let Some(carried) = opening.carried {
        let filled = carried.fill(&mut *application);
        filled.expect("a state file was loaded when it was read");
        ledger = ledger.inheriting(carried.names());
    }
    Start {
        ledger,
        application,
        is_fresh: true,
        saved: Position { file: 0, offset: 0 },
        files: Files::default(),
    }
}

/// What the tables hold; as inner error why they cannot be used.
fn load(opening: &Opening<'_>, tables: &dyn Tables) -> Result<Result<Start, String>, TableError> {
    let Some(row) = tables.get(index::META, STANDING)? else {
        return Ok(Ok(fresh(opening)));
    };
    let most = crate::blocks::codec::ENCODED_BYTES_MAX;
    let standing: Standing = match crate::blocks::codec::decode(&row, most) {
        Ok(standing) => standing,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let saved = standing.saved();
    let tip = standing.parts.tip.clone();
    let open = standing.open.iter().map(|(digest, (file, offset))| {
        let (file, offset) = (*file, *offset);
        (*digest, Position { file, offset })
    });
    let open = open.collect();
    let go_on = || !opening.progress.is_ended();
    let parameters = &opening.genesis.parameters;
    let entries = match remembered(tables, (&tip.height, parameters), &go_on)? {
        Ok(entries) => entries,
        Err(why) => return Ok(Err(why)),
    };
    let register = match register(tables, &opening.genesis.chain())? {
        Ok(register) => register,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let ledger = match Ledger::restore(opening.genesis, standing.parts, register, entries) {
        Ok(ledger) => match opening.carried {
            Some(carried) => ledger.inheriting(carried.names()),
            None => ledger,
        },
        Err(error) => return Ok(Err(error.to_string())),
    };
    let mut application = (opening.make)();
    let mut rows = Entries::new(tables, &go_on);
    let loaded = application.load(&mut rows, tip.height.0);
    if let Err(error) = loaded {
        return Ok(Err(error.to_string()));
    }
    let is_same = tip
        .state
        .is_none_or(|root| application.retain(tip.height.0, &root));
    if !is_same {
        return Ok(Err("the state is not that of its header".into()));
    }
    Ok(Ok(Start {
        ledger,
        application,
        saved,
        files: Files {
            open,
            needed: standing.needed.into_iter().collect(),
            base: standing.base,
            settled: standing.settled,
            pruned: standing.pruned,
        },
        is_fresh: false,
    }))
}

/// The register as the tables have it; none where it never changed.
pub(crate) fn register(
    tables: &dyn Tables,
    chain: &Digest,
) -> Result<Result<Option<Register>, RowsError>, TableError> {
    let mut rows: [Vec<u8>; ROW_KEYS.len()] = Default::default();
    let mut found = 0;
    for (row, key) in rows.iter_mut().zip(ROW_KEYS) {
        if let Some(value) = tables.get(index::META, key)? {
            *row = value.to_vec();
            found += 1;
        }
    }
    if found == 0 {
        return Ok(Ok(None));
    }
    // A row that is missing among others is empty here, which is no row's form.
    let register = Register::from_rows(chain, rows.each_ref().map(Vec::as_slice));
    Ok(register.map(Some))
}

/// What the ledger remembers after `tip`, from the results of the heights that can matter; read as
/// long as `go_on` says so.
pub(crate) fn remembered(
    tables: &dyn Tables,
    (tip, parameters): (&Height, &Parameters),
    go_on: &dyn Fn() -> bool,
) -> Result<Result<BTreeMap<ClientName, Executed>, String>, TableError> {
    let span = u64::from(parameters.expiry_blocks_max);
    let mut from = tip.minus(span).0.to_be_bytes().to_vec();
    let mut entries = BTreeMap::new();
    loop {
        if !go_on() {
            return Ok(Err(UNREAD.into()));
        }
        let range = Range::starting_at(&from);
        let rows = tables.scan(index::RESULTS, &range, Direction::Forward, 64)?;
        let Some((last, _)) = rows.last() else { break };
        from = last.clone();
        from.push(0);
        for (_, row) in rows {
            let kept = match index::decode_results(&row) {
                Ok(kept) => kept,
                Err(error) => return Ok(Err(error.to_string())),
            };
            for one in kept.into_iter().filter(|one| one.executed.expiry >= *tip) {
                entries.insert((one.client, one.client_sequence), one.executed);
            }
        }
    }
    Ok(Ok(entries))
}

struct Replay<'a> {
    opening: &'a Opening<'a>,
    index: Arc<Index>,
    keeper: Keeper,
    ledger: Ledger,
    application: Box<dyn Application>,
    open: BTreeMap<Digest, Position>,
    /// The newest snapshot at or below the start; blocks up to there may be pruned.
    base: Height,
}

impl Replay<'_> {
    /// Applies every block up to `top` again.
    fn run(&mut self, top: Height) -> Result<(), NodeError> {
        let (first, mut told) = (self.ledger.height(), Instant::now());
        let progress = self.opening.progress;
        progress.enter(BootstrapStage::Replay);
        progress.replayed(first, top)?;
        while self.ledger.height() < top {
            let height = self.ledger.height().next();
            let block = self.index.block_at(height).map_err(ReplayError::from)?;
            let block = block.ok_or(ReplayError::Block { height })?;
            self.apply(block)?;
            progress.replayed(height, top)?;
            if self.keeper.is_full() {
                self.keeper.commit()?;
            }
            if told.elapsed() >= PROGRESS_EVERY && !progress.is_shown() {
                told = Instant::now();
                tracing::info!(%height, %top, "replaying the log");
            }
        }
        if self.ledger.height() > first {
            tracing::info!(%first, height = %top, "the log was replayed");
        }
        Ok(())
    }

    fn apply(&mut self, block: Block) -> Result<(), ReplayError> {
        let height = block.header.height;
        let want = block.header.digest();
        let groups = self.groups(&block)?;
        for batch in block.body.batches() {
            self.open.remove(&batch.digest());
        }
        let work = self.ledger.begin(Decided::replay(block, groups));
        let execution = execute(&mut *self.application, &work);
        let state = execution.state;
        let applied = self.ledger.finish(execution);
        let applied = applied.expect("the results are of the block under way");
        if applied.digest != want {
            let got = applied.digest;
            return Err(ReplayError::Differs {
                height,
                got,
                state,
                want,
            });
        }
        let kept = Arc::new(kept(&applied));
        self.index.applied(&applied, Arc::clone(&kept));
        self.keeper.applied(&applied, kept);
        if work.is_sealed {
            let changes = self.application.drain_changes();
            self.keeper.changed(height, changes);
        }
        Ok(())
    }

    fn groups(&self, block: &Block) -> Result<Vec<Group>, ReplayError> {
        let height = block.header.height;
        let mut groups = Vec::new();
        for batch in block.body.batches() {
            let bytes = match batch {
                BatchRef::Inline(bytes) => bytes.clone(),
                BatchRef::Named(digest) => {
                    let found = self.index.batch_of(digest)?;
                    let batch = *digest;
                    found.ok_or(ReplayError::Batch { height, batch })?
                }
            };
            groups.extend(self.decode(bytes)?.groups);
        }
        Ok(groups)
    }

    fn decode(&self, bytes: Bytes) -> Result<CheckedBatch, ReplayError> {
        let bounds = self.opening.genesis.parameters.bounds();
        let decoded = CheckedBatch::decode(bytes, self.opening.view.chain(), &bounds);
        let (batch, _) = decoded.map_err(|error| ReplayError::Record {
            reason: error.to_string(),
        })?;
        Ok(batch)
    }

    /// All that the replica resumes with, and what stands beside it.
    ///
    /// Errors: a block on which the view rests is missing, or cannot be read.
    fn restored(
        mut self,
        restoring: Restoring,
        secret: &dyn Fn(&View) -> Option<SecretKey>,
    ) -> Result<(Restored, Box<dyn Application>, Keeper), ReplayError> {
        let batches = self.batches()?;
        let recent = self.recent(restoring.certified())?;
        let unreadable = RefCell::new(None);
        let block = |height| {
            let read = self.index.block_at(height);
            read.unwrap_or_else(|error| {
                unreadable.replace(Some(error));
                None
            })
        };
        let restored = restoring.finish(Beside {
            ledger: self.ledger,
            recent,
            batches,
            founders: self.opening.view,
            block: &block,
            secret,
        });
        let restored = restored.map_err(|height| {
            let error = unreadable.take().map(ReplayError::from);
            error.unwrap_or(ReplayError::Block { height })
        })?;
        Ok((restored, self.application, self.keeper))
    }

    /// Logged batches that no applied block names.
    fn batches(&mut self) -> Result<Vec<Verified<CheckedBatch>>, ReplayError> {
        let mut batches = Vec::new();
        for digest in std::mem::take(&mut self.open).into_keys() {
            if let Some(bytes) = self.index.batch_of(&digest)? {
                // Its signatures held when it was logged.
                batches.push(Verified::vouch(self.decode(bytes)?));
            }
        }
        Ok(batches)
    }

    /// Applied blocks from `certified` on, as the replica remembers them. Where it starts from a
    /// snapshot those below are not here, and nobody asks for them.
    fn recent(&self, certified: Height) -> Result<Vec<(Height, Digest, bool)>, ReplayError> {
        let (tip, base) = (self.ledger.tip(), self.base);
        let mut recent = Vec::new();
        for height in (certified.0.max(1)..=tip.height.0).map(Height) {
            match self.index.block_at(height)? {
                Some(block) => {
                    recent.push(restoring::recent(&block, self.ledger.parameters()));
                }
                None if height <= base => {}
                None => return Err(ReplayError::Block { height }),
            }
        }
        let last = recent.last().map(|(height, ..)| *height);
        if tip.height == base && tip.height > Height(0) && last != Some(tip.height) {
            recent.push((tip.height, self.ledger.tip_digest(), true));
        }
        Ok(recent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::application::kv;
    use crate::node::keys;
    use crate::node::verify::tests::world::World;

    #[test]
    fn a_start_that_is_ended_loses_nothing_and_the_next_one_is_whole() {
        let world = World::new();
        world.write(&world.story(20));
        let data = world.member().join("data");
        let bound = keys::consensus(&world.member()).expect("its key").store;
        let store = Store::open(&data, bound).expect("nobody has it open");
        let view = world.genesis.view().expect("one founder makes a view");
        let (ended, goes_on) = (Progress::default(), Progress::default());
        ended.end();
        let opening = |progress| Opening {
            store: &store,
            genesis: &world.genesis,
            view: &view,
            tables: ("redb", 1 << 20),
            log_file_bytes: 32 << 10,
            make: || Box::new(kv::Kv::new()),
            carried: None,
            progress,
        };
        let none = |_: &View| None;
        let found = recover(&opening(&ended), &none).err();
        assert!(matches!(found, Some(NodeError::Ended)), "{found:?}");
        // Also where packs were read: tables of which only a part was are not damaged ones.
        let found = open(&opening(&ended)).err();
        assert!(matches!(found, Some(NodeError::Ended)), "{found:?}");
        let (_, start) = open(&opening(&goes_on)).expect("they are whole");
        assert_eq!((start.is_fresh, start.ledger.height()), (false, Height(20)));
        drop(start);
        let recovered = recover(&opening(&goes_on), &none).expect("it is whole");
        assert_eq!(recovered.restored.ledger.height(), Height(20));
    }

    #[test]
    fn open_batches_are_found_again_where_tables_were_filled_anew() {
        let world = World::new();
        let data = world.member().join("data");
        let bound = keys::consensus(&world.member()).expect("its key").store;
        let opening = Opening {
            store: &Store::open(&data, bound).expect("nobody has it open"),
            genesis: &world.genesis,
            view: &world.genesis.view().expect("one founder makes a view"),
            tables: ("redb", 1 << 20),
            log_file_bytes: 32 << 10,
            make: || Box::new(kv::Kv::new()),
            carried: None,
            progress: &Progress::default(),
        };
        let at = |file, offset| Position { file, offset };
        let batch = |n| Digest([n; 32]);
        let mut start = fresh(&opening);
        start.files.open = [(batch(1), at(2, 50)), (batch(2), at(1, 900))].into();
        let newer = || vec![(Name::Block(Height(9)), at(2, 70))];
        let found = opened_again(&start, newer());
        let batches = [
            (Name::Batch(batch(2)), at(1, 900)),
            (Name::Batch(batch(1)), at(2, 50)),
        ];
        assert_eq!(found, [&batches[..], &newer()].concat());
        // Tables that went on have their rows.
        start.saved = at(2, 60);
        assert_eq!(opened_again(&start, newer()), newer());
    }

    #[test]
    fn a_snapshot_that_makes_no_tables_is_fetched_again_unless_nobody_waited_for_it() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (data, local) = (folder.path(), Height(7));
        let ended = anew(data, local, RebaseError::Ended);
        assert!(matches!(ended, NodeError::Ended), "{ended}");
        assert_eq!(bootstrap::wanted(data).expect("it can be read"), None);
        let damaged = TableError::Damaged {
            place: "tables".into(),
            what: "it is cut off".into(),
        };
        let told = anew(data, local, damaged.into()).to_string();
        for said in ["it is cut off", "the next start fetches it again"] {
            assert!(told.contains(said), "'{said}' is not in: {told}");
        }
        let wanted = bootstrap::wanted(data).expect("it can be read");
        assert_eq!(wanted, Some(local));
    }
}
