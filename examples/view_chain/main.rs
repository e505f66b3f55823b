//! Measures how fast a view chain is walked from genesis.
//!
//! Source: `docs/formats.md`, view chain. In: how many steps, how many members. Out: one line.
//! Holds: real keys and real signatures; every seat has a fresh key in every view.
//! Elsewhere: the walk (`blocks::view_chain`), its tests (`blocks::tests`).
//!
//! ```text
//! cargo run --release --example view_chain -- 1000 4
//! ```

use std::error::Error;
use std::time::Instant;

use consortium::blocks::body::{Listed, NextSeat, Reconfiguration};
use consortium::blocks::{FORMAT_VERSION, Founder, Genesis, Header, Parameters, Step, ViewChain};
use consortium::committee::{Certificate, Height, KeyProof, MemberId, Opening, ViewId, Voter};
use consortium::crypto::{Digest, SecretKey, Verifier};

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let steps_count: u64 = words.next().map_or(Ok(1_000), |word| word.parse())?;
    let members_count: u64 = words.next().map_or(Ok(4), |word| word.parse())?;
    let identities: Vec<SecretKey> = (0..members_count).map(|n| key(0, n)).collect();
    let genesis = genesis(&identities);
    genesis.check()?;
    let steps = steps(&genesis, &identities, steps_count)?;
    let bytes: usize = steps.iter().map(|step| step.to_bytes().len()).sum();
    let mut chain = ViewChain::of(&genesis)?;
    let start = Instant::now();
    for stretch in steps.chunks(consortium::blocks::STEPS_MAX) {
        chain.walk(stretch, &Verifier::ed25519())?;
    }
    let seconds = start.elapsed().as_secs_f64();
    let view = chain.newest().view.id();
    let signatures = chain.signatures();
    println!(
        "view {view} of {members_count} members: {signatures} signatures, {bytes} bytes, \
         {seconds:.3} s"
    );
    Ok(())
}

/// The key of member `n` in a view; in view 0 its identity.
fn key(view: u64, n: u64) -> SecretKey {
    let mut seed = [7; 32];
    seed[..8].copy_from_slice(&view.to_le_bytes());
    seed[8..16].copy_from_slice(&n.to_le_bytes());
    SecretKey::from_seed(seed)
}

fn genesis(identities: &[SecretKey]) -> Genesis {
    let founders = (0..).zip(identities).map(|(n, identity)| Founder {
        name: format!("member-{n}"),
        identity: identity.public(),
        consensus: Some(admitted(&Digest::ZERO, n, identity)),
        address: format!("member-{n}.example:7100"),
    });
    Genesis {
        version: FORMAT_VERSION,
        name: "view chain".into(),
        founded_us: 1,
        parameters: Parameters::default(),
        founders: founders.collect(),
        successor_of: None,
    }
}

/// The key of admission, which votes in view 0.
fn admitted(chain: &Digest, n: u64, identity: &SecretKey) -> KeyProof {
    KeyProof::make(chain, ViewId(0), &Digest::ZERO, identity, &key(u64::MAX, n))
}

fn steps(
    genesis: &Genesis,
    identities: &[SecretKey],
    count: u64,
) -> Result<Vec<Step>, Box<dyn Error>> {
    let chain = genesis.chain();
    let (mut view, mut before) = (genesis.view()?, genesis.header());
    let mut opened = (Height(0), before.digest());
    let mut steps = Vec::new();
    for next in 1..=count {
        let body = reconfiguration(&chain, ViewId(next), identities);
        let header = Header {
            height: before.height.plus(100),
            view: view.id(),
            previous: before.digest(),
            body: body.root(),
            reconfiguration: consortium::blocks::Link {
                height: opened.0,
                digest: opened.1,
            },
            ..before.clone()
        };
        let digest = header.digest();
        let voting = if next == 1 { u64::MAX } else { next - 1 };
        let voters = (0..)
            .zip(identities)
            .filter_map(|(n, _)| Voter::new(&view, key(voting, n)));
        let votes = voters.map(|mut voter| Ok(voter.persist(header.height, digest)?.1));
        let votes: Vec<_> = votes.collect::<Result<_, consortium::committee::Refused>>()?;
        let certificate = Certificate::assemble(&view, &votes).ok_or("no quorum")?;
        opened = (header.height, digest);
        let (height, digest) = opened;
        view = body.view(&chain, Opening { height, digest })?;
        before = header.clone();
        steps.push(Step {
            header,
            body,
            certificate: certificate.into_inner(),
        });
    }
    Ok(steps)
}

fn reconfiguration(chain: &Digest, next: ViewId, identities: &[SecretKey]) -> Reconfiguration {
    let assemble = Digest([9; 32]);
    let members = (0..).zip(identities);
    let listed = members.clone().map(|(n, identity)| Listed {
        identity: identity.public(),
        name: format!("member-{n}"),
        address: format!("member-{n}.example:7100"),
        weight: 1,
        admitted: admitted(chain, n, identity),
    });
    let seats = members.map(|(n, identity)| NextSeat {
        member: MemberId::of(&identity.public()),
        fresh: Some(KeyProof::make(
            chain,
            next,
            &assemble,
            identity,
            &key(next.0, n),
        )),
    });
    Reconfiguration {
        next,
        assemble: (Height(next.0 * 100 - 10), assemble),
        members: listed.collect(),
        seats: seats.collect(),
        threshold: None,
    }
}
