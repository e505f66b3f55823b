//! Four founders, their chain, and one value of each type.

use bytes::Bytes;

use crate::blocks::Link;
use crate::blocks::body::{
    Assemble, Beacon, Checkpoint, Freeze, Listed, NextSeat, Reconfiguration,
};
use crate::blocks::proof::{StateProof, TransactionProof};
use crate::blocks::receipts::{MemoryNodes, Receipt, ReceiptTree, leaf_hash};
use crate::blocks::*;
use crate::committee::*;
use crate::crypto::{Digest, PublicKey, SecretKey, Signature};

pub(super) fn identity(n: u8) -> SecretKey {
    SecretKey::from_seed([0x10 + n; 32])
}

pub(super) fn consensus(n: u8) -> SecretKey {
    SecretKey::from_seed([0x20 + n; 32])
}

pub(super) fn client() -> SecretKey {
    SecretKey::from_seed([0x30; 32])
}

pub(super) fn fill(byte: u8) -> Digest {
    Digest([byte; 32])
}

pub(super) fn genesis() -> Genesis {
    let founders = (0..4).map(|n| {
        let proof = KeyProof::make(
            &Digest::ZERO,
            ViewId(0),
            &Digest::ZERO,
            &identity(n),
            &consensus(n),
        );
        Founder {
            name: format!("member-{n}"),
            identity: identity(n).public(),
            consensus: (n != 3).then_some(proof),
            address: format!("127.0.0.1:710{n}"),
        }
    });
    Genesis {
        version: FORMAT_VERSION,
        name: "golden".into(),
        founded_us: 1_700_000_000_000_000,
        parameters: Parameters {
            clients: Clients::Listed(vec![client().public()]),
            ..Parameters::default()
        },
        founders: founders.collect(),
        successor_of: None,
    }
}

/// The same founders, all of them with a key.
pub(crate) fn full_genesis() -> Genesis {
    let mut genesis = genesis();
    let (zero, three) = (Digest::ZERO, (identity(3), consensus(3)));
    let proof = KeyProof::make(&zero, ViewId(0), &zero, &three.0, &three.1);
    genesis.founders[3].consensus = Some(proof);
    genesis
}

pub(super) fn certify(view: &View, height: Height, header: Digest) -> Certificate {
    let votes: Vec<_> = (0..4)
        .filter_map(|n| Voter::new(view, consensus(n)))
        .map(|mut voter| voter.persist(height, header).expect("a first vote").1)
        .collect();
    Certificate::assemble(view, &votes)
        .expect("a quorum")
        .into_inner()
}

pub(super) fn transactions() -> Vec<Transaction> {
    [(7, &b"put a 1"[..]), (9, b"put b 2")]
        .map(|(sequence, operation)| Transaction {
            sequence,
            expiry: Height(100),
            operation: Bytes::from(operation),
        })
        .to_vec()
}

pub(super) fn group(chain: &Digest) -> SignedGroup {
    SignedGroup::sign(chain, &client(), &transactions())
}

pub(super) fn key_proof(byte: u8) -> KeyProof {
    KeyProof {
        key: PublicKey(fill(byte)),
        possession: Signature([byte + 1; 64]),
        certified: Signature([byte + 2; 64]),
    }
}

/// One body of each kind, with every optional part present once and absent once.
pub(super) fn bodies() -> Vec<(&'static str, Body)> {
    let assemble = |beacon| Assemble {
        next: ViewId(1),
        beacon,
        seed: fill(0x52),
        committee: vec![MemberId(fill(0x53)), MemberId(fill(0x54))],
    };
    let seat = |member, fresh| NextSeat {
        member: MemberId(fill(member)),
        fresh,
    };
    let reconfiguration = Reconfiguration {
        next: ViewId(1),
        assemble: (Height(12), fill(0x61)),
        members: vec![Listed {
            identity: PublicKey(fill(0x62)),
            name: "ann".into(),
            address: "a:1".into(),
            weight: 3,
            admitted: key_proof(0x63),
        }],
        seats: vec![seat(0x66, Some(key_proof(0x67))), seat(0x6a, None)],
        threshold: Some(Bytes::from_static(b"threshold")),
    };
    let checkpoint = Checkpoint {
        height: Height(20),
        header: fill(0x71),
        manifest: fill(0x72),
        state: fill(0x73),
        bytes: 1000,
        segments: 2,
        signers: [Seat(0), Seat(9)].into_iter().collect(),
        votes: vec![Signature([0x74; 64]), Signature([0x75; 64])],
        compact: None,
    };
    let batches = vec![
        BatchRef::Named(fill(0x81)),
        BatchRef::Inline(Bytes::from_static(b"inline batch")),
    ];
    vec![
        ("genesis", Body::Genesis(fill(0x41))),
        (
            "freeze",
            Body::Freeze(Freeze {
                next: ViewId(1),
                list: fill(0x42),
            }),
        ),
        ("assemble", Body::Assemble(assemble(None))),
        (
            "assemble-freeze",
            Body::Assemble(assemble(Some(Beacon {
                freeze: Link {
                    height: Height(5),
                    digest: fill(0x51),
                },
                signature: Bytes::from_static(&[0x55; 96]),
            }))),
        ),
        ("reconfiguration", Body::Reconfiguration(reconfiguration)),
        ("checkpoint", Body::Checkpoint(checkpoint)),
        ("transactions", Body::Transactions(batches)),
        ("empty", Body::Transactions(vec![])),
    ]
}

pub(super) fn proposal(view: &View, carried: Option<Certificate>) -> Proposal {
    let (_, body) = bodies().remove(6);
    Proposal {
        version: FORMAT_VERSION,
        chain: *view.chain(),
        view: view.id(),
        height: Height(9),
        timestamp_us: 1_700_000_000_000_009,
        is_sealed: true,
        body,
        carried,
    }
}

pub(super) fn header(chain: Digest) -> Header {
    Header {
        version: FORMAT_VERSION,
        chain,
        height: Height(9),
        view: ViewId(0),
        previous: fill(0x91),
        body: fill(0x92),
        receipts: ReceiptRoot {
            size: 5,
            root: fill(0x93),
        },
        state: Some(fill(0x94)),
        timestamp_us: 1_700_000_000_000_010,
        checkpoint: Link {
            height: Height(3),
            digest: fill(0x95),
        },
        reconfiguration: Link {
            height: Height(0),
            digest: fill(0x96),
        },
    }
}

pub(super) fn receipt(group: &SignedGroup, outcome: &Outcome) -> Receipt {
    Receipt {
        sequence: 3,
        height: 8,
        client: group.client,
        client_sequence: 9,
        group: group.digest(),
        index: 1,
        outcome: outcome.digest(),
    }
}

/// A proof of the second transaction of a group, as leaf 3 of 6, certified one height later.
pub(super) fn transaction_proof(genesis: &Genesis) -> TransactionProof {
    let view = genesis.view().expect("founders make a view");
    let group = group(view.chain());
    let outcome = Outcome {
        code: 0,
        bytes: Bytes::from_static(b"done"),
    };
    let receipt = receipt(&group, &outcome);
    let mut tree = ReceiptTree::<MemoryNodes>::default();
    for n in 0u8..6 {
        let other = leaf_hash(&[n]);
        tree.append(if n == 3 { receipt.leaf() } else { other });
    }
    let mut header = header(*view.chain());
    header.receipts = ReceiptRoot {
        size: 6,
        root: tree.frontier().root(),
    };
    TransactionProof {
        certificate: certify(&view, header.height, header.digest()),
        views: Vec::new(),
        header,
        receipt: Bytes::copy_from_slice(&receipt.to_bytes()),
        path: tree.inclusion_proof(3, 6).expect("a leaf of the tree"),
        group,
        outcome,
    }
}

pub(super) fn state_proof(genesis: &Genesis) -> StateProof {
    let view = genesis.view().expect("founders make a view");
    let header = header(*view.chain());
    StateProof {
        certificate: certify(&view, header.height, header.digest()),
        views: Vec::new(),
        header,
        key: Bytes::from_static(b"a"),
        map: Bytes::from_static(b"path"),
    }
}
