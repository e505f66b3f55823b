//! Newcomers among honest, silent, slow, lying and crashing members.

mod crowds;
mod forks;
mod golden;
mod honest;
mod ledger;
mod liars;
mod pins;
mod units;
mod world;
