//! Key files at every point at which a process may end between two views.
//!
//! Source: design, 'identities and keys'. In: temporary folders. Out: which secrets are there.
//! Holds: after each start the key of our seat votes, and no other is left but one that waits.
//! Elsewhere: the same with members that run (`views`).

use std::fs;
use std::path::{Path, PathBuf};

use crate::blocks::Call;
use crate::committee::{MemberId, SeatKey, View, ViewId};
use crate::consortium::Command;
use crate::crypto::{Digest, Domain, PublicKey, SecretKey};
use crate::node::keys::{self, CONSENSUS_FILE, NEXT_FILE};
use crate::node::seat_keys::SeatKeys;
use crate::storage::StoreId;

struct Folder {
    _temporary: tempfile::TempDir,
    dir: PathBuf,
    identity: SecretKey,
    me: MemberId,
}

impl Folder {
    fn new() -> Self {
        let temporary = tempfile::tempdir().expect("a folder");
        let dir = temporary.path().join("ada");
        keys::generate(&dir, "ada", "").expect("keys are made");
        keys::bind(&dir).expect("bound");
        let identity = keys::identity(&dir).expect("a key");
        let me = MemberId::of(&identity.public());
        Self {
            _temporary: temporary,
            dir,
            identity,
            me,
        }
    }

    fn open(&self) -> SeatKeys {
        let [present, next] = keys::held(&self.dir).expect("readable");
        let store = present.or(next).expect("a key").store;
        SeatKeys::open(&self.dir, self.me, store).expect("readable")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The key that answers the call of `number`.
    fn answer(&self, held: &mut SeatKeys, number: u64) -> PublicKey {
        let assemble = Digest::of(Domain::Audit, &number.to_le_bytes());
        let next = ViewId(number);
        let call = Call { next, assemble };
        let answered = held.answer(&Digest::ZERO, &self.identity, call);
        let Ok(Command::Key(key)) = answered else {
            panic!("{answered:?} is no key");
        };
        key.proof.key
    }

    /// View 1 with our seat for `key`; without one our place is another's.
    fn view(&self, key: Option<PublicKey>) -> View {
        let stranger = MemberId(Digest::of(Domain::Member, b"stranger"));
        let seat = SeatKey {
            member: if key.is_some() { self.me } else { stranger },
            key: key.or_else(|| Some(self.identity.public())),
        };
        let chain = Digest::of(Domain::Chain, b"test");
        View::new(ViewId(1), chain, vec![seat], &chain).expect("a view")
    }

    fn present(&self) -> Option<PublicKey> {
        let [present, _] = keys::held(&self.dir).expect("readable");
        present.map(|key| key.secret.public())
    }
}

fn zero(path: &Path) {
    let length = fs::read(path).expect("readable").len();
    fs::write(path, vec![0; length]).expect("written");
}

#[test]
fn one_key_answers_one_call_also_after_a_restart() {
    let folder = Folder::new();
    let first = folder.answer(&mut folder.open(), 1);
    let mut again = folder.open();
    assert_eq!(folder.answer(&mut again, 1), first);
    let other = folder.answer(&mut again, 2);
    assert_ne!(other, first);
    assert!(folder.open().secret(&folder.view(Some(first))).is_none());
    assert!(folder.open().secret(&folder.view(Some(other))).is_some());
}

#[test]
fn a_hand_over_ends_with_the_key_of_the_seat_wherever_it_was_cut_short() {
    // The old key is there, overwritten, or gone when the process ends.
    let cuts: [fn(&Path); 3] = [|_| {}, zero, |path| fs::remove_file(path).expect("removed")];
    for cut in cuts {
        let folder = Folder::new();
        let fresh = folder.answer(&mut folder.open(), 1);
        cut(&folder.path(CONSENSUS_FILE));
        let view = folder.view(Some(fresh));
        folder.open().resume(&view).expect("it goes on");
        assert_eq!(folder.present(), Some(fresh));
        assert!(!folder.path(NEXT_FILE).exists());
        assert!(folder.open().secret(&view).is_some());
    }
}

#[test]
fn a_key_that_was_half_erased_or_half_written_stops_nobody() {
    let folder = Folder::new();
    let own = folder.present().expect("a key");
    folder.answer(&mut folder.open(), 1);
    zero(&folder.path(NEXT_FILE));
    fs::write(folder.dir.join("next.new"), "consor").expect("written");
    let mut held = folder.open();
    held.resume(&folder.view(Some(own))).expect("it goes on");
    assert!(!folder.path(NEXT_FILE).exists());
    let fresh = folder.answer(&mut held, 2);
    assert!(held.secret(&folder.view(Some(fresh))).is_some());
}

#[test]
fn a_seat_that_is_lost_or_carried_over_leaves_one_key_or_none() {
    for is_restart in [false, true] {
        let folder = Folder::new();
        let lost = folder.view(None);
        let mut held = folder.open();
        if is_restart {
            held.resume(&lost).expect("it goes on");
        } else {
            held.enter(&lost).expect("it goes on");
        }
        assert_eq!(folder.present(), None, "restart {is_restart}");
    }
    let folder = Folder::new();
    let own = folder.present().expect("a key");
    let mut held = folder.open();
    folder.answer(&mut held, 1);
    held.enter(&folder.view(Some(own))).expect("it goes on");
    assert_eq!(folder.present(), Some(own));
    assert!(!folder.path(NEXT_FILE).exists());
}

#[test]
fn a_seat_without_its_secret_is_no_start() {
    let folder = Folder::new();
    let mut held = folder.open();
    let other = folder.identity.public();
    assert!(held.resume(&folder.view(Some(other))).is_err());
}

#[test]
fn a_start_in_a_view_that_a_snapshot_led_to_erases_the_key_for_one_passed_over() {
    let folder = Folder::new();
    let own = folder.present().expect("a key");
    let mut held = folder.open();
    let passed = folder.answer(&mut held, 1);
    assert_eq!(held.publics(), [own, passed].into());
    held.resume(&folder.view(Some(own))).expect("it goes on");
    assert!(!folder.path(NEXT_FILE).exists());
    assert_eq!(folder.open().publics(), [own].into());
    // A key of a view further on is awaited still.
    let awaited = folder.answer(&mut held, 2);
    held.resume(&folder.view(Some(own))).expect("it goes on");
    assert_eq!(folder.open().publics(), [own, awaited].into());
}

#[test]
fn a_key_of_another_log_counts_in_no_quorum() {
    let folder = Folder::new();
    let [present, _] = keys::held(&folder.dir).expect("readable");
    let store = present.expect("a key").store;
    let other = StoreId([store.0[0] ^ 1; 16]);
    let held = SeatKeys::open(&folder.dir, folder.me, other).expect("readable");
    assert!(held.publics().is_empty());
}
