//! Free loopback ports that stay free until a member binds them.
//!
//! Source: `docs/cli.md`, dev. In: how many. Out: addresses.
//! Holds: they lie below the range from which the system draws for outgoing connections, so nobody
//! is given one in the meantime; they differ from each other.
//! Elsewhere: who binds them (`node`).

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use rand::TryRng;
use rand::rngs::SysRng;

use super::failure::Failure;

/// The lowest port that is chosen.
const LOWEST: u16 = 10_000;
/// The lowest port of the system's own range where it does not say.
const DRAWN_FROM: u16 = 32_768;

/// Addresses for `count` members: one for members, one for clients each.
pub(crate) fn free_pairs(count: usize) -> Result<Vec<(SocketAddr, SocketAddr)>, Failure> {
    let mut bytes = [0; 8];
    let drawn = SysRng.try_fill_bytes(&mut bytes);
    drawn.map_err(|error| Failure::refused(error, "the system gives no random numbers"))?;
    let (first, end) = (u64::from(LOWEST), u64::from(highest()));
    let span = end.saturating_sub(first).max(1);
    let start = u64::from_le_bytes(bytes) % span;
    // All are held until all are found, so that none is found twice.
    let mut held = Vec::new();
    for step in 0..span {
        if held.len() == 2 * count {
            break;
        }
        let port = u16::try_from(first + (start + step) % span).unwrap_or(LOWEST);
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            held.push(listener);
        }
    }
    let addresses: Vec<SocketAddr> = held.iter().flat_map(TcpListener::local_addr).collect();
    if addresses.len() < 2 * count {
        let what = format!("{} free loopback ports are not to be had", 2 * count);
        return Err(Failure::refused(
            what,
            "end other programs, or take fewer members",
        ));
    }
    let pairs = addresses.chunks_exact(2).map(|pair| (pair[0], pair[1]));
    Ok(pairs.collect())
}

/// Whether `address` can be bound now.
pub(crate) fn is_free(address: SocketAddr) -> bool {
    TcpListener::bind(address).is_ok()
}

fn highest() -> u16 {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let low = text
        .split_whitespace()
        .next()
        .and_then(|low| low.parse().ok());
    low.filter(|low| *low > LOWEST + 1_000)
        .unwrap_or(DRAWN_FROM)
}
