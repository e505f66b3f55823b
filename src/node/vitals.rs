//! Whether the present view can order: it lives, it has stalled, or it is dead.
//!
//! Source: design of views, 'a dead view'. In: the replica's overview, evidence that is kept. Out:
//! a condition with its reason, what a status says of views.
//! Holds: `dead` is said only where it is known that no quorum is left, or that more seats than f
//! are faulty; who cannot be reached may come back, so that is `stalled`, and only after
//! [`STALLED_AFTER`].
//! Elsewhere: which seats are lost (`consortium::losses`), the successor of a dead view (`cli`).

use std::time::{Duration, Instant};

use super::handle::Parts;
use crate::api::{Condition, SeatEntry, ViewStatus};
use crate::committee::{MemberId, Sizes, View, ViewId};
use crate::consortium::Overview;
use crate::membership::register::Register;

/// Without a quorum for so long a view has stalled; a member that starts takes a while to connect.
pub(super) const STALLED_AFTER: Duration = Duration::from_secs(10);

/// What is known of the present view, and since when.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    /// Since when fewer seats than a quorum are reachable.
    starved: Option<Instant>,
    /// Seats that evidence of this view convicts.
    convicted: usize,
    /// What was told last.
    told: Condition,
}

impl Pulse {
    /// The replica says where it stands; tells the log when the condition is another.
    pub(super) fn beat(&mut self, overview: &Overview, view: &View) {
        let (sizes, now) = (view.sizes(), Instant::now());
        match overview.losses.reachable >= sizes.q {
            true => self.starved = None,
            false => drop(self.starved.get_or_insert(now)),
        }
        let (condition, reason) = self.judge(overview, view);
        if condition == self.told {
            return;
        }
        self.told = condition;
        let reason = reason.unwrap_or_default();
        match condition {
            Condition::Live => tracing::info!("a quorum is reachable again"),
            Condition::Stalled => tracing::warn!(%reason, "the view has stalled"),
            Condition::Dead => tracing::error!(%reason, "the view is dead"),
        }
    }

    /// Evidence of this view convicts so many seats.
    pub(super) fn convicted(&mut self, count: usize) {
        self.convicted = count;
    }

    /// The condition, and why it is no better.
    pub(super) fn judge(&self, overview: &Overview, view: &View) -> (Condition, Option<String>) {
        let Sizes { n, f, q } = view.sizes();
        let losses = &overview.losses;
        if view.id() != ViewId(overview.view) {
            return (Condition::Live, None); // Between two views.
        }
        if losses.is_dead(&view.sizes()) {
            let (count, who) = (losses.lost.len(), names(&losses.lost));
            let why = format!(
                "{count} of {n} seats have no key any more ({who}), {q} must vote: this view \
                 never orders again; make a successor: consortium restore --help"
            );
            return (Condition::Dead, Some(why));
        }
        if self.convicted > f {
            let count = self.convicted;
            let why = format!(
                "evidence convicts {count} of {n} seats, the view bears {f}: its certificates \
                 prove nothing any more (consortium faults); make a successor: consortium \
                 restore --help"
            );
            return (Condition::Dead, Some(why));
        }
        let starved = self.starved.map(|since| since.elapsed());
        match starved.filter(|long| *long >= STALLED_AFTER) {
            None => (Condition::Live, None),
            Some(long) => {
                let (k, seconds) = (losses.reachable, long.as_secs());
                let why = format!(
                    "no quorum: {k} of {n} seats reachable, {q} needed, for {seconds} s; start \
                     the others; if more than {f} are gone for good: consortium restore --help"
                );
                (Condition::Stalled, Some(why))
            }
        }
    }
}

fn names(members: &[MemberId]) -> String {
    let short = |member: &MemberId| member.to_string().chars().take(12).collect::<String>();
    members.iter().map(short).collect::<Vec<_>>().join(" ")
}

/// What a status says of views.
pub(super) fn status(parts: &Parts) -> ViewStatus {
    let (overview, _) = parts.watch.overview();
    let view = parts.watch.view();
    let (height, register) = parts.watch.register();
    let (condition, reason) = parts.watch.condition();
    let rotation = u64::from(register.present_rules().rotation_blocks);
    let age = height.0.saturating_sub(view.opening().height.0);
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let seat = |member: &MemberId| SeatEntry {
        id: *member,
        name: register
            .get(member)
            .map_or_else(String::new, |listed| listed.name.clone()),
        lost: overview.losses.lost.contains(member),
    };
    ViewStatus {
        state: overview.view_state.into(),
        rotation_in: (rotation > 0).then(|| rotation.saturating_sub(age)),
        due: register.is_changed() || rotation > 0 && age >= rotation,
        keys: count(overview.keys.0),
        keys_named: count(overview.keys.1),
        seated: view.seat_of(&parts.who.me).is_some(),
        has_key: view.seat_of(&parts.who.me).is_some() && !overview.losses.is_vacant,
        reachable: count(overview.losses.reachable),
        committee: view.seats().iter().map(|s| seat(&s.member)).collect(),
        condition,
        reason,
    }
}

/// Why a seated member signs nothing, where its seat has no key here.
pub(super) fn vacancy(overview: &Overview, register: &Register, me: &MemberId) -> Option<String> {
    // Of a log that was rolled back another note tells, as soon as it is known of which promise.
    if !overview.losses.is_vacant || overview.state == "wiped" {
        return None;
    }
    let view = overview.view;
    let mut seats = register.seats().iter();
    let seat = seats.find(|seat| seat.member == *me);
    let certified = register.get(me).and_then(|own| own.consensus());
    let waits = certified.is_some() && seat.is_some_and(|seat| seat.key != certified);
    Some(match waits {
        true => format!(
            "seated without a key: nothing is signed here in view {view}; its fresh key waits \
             for the next view"
        ),
        false => format!(
            "seated without a key: nothing is signed here in view {view}; consortium rejoin \
             --dir MEMBER_DIR asks for a seat with a fresh one"
        ),
    })
}

#[cfg(test)]
mod tests;
