//! Offline proofs: files that show what happened to a transaction, or what the state held, from
//! genesis alone.
//!
//! Source: `docs/formats.md`. In: a file and the genesis document. Out: what it proves, or why it
//! proves nothing.
//! Holds: a file holds the steps from genesis to the view that certified its header, and no others;
//! it has one form, so a change of any byte of it is refused; nothing is taken from a proof that
//! its certificate does not bind. Elsewhere: who makes proofs (`node`), paths in the authenticated
//! map (`application`), how views follow each other (`view_chain`).

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::genesis::Genesis;
use super::header::Header;
use super::outcome::Outcome;
use super::proposal::FORMAT_VERSION;
use super::receipts::{Receipt, ReceiptError, verify_inclusion};
use super::transaction::{GroupError, SignedGroup, Transaction};
use super::view_chain::{Step, ViewChain, ViewChainError};
use crate::committee::{Certificate, CertificateError, Height, Kind, ViewError, ViewId};
use crate::crypto::{Digest, PublicKey, Verified, Verifier};

/// Bytes of a proof file, at most: the largest group as hex, thousands of steps, and the rest.
pub const PROOF_BYTES_MAX: usize = 64 << 20;
/// Bytes of the encoded steps in a proof, at most; a file holds them as hex.
pub const PROOF_STEPS_BYTES_MAX: usize = 24 << 20;

/// A proof file. The tag names the kind and the version of its format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "proof")]
pub enum Proof {
    /// What happened to a transaction, and where.
    #[serde(rename = "consortium transaction 1")]
    Transaction(TransactionProof),
    /// What the state held under a key.
    #[serde(rename = "consortium state 1")]
    State(StateProof),
}

/// Shows that a transaction was executed, where, and with which result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionProof {
    /// A certified header at the transaction's height or above.
    pub header: Header,
    /// PERSIST votes of a quorum over the header's digest.
    pub certificate: Certificate,
    /// How the view that certified it came about, from view 1 on; left out in view 0.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub views: Vec<Step>,
    /// The encoded receipt; hex in text.
    #[serde(with = "super::text")]
    pub receipt: Bytes,
    /// From the receipt's leaf to the root in the header, lowest first.
    pub path: Vec<Digest>,
    /// What the client signed.
    pub group: SignedGroup,
    /// What became of the transaction.
    pub outcome: Outcome,
}

/// Shows what the application's authenticated map held under a key, or that it held nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateProof {
    /// A certified header with the map's root.
    pub header: Header,
    /// PERSIST votes of a quorum over the header's digest.
    pub certificate: Certificate,
    /// How the view that certified it came about, from view 1 on; left out in view 0.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub views: Vec<Step>,
    /// The key; hex in text.
    #[serde(with = "super::text")]
    pub key: Bytes,
    /// The path through the map, in the application's format; hex in text.
    #[serde(with = "super::text")]
    pub map: Bytes,
}

/// What a [`TransactionProof`] proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proved {
    /// The height at which the transaction was executed.
    pub height: Height,
    /// The certified height.
    pub certified: Height,
    /// The certified header's digest.
    pub header: Digest,
    /// Its place among all executed transactions since genesis, from 0.
    pub sequence: u64,
    /// Who signed it.
    pub client: PublicKey,
    /// What the client asked for.
    pub transaction: Transaction,
    /// What became of it.
    pub outcome: Outcome,
}

/// What a [`StateProof`] proves before the application has checked its path against the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvedRoot {
    /// The certified height.
    pub height: Height,
    /// The certified header's digest.
    pub header: Digest,
    /// The root of the map after that height.
    pub root: Digest,
}

/// Why a proof proves nothing. Whoever made or changed the file is at fault, or gave the wrong
/// genesis document.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// Not the expected JSON, or over [`PROOF_BYTES_MAX`].
    #[error("proof file: {reason}")]
    Json {
        /// What the parser says.
        reason: String,
    },
    /// It is not, byte for byte, what this program writes for its content.
    #[error("proof file: not the canonical form of its content")]
    NotCanonical,
    /// The genesis document makes no view.
    #[error("genesis document: {0}")]
    View(#[from] ViewError),
    /// It speaks of another chain or in another format version.
    #[error("the proof is of another chain or format version")]
    OtherChain,
    /// The file does not show how the view came about that certified it, or shows more.
    #[error("certified by view {view}, and its steps lead to view {shown}")]
    OtherView {
        /// The view of its header.
        view: ViewId,
        /// Where the steps lead.
        shown: ViewId,
    },
    /// A step to the view that certified it does not hold.
    #[error(transparent)]
    ViewChain(#[from] ViewChainError),
    /// The certificate is not one of PERSIST votes over this header.
    #[error("the certificate is not of this header")]
    OtherHeader,
    /// The certificate does not hold.
    #[error("certificate: {0}")]
    Certificate(#[from] CertificateError),
    /// The receipt cannot be read.
    #[error("receipt: {0}")]
    Receipt(#[from] ReceiptError),
    /// The path does not lead from the receipt to the certified root.
    #[error("the receipt is not in the certified log")]
    NotInLog,
    /// The receipt speaks of something else.
    #[error("the receipt names another {field}")]
    Mismatch {
        /// What differs.
        field: &'static str,
    },
    /// The client's group cannot be read or its signature does not hold.
    #[error("{0}")]
    Group(#[from] GroupError),
    /// The certified header holds no root of an authenticated map.
    #[error("the header holds no state root")]
    NoState,
}

impl Proof {
    /// Reads a proof file; its content is judged by `verify`.
    pub fn from_json(text: &str) -> Result<Self, ProofError> {
        if text.len() > PROOF_BYTES_MAX {
            let reason = format!(
                "{} bytes, at most {PROOF_BYTES_MAX} are allowed",
                text.len()
            );
            return Err(ProofError::Json { reason });
        }
        let proof: Self = serde_json::from_str(text).map_err(|error| ProofError::Json {
            reason: error.to_string(),
        })?;
        if proof.to_json() != text {
            return Err(ProofError::NotCanonical);
        }
        Ok(proof)
    }

    /// The file.
    pub fn to_json(&self) -> String {
        let text = serde_json::to_string_pretty(self);
        text.expect("a proof of strings and numbers has a JSON form") + "\n"
    }
}

impl TransactionProof {
    /// Checks everything against the genesis document.
    pub fn verify(
        &self,
        genesis: &Genesis,
        verifier: &Verifier,
    ) -> Result<Verified<Proved>, ProofError> {
        let certified = (&self.header, &self.certificate, &self.views[..]);
        let header = verify_header(certified, genesis, verifier)?;
        let receipt = Receipt::from_bytes(&self.receipt)?;
        let log = &self.header.receipts;
        let (leaf, index) = (receipt.leaf(), receipt.sequence);
        if !verify_inclusion(&log.root, log.size, index, &leaf, &self.path) {
            return Err(ProofError::NotInLog);
        }
        let transaction = self.named_transaction(&receipt, genesis)?;
        let check = self.group.check(&self.header.chain);
        if !verifier.is_valid(&check.key, &check.statement, &check.signature) {
            return Err(GroupError::BadSignature.into());
        }
        Ok(Verified::vouch(Proved {
            height: Height(receipt.height),
            certified: self.header.height,
            header,
            sequence: receipt.sequence,
            client: self.group.client,
            transaction,
            outcome: self.outcome.clone(),
        }))
    }

    /// The transaction that `receipt` speaks of, when group and outcome are those that it names.
    fn named_transaction(
        &self,
        receipt: &Receipt,
        genesis: &Genesis,
    ) -> Result<Transaction, ProofError> {
        let names = [
            ("client", receipt.client == self.group.client),
            ("group", receipt.group == self.group.digest()),
            ("outcome", receipt.outcome == self.outcome.digest()),
            ("height", receipt.height <= self.header.height.0),
        ];
        if let Some((field, _)) = names.iter().find(|(_, is_same)| !is_same) {
            return Err(ProofError::Mismatch { field });
        }
        let transactions = self.group.transactions(&genesis.parameters.bounds())?;
        let index = usize::try_from(receipt.index).unwrap_or(usize::MAX);
        let field = "transaction";
        match transactions.into_iter().nth(index) {
            Some(found) if found.sequence == receipt.client_sequence => Ok(found),
            Some(_) | None => Err(ProofError::Mismatch { field }),
        }
    }
}

impl StateProof {
    /// Checks header and certificate against the genesis document.
    ///
    /// The caller then has the application check `map` for `key` against the root that comes out.
    pub fn verify(
        &self,
        genesis: &Genesis,
        verifier: &Verifier,
    ) -> Result<Verified<ProvedRoot>, ProofError> {
        let certified = (&self.header, &self.certificate, &self.views[..]);
        let header = verify_header(certified, genesis, verifier)?;
        let root = self.header.state.ok_or(ProofError::NoState)?;
        Ok(Verified::vouch(ProvedRoot {
            height: self.header.height,
            header,
            root,
        }))
    }
}

/// The digest of `header`, when `steps` lead from genesis to the view of which a quorum certified
/// it.
fn verify_header(
    (header, certificate, steps): (&Header, &Certificate, &[Step]),
    genesis: &Genesis,
    verifier: &Verifier,
) -> Result<Digest, ProofError> {
    let mut chain = ViewChain::of(genesis)?;
    if header.version != FORMAT_VERSION || header.chain != *chain.chain() {
        return Err(ProofError::OtherChain);
    }
    let shown = ViewId(steps.len() as u64);
    if header.view != shown {
        let view = header.view;
        return Err(ProofError::OtherView { view, shown });
    }
    let (ballot, digest) = (&certificate.ballot, header.digest());
    let names_header = ballot.height == header.height && ballot.digest == digest;
    if ballot.kind != Kind::Persist || !names_header {
        return Err(ProofError::OtherHeader);
    }
    chain.walk(steps, verifier)?;
    let checks = certificate.checks(&chain.newest().view)?;
    if !verifier.all_valid(&checks) {
        return Err(CertificateError::BadSignature.into());
    }
    Ok(digest)
}
