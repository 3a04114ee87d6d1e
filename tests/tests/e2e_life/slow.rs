//! A slow way to the object store: what takes a second takes as long as a test needs to do
//! something meanwhile.
//!
//! Passes bytes between clients and the real server, both ways together no faster than its rate.
//! Changes nothing in them.

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// A rate that holds nothing back.
const NO_LIMIT: u64 = 0;

/// The way; it stays open until the test's process ends.
pub(crate) struct Slow {
    address: SocketAddr,
    limit: Arc<Limit>,
}

struct Limit {
    bytes_per_second: AtomicU64,
    /// When the next byte may pass.
    next: Mutex<Instant>,
}

impl Limit {
    fn pass(&self, bytes: usize) {
        let rate = self.bytes_per_second.load(Ordering::Relaxed);
        if rate == NO_LIMIT {
            return;
        }
        let bytes = u64::try_from(bytes).unwrap_or_default();
        let taken = Duration::from_nanos(bytes * 1_000_000_000 / rate);
        let until = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            *next = (*next).max(Instant::now()) + taken;
            *next
        };
        thread::sleep(until.saturating_duration_since(Instant::now()));
    }
}

impl Slow {
    /// Opens a way to `server` on the server's own address; as fast as it goes at first.
    pub(crate) fn to(server: SocketAddr) -> Result<Self> {
        let listener = listen(server.ip())?;
        let address = listener
            .local_addr()
            .context("a listener without address")?;
        let limit = Arc::new(Limit {
            bytes_per_second: AtomicU64::new(NO_LIMIT),
            next: Mutex::new(Instant::now()),
        });
        let shared = Arc::clone(&limit);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // A connection that cannot be made is one that the client sees end.
                let Ok(store) = TcpStream::connect(server) else {
                    continue;
                };
                for (from, to) in [(&client, &store), (&store, &client)] {
                    if let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) {
                        let limit = Arc::clone(&shared);
                        thread::spawn(move || copy(from, to, &limit));
                    }
                }
            }
        });
        Ok(Self { address, limit })
    }

    /// Where clients reach it.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Lets so many mebibytes pass each second.
    pub(crate) fn limit(&self, mebibytes: u64) {
        self.limit
            .bytes_per_second
            .store(mebibytes << 20, Ordering::Relaxed);
    }

    /// As fast as it goes again.
    pub(crate) fn unlimited(&self) {
        self.limit
            .bytes_per_second
            .store(NO_LIMIT, Ordering::Relaxed);
    }
}

fn listen(address: IpAddr) -> Result<TcpListener> {
    TcpListener::bind((address, 0)).with_context(|| format!("cannot listen on {address}"))
}

fn copy(mut from: TcpStream, mut to: TcpStream, limit: &Limit) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        limit.pass(read);
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    // One side ended: the other is told. It may have ended by itself.
    drop(to.shutdown(Shutdown::Write));
    drop(from.shutdown(Shutdown::Read));
}
