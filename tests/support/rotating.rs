//! A ledger of real processes whose committees change, for the tests from outside.
//!
//! Source: `docs/cli.md`, member. In: names of folders. Out: what members say, what was written.
//! Holds: whatever was acknowledged is counted. Elsewhere: the program (`support`), the tests.

use serde_json::Value;

use crate::support::{Place, Running};

/// Members of one ledger, by the names of their folders.
pub(crate) struct Ledger {
    pub(crate) place: Place,
    pub(crate) running: Vec<(String, Running)>,
    /// Values that were acknowledged: `k0` to here.
    pub(crate) written: u32,
}

impl Ledger {
    /// Four founders whose committees rotate every so many blocks.
    pub(crate) fn start(rotation_blocks: u32) -> Self {
        let place = Place::new();
        let rotation_blocks = rotation_blocks.to_string();
        let words = [
            "init",
            "--members",
            "4",
            "--dir",
            "ledger",
            "--rotation-blocks",
            &rotation_blocks,
        ];
        place.done(&words);
        let names = (0..4).map(|number| format!("ledger/member-{number}"));
        let running = names
            .map(|name| (name.clone(), place.start(&name)))
            .collect();
        Self {
            place,
            running,
            written: 0,
        }
    }

    /// The doors of those that run.
    pub(crate) fn doors(&self) -> String {
        let doors: Vec<String> = self
            .running
            .iter()
            .map(|(name, _)| self.door(name))
            .collect();
        doors.join(",")
    }

    pub(crate) fn door(&self, name: &str) -> String {
        let config = self.place.json(&["config", "print", "--dir", name]);
        format!(
            "http://{}",
            config["listen_api"].as_str().expect("an address")
        )
    }

    pub(crate) fn done(&self, words: &[&str]) -> Value {
        self.place
            .json(&[words, &["--api", &self.doors()]].concat())
    }

    pub(crate) fn write(&mut self, count: u32) {
        let doors = self.doors();
        for _ in 0..count {
            let key = format!("k{}", self.written);
            self.place
                .done(&["submit", "--api", &doors, "put", &key, "value"]);
            self.written += 1;
        }
    }

    /// Writes until `look` sees it in the list of members: countdowns are blocks.
    pub(crate) fn write_until(&mut self, what: &str, look: impl Fn(&[Value]) -> bool) {
        for _ in 0..200 {
            if look(&self.members()) {
                return;
            }
            self.write(1);
        }
        panic!("not seen in 200 blocks: {what}: {:#?}", self.members());
    }

    pub(crate) fn members(&self) -> Vec<Value> {
        let list = self.done(&["member", "list"]);
        list["members"].as_array().expect("a list").clone()
    }

    pub(crate) fn id(&self, name: &str) -> String {
        let members = self.members();
        let found = members.iter().find(|member| member["name"] == name);
        found.expect("it is listed")["id"]
            .as_str()
            .expect("an id")
            .into()
    }

    /// `verb` of as many members as it needs.
    pub(crate) fn vote(&self, verb: &str, id: &str) {
        // Who moved something votes first in the tests, and only once.
        for (name, _) in self.running.iter().rev() {
            let told = self.done(&["member", verb, id, "--dir", name]);
            if told["result"] == "done" {
                return;
            }
        }
        panic!("{verb} {id} needs more votes than there are");
    }

    pub(crate) fn stop(&mut self, name: &str) -> Running {
        let at = self.running.iter().position(|(other, _)| other == name);
        self.running.remove(at.expect("it runs")).1
    }

    /// Everybody has everything that was acknowledged.
    pub(crate) fn settle(&self) {
        let last = format!("k{}", self.written - 1);
        for (name, _) in &self.running {
            self.place.until("a member that has everything", || {
                let got = self.place.run(&["get", &last, "--dir", name]);
                (got.stdout == b"value\n").then_some(())
            });
            for number in 0..self.written {
                let got = self
                    .place
                    .done(&["get", &format!("k{number}"), "--dir", name]);
                assert_eq!(got, "value\n", "k{number} at {name}");
            }
        }
    }
}

pub(crate) fn is_seated(members: &[Value], name: &str) -> bool {
    members
        .iter()
        .any(|member| member["name"] == name && member["seated"] == true)
}
