//! What proves an extent: a certificate that covers its last block; and the tail, which carries its
//! own.
//!
//! Source: `docs/formats.md`, archive. In: certificates and headers. Out: bytes, and back.
//! Holds: the headers lead from the extent's last block to the certified one, all of one view;
//! which certificate it is may differ from member to member, so it is an object of its own.
//! Elsewhere: signatures (`committee`), what is certified (`extent`).

use bytes::Bytes;

use super::extent::{
    EXTENT_BLOCKS_MAX, Extent, ExtentError, OPENING_BYTES, Opening, Reader, seal, sealed,
};
use crate::blocks::Header;
use crate::blocks::codec;
use crate::committee::{Certificate, Kind};
use crate::crypto::Digest;

/// The first bytes of a proof.
const HEAD: &[u8; 19] = b"consortium proof 1\n";
/// The first bytes of a tail.
const TAIL_HEAD: &[u8; 18] = b"consortium tail 1\n";
/// Bytes of an encoded certificate, at most.
const CERTIFICATE_BYTES_MAX: usize = 32 << 10;
/// Bytes of an encoded header, at most.
const HEADER_BYTES_MAX: usize = 512;
/// Bytes of a proof, at most.
pub(crate) const PROOF_BYTES_MAX: u64 =
    (CERTIFICATE_BYTES_MAX + EXTENT_BLOCKS_MAX * (HEADER_BYTES_MAX + 4) + 64) as u64;

/// A certificate that covers a block, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proof {
    /// PERSIST votes over the last header, or over the extent's last block where there is none.
    pub(crate) certificate: Certificate,
    /// From the one behind the extent's last block to the certified one.
    pub(crate) headers: Vec<Header>,
}

impl Proof {
    /// Its bytes.
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = HEAD.to_vec();
        let mut part = |bytes: Vec<u8>| {
            let length = u32::try_from(bytes.len()).expect("a header or a certificate is short");
            out.extend_from_slice(&length.to_le_bytes());
            out.extend_from_slice(&bytes);
        };
        part(codec::encode(&self.certificate));
        for header in &self.headers {
            part(codec::encode(header));
        }
        seal(out)
    }

    /// Reads a proof; whether it proves anything [`Proof::covers`] and the signatures tell.
    ///
    /// Errors: what is wrong with the bytes.
    pub(crate) fn decode(bytes: &Bytes) -> Result<Self, String> {
        let cut = || "it is cut short".to_owned();
        let wrong = |error: codec::DecodeError| error.to_string();
        let (content, is_whole) = sealed(bytes).ok_or_else(cut)?;
        let mut reader = Reader {
            rest: &content,
            whole: &content,
        };
        reader.head(HEAD)?;
        let certificate = reader.part().ok_or_else(cut)?;
        let certificate = codec::decode(&certificate, CERTIFICATE_BYTES_MAX).map_err(wrong)?;
        let mut headers = Vec::new();
        while !reader.rest.is_empty() {
            if headers.len() == EXTENT_BLOCKS_MAX {
                return Err("it has too many headers".into());
            }
            let header = reader.part().ok_or_else(cut)?;
            headers.push(codec::decode(&header, HEADER_BYTES_MAX).map_err(wrong)?);
        }
        match is_whole {
            true => Ok(Self {
                certificate,
                headers,
            }),
            false => Err("its bytes are not those that its digest is of".into()),
        }
    }

    /// Whether it names a header that `last`, with digest `digest`, is or is an ancestor of, in
    /// one view. The signatures are still to be checked.
    ///
    /// Errors: why it does not.
    pub(crate) fn covers(&self, last: &Header, digest: Digest) -> Result<(), String> {
        let (mut tip, mut named) = (last, digest);
        for header in &self.headers {
            let linked = header.follows(tip, &named);
            linked.map_err(|error| error.to_string())?;
            if header.view != last.view {
                return Err(format!("block {} is of another view", header.height));
            }
            (tip, named) = (header, header.digest());
        }
        let ballot = &self.certificate.ballot;
        if ballot.kind != Kind::Persist || ballot.view != last.view {
            let view = last.view;
            return Err(format!("it is no block certificate of view {view}"));
        }
        match (ballot.height, ballot.digest) == (tip.height, named) {
            true => Ok(()),
            false => Err(format!(
                "it certifies header {} of height {}, the extent leads to {named} of {}",
                ballot.digest, ballot.height, tip.height
            )),
        }
    }
}

/// The bytes of a tail: an extent that is not full, and its proof.
pub(crate) fn encode_tail(extent: &Bytes, proof: &Proof) -> Bytes {
    let mut out = TAIL_HEAD.to_vec();
    out.extend_from_slice(&(extent.len() as u64).to_le_bytes());
    out.extend_from_slice(extent);
    out.extend_from_slice(&proof.encode());
    out.into()
}

/// Bytes at which a tail's first and last height are known.
pub(crate) const TAIL_OPENING_BYTES: u64 = TAIL_HEAD.len() as u64 + 8 + OPENING_BYTES;

/// What the extent in a tail says that it is of, by the tail's first bytes; nothing is proved.
pub(crate) fn tail_opening(bytes: &Bytes) -> Option<Opening> {
    let mut reader = Reader {
        rest: bytes,
        whole: bytes,
    };
    reader.head(TAIL_HEAD).ok()?;
    reader.number()?;
    reader.opening().ok()
}

/// Reads a tail.
///
/// Errors: [`ExtentError`].
pub(crate) fn decode_tail(bytes: &Bytes) -> Result<(Extent, Proof), ExtentError> {
    let wrong = |what: String| ExtentError { height: None, what };
    let cut = || wrong("it is cut short".into());
    let mut reader = Reader {
        rest: bytes,
        whole: bytes,
    };
    reader.head(TAIL_HEAD).map_err(|what| wrong(what.into()))?;
    let length = reader.number().ok_or_else(cut)?;
    let length = usize::try_from(length).map_err(|_| cut())?;
    let extent = Extent::decode(&reader.take(length).ok_or_else(cut)?)?;
    let rest = reader.rest.len();
    let proof = Proof::decode(&reader.take(rest).ok_or_else(cut)?);
    let proof = proof.map_err(|what| ExtentError {
        height: Some(extent.opening.last),
        what: format!("its certificate: {what}"),
    })?;
    Ok((extent, proof))
}
