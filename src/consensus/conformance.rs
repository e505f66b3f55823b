//! One suite of scenarios that every engine passes.
//!
//! Source: the promises of [`super::Engine`]. In: a plugin and a seed. Out: the first broken
//! promise.
//! Holds: the same scenarios run over every engine. Elsewhere: the engines.
