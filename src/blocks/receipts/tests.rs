//! The receipt tree agrees with the published vectors and with the RFC's recursive definition.

use proptest::prelude::*;

use super::tree::split;
use super::*;

const LEAVES: [&str; 8] = [
    "",
    "00",
    "10",
    "2021",
    "3031",
    "40414243",
    "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
];

const ROOTS: [&str; 9] = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];

fn digest(text: &str) -> Digest {
    text.parse().expect("a test vector is hex")
}

fn leaves(count: u64) -> Vec<Digest> {
    (0..count).map(|i| leaf_hash(&i.to_le_bytes())).collect()
}

fn tree(leaves: &[Digest]) -> ReceiptTree<MemoryNodes> {
    let mut tree = ReceiptTree::default();
    for leaf in leaves {
        tree.append(*leaf);
    }
    tree
}

/// RFC 6962 §2.1, word by word.
fn naive(leaves: &[Digest]) -> Digest {
    match leaves {
        [] => empty_root(),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len() as u64) as usize);
            node_hash(&naive(left), &naive(right))
        }
    }
}

fn naive_path(index: usize, leaves: &[Digest]) -> Vec<Digest> {
    if leaves.len() < 2 {
        return Vec::new();
    }
    let middle = split(leaves.len() as u64) as usize;
    let (left, right) = leaves.split_at(middle);
    let (mut path, sibling) = if index < middle {
        (naive_path(index, left), naive(right))
    } else {
        (naive_path(index - middle, right), naive(left))
    };
    path.push(sibling);
    path
}

fn naive_consistency(old: usize, leaves: &[Digest], known: bool) -> Vec<Digest> {
    if old == leaves.len() {
        return if known {
            Vec::new()
        } else {
            vec![naive(leaves)]
        };
    }
    let middle = split(leaves.len() as u64) as usize;
    let (left, right) = leaves.split_at(middle);
    let (mut path, sibling) = if old <= middle {
        (naive_consistency(old, left, known), naive(right))
    } else {
        (naive_consistency(old - middle, right, false), naive(left))
    };
    path.push(sibling);
    path
}

/// Every proof that differs from `path` in one bit of one byte, or in length by one digest.
fn alterations(path: &[Digest]) -> impl Iterator<Item = Vec<Digest>> + '_ {
    let flipped = (0..path.len() * 32).map(|place| {
        let mut altered = path.to_vec();
        altered[place / 32].0[place % 32] ^= 1 << (place % 8);
        altered
    });
    let longer = [Digest::ZERO, empty_root()]
        .map(|extra| [path, &[extra]].concat())
        .into_iter();
    let shorter = path.split_last().map(|(_, rest)| rest.to_vec());
    flipped.chain(longer).chain(shorter)
}

#[test]
fn roots_are_the_published_ones() {
    let mut tree = tree(&[]);
    assert_eq!(tree.frontier().root(), digest(ROOTS[0]));
    for (leaf, root) in LEAVES.iter().zip(&ROOTS[1..]) {
        tree.append(leaf_hash(&hex::decode(leaf).expect("a test vector is hex")));
        assert_eq!(tree.frontier().root(), digest(root));
    }
    for (size, root) in ROOTS.iter().enumerate() {
        assert_eq!(tree.root_at(size as u64), Ok(digest(root)));
    }
}

#[test]
fn proofs_are_the_published_ones() {
    let hashes = LEAVES.map(|leaf| leaf_hash(&hex::decode(leaf).expect("a test vector is hex")));
    let tree = tree(&hashes);
    let inclusion = [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ];
    assert_eq!(
        tree.inclusion_proof(0, 8),
        Ok(inclusion.map(digest).to_vec())
    );
    let consistency = [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ];
    assert_eq!(
        tree.consistency_proof(6, 8),
        Ok(consistency.map(digest).to_vec())
    );
}

#[test]
fn every_tree_up_to_seventy_leaves_agrees_with_the_definition() {
    let leaves = leaves(70);
    let full = tree(&leaves);
    for size in 0..=70 {
        let part = &leaves[..size];
        let root = naive(part);
        assert_eq!(tree(part).frontier().root(), root);
        assert_eq!(full.root_at(size as u64), Ok(root));
        for (index, leaf) in part.iter().enumerate() {
            let path = full
                .inclusion_proof(index as u64, size as u64)
                .expect("in range");
            assert_eq!(path, naive_path(index, part));
            assert!(path.len() <= INCLUSION_PATH_MAX);
            assert!(verify_inclusion(
                &root,
                size as u64,
                index as u64,
                leaf,
                &path
            ));
        }
        for old in 1..=size {
            let path = full
                .consistency_proof(old as u64, size as u64)
                .expect("in range");
            assert_eq!(path, naive_consistency(old, part, true));
            let old_root = naive(&part[..old]);
            assert!(verify_consistency(
                (old as u64, &old_root),
                (size as u64, &root),
                &path
            ));
        }
    }
}

#[test]
fn any_altered_byte_of_a_proof_fails() {
    let leaves = leaves(21);
    let full = tree(&leaves);
    for size in 1..=21u64 {
        let root = full.root_at(size).expect("in range");
        for index in 0..size {
            let path = full.inclusion_proof(index, size).expect("in range");
            let leaf = &leaves[index as usize];
            for altered in alterations(&path) {
                assert!(!verify_inclusion(&root, size, index, leaf, &altered));
            }
            for other in (0..size).filter(|other| *other != index) {
                assert!(!verify_inclusion(&root, size, other, leaf, &path));
            }
        }
        for old in 1..=size {
            let old_root = full.root_at(old).expect("in range");
            let path = full.consistency_proof(old, size).expect("in range");
            for altered in alterations(&path) {
                assert!(!verify_consistency(
                    (old, &old_root),
                    (size, &root),
                    &altered
                ));
            }
            for other in (1..old).map(|old| full.root_at(old).expect("in range")) {
                assert!(!verify_consistency((old, &other), (size, &root), &path));
            }
        }
    }
}

#[test]
fn the_empty_tree_begins_every_tree_and_proves_no_leaf() {
    let full = tree(&leaves(3));
    let root = full.frontier().root();
    assert!(verify_consistency((0, &empty_root()), (3, &root), &[]));
    assert!(!verify_consistency((0, &root), (3, &root), &[]));
    assert!(!verify_consistency((3, &root), (2, &root), &[]));
    assert!(!verify_inclusion(&empty_root(), 0, 0, &empty_root(), &[]));
    assert_eq!(full.consistency_proof(0, 3), Ok(Vec::new()));
}

#[test]
fn what_is_beyond_the_tree_is_an_error() {
    let full = tree(&leaves(3));
    assert_eq!(
        full.root_at(4),
        Err(ReceiptError::Range { asked: 4, size: 3 })
    );
    assert_eq!(
        full.inclusion_proof(2, 2),
        Err(ReceiptError::Range { asked: 2, size: 2 })
    );
    assert_eq!(
        full.consistency_proof(3, 2),
        Err(ReceiptError::Range { asked: 3, size: 2 })
    );
}

#[test]
fn a_tree_resumed_from_its_frontier_proves_what_came_later() {
    let leaves = leaves(40);
    for cut in 0..40u64 {
        let mut frontier = Frontier::new();
        leaves[..cut as usize]
            .iter()
            .for_each(|leaf| frontier.append(*leaf));
        let mut resumed = ReceiptTree::resume(frontier, MemoryNodes::default());
        leaves[cut as usize..].iter().for_each(|leaf| {
            resumed.append(*leaf);
        });
        let root = resumed.frontier().root();
        assert_eq!(root, naive(&leaves));
        for index in cut..40 {
            let path = resumed
                .inclusion_proof(index, 40)
                .expect("the edge was kept");
            assert!(verify_inclusion(
                &root,
                40,
                index,
                &leaves[index as usize],
                &path
            ));
        }
        let path = resumed
            .consistency_proof(cut, 40)
            .expect("the edge was kept");
        assert!(verify_consistency(
            (cut, &naive(&leaves[..cut as usize])),
            (40, &root),
            &path
        ));
        if cut > 1 {
            let path = resumed.inclusion_proof(0, 40);
            assert!(
                matches!(path, Err(ReceiptError::Missing { .. })),
                "cut {cut}"
            );
        }
    }
}

#[test]
fn a_tree_is_filled_from_its_edge_down_by_true_nodes_alone() {
    let full = tree(&leaves(37));
    let mut part = ReceiptTree::resume(full.frontier().clone(), MemoryNodes::default());
    for level in (1..=5u8).rev() {
        for index in 0..37 >> level {
            let child = |side| {
                full.nodes()
                    .get(level - 1, index * 2 + side)
                    .expect("complete")
            };
            let (left, right) = (child(0), child(1));
            let refused = part.fill((level, index), [right, left]);
            assert_eq!(refused, Err(ReceiptError::Children { level, index }));
            assert_eq!(part.fill((level, index), [left, right]), Ok(()));
        }
    }
    for index in 0..37 {
        assert_eq!(
            part.inclusion_proof(index, 37),
            full.inclusion_proof(index, 37)
        );
    }
    let refused = part.fill((0, 0), [Digest::ZERO; 2]);
    assert_eq!(refused, Err(ReceiptError::Missing { level: 0, index: 0 }));
    let refused = part.fill((200, u64::MAX), [Digest::ZERO; 2]);
    assert_eq!(
        refused,
        Err(ReceiptError::Missing {
            level: 200,
            index: u64::MAX
        })
    );
}

#[test]
fn a_frontier_reads_back_only_with_one_node_per_set_bit() {
    let full = tree(&leaves(13));
    let (size, nodes) = full.frontier().clone().into();
    assert_eq!(
        Frontier::try_from((size, nodes.clone())).as_ref(),
        Ok(full.frontier())
    );
    let wrong = Frontier::try_from((12, nodes));
    assert_eq!(
        wrong,
        Err(ReceiptError::Edge {
            size: 12,
            have: 3,
            need: 2
        })
    );
}

#[test]
fn a_receipt_has_these_bytes() {
    let receipt = Receipt {
        sequence: 1,
        height: 2,
        client: PublicKey(Digest([3; 32])),
        client_sequence: 4,
        group: Digest([5; 32]),
        index: 6,
        outcome: outcome_digest(0, b"\x01"),
    };
    let bytes = receipt.to_bytes();
    assert_eq!(Receipt::from_bytes(&bytes), Ok(receipt.clone()));
    let expected = format!(
        "01{:0<16}{:0<16}{}{:0<16}{}{:0<8}{}",
        "01",
        "02",
        "03".repeat(32),
        "04",
        "05".repeat(32),
        "06",
        receipt.outcome
    );
    assert_eq!(hex::encode(bytes), expected);
    assert_eq!(
        Receipt::from_bytes(&bytes[1..]),
        Err(ReceiptError::Length { got: 124 })
    );
    let mut other = bytes;
    other[0] = 2;
    assert_eq!(
        Receipt::from_bytes(&other),
        Err(ReceiptError::Version { got: 2 })
    );
}

proptest! {
    #[test]
    fn every_receipt_reads_back(bytes in proptest::collection::vec(any::<u8>(), RECEIPT_BYTES)) {
        let mut bytes = bytes;
        bytes[0] = RECEIPT_VERSION;
        let receipt = Receipt::from_bytes(&bytes).expect("version and length are right");
        prop_assert_eq!(&receipt.to_bytes()[..], &bytes[..]);
    }
}
