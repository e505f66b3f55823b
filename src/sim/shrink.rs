//! Shrinking: the least world that still breaks the same rule.
//!
//! Source: delta debugging (Zeller, Hildebrandt), greedily. In: options that break a rule. Out:
//! lesser options that break it too. Holds: what is given back was run and broke the rule.
//! Elsewhere: who prints it (`cli::simulate`).

use super::{Options, Report, run};

/// Strengths that are tried, of a hundred.
const STRENGTHS: [u64; 4] = [10, 25, 50, 75];

/// Looks for a shorter and weaker world than `options` that breaks `oracle` too: fewer steps, then
/// fewer kinds of faults, then weaker ones. `told` hears of every world that was tried.
pub fn shrink(options: &Options, oracle: &str, told: &mut dyn FnMut(&Report)) -> Options {
    let mut least = options.clone();
    let mut breaks = |options: &Options| {
        let report = run(options);
        told(&report);
        let found = report
            .violations
            .first()
            .is_some_and(|first| first.oracle == oracle);
        found.then_some(report.steps)
    };
    fewer_steps(&mut least, &mut breaks);
    for fault in options.faults.iter() {
        let faults = least.faults.without(fault);
        let lesser = Options {
            faults,
            ..least.clone()
        };
        if breaks(&lesser).is_some() {
            least = lesser;
        }
    }
    for strength in STRENGTHS {
        let lesser = Options {
            strength,
            ..least.clone()
        };
        if strength < least.strength && breaks(&lesser).is_some() {
            least = lesser;
            break;
        }
    }
    fewer_steps(&mut least, &mut breaks);
    least
}

/// Halves the steps, then takes away ever smaller parts, as long as the rule breaks.
fn fewer_steps(least: &mut Options, breaks: &mut dyn FnMut(&Options) -> Option<u64>) {
    if let Some(taken) = breaks(least) {
        least.steps = least.steps.min(taken);
    }
    let mut part = least.steps / 2;
    while part > least.steps / 50 {
        let steps = least.steps - part;
        let lesser = Options {
            steps,
            ..least.clone()
        };
        if breaks(&lesser).is_some() {
            *least = lesser;
            part = part.min(least.steps / 2);
        } else {
            part /= 2;
        }
    }
}
