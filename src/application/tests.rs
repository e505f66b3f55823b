//! What the contract promises holds for our machine and for a third party's smallest one.

use std::io;

use super::*;

/// A sum of little-endian numbers; it keeps no authenticated state.
#[derive(Clone, Default)]
struct Sum {
    height: u64,
    sum: u64,
    is_dirty: bool,
}

fn number(bytes: &[u8]) -> Result<u64, CheckError> {
    let bytes = bytes.try_into().map_err(|_| CheckError {
        reason: "a number has 8 bytes".to_owned(),
    })?;
    Ok(u64::from_le_bytes(bytes))
}

impl Reader for Sum {
    fn height(&self) -> u64 {
        self.height
    }
    fn query(&self, _: &[u8]) -> Result<Vec<u8>, QueryError> {
        Ok(self.sum.to_le_bytes().to_vec())
    }
    fn prove(&self, _: &[u8], _: &Digest) -> Result<Vec<u8>, QueryError> {
        Err(QueryError::Uncertified)
    }
}

impl Application for Sum {
    fn check(&self, operation: &[u8]) -> Result<(), CheckError> {
        number(operation).map(|_| ())
    }
    fn execute(&mut self, block: &Block<'_>) -> Executed {
        let add = |operation: &&[u8]| {
            let added = number(operation).ok().and_then(|n| self.sum.checked_add(n));
            self.sum = added.unwrap_or(self.sum);
            let code = added.is_none().into();
            Outcome {
                code,
                bytes: Bytes::copy_from_slice(&self.sum.to_le_bytes()),
            }
        };
        let results = block.operations.iter().map(add).collect();
        (self.height, self.is_dirty) = (block.height, true);
        Executed {
            results,
            state_root: None,
        }
    }
    fn height(&self) -> u64 {
        self.height
    }
    fn state_digest(&self) -> Digest {
        Digest::of(crate::crypto::Domain::State, &self.sum.to_le_bytes())
    }
    fn reader(&self) -> Arc<dyn Reader> {
        Arc::new(self.clone())
    }
    fn verify(&self, _: &Digest, _: &[u8], _: &[u8]) -> Result<Option<Bytes>, VerifyError> {
        Err(VerifyError {
            reason: QueryError::Uncertified.to_string(),
        })
    }
    fn retain(&mut self, _: u64, _: &Digest) -> bool {
        false
    }
    fn release(&mut self, _: u64) {}
    fn snapshot(&self, _: usize) -> Snapshot {
        let bytes = [self.height.to_le_bytes(), self.sum.to_le_bytes()].concat();
        let chunks = Box::new(std::iter::once(Bytes::from(bytes)));
        Snapshot {
            height: self.height,
            digest: self.state_digest(),
            chunks,
        }
    }
    fn restore(&mut self, chunks: Chunks<'_>) -> Result<(), RestoreError> {
        let chunks: io::Result<Vec<Bytes>> = chunks.collect();
        let bytes = chunks?.concat();
        let mut cursor = read::Cursor(&bytes);
        let (height, sum) = (cursor.u64()?, cursor.u64()?);
        cursor.end()?;
        *self = Self {
            height,
            sum,
            is_dirty: false,
        };
        Ok(())
    }
    fn drain_changes(&mut self) -> Vec<Change> {
        let is_dirty = std::mem::take(&mut self.is_dirty);
        let entry = self.entries().map(|(key, value)| (key, Some(value)));
        entry.filter(|_| is_dirty).collect()
    }
    fn entries(&self) -> Box<dyn Iterator<Item = (Bytes, Bytes)> + Send> {
        let value = Bytes::copy_from_slice(&self.sum.to_le_bytes());
        Box::new(std::iter::once((Bytes::from_static(b"sum"), value)))
    }
    fn load(&mut self, entries: TableEntries<'_>, height: u64) -> Result<(), RestoreError> {
        let mut sum = 0;
        for entry in entries {
            sum = read::Cursor(&entry?.1).u64()?;
        }
        *self = Self {
            height,
            sum,
            is_dirty: false,
        };
        Ok(())
    }
}

type Make = fn() -> Box<dyn Application>;

fn machines() -> [(Make, Vec<Vec<u8>>); 2] {
    let mut operations = Vec::new();
    for i in 0..40u8 {
        let (key, value) = (&[i % 11][..], &[i; 3][..]);
        let operation = match i % 5 {
            0 => kv::Operation::Delete { key },
            1 => kv::Operation::CompareAndSet {
                key,
                old: None,
                new: value,
            },
            2 => kv::Operation::Raw { bytes: value },
            _ => kv::Operation::Put { key, value },
        };
        operations.push(operation.to_bytes().expect("within bounds"));
    }
    let mut numbers: Vec<_> = (0..40u64).map(|i| i.to_le_bytes().to_vec()).collect();
    numbers.push(u64::MAX.to_le_bytes().to_vec());
    let sum: Make = || Box::<Sum>::default();
    [(kv::PLUGIN.make, operations), (sum, numbers)]
}

/// Executes `operations`, three a block, every second block sealed, from the height it stands at.
fn run(machine: &mut dyn Application, operations: &[Vec<u8>]) -> Vec<Executed> {
    let mut all = Vec::new();
    for group in operations.chunks(3) {
        let group: Vec<_> = group.iter().map(Vec::as_slice).collect();
        let height = machine.height() + 1;
        let block = Block {
            height,
            timestamp_us: height * 1000,
            operations: &group,
            sealed: height.is_multiple_of(2),
        };
        all.push(machine.execute(&block));
    }
    all
}

fn bytes(machine: &dyn Application) -> Vec<u8> {
    machine.snapshot(1024).chunks.flatten().collect()
}

#[test]
fn the_same_blocks_give_the_same_everything() {
    for (make, operations) in machines() {
        let (mut one, mut other) = (make(), make());
        assert_eq!(run(&mut *one, &operations), run(&mut *other, &operations));
        assert_eq!(one.state_digest(), other.state_digest());
        assert_eq!(bytes(&*one), bytes(&*other));
        assert_eq!(one.drain_changes(), other.drain_changes());
    }
}

#[test]
fn a_machine_restored_or_loaded_goes_on_as_the_one_that_never_stopped() {
    for (make, operations) in machines() {
        let (first, then) = operations.split_at(21);
        let mut steady = make();
        run(&mut *steady, first);
        let stream = bytes(&*steady);
        let mut restored = make();
        let mut chunks = stream
            .chunks(5)
            .map(|chunk| Ok(Bytes::copy_from_slice(chunk)));
        restored
            .restore(&mut chunks)
            .expect("a snapshot reads back");
        assert_eq!(restored.drain_changes(), Vec::new());
        let mut loaded = make();
        let mut entries = steady.entries().map(Ok);
        loaded
            .load(&mut entries, steady.height())
            .expect("a table reads back");
        let expected = run(&mut *steady, then);
        for mut machine in [restored, loaded] {
            assert_eq!(run(&mut *machine, then), expected);
            assert_eq!(machine.height(), steady.height());
            assert_eq!(bytes(&*machine), bytes(&*steady));
        }
    }
}

#[test]
fn an_operation_that_check_refuses_stays_in_its_block_without_effect() {
    for (make, operations) in machines() {
        let (mut with, mut without) = (make(), make());
        let garbage = [Vec::new(), vec![255; 9], vec![0; 3]];
        garbage
            .iter()
            .for_each(|bytes| assert!(with.check(bytes).is_err()));
        operations
            .iter()
            .for_each(|bytes| assert!(with.check(bytes).is_ok()));
        run(&mut *with, &operations);
        run(&mut *without, &operations);
        let executed = run(&mut *with, &garbage);
        assert!(executed[0].results.iter().all(|outcome| outcome.code != 0));
        assert_eq!(with.state_digest(), without.state_digest());
    }
}

#[test]
fn a_machine_without_forms_of_its_own_is_written_in_hex() {
    let mut sum: Box<dyn Application> = Box::<Sum>::default();
    let operation = 7u64.to_le_bytes();
    let json = sum.operation_to_json(&operation);
    assert_eq!(json, "0700000000000000");
    assert_eq!(sum.operation_from_json(&json), Ok(operation.to_vec()));
    assert!(sum.operation_from_json(&"07".into()).is_err());
    let outcome = run(&mut *sum, &[operation.to_vec()])[0].results[0].clone();
    let shown = sum.outcome_to_json(&operation, &outcome).to_string();
    assert_eq!(shown, r#"{"bytes":"0700000000000000","code":0}"#);
    assert_eq!(
        sum.prove(b"sum", &Digest::ZERO),
        Err(QueryError::Uncertified)
    );
    assert_eq!(sum.query(b"").as_deref(), Ok(&operation[..]));
}
