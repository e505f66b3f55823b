//! The ledger against a naive one.
