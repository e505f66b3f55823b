//! `checkpoint verify --api`: the manifests of all members side by side.
//!
//! Source: `docs/checkpoints.md`. In: members' addresses. Out: who holds another snapshot than the
//! others, and the first segment that differs; exit 4 then.
//! Holds: a manifest is what its segments make, not what a member says; a height that only one
//! member holds is not judged.
//! Elsewhere: what a manifest is (`checkpoint`), a folder by itself (`node::verify`).

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;

use super::super::args::Common;
use super::super::failure::Failure;
use super::super::output::{Meter, Output, say, short, table};
use super::super::target::Targets;
use super::{ask, name_of};
use crate::api::{CheckpointEntry, SectionName};
use crate::checkpoint::{Leaf, MANIFEST_LEAVES_MAX, Manifest, Section};
use crate::client::{Api, AskError};
use crate::committee::Height;
use crate::crypto::Digest;

/// What the comparison found.
#[derive(Serialize)]
pub(super) struct Compared {
    ok: bool,
    /// Heights that at least two members hold.
    checkpoints: Vec<Equal>,
    /// Members that gave an answer.
    members: Vec<String>,
    faults: Vec<Difference>,
}

/// A height that was compared, as the certified or the most members have it.
#[derive(Serialize)]
struct Equal {
    height: Height,
    digest: Digest,
    manifest: Digest,
    segments: u32,
    members: Vec<String>,
}

/// A member whose snapshot is not that of the others.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Difference {
    member: String,
    height: Height,
    /// The first segment that differs; none where only the state digest or the header does.
    segment: Option<u32>,
    what: String,
}

/// A member's snapshot of one height.
#[derive(Clone)]
struct Held {
    member: String,
    entry: CheckpointEntry,
    leaves: Vec<Leaf>,
}

/// Snapshots that members say they hold, by height: who, where, what.
type Holders = BTreeMap<Height, Vec<(String, Api, CheckpointEntry)>>;

pub(super) async fn run(common: &Common) -> Result<ExitCode, Failure> {
    let targets = Targets::find(common)?;
    let (holders, members) = holders(&targets).await?;
    let copies = holders.values().flatten();
    let total = copies.map(|(.., entry)| u64::from(entry.segments)).sum();
    let mut meter = Meter::new(common, "segments", total);
    let (mut done, mut faults, mut checkpoints) = (0, Vec::new(), Vec::new());
    for (height, holders) in holders {
        let mut copies = Vec::new();
        for (member, api, entry) in holders {
            let mut tell = |count: usize| {
                done += count as u64;
                meter.set(done);
            };
            match leaves(&api, &entry, targets.limit, &mut tell).await {
                Ok(leaves) => copies.push(Held {
                    member,
                    entry,
                    leaves,
                }),
                // It was given up since it was listed.
                Err(AskError::Problem(problem)) if problem.status == 404 => {
                    say(format!("{member} holds snapshot {height} no longer"));
                }
                Err(error) => faults.push(Difference {
                    member,
                    height,
                    segment: None,
                    what: error.to_string(),
                }),
            }
        }
        checkpoints.extend(judge(&copies, &mut faults));
    }
    meter.finish();
    let compared = Compared {
        ok: faults.is_empty(),
        checkpoints,
        members,
        faults,
    };
    Output::new(common).document(&compared, Compared::table)?;
    match compared.faults.first() {
        None => Ok(ExitCode::SUCCESS),
        Some(first) => Err(Failure::violation(
            first.worded(),
            "stop that member, move its data/ away, and: consortium rejoin --dir MEMBER_DIR",
        )),
    }
}

/// What at least two members hold, and who gave an answer.
async fn holders(targets: &Targets) -> Result<(Holders, Vec<String>), Failure> {
    let answers = ask(targets).await;
    let (mut by_height, mut members) = (Holders::new(), Vec::new());
    let mut silent = AskError::Silent;
    for (target, answer) in targets.members.iter().zip(answers) {
        let name = name_of(target);
        match answer {
            Ok(held) => {
                for entry in held.checkpoints {
                    let copy = (name.clone(), target.api.clone(), entry);
                    by_height.entry(entry.height).or_default().push(copy);
                }
                members.push(name);
            }
            Err(error) => {
                say(format!("{name} is not compared: {error}"));
                silent = error;
            }
        }
    }
    if members.is_empty() {
        return Err(targets.in_vain(&silent));
    }
    by_height.retain(|_, copies| copies.len() > 1);
    Ok((by_height, members))
}

/// Every leaf of a snapshot, page by page.
async fn leaves(
    api: &Api,
    entry: &CheckpointEntry,
    limit: Duration,
    tell: &mut dyn FnMut(usize),
) -> Result<Vec<Leaf>, AskError> {
    let bad = |what: &str| AskError::Malformed(what.to_owned());
    if entry.segments > MANIFEST_LEAVES_MAX {
        return Err(bad("more segments than a snapshot may have"));
    }
    let mut leaves: Vec<Leaf> = Vec::new();
    while leaves.len() < entry.segments as usize {
        let first = u32::try_from(leaves.len()).unwrap_or(u32::MAX);
        let found = api.checkpoint(entry.height, first, limit).await?;
        if found.page.is_empty() {
            return Err(bad("an empty page of a snapshot"));
        }
        tell(found.page.len());
        let page = found.page.into_iter();
        leaves.extend(page.map(|segment| Leaf {
            section: match segment.section {
                SectionName::Ledger => Section::Ledger,
                SectionName::Memory => Section::Memory,
                SectionName::Application => Section::Application,
            },
            bytes: segment.bytes,
            digest: segment.digest,
        }));
    }
    let manifest = Manifest::new(leaves).map_err(|error| bad(&error.to_string()))?;
    let is_it = manifest.root() == entry.manifest && manifest.bytes() == entry.bytes;
    match is_it {
        true => Ok(manifest.leaves().to_vec()),
        false => Err(bad("its segments do not make the manifest that it names")),
    }
}

/// Holds all copies of one height against that of the certified, or of the most.
fn judge(copies: &[Held], faults: &mut Vec<Difference>) -> Option<Equal> {
    let says = |copy: &Held| {
        let entry = &copy.entry;
        (entry.digest, entry.manifest, entry.state_digest)
    };
    let rank = |copy: &&Held| {
        let alike = copies.iter().filter(|other| says(other) == says(copy));
        let is_certified = alike.clone().any(|other| other.entry.certified);
        (is_certified, alike.count())
    };
    let common = copies.iter().max_by_key(rank)?;
    let others = copies.iter().filter(|copy| says(copy) != says(common));
    faults.extend(others.map(|other| differs(other, common)));
    let entry = &common.entry;
    let alike = copies.iter().filter(|copy| says(copy) == says(common));
    Some(Equal {
        height: entry.height,
        digest: entry.digest,
        manifest: entry.manifest,
        segments: entry.segments,
        members: alike.map(|copy| copy.member.clone()).collect(),
    })
}

/// How one copy is not the common one.
fn differs(copy: &Held, common: &Held) -> Difference {
    let most = copy.leaves.len().max(common.leaves.len());
    let mut places = 0..most;
    let place = places.find(|at| copy.leaves.get(*at) != common.leaves.get(*at));
    let what = match place.map(|at| (copy.leaves.get(at), common.leaves.get(at))) {
        Some((Some(got), Some(want))) => format!(
            "it is {} ({} bytes), the others have {} ({} bytes)",
            got.digest, got.bytes, want.digest, want.bytes
        ),
        Some((None, _)) => "it is missing there".into(),
        Some((_, None)) => "the others have none".into(),
        None if copy.entry.digest != common.entry.digest => {
            let (got, want) = (copy.entry.digest, common.entry.digest);
            format!("the header is {got}, the others have {want}")
        }
        None => {
            let (got, want) = (copy.entry.state_digest, common.entry.state_digest);
            format!("the state digest is {got}, the others have {want}")
        }
    };
    Difference {
        member: copy.member.clone(),
        height: copy.entry.height,
        segment: place.and_then(|at| u32::try_from(at).ok()),
        what,
    }
}

impl Difference {
    fn worded(&self) -> String {
        let segment = self.segment.map(|segment| format!(", segment {segment}"));
        let (member, height) = (&self.member, self.height);
        let segment = segment.unwrap_or_default();
        format!("{member}, snapshot {height}{segment}: {}", self.what)
    }
}

impl Compared {
    fn table(&self) -> String {
        let rows: Vec<Vec<String>> = { self.checkpoints.iter() }
            .map(|one| {
                vec![
                    one.height.to_string(),
                    short(one.digest),
                    short(one.manifest),
                    one.segments.to_string(),
                    one.members.join(" "),
                ]
            })
            .collect();
        let heads = ["height", "digest", "manifest", "segments", "equal at"];
        let mut text = table(&heads, &rows);
        for fault in &self.faults {
            text += &format!("\nfault  {}", fault.worded());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy(member: &str, certified: bool, segments: &[&[u8]]) -> Held {
        let leaf = |segment: &&[u8]| Leaf::of(Section::Application, segment);
        let manifest = Manifest::new(segments.iter().map(leaf).collect()).expect("a manifest");
        Held {
            member: member.into(),
            entry: CheckpointEntry {
                height: Height(8),
                digest: Digest([1; 32]),
                manifest: manifest.root(),
                state_digest: manifest.root(),
                bytes: manifest.bytes(),
                segments: manifest.segments(),
                certified,
                block: certified.then_some(Height(10)),
            },
            leaves: manifest.leaves().to_vec(),
        }
    }

    #[test]
    fn who_differs_from_the_certified_is_named_with_the_first_segment() {
        let copies = [
            copy("a", false, &[b"one", b"twx", b"three"]),
            copy("b", true, &[b"one", b"two", b"three"]),
            copy("c", false, &[b"one", b"twx", b"three"]),
        ];
        let mut faults = Vec::new();
        let common = judge(&copies, &mut faults).expect("one");
        assert_eq!(common.members, ["b"]);
        let named: Vec<_> = faults.iter().map(|f| (&f.member[..], f.segment)).collect();
        assert_eq!(named, [("a", Some(1)), ("c", Some(1))]);
    }

    #[test]
    fn without_a_certified_one_the_most_are_right_and_a_missing_segment_counts() {
        let copies = [
            copy("a", false, &[b"one", b"two"]),
            copy("b", false, &[b"one"]),
            copy("c", false, &[b"one", b"two"]),
        ];
        let mut faults = Vec::new();
        let common = judge(&copies, &mut faults).expect("one");
        assert_eq!(common.members, ["a", "c"]);
        assert_eq!(faults.len(), 1);
        assert_eq!((&faults[0].member[..], faults[0].segment), ("b", Some(1)));
        assert!(faults[0].worded().contains("segment 1: it is missing"));
    }

    #[test]
    fn another_state_under_the_same_segments_is_told() {
        let mut other = copy("b", false, &[b"one"]);
        other.entry.state_digest = Digest([9; 32]);
        let copies = [copy("a", true, &[b"one"]), other];
        let mut faults = Vec::new();
        judge(&copies, &mut faults).expect("one");
        assert_eq!(faults[0].segment, None);
        assert!(faults[0].what.contains("the state digest is"));
    }
}
