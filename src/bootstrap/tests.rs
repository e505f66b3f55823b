//! Newcomers among honest, silent, slow, lying and crashing members.

mod units;
