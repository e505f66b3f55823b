//! What goes wrong in a world, and when.
//!
//! Source: the fault matrix of the project. In: chance, options. Out: cuts, crashes, restarts, and
//! calm at
//! the end. Holds: what goes wrong ends: every cut is mended and every member comes back.
//! Elsewhere: what weather does to single frames (`net`), what a crash does to a log (`disk`).

use super::queue::Happening;
use super::world::World;
use crate::committee::MemberId;

/// How long a fault lasts, in microseconds, at most.
const FAULT_US_MAX: u64 = 8_000_000;

impl World {
    /// Something goes wrong, if anything may, and again later.
    pub(super) fn trouble(&mut self) {
        if self.is_calm {
            return;
        }
        let faults = self.ground.options.faults;
        let kind = self.dice.below(3);
        match kind {
            0 if faults.partition => self.partition(),
            1 if faults.restart => self.some_down(false),
            2 if faults.crash => self.some_down(true),
            _ => {}
        }
        let after = self.dice.within(20_000, 2_000_000);
        self.later(after, Happening::Trouble);
    }

    /// How long something lasts: mostly short, at times long.
    fn duration(&mut self) -> u64 {
        let most = [100_000, 1_000_000, FAULT_US_MAX][self.dice.index(3)];
        self.dice.within(most / 10, most)
    }

    fn partition(&mut self) {
        let seats = self.members.len();
        let one_way = self.dice.chance(300);
        let side: Vec<bool> = match self.dice.below(3) {
            0 => (0..seats).map(|_| self.dice.chance(500)).collect(),
            1 => {
                let alone = self.dice.index(seats);
                (0..seats).map(|member| member == alone).collect()
            }
            _ => {
                let leader = self.leader();
                (0..seats).map(|member| Some(member) == leader).collect()
            }
        };
        self.cut(&side, one_way);
        self.count("partitions");
        let after = self.duration();
        self.later(after, Happening::Mend);
    }

    /// Cuts the links between members on different sides; one way only from true to false.
    pub(super) fn cut(&mut self, side: &[bool], one_way: bool) {
        for from in 0..side.len() {
            for to in 0..side.len() {
                if side[from] && !side[to] {
                    self.net.cut(from, to);
                    if !one_way {
                        self.net.cut(to, from);
                    }
                    self.later(1_000, Happening::Link(from, to, false));
                }
            }
        }
    }

    /// Mends every link; where one was cut both ends learn that it stands again.
    pub(super) fn mend_after(&mut self) {
        for (one, other) in self.net.mend() {
            let after = self.dice.delay(1_000);
            self.later(after, Happening::Link(one, other, true));
        }
    }

    /// Who leads the highest regency that any member knows.
    pub(super) fn leader(&self) -> Option<usize> {
        let known = self.members.iter().filter_map(|member| {
            let at = member.running.as_ref()?.replica.overview();
            Some((at.regency, at.leader?))
        });
        let leader: MemberId = known.max_by_key(|(regency, _)| *regency)?.1;
        self.ground.by_id.get(&leader).copied()
    }

    fn some_down(&mut self, loses_power: bool) {
        let count = self.members.len();
        let victims: Vec<usize> = match self.dice.below(4) {
            0 => (0..count).collect(),
            1 => self.leader().into_iter().collect(),
            _ => vec![self.dice.index(count)],
        };
        self.count(if loses_power { "crashes" } else { "restarts" });
        for victim in victims {
            let after = self.duration();
            self.stop(victim, loses_power);
            self.later(after, Happening::Start(victim));
        }
    }

    /// Ends a member; when it loses power, what is not durable is gone but for a part of it.
    pub(super) fn stop(&mut self, index: usize, loses_power: bool) {
        let member = &mut self.members[index];
        if member.running.take().is_none() {
            return;
        }
        let open = member.disk.written() - member.disk.durable();
        let kept = if loses_power {
            self.dice.index(open + 1)
        } else {
            open
        };
        self.members[index].disk.crash(kept);
        for other in (0..self.members.len()).filter(|other| *other != index) {
            self.later(1_000, Happening::Link(other, index, false));
        }
    }

    /// The faults end: links are mended and clean, who is down comes back, clients fall silent.
    pub(super) fn calm(&mut self) {
        self.is_calm = true;
        self.net.weather.loss = 0;
        self.net.weather.duplicate = 0;
        self.net.weather.reorder = false;
        self.mend_after();
        for member in 0..self.members.len() {
            self.later(1_000, Happening::Start(member));
        }
    }
}
