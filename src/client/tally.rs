//! The answers about one group, counted until each transaction has its promise.
//!
//! Source: design, persistence is a promise per reply. In: members' answers. Out: one result per
//! transaction.
//! Holds: `executed` takes f + 1 equal signed results of different members, `durable` a certificate
//! that holds, a refusal f + 1 members (or all that can be asked).
//! Elsewhere: what makes an answer believable (`rules`), who is asked (`route`).

use super::ClientError;
use super::rules::{Rules, Voice};
use crate::api::{Answers, Problem, Settled, Submitted, Wait};
use crate::committee::Certificate;
use crate::crypto::PublicKey;

/// What becomes of one transaction.
pub(crate) type Told = Result<Box<Submitted>, ClientError>;

/// What one member's answer did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// It counts.
    Helps,
    /// The member cannot now; it said when.
    Later(Option<u64>, String),
    /// The answer does not hold.
    Lies(ClientError),
}

/// The count for one group.
pub(crate) struct Tally<'a> {
    rules: &'a Rules,
    wait: Wait,
    client: PublicKey,
    members_count: usize,
    open: Vec<Open>,
}

struct Open {
    sequence: u64,
    voices: Vec<Voice>,
    refused: Vec<usize>,
    told: Option<Told>,
}

impl<'a> Tally<'a> {
    pub(crate) fn new(
        rules: &'a Rules,
        wait: Wait,
        client: PublicKey,
        sequences: impl Iterator<Item = u64>,
        members_count: usize,
    ) -> Self {
        let open = sequences.map(|sequence| Open {
            sequence,
            voices: Vec::new(),
            refused: Vec::new(),
            told: None,
        });
        Self {
            rules,
            wait,
            client,
            members_count,
            open: open.collect(),
        }
    }

    /// Members to ask at once from the start.
    pub(crate) fn members_want(&self) -> usize {
        match self.wait {
            Wait::Executed => self.rules.faults() + 1,
            Wait::Ordered | Wait::Durable => 1,
        }
    }

    /// How many equal refusals decide.
    fn refusals_need(&self) -> usize {
        self.faults_and_one().min(self.members_count.max(1))
    }

    /// What answers are judged by.
    pub(crate) fn rules(&self) -> &'a Rules {
        self.rules
    }

    /// Members asked at once, at most: one of them is correct.
    pub(crate) fn faults_and_one(&self) -> usize {
        self.rules.faults() + 1
    }

    /// Whether every transaction has its result.
    pub(crate) fn is_settled(&self) -> bool {
        self.open.iter().all(|open| open.told.is_some())
    }

    /// The results, in the group's order; what is not settled gets `otherwise`.
    pub(crate) fn into_told(self, otherwise: &ClientError) -> Vec<Told> {
        let told = self.open.into_iter().map(|open| open.told);
        told.map(|told| told.unwrap_or_else(|| Err(otherwise.clone())))
            .collect()
    }

    /// Counts what the member at `door` answers.
    pub(crate) fn hear(&mut self, door: usize, answers: Answers) -> Heard {
        if answers.transactions.len() != self.open.len() {
            let reason = "it answers another number of transactions".to_owned();
            return Heard::Lies(ClientError::Unproved { reason });
        }
        let shared = answers.certificate;
        let mut heard = Heard::Helps;
        // One certificate covers many transactions: it is checked for the first only.
        let mut holds: Option<Certificate> = None;
        for index in 0..self.open.len() {
            let answer = &answers.transactions[index];
            let result = match answer {
                Settled::Done(submitted) => self.count(index, door, submitted, &shared, &mut holds),
                Settled::Refused(refused) if refused.sequence == self.open[index].sequence => {
                    self.refuse(index, door, &refused.error)
                }
                Settled::Refused(_) => Heard::Lies(other_transaction()),
            };
            if !matches!(result, Heard::Helps) {
                heard = result;
            }
        }
        heard
    }

    /// Counts a refusal of the whole group.
    pub(crate) fn hear_problem(&mut self, door: usize, problem: &Problem) -> Heard {
        let mut heard = Heard::Helps;
        for index in 0..self.open.len() {
            heard = self.refuse(index, door, problem);
        }
        heard
    }

    fn refuse(&mut self, index: usize, door: usize, problem: &Problem) -> Heard {
        if is_temporary(problem) {
            return Heard::Later(problem.retry_after_ms, problem.message.clone());
        }
        let need = self.refusals_need();
        let open = &mut self.open[index];
        if !open.refused.contains(&door) {
            open.refused.push(door);
        }
        if open.refused.len() >= need && open.told.is_none() {
            open.told = Some(Err(if problem.status == 409 {
                ClientError::Conflict
            } else {
                ClientError::Refused {
                    problem: problem.clone(),
                }
            }));
            return Heard::Helps;
        }
        Heard::Later(None, problem.message.clone())
    }

    fn count(
        &mut self,
        index: usize,
        door: usize,
        submitted: &Submitted,
        shared: &Option<Certificate>,
        holds: &mut Option<Certificate>,
    ) -> Heard {
        let open = &mut self.open[index];
        if open.told.is_some() {
            return Heard::Helps;
        }
        if submitted.client != self.client || submitted.sequence != open.sequence {
            return Heard::Lies(other_transaction());
        }
        let certificate = submitted.certificate.as_ref().or(shared.as_ref());
        if let Some(certificate) = certificate
            && submitted.result.is_some()
        {
            if holds.as_ref() != Some(certificate) {
                if let Err(error) = self.rules.certifies(certificate, submitted.height) {
                    return Heard::Lies(error);
                }
                *holds = Some(certificate.clone());
            } else if certificate.ballot.height < submitted.height {
                return Heard::Lies(ClientError::Unproved {
                    reason: "its certificate is below the transaction".into(),
                });
            }
            let persistence = Wait::Durable;
            let certificate = Some(certificate.clone());
            open.told = Some(Ok(Box::new(Submitted {
                persistence,
                certificate,
                ..submitted.clone()
            })));
            return Heard::Helps;
        }
        match self.wait {
            Wait::Ordered => open.told = Some(Ok(Box::new(submitted.clone()))),
            Wait::Executed => return self.count_voice(index, door, submitted),
            Wait::Durable => {
                return Heard::Later(None, "executed, not yet under a certificate".into());
            }
        }
        Heard::Helps
    }

    fn count_voice(&mut self, index: usize, door: usize, submitted: &Submitted) -> Heard {
        let voice = match self.rules.replier(submitted, door) {
            Ok(voice) => voice,
            Err(error) => return Heard::Lies(error),
        };
        let open = &mut self.open[index];
        if !open.voices.iter().any(|earlier| earlier.who == voice.who) {
            open.voices.push(voice);
        }
        // Who lost its seat meanwhile counts no longer.
        let counts = |v: &&Voice| v.says == voice.says && self.rules.sits(&v.who);
        let equal = open.voices.iter().filter(counts).count();
        if equal > self.rules.faults() {
            let persistence = Wait::Executed;
            open.told = Some(Ok(Box::new(Submitted {
                persistence,
                ..submitted.clone()
            })));
        }
        Heard::Helps
    }
}

/// Whether the same bytes may pass later or elsewhere.
fn is_temporary(problem: &Problem) -> bool {
    matches!(problem.status, 408 | 429 | 500..=599)
}

fn other_transaction() -> ClientError {
    ClientError::Unproved {
        reason: "it answers about another transaction".into(),
    }
}
