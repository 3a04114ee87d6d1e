//! Free ports.
//!
//! Below the range the kernel takes for outgoing connections, chosen at random, so that two
//! clusters that start at the same time rarely meet; the caller starts again if they do.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Result, bail};

use super::supervisor::Supervisor;

const FIRST: u16 = 12_000;
const LAST: u16 = 31_999;
const TRIES: usize = 200;

/// The port of `what` in this cluster, chosen once and kept.
pub(super) fn port(supervisor: &Supervisor, what: &str, address: Ipv4Addr) -> Result<u16> {
    if let Some(&port) = supervisor.state()?.ports.get(what) {
        return Ok(port);
    }
    let port = free(address)?;
    supervisor.update(|state| state.ports.insert(what.to_owned(), port))?;
    Ok(port)
}

fn free(address: Ipv4Addr) -> Result<u16> {
    for _ in 0..TRIES {
        let port = rand::random_range(FIRST..=LAST);
        if TcpListener::bind((address, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port between {FIRST} and {LAST} on {address}")
}
