//! Manifests bind what they list, and pages are of one manifest alone.

use super::*;
use crate::crypto::Digest;

fn manifest(count: u32) -> Manifest {
    let leaf = |index: u32| {
        let section = match index {
            0 => Section::Ledger,
            1 | 2 => Section::Memory,
            _ => Section::Application,
        };
        Leaf::of(section, &index.to_le_bytes())
    };
    Manifest::new((0..count).map(leaf).collect()).expect("within bounds")
}

#[test]
fn every_page_leads_to_the_root_and_to_no_other() {
    for count in [1, 2, 4095, 4096, 4097, 8193, 20_481] {
        let whole = manifest(count);
        let (root, bytes) = (whole.root(), whole.bytes());
        let mut leaves = Vec::new();
        for number in 0..whole.pages() {
            let page = whole.page(number).expect("it has this page");
            assert_eq!(page.check(&root, count, bytes), Ok(()));
            assert!(page.check(&root, count + 1, bytes).is_err());
            assert!(page.check(&root, count, bytes + 1).is_err());
            assert!(page.check(&Digest::ZERO, count, bytes).is_err());
            let moved = Page {
                page: number + 1,
                ..page.clone()
            };
            assert!(moved.check(&root, count, bytes).is_err());
            let mut swapped = page.clone();
            swapped.leaves.reverse();
            assert!(swapped.check(&root, count, bytes).is_err() || page.leaves.len() == 1);
            let mut longer = page.clone();
            longer.path.push(Digest::ZERO);
            assert!(longer.check(&root, count, bytes).is_err());
            leaves.extend(page.leaves);
        }
        assert_eq!(whole.page(whole.pages()), None);
        assert_eq!(leaves, whole.leaves());
    }
}

#[test]
fn what_a_leaf_says_is_bound() {
    let whole = manifest(9);
    let mut leaves = whole.leaves().to_vec();
    for index in 0..leaves.len() {
        for change in 0..3 {
            let before = leaves[index];
            match change {
                0 => leaves[index].bytes += 1,
                1 => leaves[index].digest.0[31] ^= 1,
                _ => {
                    leaves[index].section = match before.section {
                        Section::Ledger => Section::Memory,
                        Section::Memory | Section::Application => Section::Ledger,
                    }
                }
            }
            let other = Manifest::new(leaves.clone());
            assert!(other.is_err() || other.is_ok_and(|other| other.root() != whole.root()));
            leaves[index] = before;
        }
    }
}

#[test]
fn manifests_that_break_a_bound_are_refused() {
    assert_eq!(
        Manifest::new(Vec::new()),
        Err(ManifestError::Count { count: 0 })
    );
    let mut leaves = manifest(4).leaves().to_vec();
    leaves.swap(0, 3);
    assert_eq!(
        Manifest::new(leaves.clone()),
        Err(ManifestError::Order { index: 1 })
    );
    leaves.swap(0, 3);
    leaves[2].bytes = 0;
    let wrong = ManifestError::Size { index: 2, bytes: 0 };
    assert_eq!(Manifest::new(leaves), Err(wrong));
}

#[test]
fn a_segment_is_of_its_leaf_alone() {
    let leaf = Leaf::of(Section::Memory, b"segment");
    assert!(leaf.is_of(b"segment"));
    for other in [&b"segmenu"[..], b"segmen", b"segment ", b""] {
        assert!(!leaf.is_of(other));
    }
}

/// The root by hand from `docs/formats.md`, and frozen.
#[test]
fn the_root_of_a_manifest_is_the_specified_one() {
    let hash = |parts: &[&[u8]]| blake3::derive_key("consortium 1 snapshot", &parts.concat());
    let segments = [
        (Section::Ledger, 0u8, &b"ledger"[..]),
        (Section::Memory, 1, b"memory"),
        (Section::Application, 2, b"application"),
    ];
    let leaf = |(_, code, segment): &(Section, u8, &[u8])| {
        let length = u32::try_from(segment.len()).expect("short").to_le_bytes();
        let digest = hash(&[&[3], segment]);
        hash(&[&[0, *code], &length, &digest])
    };
    let [first, second, third] = [0, 1, 2].map(|index| leaf(&segments[index]));
    let pair = hash(&[&[1], &first, &second]);
    // The third has no partner and rises as it is.
    let all = hash(&[&[1], &pair, &third]);
    let bytes = (6u64 + 6 + 11).to_le_bytes();
    let by_hand = hash(&[&[2], &3u32.to_le_bytes(), &bytes, &all]);
    let leaves = segments.map(|(section, _, segment)| Leaf::of(section, segment));
    let manifest = Manifest::new(leaves.to_vec()).expect("within bounds");
    assert_eq!(manifest.root(), Digest(by_hand));
    assert_eq!(manifest.root().to_string(), FROZEN_ROOT);
}

const FROZEN_ROOT: &str = "1e6f3ad9b46baf7414f4e803adf352ec5e45c03597f7be9471639474e8112985";
