//! A ledger that several organisations run together without trusting any one of them.
//!
//! Start with `machine`, then the three state pictures in `fsm`. Imports point down only:
//!
//! | floor | modules |
//! |---|---|
//! | 4 processes | `node`, `client`, `sim`, `cli` |
//! | 3 adapters | `storage`, `net`, `api`, `application` |
//! | 2 replica | `consortium` |
//! | 1 protocols | `fsm`, `consensus`, `membership`, `checkpoint`, `bootstrap` |
//! | 0 vocabulary | `machine`, `plant`, `crypto`, `committee`, `blocks` |

pub mod api;
pub mod application;
pub mod blocks;
pub mod bootstrap;
pub mod checkpoint;
pub mod cli;
pub mod client;
pub mod committee;
pub mod consensus;
pub mod consortium;
pub mod crypto;
pub mod fsm;
pub mod machine;
pub mod membership;
pub mod net;
pub mod node;
pub mod plant;
pub mod sim;
pub mod storage;
