//! Operations and outcomes as JSON.
//!
//! Source: `POST /v1/transactions` and the output of `block` and `tail`. In: bytes, or JSON. Out:
//! the other.
//! Holds: an operation that is written out reads back to the same bytes.
//! Elsewhere: the bytes (`operation`), who prints them (`cli`, `api`).
//!
//! `{"put": {"key", "value"}}`, `{"get": {"key"}}`, `{"del": {"key"}}`, `{"cas": {"key", "old",
//! "new"}}` with `null` for an absent key, `{"raw": {"bytes": hex}}`. Text is UTF-8; where some is
//! not, all of that operation is hex and `"encoding": "hex"` says so.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::{CheckError, Outcome};
use super::{Code, Operation};

#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Encoding {
    #[default]
    Utf8,
    Hex,
}

impl Encoding {
    fn is_utf8(&self) -> bool {
        *self == Encoding::Utf8
    }

    /// The one that fits all of `parts`.
    fn of(parts: &[&[u8]]) -> Self {
        let text = parts.iter().all(|part| std::str::from_utf8(part).is_ok());
        if text { Encoding::Utf8 } else { Encoding::Hex }
    }

    fn write(self, bytes: &[u8]) -> String {
        match self {
            Encoding::Utf8 => String::from_utf8_lossy(bytes).into_owned(),
            Encoding::Hex => hex::encode(bytes),
        }
    }

    fn read(self, text: &str) -> Result<Vec<u8>, CheckError> {
        match self {
            Encoding::Utf8 => Ok(text.as_bytes().to_vec()),
            Encoding::Hex => hex::decode(text).map_err(refused),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Form {
    Put {
        key: String,
        value: String,
        #[serde(default, skip_serializing_if = "Encoding::is_utf8")]
        encoding: Encoding,
    },
    Get {
        key: String,
        #[serde(default, skip_serializing_if = "Encoding::is_utf8")]
        encoding: Encoding,
    },
    Del {
        key: String,
        #[serde(default, skip_serializing_if = "Encoding::is_utf8")]
        encoding: Encoding,
    },
    Cas {
        key: String,
        // Without this a forgotten field would read as `null` and mean an absent key.
        #[serde(deserialize_with = "Option::deserialize")]
        old: Option<String>,
        new: String,
        #[serde(default, skip_serializing_if = "Encoding::is_utf8")]
        encoding: Encoding,
    },
    Raw {
        bytes: String,
    },
}

fn refused(error: impl ToString) -> CheckError {
    CheckError {
        reason: error.to_string(),
    }
}

/// An operation as JSON; what is none is a string of hex digits.
pub(super) fn operation(bytes: &[u8]) -> Value {
    let Ok(operation) = Operation::from_bytes(bytes) else {
        return hex::encode(bytes).into();
    };
    let form = match operation {
        Operation::Put { key, value } => {
            let encoding = Encoding::of(&[key, value]);
            Form::Put {
                key: encoding.write(key),
                value: encoding.write(value),
                encoding,
            }
        }
        Operation::Get { key } => {
            let encoding = Encoding::of(&[key]);
            Form::Get {
                key: encoding.write(key),
                encoding,
            }
        }
        Operation::Delete { key } => {
            let encoding = Encoding::of(&[key]);
            Form::Del {
                key: encoding.write(key),
                encoding,
            }
        }
        Operation::CompareAndSet { key, old, new } => {
            let encoding = Encoding::of(&[key, old.unwrap_or_default(), new]);
            Form::Cas {
                key: encoding.write(key),
                old: old.map(|old| encoding.write(old)),
                new: encoding.write(new),
                encoding,
            }
        }
        Operation::Raw { bytes } => Form::Raw {
            bytes: hex::encode(bytes),
        },
    };
    serde_json::to_value(form).expect("a form of strings is JSON")
}

/// The bytes of an operation written as JSON, within every bound.
pub(super) fn parse(value: &Value) -> Result<Vec<u8>, CheckError> {
    let encoded = match Form::deserialize(value).map_err(refused)? {
        Form::Put {
            key,
            value,
            encoding,
        } => Operation::Put {
            key: &encoding.read(&key)?,
            value: &encoding.read(&value)?,
        }
        .to_bytes(),
        Form::Get { key, encoding } => Operation::Get {
            key: &encoding.read(&key)?,
        }
        .to_bytes(),
        Form::Del { key, encoding } => Operation::Delete {
            key: &encoding.read(&key)?,
        }
        .to_bytes(),
        Form::Cas {
            key,
            old,
            new,
            encoding,
        } => Operation::CompareAndSet {
            key: &encoding.read(&key)?,
            old: old.map(|old| encoding.read(&old)).transpose()?.as_deref(),
            new: &encoding.read(&new)?,
        }
        .to_bytes(),
        Form::Raw { bytes } => Operation::Raw {
            bytes: &hex::decode(bytes).map_err(refused)?,
        }
        .to_bytes(),
    };
    encoded.map_err(refused)
}

/// An outcome as JSON: `code`, its name as `status`, and what the operation gives: `existed` of
/// put, `value` and `encoding` of get, `present` of compare-and-set, the digest of the value there
/// is.
pub(super) fn outcome(operation: &[u8], outcome: &Outcome) -> Value {
    let bytes = &outcome.bytes[..];
    let Ok(code) = Code::try_from(outcome.code) else {
        return json!({ "code": outcome.code, "bytes": hex::encode(bytes) });
    };
    let mut shown = json!({ "code": outcome.code, "status": code.name() });
    match (code, Operation::from_bytes(operation)) {
        (Code::Done, Ok(Operation::Put { .. })) => shown["existed"] = (bytes == [1]).into(),
        (Code::Done, Ok(Operation::Get { .. })) => {
            let encoding = Encoding::of(&[bytes]);
            shown["value"] = encoding.write(bytes).into();
            shown["encoding"] = json!(encoding);
        }
        (Code::Mismatch, _) if bytes.is_empty() => shown["present"] = Value::Null,
        (Code::Mismatch, _) => shown["present"] = hex::encode(bytes).into(),
        _ => {}
    }
    shown
}
