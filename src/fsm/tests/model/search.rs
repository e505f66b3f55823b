//! Every state that the committee can reach, breadth first, and what must hold in each.
//!
//! Source: `docs/adr/004-a-checker-of-our-own.md`. In: a [`Scope`]. Out: a [`Report`], or the
//! shortest [`Broken`] run.
//! Holds: a step of a member is a pure function of the member and what it is told, so it is taken
//! once by the real machine and looked up from then on. Elsewhere: that step (`member`).

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::rc::Rc;

use super::member::{Meaning, Member, Moment, Stimulus};
use super::world::{Ballots, Scope, World};
use crate::committee::{Ballot, Certificate, Height, Kind, Regency, StopData};
use crate::crypto::Digest;
use crate::fsm::sync::{is_proved, needed, settle};
use crate::fsm::{Message, Payload, Sync};

/// A correct member and everything it has ever said: a row of [`Search::seats`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct SeatState {
    member: usize,
    ballots: Ballots,
    claims: Claims,
}

/// A set of STOP-DATA of correct seats, by their number in [`Search::claims`].
type Claims = u128;

/// The committee: one row of [`Search::seats`] per correct seat.
type State = [u32; 3];

/// What an exploration went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    /// States of the committee.
    pub(super) states: usize,
    /// Steps on the longest of the shortest ways to one.
    pub(super) depth: usize,
    /// States of one member, those of all seats together.
    pub(super) members: usize,
    /// Steps that the real machine took.
    pub(super) steps: usize,
    /// Ballots for which a certificate could be formed somewhere.
    pub(super) certified: Ballots,
}

/// A rule that a reachable state breaks, and what led there.
#[derive(Debug)]
#[expect(
    dead_code,
    reason = "read by people, in the message of a test that fails"
)]
pub(super) struct Broken {
    pub(super) rule: String,
    /// Which seat was told what.
    pub(super) run: Vec<String>,
}

/// An exploration.
pub(super) struct Search {
    world: World,
    /// Each with the regency that it has installed.
    members: Vec<(Member, Regency)>,
    member_numbers: HashMap<Meaning, usize>,
    claims: Vec<StopData>,
    /// By regency: the claims that a SYNC of it may hold.
    claims_for: Vec<Claims>,
    syncs: Syncs,
    seats: Vec<SeatState>,
    seat_numbers: HashMap<SeatState, u32>,
    steps: HashMap<(usize, Stimulus), Rc<[SeatState]>>,
    turns: HashMap<(u32, Stimulus), Rc<[u32]>>,
    masks: Masks,
}

/// One SYNC for each regency and what it may settle there: nothing that a member does depends on
/// more of it.
#[derive(Default)]
struct Syncs {
    held: Vec<Sync>,
    /// What each asks of every state in which it can be made.
    demands: Vec<Demand>,
    numbers: HashMap<(Regency, Vec<(Height, Digest)>), usize>,
    /// Those that can be made of the claims of correct seats and of the votes that are certified.
    settled: HashMap<(Regency, Claims, Ballots), Rc<[usize]>>,
}

/// One member is told something.
type Move = ((usize, Stimulus), State);

/// What a SYNC asks of every state in which it can be made.
struct Demand {
    /// None of these ACCEPTs is certified: it settles something else.
    against: Ballots,
    /// One of each of these WRITEs was signed by a correct seat: it binds what they are for.
    written: Vec<Ballots>,
}

/// Sets of ballots that the rules speak of.
struct Masks {
    /// A seat casts one of each, and of each one is certified.
    places: Vec<Ballots>,
    /// One of each pair is not certified: the ACCEPTs for two payloads of one height.
    rivals: Vec<(Ballots, Ballots)>,
    /// By payload: the ballots for it.
    of_payload: Vec<Ballots>,
    /// By height: the ballots for it, and of these the ones for any payload but the first.
    heights: Vec<(Ballots, Ballots)>,
    /// By regency: the ballots below it.
    past: Vec<Ballots>,
    /// By regency: the votes below it.
    below: Vec<Ballots>,
    proposals: Ballots,
    accepts: Ballots,
    /// What the Byzantine seat may propose.
    by_byzantine: Ballots,
}

impl Search {
    pub(super) fn new(scope: Scope) -> Self {
        let world = World::new(scope);
        let mut search = Self {
            masks: Masks::of(&world),
            members: Vec::new(),
            member_numbers: HashMap::new(),
            claims: Vec::new(),
            claims_for: (0..=scope.regencies).map(|_| 0).collect(),
            syncs: Syncs::default(),
            seats: Vec::new(),
            seat_numbers: HashMap::new(),
            steps: HashMap::new(),
            turns: HashMap::new(),
            world,
        };
        for seat in search.world.correct {
            let member = search.number_of(Member::new(seat));
            let (ballots, claims) = (0, 0);
            let silent = SeatState {
                member,
                ballots,
                claims,
            };
            search.row_of(silent).expect("who is silent breaks no rule");
        }
        search
    }

    /// Explores everything.
    pub(super) fn run(mut self) -> Result<Report, Broken> {
        let first: State = [0, 1, 2];
        let mut states = vec![(first, 0)];
        let mut seen = HashSet::from([first]);
        let mut report = Report::default();
        let (mut next, mut level_end) = (0, 1);
        while next < states.len() {
            if next == level_end {
                report.depth += 1;
                level_end = states.len();
            }
            match self.visit(states[next].0) {
                Ok((certified, moves)) => {
                    report.certified |= certified;
                    for (_, state) in moves {
                        if seen.insert(state) {
                            states.push((state, next));
                        }
                    }
                }
                Err(rule) => {
                    let run = self.run_to(&states, next);
                    return Err(Broken { rule, run });
                }
            }
            next += 1;
        }
        report.states = states.len();
        report.members = self.members.len();
        report.steps = self.steps.len();
        Ok(report)
    }

    /// Which seat was told what on the way to a state.
    fn run_to(&mut self, states: &[(State, usize)], mut at: usize) -> Vec<String> {
        let mut run = Vec::new();
        while at > 0 {
            let (state, before) = states[at];
            let moves = self.visit(states[before].0).map_or(Vec::new(), |(_, m)| m);
            let last = moves.into_iter().find(|(_, next)| *next == state);
            run.extend(last.map(|((turn, stimulus), _)| self.describe(turn, stimulus)));
            at = before;
        }
        run.reverse();
        run
    }

    fn describe(&self, turn: usize, stimulus: Stimulus) -> String {
        let what = match stimulus {
            Stimulus::Propose(n) | Stimulus::Writes(n) => format!("{:?}", self.world.ballots[n]),
            Stimulus::Stops(accepts, _) => format!("{:?}", self.world.named(accepts)),
            Stimulus::Sync(n) => format!("{:?}", self.syncs.held[n].set),
            Stimulus::Lead(n) | Stimulus::Payload(n) => format!("{:?}", self.world.payloads[n]),
        };
        format!("{:?} <- {stimulus:?} {what}", self.world.correct[turn])
    }

    /// Checks `state`; gives the ballots that are certified in it, and every state that one step of
    /// one member leads to.
    fn visit(&mut self, state: State) -> Result<(Ballots, Vec<Move>), String> {
        let cast = state.map(|row| self.seats[row as usize].ballots);
        let certified = self.world.certified(cast) & !self.masks.proposals;
        self.check_certified(certified)?;
        let mut told = self.told(cast, certified);
        for regency in (1..=self.world.scope.regencies).map(Regency) {
            let below = certified & self.masks.below[index(regency)];
            let claims = state
                .iter()
                .fold(0, |all, row| all | self.seats[*row as usize].claims);
            for sync in self.syncs_of(regency, claims, below)?.iter() {
                self.check_sync(*sync, cast, below)?;
                told.push(Stimulus::Sync(*sync));
            }
        }
        let mut moves = Vec::new();
        for (turn, row) in state.into_iter().enumerate() {
            for stimulus in &told {
                for after in self.turn(row, *stimulus)?.iter() {
                    let mut next = state;
                    next[turn] = *after;
                    moves.push(((turn, *stimulus), self.without_past(next)));
                }
            }
        }
        Ok((certified, moves))
    }

    /// One WRITE certificate for a height and a regency; one decision for a height.
    fn check_certified(&self, certified: Ballots) -> Result<(), String> {
        let mut places = self.masks.places.iter();
        let is_double = |place: &&Ballots| (certified & *place).count_ones() > 1;
        if let Some(place) = places.find(is_double) {
            let both = self.world.named(certified & place);
            return Err(format!("two certificates at one place: {both:?}"));
        }
        let mut rivals = self.masks.rivals.iter();
        let is_fork =
            |(one, other): &&(Ballots, Ballots)| certified & one != 0 && certified & other != 0;
        if let Some((one, other)) = rivals.find(is_fork) {
            let both = self.world.named(certified & (one | other));
            return Err(format!("two decisions at one height: {both:?}"));
        }
        Ok(())
    }

    /// What a member may be told, SYNCs aside.
    fn told(&self, cast: [Ballots; 3], certified: Ballots) -> Vec<Stimulus> {
        let cast = cast[0] | cast[1] | cast[2];
        let fresh = self.masks.fresh(cast);
        let proposed = (cast | self.masks.by_byzantine) & self.masks.proposals & !fresh;
        let payloads = 0..self.world.payloads.len();
        let is_named = |number: &usize| fresh & self.masks.of_payload[*number] == 0;
        let named = payloads.clone().filter(is_named);
        let mut told: Vec<_> = named.map(Stimulus::Lead).collect();
        told.extend(payloads.map(Stimulus::Payload));
        told.extend(numbers(proposed).map(Stimulus::Propose));
        told.extend(numbers(certified & !self.masks.accepts).map(Stimulus::Writes));
        let decisions = self.decisions(certified & self.masks.accepts);
        for regency in (1..=self.world.scope.regencies).map(Regency) {
            told.extend(decisions.iter().map(|set| Stimulus::Stops(*set, regency)));
        }
        told
    }

    /// Every set of `accepted` with at most one ballot for each height.
    fn decisions(&self, accepted: Ballots) -> Vec<Ballots> {
        let mut sets = vec![0];
        for (height, _) in &self.masks.heights {
            let ballots = numbers(accepted & height).map(|number| 1 << number);
            let with = ballots.flat_map(|ballot| sets.iter().map(move |set| set | ballot));
            let with: Vec<Ballots> = with.collect();
            sets.extend(with);
        }
        sets
    }

    /// Where a row may go when it is told `stimulus`.
    fn turn(&mut self, row: u32, stimulus: Stimulus) -> Result<Rc<[u32]>, String> {
        if let Some(known) = self.turns.get(&(row, stimulus)) {
            return Ok(known.clone());
        }
        let before = self.seats[row as usize];
        let mut after = BTreeSet::new();
        for said in self.step(before.member, stimulus)?.iter() {
            after.insert(self.row_of(SeatState {
                member: said.member,
                ballots: before.ballots | said.ballots,
                claims: before.claims | said.claims,
            })?);
        }
        after.remove(&row);
        let after: Rc<[u32]> = after.into_iter().collect();
        self.turns.insert((row, stimulus), after.clone());
        Ok(after)
    }

    /// The real machine's step, taken once. Each outcome is a member and what it said in this step.
    fn step(&mut self, member: usize, stimulus: Stimulus) -> Result<Rc<[SeatState]>, String> {
        if let Some(known) = self.steps.get(&(member, stimulus)) {
            return Ok(known.clone());
        }
        let moments = self.members[member]
            .0
            .step(&self.world, &self.syncs.held, stimulus)?;
        let outcomes: Rc<[SeatState]> = moments.into_iter().map(|m| self.outcome(m)).collect();
        self.steps.insert((member, stimulus), outcomes.clone());
        Ok(outcomes)
    }

    fn outcome(&mut self, moment: Moment) -> SeatState {
        let mut claims = 0;
        for data in moment.claims {
            claims |= self.claim(data);
        }
        SeatState {
            member: self.number_of(moment.member),
            ballots: moment.ballots,
            claims,
        }
    }

    fn claim(&mut self, data: StopData) -> Claims {
        if let Some(number) = self.claims.iter().position(|held| *held == data) {
            return 1 << number;
        }
        let claim = 1 << self.claims.len();
        for (regency, claims) in (0..).map(Regency).zip(&mut self.claims_for) {
            *claims |= if data.is_for(regency) { claim } else { 0 };
        }
        self.claims.push(data);
        assert!(self.claims.len() <= 128, "a set of claims is one word");
        claim
    }

    fn number_of(&mut self, member: Member) -> usize {
        let meaning = member.meaning(&self.world, &self.syncs.held);
        let next = self.members.len();
        let installed = meaning.installed;
        let number = *self.member_numbers.entry(meaning).or_insert(next);
        if number == next {
            self.members.push((member, installed));
        }
        number
    }

    /// The row of `state`, which has said at most one thing at each place.
    fn row_of(&mut self, state: SeatState) -> Result<u32, String> {
        if let Some(known) = self.seat_numbers.get(&state) {
            return Ok(*known);
        }
        for place in &self.masks.places {
            if (state.ballots & place).count_ones() > 1 {
                let both = self.world.named(state.ballots & place);
                return Err(format!("two votes at one place: {both:?}"));
            }
        }
        let claims: Vec<&StopData> = self.claims_in(state.claims).collect();
        let regencies: BTreeSet<Regency> = claims.iter().map(|data| data.regency).collect();
        if regencies.len() < claims.len() {
            return Err(format!("two STOP-DATA for one regency: {claims:?}"));
        }
        Ok(self.insert(state))
    }

    fn insert(&mut self, state: SeatState) -> u32 {
        let next = u32::try_from(self.seats.len()).expect("rows fit in memory");
        let row = *self.seat_numbers.entry(state).or_insert(next);
        if row == next {
            self.seats.push(state);
        }
        row
    }

    /// Forgets what no member can hear any more: once all have installed a regency, votes below it
    /// count only as certificates, and claims that no SYNC of it or a later one may hold are gone.
    fn without_past(&mut self, state: State) -> State {
        let seats = state.map(|row| self.seats[row as usize]);
        let installed = seats.map(|seat| self.members[seat.member].1);
        let least = installed.into_iter().min().expect("three members");
        if least == Regency(0) {
            return state;
        }
        let past = self.masks.past[index(least)];
        let cast = seats.map(|seat| seat.ballots);
        let certified = self.world.certified(cast) & past & !self.masks.proposals;
        let later = self.claims_for[index(least)..].iter();
        let live = later.fold(0, |all, claims| all | claims);
        seats.map(|seat| {
            self.insert(SeatState {
                member: seat.member,
                ballots: (seat.ballots & !past) | certified,
                claims: seat.claims & live,
            })
        })
    }

    /// One SYNC for each outcome that a set of STOP-DATA may have in `regency`, where correct seats
    /// signed `claims` and `below` is certified.
    fn syncs_of(
        &mut self,
        regency: Regency,
        claims: Claims,
        below: Ballots,
    ) -> Result<Rc<[usize]>, String> {
        let claims = claims & self.claims_for[index(regency)];
        let key = (regency, claims, below);
        if let Some(known) = self.syncs.settled.get(&key) {
            return Ok(known.clone());
        }
        let proofs = self.world.named(below).into_iter();
        let proofs: Vec<_> = proofs
            .map(|ballot| self.world.certificate(ballot))
            .collect();
        let lies = self.world.lies[..=index(regency)].iter().flatten();
        let signed: Vec<StopData> = self.claims_in(claims).chain(lies).cloned().collect();
        let mut outcomes = BTreeSet::new();
        for set in sets(&signed, self.world.view.seats().len()) {
            let sync = Sync {
                view: self.world.view.id(),
                regency,
                set,
                proofs: Vec::new(),
            };
            outcomes.extend(self.outcome_of(sync, &proofs)?);
        }
        let outcomes: Rc<[usize]> = outcomes.into_iter().collect();
        self.syncs.settled.insert(key, outcomes.clone());
        Ok(outcomes)
    }

    /// The number of what `sync` settles with `proofs` beside it; none when it is refused.
    fn outcome_of(
        &mut self,
        mut sync: Sync,
        proofs: &[Certificate],
    ) -> Result<Option<usize>, String> {
        let (world, relay) = (&self.world, self.world.byzantine);
        if Message::Sync(sync.clone())
            .checks(&world.view, relay)
            .is_err()
        {
            return Ok(None);
        }
        sync.proofs = proofs.to_vec();
        let settled = settle(&sync, &world.view);
        let lies = |data: &&StopData| data.seat == world.byzantine;
        for data in sync.set.iter().filter(|data| !lies(data)) {
            if !is_proved(data, proofs, &world.view) {
                return Err(format!("a correct seat has no proof of {data:?}"));
            }
        }
        if sync
            .set
            .iter()
            .all(|data| is_proved(data, proofs, &world.view))
        {
            // What a correct leader would send.
            sync.proofs = needed(&sync.set, proofs, &world.view);
            if settle(&sync, &world.view) != settled || settled.is_err() {
                return Err(format!("a proved set settles to nothing: {:?}", sync.set));
            }
        }
        let Ok(settled) = settled else {
            return Ok(None);
        };
        let next = self.syncs.held.len();
        let demand = self.demand(&settled.bound);
        let key = (sync.regency, settled.bound.into_iter().collect());
        let number = *self.syncs.numbers.entry(key).or_insert(next);
        if number == next {
            self.syncs.held.push(sync);
            self.syncs.demands.push(demand);
        }
        Ok(Some(number))
    }

    /// A SYNC contradicts no decision below its regency, and for what it binds a correct seat has
    /// signed WRITE: behind its bytes, as `member` sees to.
    fn check_sync(&self, number: usize, cast: [Ballots; 3], below: Ballots) -> Result<(), String> {
        let (sync, demand) = (&self.syncs.held[number], &self.syncs.demands[number]);
        if below & demand.against != 0 {
            let decided = self.world.named(below & demand.against);
            return Err(format!("{:?} settles against {decided:?}", sync.set));
        }
        let cast = cast[0] | cast[1] | cast[2];
        if demand.written.iter().any(|writes| cast & writes == 0) {
            return Err(format!("nobody has the bytes that {:?} binds", sync.set));
        }
        Ok(())
    }

    fn demand(&self, bound: &BTreeMap<Height, Digest>) -> Demand {
        let is_against =
            |b: &Ballot| b.kind == Kind::Accept && bound.get(&b.height) != Some(&b.digest);
        let written = bound.iter().map(|(height, digest)| {
            let is_for = |b: &Ballot| b.height == *height && b.digest == *digest;
            self.world
                .ballots_where(|b| b.kind == Kind::Write && is_for(b))
        });
        Demand {
            against: self.world.ballots_where(is_against),
            written: written.collect(),
        }
    }

    fn claims_in(&self, set: Claims) -> impl Iterator<Item = &StopData> {
        let claims = self.claims.iter().enumerate();
        let named = claims.filter(move |(number, _)| set >> number & 1 == 1);
        named.map(|(_, data)| data)
    }
}

/// Every set of `signed` with at most one of each seat, by seat.
fn sets(signed: &[StopData], seats: usize) -> Vec<Vec<StopData>> {
    let mut sets: Vec<Vec<StopData>> = vec![Vec::new()];
    for seat in 0..seats {
        let own: Vec<_> = signed.iter().filter(|d| d.seat.index() == seat).collect();
        let mut with = Vec::new();
        for set in &sets {
            with.extend(own.iter().map(|data| {
                let data = std::iter::once((*data).clone());
                set.iter().cloned().chain(data).collect()
            }));
        }
        sets.extend(with);
    }
    sets
}

fn index(regency: Regency) -> usize {
    usize::try_from(regency.0).expect("few regencies")
}

fn numbers(set: Ballots) -> impl Iterator<Item = usize> {
    (0..64).filter(move |number| set >> number & 1 == 1)
}

impl Masks {
    fn of(world: &World) -> Self {
        let of_kind = |kind| world.ballots_where(|ballot| ballot.kind == kind);
        let (proposals, accepts) = (of_kind(Kind::Propose), of_kind(Kind::Accept));
        let at = |ballot: &Ballot| (ballot.kind, ballot.height, ballot.regency);
        let places: BTreeSet<_> = world.ballots.iter().map(at).collect();
        let places = places.into_iter();
        let of_place = |place| world.ballots_where(|ballot| at(ballot) == place);
        let is_for = |b: &Ballot, (height, payload): &(Height, Payload)| {
            b.height == *height && b.digest == payload.digest
        };
        let payloads = world.payloads.iter();
        let of_payload = payloads.map(|named| world.ballots_where(|ballot| is_for(ballot, named)));
        let of_payload: Vec<Ballots> = of_payload.collect();
        let (mut rivals, mut heights) = (Vec::new(), Vec::new());
        for height in (1..).map(Height).take(world.scope.digests.len()) {
            let all = world.ballots_where(|ballot| ballot.height == height);
            let own: Vec<_> = of_payload.iter().filter(|set| *set & all != 0).collect();
            heights.push((all, all & !own[0]));
            for (i, one) in own.iter().enumerate() {
                let others = own[i + 1..].iter();
                rivals.extend(others.map(|other| (*one & accepts, *other & accepts)));
            }
        }
        let regencies = (0..=world.scope.regencies).map(Regency);
        let past = regencies.map(|regency| world.ballots_where(|b| b.regency < regency));
        let past: Vec<Ballots> = past.collect();
        let is_led = |b: &Ballot| world.view.leader(b.regency) == world.byzantine;
        Self {
            places: places.map(of_place).collect(),
            rivals,
            of_payload,
            heights,
            below: past.iter().map(|past| past & !proposals).collect(),
            past,
            proposals,
            accepts,
            by_byzantine: proposals & world.ballots_where(is_led),
        }
    }

    /// The ballots that nobody need cast yet where `cast` were: the first payload that a correct
    /// seat names at a height is called the first.
    fn fresh(&self, cast: Ballots) -> Ballots {
        let untouched = self.heights.iter().filter(|(all, _)| cast & all == 0);
        untouched.fold(0, |set, (_, others)| set | others)
    }
}
