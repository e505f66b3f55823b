//! The words that a member may carry.
//!
//! Source: `docs/formats.md`. In: text. Out: whether it is a list of tags.
//! Holds: one set of tags has one form. Elsewhere: names and addresses (`blocks`).

/// Tags of one member, at most; more are malformed.
pub const TAGS_MAX: usize = 8;
/// Bytes of one tag, at most.
pub const TAG_BYTES_MAX: usize = 32;

/// Whether these are tags: at most [`TAGS_MAX`], ascending, each 1 to [`TAG_BYTES_MAX`] lower-case
/// letters, digits and `-._:=/`.
pub fn is_tags(tags: &[String]) -> bool {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-._:=/".contains(c);
    let is_tag =
        |tag: &String| (1..=TAG_BYTES_MAX).contains(&tag.len()) && tag.chars().all(is_plain);
    tags.len() <= TAGS_MAX && tags.iter().all(is_tag) && tags.windows(2).all(|two| two[0] < two[1])
}
