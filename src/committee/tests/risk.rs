//! Sizes keep the risk that was stated, and no smaller ones do.

use std::num::NonZeroU64;

use super::*;

/// One in a million, a billion, a million million.
const TARGETS: [u64; 3] = [1_000_000, 1_000_000_000, 1_000_000_000_000];

/// Members, faulty share in per cent, seats by target: found apart from this code.
const SIZES: [(usize, u32, [usize; 3]); 9] = [
    (100, 5, [16, 16, 16]),
    (100, 10, [28, 31, 31]),
    (100, 20, [61, 61, 61]),
    (1_000, 5, [28, 40, 55]),
    (1_000, 10, [52, 79, 103]),
    (1_000, 20, [181, 259, 319]),
    (10_000, 5, [28, 46, 61]),
    (10_000, 10, [55, 88, 121]),
    (10_000, 20, [223, 352, 478]),
];

fn risk(percent: u32, one_in: u64) -> Risk {
    Risk {
        byzantine_ppm: percent * 10_000,
        crashed_ppm: 0,
        one_in: NonZeroU64::new(one_in).expect("at least one draw"),
    }
}

fn equal(members: usize, risk: &Risk) -> Odds {
    Odds::new(std::iter::repeat_n(1, members), risk.faulty_ppm())
}

fn candidates(weights: impl IntoIterator<Item = u32>) -> Candidates {
    let of = |(n, weight): (u64, u32)| Candidate {
        member: MemberId(Digest::of(Domain::Member, &n.to_le_bytes())),
        weight,
    };
    let list: Vec<_> = (0..).zip(weights).map(of).collect();
    Candidates::new(&list).expect("a list within bounds")
}

/// Logarithms of the factorials up to `most`.
fn factorials(most: usize) -> Vec<f64> {
    let mut sum = 0.0;
    let rest = (1..=most).map(|n| {
        sum += (n as f64).ln();
        sum
    });
    std::iter::once(0.0).chain(rest).collect()
}

/// The chance of more than `f` faulty seats, by the textbook and in floating point.
fn hypergeometric(members: usize, faulty: usize, seats: usize, f: usize) -> f64 {
    let factorials = factorials(members);
    let choose = |n: usize, k: usize| factorials[n] - factorials[k] - factorials[n - k];
    (f + 1..=faulty.min(seats))
        .filter(|k| seats - k <= members - faulty)
        .map(|k| choose(faulty, k) + choose(members - faulty, seats - k) - choose(members, seats))
        .map(f64::exp)
        .sum()
}

#[test]
fn sizes_reach_the_stated_risk() {
    for (members, percent, sizes) in SIZES {
        let faulty = members * percent as usize / 100;
        for (one_in, seats) in TARGETS.into_iter().zip(sizes) {
            let risk = risk(percent, one_in);
            let sample = risk.least(equal(members, &risk)).expect("a size");
            assert_eq!(sample.seats, seats, "{percent} % of {members}, {one_in}");
            let target = 1.0 / one_in as f64;
            let f = Sizes::of(seats).f;
            assert!(hypergeometric(members, faulty, seats, f) <= target);
            let smaller = hypergeometric(members, faulty, seats - 3, f - 1);
            assert!(smaller > target, "{seats} is the least");
        }
    }
}

#[test]
fn with_equal_weights_the_odds_are_the_hypergeometric_ones() {
    let choose = |n: u128, k: u128| (0..k).fold(1, |product, i| product * (n - i) / (i + 1));
    for members in 1u128..=20 {
        for faulty in 0..=members {
            let ppm = faulty * 1_000_000 / members;
            for weight in [1, 3] {
                let weights = std::iter::repeat_n(weight, members as usize);
                for (sample, seats) in Odds::new(weights, ppm as u64).zip(1u128..) {
                    assert_eq!(sample.seats as u128, seats);
                    let f = Sizes::of(sample.seats).f as u128;
                    let worse = (f + 1..=faulty.min(seats))
                        .filter(|k| seats - k <= members - faulty)
                        .map(|k| choose(faulty, k) * choose(members - faulty, seats - k))
                        .sum::<u128>();
                    let exact = worse as f64 / choose(members, seats) as f64;
                    let error = sample.failure.as_f64() - exact;
                    let what = format!("{faulty} of {members}, {seats} seats, {error}");
                    assert!(error.abs() < 1e-14, "{what}");
                }
            }
        }
    }
}

#[test]
fn with_unequal_weights_no_faulty_members_do_worse_than_the_odds() {
    let all: [&[u32]; 4] = [
        &[1, 1, 1, 1, 1, 1, 1],
        &[1, 1, 1, 1, 5, 5, 5],
        &[1, 2, 3, 4, 5, 6, 7],
        &[1, 1, 2, 2, 2, 9, 9],
    ];
    for weights in all {
        for faulty_ppm in [150_000, 300_000, 500_000] {
            let total: u32 = weights.iter().sum();
            let most = (u64::from(total) * faulty_ppm).div_ceil(1_000_000);
            let sample = Odds::new(weights.iter().copied(), faulty_ppm).nth(3);
            let bound = sample.expect("four seats").failure.as_f64();
            for faulty in 0u32..1 << weights.len() {
                let held = (0..weights.len()).filter(|n| faulty >> n & 1 == 1);
                let held: u32 = held.map(|n| weights[n]).sum();
                if u64::from(held) <= most {
                    let chance = worse(weights, faulty, 0, 4, 1);
                    assert!(chance <= bound + 1e-12, "{weights:?} {faulty:b} {chance}");
                }
            }
        }
    }
}

/// The chance that `seats` more draws from `weights`, without those `taken`, give more than `f`
/// members of the set `faulty`.
fn worse(weights: &[u32], faulty: u32, taken: u32, seats: u32, f: u32) -> f64 {
    if seats == 0 {
        return f64::from(u8::from((taken & faulty).count_ones() > f));
    }
    let free = (0..weights.len()).filter(|n| taken >> n & 1 == 0);
    let all: u32 = free.clone().map(|n| weights[n]).sum();
    let chance = |n: usize| {
        let share = f64::from(weights[n]) / f64::from(all);
        share * worse(weights, faulty, taken | 1 << n, seats - 1, f)
    };
    free.map(chance).sum()
}

/// The chance of at most `most` faulty ones among `seats`, drawn with replacement.
fn binomial(seats: usize, most: usize, share: f64) -> f64 {
    let factorials = factorials(seats);
    let term = |k: usize| {
        let choose = factorials[seats] - factorials[k] - factorials[seats - k];
        (choose + k as f64 * share.ln() + (seats - k) as f64 * (1.0 - share).ln()).exp()
    };
    (0..=most).map(term).sum()
}

#[test]
fn the_sizes_of_the_ancestors_are_off_by_one_and_fail_in_hours() {
    for (members, percent, (t, n), failure, views) in [
        (10, 20, (1, 4), 0.13, 5.0),
        (100, 10, (1, 4), 0.049, 14.0),
        (100, 20, (12, 37), 0.0046, 151.0),
        (1_000, 10, (4, 13), 0.0061, 114.0),
        (1_000, 20, (27, 82), 0.0012, 571.0),
        (10_000, 20, (41, 124), 0.00019, 3_641.0),
    ] {
        let case = format!("{percent} % of {members}");
        let (share, bearable) = (f64::from(percent) / 100.0, 0.99999 / members as f64);
        // Their sum runs to t + 1: it bounds the chance of more than t + 1 faulty seats.
        let passes = |t: &usize| 1.0 - binomial(3 * t + 1, t + 1, share) <= bearable;
        assert_eq!((1..).find(passes), Some(t), "{case}");
        assert!(
            1.0 - binomial(n, t, share) > bearable,
            "{case}: more than t"
        );

        let sample = equal(members, &risk(percent, 1)).nth(n - 1).expect("seats");
        let found = sample.failure.as_f64();
        assert!((found / failure - 1.0).abs() < 0.04, "{case}: {found}");
        let median = std::f64::consts::LN_2 / -(-found).ln_1p();
        assert!((median / views - 1.0).abs() < 0.04, "{case}: {median}");
    }
}

#[test]
fn crashed_and_byzantine_members_count_together() {
    let together = Risk {
        byzantine_ppm: 60_000,
        crashed_ppm: 40_000,
        ..risk(0, 1_000_000)
    };
    assert_eq!(
        together.seats(&candidates([1; 1_000]), EVERYONE_BELOW),
        Ok(52)
    );
    assert_eq!(
        risk(10, 1_000_000).seats(&candidates([1; 1_000]), EVERYONE_BELOW),
        Ok(52)
    );
}

#[test]
fn everyone_sits_when_few() {
    let risk = risk(10, 1_000_000);
    for members in [1, 4, 50, EVERYONE_BELOW as usize - 1] {
        let all = candidates(std::iter::repeat_n(1, members));
        assert_eq!(risk.seats(&all, EVERYONE_BELOW), Ok(members));
    }
    assert_eq!(
        risk.seats(&candidates([1; EVERYONE_BELOW as usize]), EVERYONE_BELOW),
        Ok(28)
    );
    let strict = Risk {
        byzantine_ppm: 333_333,
        ..risk
    };
    assert_eq!(
        strict.seats(&candidates([1; 200]), EVERYONE_BELOW),
        Ok(200),
        "there is room"
    );
}

#[test]
fn weights_ask_for_more_seats_than_equal_ones() {
    let risk = risk(10, 1_000_000);
    let heavy = candidates((0..1_000).map(|n| if n < 20 { 10 } else { 1 }));
    let seats = risk.seats(&heavy, EVERYONE_BELOW).expect("a size");
    assert!(seats > 52 && seats < SEATS_MAX, "{seats}");
    assert_eq!(
        risk.seats(&candidates([7; 1_000]), EVERYONE_BELOW),
        Ok(52),
        "equal is equal"
    );
}

#[test]
fn what_no_committee_bears_is_refused() {
    let third = Risk {
        byzantine_ppm: 200_000,
        crashed_ppm: 133_334,
        ..risk(0, 10)
    };
    let faulty_ppm = 333_334;
    assert_eq!(third.check(), Err(RiskError::Share { faulty_ppm }));
    assert_eq!(
        third.seats(&candidates([1; 4]), EVERYONE_BELOW),
        Err(RiskError::Share { faulty_ppm })
    );
    let (members, risk) = (MEMBERS_MAX, risk(20, 1_000_000_000));
    let out_of_reach = RiskError::OutOfReach {
        members,
        one_in: risk.one_in,
    };
    assert_eq!(
        risk.seats(&candidates(std::iter::repeat_n(1, members)), EVERYONE_BELOW),
        Err(out_of_reach)
    );
}
