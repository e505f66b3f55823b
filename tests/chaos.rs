//! Faults from outside: members killed, paused, cut off and lied to by their links, under load.
//!
//! Source: reliability, fault matrix. In: signals, bytes between members. Out: what clients saw and
//! what members executed. Holds: every test ends with the history check over all members, and with
//! `verify` of every folder. Elsewhere: long campaigns (`examples/campaign`).

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::Duration;

use judge::judge;
use load::{Load, Size};
use members::Members;
use proxy::{Proxy, Way};

#[path = "support/history.rs"]
mod history;
#[path = "support/judge.rs"]
mod judge;
#[expect(dead_code, reason = "campaigns use the rest")]
#[path = "support/load.rs"]
mod load;
#[expect(dead_code, reason = "campaigns use the rest")]
#[path = "support/members.rs"]
mod members;
#[path = "support/proxy.rs"]
mod proxy;

const MEMBERS: usize = 4;
const SIZE: Size = Size {
    clients: 3,
    under_way: 4,
    per_second: None,
};
/// Acknowledgements that show that the ledger goes on: more than could be under way before.
const ENOUGH: usize = 4 * SIZE.clients * SIZE.under_way;

/// A ledger under load.
struct Run {
    members: Members,
    load: Load,
    _folder: tempfile::TempDir,
}

impl Run {
    fn start() -> Self {
        Self::start_with(|_| {})
    }

    fn start_with(furnish: impl FnOnce(&Members)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let program = Path::new(env!("CARGO_BIN_EXE_consortium"));
        let mut members = Members::make(program, &folder.path().join("ledger"), MEMBERS, 8);
        furnish(&members);
        members.start_all();
        let load = Load::start("run", &members.genesis(), &members.doors(), SIZE);
        load.wait_for(ENOUGH);
        Self {
            members,
            load,
            _folder: folder,
        }
    }

    fn goes_on(&self) {
        self.load.wait_for(ENOUGH);
    }

    /// Ends all clients and holds what they saw against every member's order and folder.
    fn finish(mut self) {
        let history = self.load.finish();
        let verdict = judge(&mut self.members, &history);
        assert!(verdict.violations.is_empty(), "{verdict:#?}");
        assert!(verdict.acknowledged > 0 && verdict.reads > 0, "{verdict:?}");
    }
}

#[test]
fn a_killed_leader_is_replaced_and_comes_back() {
    let mut run = Run::start();
    let leader = run.members.leader();
    run.members.kill(leader);
    run.goes_on();
    run.members.start(leader);
    run.goes_on();
    run.finish();
}

#[test]
fn a_killed_follower_comes_back_and_catches_up() {
    let mut run = Run::start();
    let follower = (run.members.leader() + 1) % MEMBERS;
    run.members.kill(follower);
    run.goes_on();
    run.members.start(follower);
    run.goes_on();
    run.finish();
}

#[test]
fn a_paused_leader_is_replaced_and_catches_up() {
    let run = Run::start();
    let leader = run.members.leader();
    run.members.pause(leader);
    run.goes_on();
    run.members.go_on(leader);
    run.goes_on();
    run.finish();
}

#[test]
fn a_paused_follower_catches_up() {
    let run = Run::start();
    let follower = (run.members.leader() + 2) % MEMBERS;
    run.members.pause(follower);
    run.goes_on();
    run.members.go_on(follower);
    run.goes_on();
    run.finish();
}

#[test]
fn all_members_killed_at_once_go_on_with_what_was_acknowledged() {
    let mut run = Run::start();
    for _ in 0..3 {
        (0..MEMBERS).for_each(|number| run.members.kill(number));
        run.members.start_all();
        run.goes_on();
    }
    run.finish();
}

/// A member says more the further its start is; at each of these lines it is killed.
#[test]
fn a_member_killed_while_it_starts_starts_again() {
    let mut run = Run::start();
    let killed = (run.members.leader() + 1) % MEMBERS;
    run.members.kill(killed);
    for lines in [1, 2, 3, 4, 6, 9, 14, 20] {
        let talk = run.members.start_heard(killed, "debug");
        let heard = BufReader::new(talk).lines().take(lines);
        assert_eq!(heard.flatten().count(), lines, "it ended by itself");
        run.members.kill(killed);
    }
    run.members.start(killed);
    run.goes_on();
    run.finish();
}

/// Every link goes through a proxy: `links[from][to]`.
struct Links(Vec<Vec<Option<Proxy>>>);

impl Links {
    fn between(members: &Members) -> Self {
        let link = |from: usize, to: usize| {
            (from != to).then(|| {
                let proxy = Proxy::new(&members.at(to).p2p);
                members.redirect(from, to, &proxy.address());
                proxy
            })
        };
        let numbers = 0..members.count();
        let from = |from: usize| numbers.clone().map(|to| link(from, to)).collect();
        Self(numbers.clone().map(from).collect())
    }

    fn all(&self) -> impl Iterator<Item = &Proxy> {
        self.0.iter().flatten().flatten()
    }

    fn out_of(&self, member: usize) -> impl Iterator<Item = &Proxy> {
        self.0[member].iter().flatten()
    }

    fn towards(&self, member: usize) -> impl Iterator<Item = &Proxy> {
        self.0.iter().filter_map(move |row| row[member].as_ref())
    }

    fn with(&self, member: usize) -> impl Iterator<Item = &Proxy> {
        self.out_of(member).chain(self.towards(member))
    }
}

fn linked() -> (Run, Links) {
    let mut links = None;
    let run = Run::start_with(|members| links = Some(Links::between(members)));
    (run, links.expect("made with the members"))
}

fn set<'a>(links: impl Iterator<Item = &'a Proxy>, way: Way) {
    links.for_each(|link| link.set(way));
}

#[test]
fn slow_links_slow_it_down_and_lose_nothing() {
    let (run, links) = linked();
    for ms in [5, 20, 50] {
        set(links.all(), Way::Late(Duration::from_millis(ms)));
        run.goes_on();
    }
    set(links.all(), Way::Open);
    run.finish();
}

#[test]
fn one_slow_member_does_not_hold_up_the_others() {
    let (run, links) = linked();
    let follower = (run.members.leader() + 1) % MEMBERS;
    set(links.with(follower), Way::Late(Duration::from_secs(2)));
    run.goes_on();
    set(links.all(), Way::Open);
    run.finish();
}

#[test]
fn a_leader_that_is_cut_off_is_replaced_and_catches_up() {
    let (run, links) = linked();
    let leader = run.members.leader();
    set(links.with(leader), Way::Cut);
    run.goes_on();
    set(links.all(), Way::Open);
    run.goes_on();
    run.finish();
}

#[test]
fn a_leader_that_nobody_hears_is_replaced() {
    let (run, links) = linked();
    let leader = run.members.leader();
    set(links.out_of(leader), Way::Held);
    run.goes_on();
    set(links.all(), Way::Open);
    run.goes_on();
    run.finish();
}

#[test]
fn a_leader_that_hears_nobody_is_replaced() {
    let (run, links) = linked();
    let leader = run.members.leader();
    set(links.towards(leader), Way::Held);
    run.goes_on();
    set(links.all(), Way::Open);
    run.goes_on();
    run.finish();
}

#[test]
fn halves_wait_for_each_other_and_go_on() {
    let (run, links) = linked();
    for (from, row) in links.0.iter().enumerate() {
        for (to, link) in row.iter().enumerate() {
            if let Some(link) = link.as_ref().filter(|_| from / 2 != to / 2) {
                link.set(Way::Cut);
            }
        }
    }
    for number in 0..MEMBERS {
        let waits = |members: &Members| (!members.is_ready(number)).then_some(());
        run.members.until("a member that waits for a quorum", waits);
    }
    set(links.all(), Way::Open);
    run.goes_on();
    run.finish();
}

#[test]
fn a_changed_bit_drops_the_link_and_nothing_else() {
    let (run, links) = linked();
    for _ in 0..2 {
        for link in links.all() {
            let opened = link.opened();
            link.set(Way::CorruptOnce);
            link.wait_for_more_than(opened);
        }
    }
    run.goes_on();
    run.finish();
}
