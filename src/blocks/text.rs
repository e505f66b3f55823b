//! Bytes that are hex in text formats and raw in binary ones.
//!
//! Source: `docs/formats.md`. In: bytes. Out: their form for serde. Holds: text is lower-case hex.
//! Elsewhere: digests, keys and signatures do the same by themselves (`crypto`).

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Writes `bytes`.
pub fn serialize<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    if serializer.is_human_readable() {
        serializer.serialize_str(&hex::encode(bytes))
    } else {
        bytes.serialize(serializer)
    }
}

/// Reads what [`serialize`] wrote.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    if deserializer.is_human_readable() {
        let text = String::deserialize(deserializer)?;
        let bytes = hex::decode(&text).map_err(serde::de::Error::custom)?;
        Ok(Bytes::from(bytes))
    } else {
        Bytes::deserialize(deserializer)
    }
}
