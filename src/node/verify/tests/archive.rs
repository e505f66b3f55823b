//! An archive proves the chain, and whatever is changed in it is found and named.

use bytes::Bytes;

use super::*;
use crate::node::archive::{Cut, Extent, Kind, name, tail};
use crate::node::verify::archive::look;
use crate::node::{Archiver, Config, VerifyArchive};
use crate::storage::Objects;

const SHORT: Cut = Cut {
    blocks: 7,
    bytes: u64::MAX,
};

/// A chain whose views last eight blocks, archived.
struct Archived {
    world: World,
    doors: Vec<Objects>,
}

impl Archived {
    fn new() -> Self {
        let world = World::rotating();
        world.write_log(&world.story(BLOCKS));
        let mut doors = Objects::in_memory(2);
        let (dir, door) = (world.member(), doors.pop().expect("a door"));
        let config = Config::load(&dir).expect("its settings");
        let opened = Archiver::with((&dir, &config), &world.genesis, door, SHORT);
        let round = opened.expect("opened").round(&mut |_, _| {});
        let round = round.expect("archived");
        assert!(round.tail.is_some(), "{round:?}");
        Self { world, doors }
    }

    fn verify(&self) -> Verdict {
        self.verify_with(self.world.genesis.clone())
            .expect("a verdict")
    }

    fn verify_with(&self, genesis: Genesis) -> Result<Verdict, VerifyError> {
        let options = VerifyArchive {
            objects: &self.doors[0],
            genesis,
            document: Path::new("genesis.json"),
            progress: &mut |done, total| assert!(done <= total, "progress has an end"),
        };
        look(options, SHORT).map(|(verdict, _)| verdict)
    }

    fn names(&self, end: &str) -> Vec<String> {
        let listed = self.doors[0].list("").expect("it lists").into_iter();
        let names = listed.map(|object| object.name);
        names.filter(|name| name.ends_with(end)).collect()
    }

    fn read(&self, name: &str) -> Bytes {
        self.doors[0].get(name, 1 << 30).expect("it is there")
    }

    fn put(&self, name: &str, bytes: impl Into<Bytes>) {
        self.doors[0].replace(name, bytes.into()).expect("replaced");
    }

    /// What is found while `name` holds what `change` makes of it, or nothing.
    fn changed(&self, name: &str, change: impl Fn(Vec<u8>) -> Vec<u8>) -> Verdict {
        let held = self.read(name);
        self.put(name, change(held.to_vec()));
        let verdict = self.verify();
        self.put(name, held);
        verdict
    }

    fn first_of(&self, name: &str) -> u64 {
        Extent::decode(&self.read(name))
            .expect("an extent")
            .opening
            .first
            .0
    }
}

#[test]
fn a_whole_archive_proves_what_the_members_folder_does() {
    let archived = Archived::new();
    let verdict = archived.verify();
    assert_eq!(verdict.faults, [], "{:?}", verdict.notes);
    assert!(verdict.ok);
    let of_member = archived.world.verify();
    assert_eq!(verdict.height, of_member.height);
    assert_eq!(verdict.digest, of_member.digest);
    assert_eq!(verdict.state_digest, of_member.state_digest);
    assert_eq!(
        (verdict.blocks, verdict.views),
        (of_member.blocks, of_member.views)
    );
    assert!(verdict.signatures > verdict.blocks);
}

#[test]
fn a_flipped_bit_of_any_object_is_found_and_named() {
    let archived = Archived::new();
    for name in archived.names("") {
        let bytes = archived.read(&name).len();
        for part in 0..24 {
            let at = part * (bytes - 1) / 23;
            let verdict = archived.changed(&name, |mut bytes| {
                bytes[at] ^= 0x10;
                bytes
            });
            assert!(!verdict.ok, "{name} at {at}");
            let is_it = |fault: &Fault| fault.file == name && fault.height > 0;
            assert!(
                verdict.faults.iter().any(is_it),
                "{name} at {at}: {:?}",
                verdict.faults
            );
        }
    }
    assert_eq!(archived.verify().faults, []);
}

#[test]
fn a_flipped_bit_in_a_block_is_named_with_its_height() {
    let archived = Archived::new();
    let name = &archived.names(".extent")[0];
    let held = archived.read(name);
    let read = Extent::decode(&held).expect("an extent");
    // A byte of the third block's header.
    let at = read.sizes[1] as usize - 32 + 4 + 60;
    let verdict = archived.changed(name, |mut bytes| {
        bytes[at] ^= 1;
        bytes
    });
    assert_found(&verdict, name, read.opening.first.0 + 2, "block");
    assert_eq!(
        verdict.height.0,
        read.opening.first.0 - 1,
        "what is before it holds"
    );
    assert_eq!(verdict.faults.len(), 1, "{:?}", verdict.faults);
}

#[test]
fn a_cut_a_swapped_and_an_empty_object_are_found() {
    let archived = Archived::new();
    let extents = archived.names(".extent");
    let (one, two) = (&extents[0], &extents[1]);
    let cut = |mut bytes: Vec<u8>| {
        bytes.truncate(bytes.len() / 2);
        bytes
    };
    let verdict = archived.changed(one, cut);
    let height = verdict.faults[0].height;
    assert!((3..=5).contains(&height), "{:?}", verdict.faults);
    assert_found(&verdict, one, height, "it is cut short");
    let verdict = archived.changed(two, |_| Vec::new());
    assert_found(&verdict, two, archived.first_of(two), "cut short");
    let other = archived.read(two).to_vec();
    let verdict = archived.changed(one, |_| other.clone());
    assert_found(
        &verdict,
        one,
        archived.first_of(two),
        "it holds the extent from",
    );
    let proofs = archived.names(".proof");
    let other = archived.read(&proofs[2]).to_vec();
    let verdict = archived.changed(&proofs[1], |_| other.clone());
    assert!(
        verdict.faults.iter().any(|fault| fault.file == proofs[1]),
        "{:?}",
        verdict.faults
    );
}

#[test]
fn a_missing_and_a_foreign_object_are_found() {
    let archived = Archived::new();
    let chain = archived.world.genesis.chain();
    for name in [
        format!("{chain}/notes.txt"),
        format!("{chain}/x/1-2.extent"),
    ] {
        let with = Archived::new();
        let name = name.replace(&chain.to_string(), &with.world.genesis.chain().to_string());
        with.put(&name, &b"?"[..]);
        assert_found(&with.verify(), &name, BLOCKS, "no object of ours");
    }
    let without = |gone: &str| {
        let copy = Objects::in_memory(1);
        for name in archived.names("").iter().filter(|name| *name != gone) {
            copy[0].replace(name, archived.read(name)).expect("copied");
        }
        let options = VerifyArchive {
            objects: &copy[0],
            genesis: archived.world.genesis.clone(),
            document: Path::new("genesis.json"),
            progress: &mut |_, _| {},
        };
        look(options, SHORT).expect("a verdict").0
    };
    let extents = archived.names(".extent");
    let first = archived.first_of(&extents[1]);
    let verdict = without(&extents[1]);
    assert_found(&verdict, &extents[2], first, "are missing");
    assert_eq!(verdict.height.0, first - 1);
    let proofs = archived.names(".proof");
    let last = first - 1;
    assert_found(&without(&proofs[0]), &proofs[0], last, "is not there");
    // The last extent: what is behind it tells.
    let gone = extents.last().expect("one");
    assert_found(
        &without(gone),
        &tail(&chain),
        archived.first_of(gone),
        "are missing",
    );
    let ended = without(&tail(&chain));
    assert!(ended.ok, "a shorter archive is one: {:?}", ended.faults);
}

#[test]
fn an_extent_that_ends_elsewhere_is_found() {
    let archived = Archived::new();
    let name = &archived.names(".extent")[0];
    // Under the rule of the format the first extent would not end with its seventh block.
    let options = VerifyArchive {
        objects: &archived.doors[0],
        genesis: archived.world.genesis.clone(),
        document: Path::new("genesis.json"),
        progress: &mut |_, _| {},
    };
    let (verdict, _) = look(options, Cut::FORMAT).expect("a verdict");
    let last = archived.first_of(name) + 6;
    assert_found(&verdict, name, last, "does not end where");
}

#[test]
fn a_certificate_that_the_views_seats_did_not_sign_is_found() {
    let archived = Archived::new();
    let name = &archived.names(".proof")[1];
    let held = archived.read(name);
    let mut proof = crate::node::archive::Proof::decode(&held).expect("a proof");
    proof.certificate.signatures[0].0[5] ^= 1;
    let forged = proof.encode();
    let verdict = archived.changed(name, |_| forged.to_vec());
    assert!(
        verdict
            .faults
            .iter()
            .any(|fault| { fault.file == *name && fault.what.contains("signature does not hold") })
    );
}

#[test]
fn an_archive_without_the_chain_is_no_archive_of_it() {
    let archived = Archived::new();
    let mut other = archived.world.genesis.clone();
    other.name = "other".into();
    let error = archived.verify_with(other).expect_err("nothing is there");
    assert!(
        matches!(error, VerifyError::NothingArchived { .. }),
        "{error}"
    );
    let first = name(
        &archived.world.genesis.chain(),
        Kind::Extent,
        Height(1),
        Height(7),
    );
    assert!(archived.names("").contains(&first));
}

#[test]
fn a_lone_proof_behind_the_end_is_noted_and_one_before_it_is_a_fault() {
    let archived = Archived::new();
    let chain = archived.world.genesis.chain();
    let end = archived.verify().height.0;
    let held = archived.read(&archived.names(".proof")[0]);
    let behind = name(&chain, Kind::Proof, Height(end + 5), Height(end + 9));
    archived.put(&behind, held);
    assert_found(
        &archived.verify(),
        &behind,
        end + 5,
        "the extent that it proves is missing",
    );
}
