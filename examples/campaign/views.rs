//! A ledger grows from four to ten members and shrinks again, under load, while its views rotate.
//!
//! Source: the goals for views. In: how many members, how long a view lasts. Out: times, views.
//! Holds: members join and go by the verbs that people type; one is wiped and comes back; who goes
//! is the leader; what was acknowledged is on every member that remains, once.
//! Elsewhere: the members and the load (`tests/support`), hand-over under every fault (`simulate`).

use std::collections::BTreeSet;
use std::fs;
use std::time::Instant;

use clap::Args;
use consortium::api::Role;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use super::history::check;
use super::members::Members;
use super::{Lacking, Plan, Run};

#[derive(Args)]
pub(crate) struct Words {
    /// Members at the top.
    #[arg(long, default_value_t = 10)]
    most: usize,
    /// Blocks that a view lasts.
    #[arg(long, default_value_t = 64)]
    rotation_blocks: u32,
    /// At each step another member is killed and started again while it goes on.
    #[arg(long)]
    crashes: bool,
    /// Decides which.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// A run with what it saw so far.
struct Town {
    run: Run,
    /// Members that are listed, by number.
    listed: BTreeSet<usize>,
    enough: usize,
    /// Draws who crashes; nobody does without it.
    dice: Option<ChaCha8Rng>,
    facts: Vec<Value>,
}

pub(crate) fn run(plan: &Plan, words: &Words) -> Result<Value, Lacking> {
    let start = Instant::now();
    let rotation = words.rotation_blocks.to_string();
    let plan = Plan {
        program: plan.program.clone(),
        init: vec!["--rotation-blocks".into(), rotation],
        tables: plan.tables.clone(),
        ..*plan
    };
    let newcomers = plan.members..words.most;
    let run = plan.start("views", |members, _| {
        newcomers.clone().for_each(|number| members.furnish(number));
    });
    let mut town = Town {
        run,
        listed: (0..plan.members).collect(),
        enough: plan.enough(),
        dice: words.crashes.then(|| ChaCha8Rng::seed_from_u64(words.seed)),
        facts: Vec::new(),
    };
    town.run.load.wait_for(town.enough);
    for number in newcomers {
        town.step("join", number, Town::join);
    }
    let leader = town.leader();
    let victim = town.listed.iter().copied().find(|number| *number != leader);
    town.step("wipe", victim.expect("more than one"), Town::wipe);
    while town.listed.len() > plan.members {
        let leader = town.leader();
        town.step("remove", leader, Town::remove);
    }
    Ok(town.judge(start))
}

impl Town {
    /// Does something to a member, and notes how long it took and in which view it ended.
    fn step(&mut self, name: &str, number: usize, act: fn(&mut Self, usize)) {
        let start = Instant::now();
        self.crash(number);
        act(self, number);
        self.run.load.wait_for(self.enough);
        let seconds = start.elapsed().as_secs_f64();
        let view = self.list()["view"].clone();
        eprintln!("{name} {number}: {seconds:.1} s, view {view}");
        let fact = json!({ "step": name, "member": number, "seconds": seconds, "view": view });
        self.facts.push(fact);
    }

    /// A listed member other than `except` loses its power and comes back at once.
    fn crash(&mut self, except: usize) {
        let others = self.listed.iter().copied().filter(|at| *at != except);
        let others: Vec<usize> = others.collect();
        let Some(dice) = &mut self.dice else { return };
        let number = others[dice.random_range(0..others.len())];
        eprintln!("crash {number}");
        self.run.members.kill(number);
        self.run.members.start(number);
    }

    /// Doors of the members that are listed and run.
    fn doors(&self) -> String {
        let running = self.run.members.running().into_iter();
        let doors = running.filter(|number| self.listed.contains(number));
        let doors = doors.map(|number| self.run.members.at(number).api.clone());
        doors.collect::<Vec<_>>().join(",")
    }

    /// What the program says to `words` about the folder of a member.
    fn told(&self, words: &[&str], number: usize) -> Value {
        let (members, doors) = (&self.run.members, self.doors());
        let dir = members.at(number).dir.display().to_string();
        members.told(&[words, &["--dir", &dir, "--api", &doors]].concat())
    }

    /// The list as the listed member has it that stands highest: one that comes back is behind.
    fn list(&self) -> Value {
        let members = &self.run.members;
        let heights = self.listed.iter().filter_map(|number| {
            let status = members.status(*number)?;
            Some((status.tip.height, *number))
        });
        let (_, number) = heights.max().expect("somebody answers");
        let door = members.at(number).api.clone();
        members.told(&["member", "list", "--api", &door])
    }

    /// The id of the member in that folder.
    fn id(&self, number: usize) -> String {
        let dir = self.run.members.at(number).dir.display().to_string();
        let founder = self.run.members.told(&["key", "show", "--dir", &dir]);
        let identity = founder["identity"].as_str().expect("a key").to_owned();
        let list = self.list();
        let mut members = list["members"].as_array().expect("a list").iter();
        let found = members.find(|member| member["identity"] == *identity);
        found.expect("it is listed")["id"]
            .as_str()
            .expect("an id")
            .into()
    }

    fn is_seated(&self, id: &str) -> bool {
        let list = self.list();
        let mut members = list["members"].as_array().expect("a list").iter();
        members.any(|member| member["id"] == id && member["seated"] == true)
    }

    /// Listed members say it, one after the other, until it is done.
    fn vote(&self, words: &[&str], except: usize) {
        for number in self.listed.iter().filter(|number| **number != except) {
            if self.told(words, *number)["result"] == "done" {
                return;
            }
        }
        panic!("{words:?} needs more votes than there are");
    }

    fn until_seated(&self, id: &str, is_seated: bool) {
        let what = format!("member {id} with seat: {is_seated}");
        self.run
            .members
            .until(&what, |_| (self.is_seated(id) == is_seated).then_some(()));
    }

    fn join(&mut self, number: usize) {
        let genesis = self.run.members.genesis().display().to_string();
        let told = self.told(&["member", "join", "--genesis", &genesis], number);
        let ballot = told["ballot"].as_str().expect("a ballot").to_owned();
        self.vote(&["member", "approve", &ballot], number);
        self.run.members.start(number);
        let id = self.id(number);
        self.until_seated(&id, true);
        self.listed.insert(number);
    }

    /// Its disk is gone: it comes back with a fresh key.
    fn wipe(&mut self, number: usize) {
        let id = self.id(number);
        self.run.members.kill(number);
        let data = self.run.members.at(number).dir.join("data");
        fs::remove_dir_all(data).expect("it is there");
        self.told(&["rejoin"], number);
        self.until_seated(&id, false);
        self.run.members.start(number);
        self.until_seated(&id, true);
    }

    fn remove(&mut self, number: usize) {
        let id = self.id(number);
        self.vote(&["member", "remove", &id], number);
        self.until_seated(&id, false);
        self.listed.remove(&number);
        self.run.members.kill(number);
    }

    /// Who leads the newest view.
    fn leader(&self) -> usize {
        self.run.members.until("a leader", |members| {
            let told = self.listed.iter().filter_map(|number| {
                let status = members.status(*number)?;
                Some((
                    status.order.view,
                    status.order.regency,
                    *number,
                    status.order.role,
                ))
            });
            let newest = told.max_by_key(|(view, regency, number, role)| {
                let leads = matches!(role, Role::Leader);
                (*view, *regency, leads, *number)
            });
            newest.and_then(|(.., number, role)| matches!(role, Role::Leader).then_some(number))
        })
    }

    /// What remains agrees, has everything once, and proves its views and its folders.
    fn judge(self, start: Instant) -> Value {
        let doors = self.doors();
        let Self {
            run, listed, facts, ..
        } = self;
        let Run {
            folder,
            mut members,
            load,
        } = run;
        let history = load.finish();
        let executed = members.settle();
        let orders = listed.iter().map(|number| members.order(*number, executed));
        let found = check(&history, &orders.collect::<Vec<_>>());
        let mut violations: Vec<String> = found.iter().map(ToString::to_string).collect();
        let genesis = members.genesis().display().to_string();
        let views = ["verify", "--views", "--genesis", &genesis, "--api", &doors];
        let walked = members.told(&views);
        let heights = listed.iter().filter_map(|number| members.status(*number));
        let height = heights.map(|status| status.tip.height.0).max();
        violations.extend(folders(&mut members, &listed));
        let told = history.puts.iter().filter(|put| put.told.is_some()).count();
        match violations.is_empty() {
            true => fs::remove_dir_all(folder.path()).expect("our own folder"),
            false => eprintln!("violations; kept: {}", folder.path().display()),
        }
        let seconds = start.elapsed().as_secs_f64();
        json!({
            "campaign": "views",
            "facts": {
                "seconds": seconds,
                "views": walked["views"],
                "height": height,
                "signatures": walked["signatures"],
                "acknowledged_per_second": told as f64 / seconds,
                "steps": facts,
            },
            "history": {
                "sent": history.puts.len(),
                "acknowledged": told,
                "executed": executed,
                "reads": history.reads.len(),
            },
            "violations": violations,
        })
    }
}

/// Ends the members and reads their folders: what is wrong with them.
fn folders(members: &mut Members, listed: &BTreeSet<usize>) -> Vec<String> {
    let mut wrong = Vec::new();
    for ended in members.end() {
        if ended != Some(0) {
            wrong.push(format!("a member ends with {ended:?}"));
        }
    }
    let mut digests = BTreeSet::new();
    for number in listed {
        match members.verify(*number) {
            Ok(digest) => drop(digests.insert(digest)),
            Err(said) => wrong.push(format!("folder of member {number}: {said}")),
        }
    }
    if digests.len() > 1 {
        wrong.push(format!("folders differ: {digests:?}"));
    }
    wrong
}
