//! A proxy before an object store that adds a delay to each request, as a network does, and counts.
//!
//! Only requests are parsed, just enough to know where each starts: a delay belongs to a request,
//! not to a connection or to a packet. Answers are passed on as they come.

use std::{
    io::{BufRead as _, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};

/// Longest line of a request's head.
const LINE: u64 = 64 << 10;

/// What went through.
#[derive(Debug, Default)]
struct Counters {
    requests: AtomicU64,
    bytes: AtomicU64,
}

/// The proxy; its threads live as long as the program.
pub(crate) struct Proxy {
    address: SocketAddr,
    counters: Arc<Counters>,
}

impl Proxy {
    /// Listens on a port of loopback for what goes to `server`.
    pub(crate) fn start(server: SocketAddr, delay: Duration) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("no port for a proxy")?;
        let address = listener.local_addr().context("a socket without address")?;
        let counters = Arc::new(Counters::default());
        let shared = Arc::clone(&counters);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let counters = Arc::clone(&shared);
                // A connection that breaks is seen by the client, which is what is measured.
                thread::spawn(move || drop(serve(&client, server, delay, &counters)));
            }
        });
        Ok(Self { address, counters })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Requests and bytes of their bodies since this was asked last.
    pub(crate) fn take(&self) -> (u64, u64) {
        let take = |counter: &AtomicU64| counter.swap(0, Ordering::SeqCst);
        (take(&self.counters.requests), take(&self.counters.bytes))
    }
}

fn serve(
    client: &TcpStream,
    server: SocketAddr,
    delay: Duration,
    counters: &Counters,
) -> std::io::Result<()> {
    let upstream = TcpStream::connect(server)?;
    client.set_nodelay(true)?;
    upstream.set_nodelay(true)?;
    let (mut answers, mut back) = (upstream.try_clone()?, client.try_clone()?);
    let answering = thread::spawn(move || {
        let result = std::io::copy(&mut answers, &mut back);
        drop(back.shutdown(Shutdown::Both));
        result
    });
    let result = requests(client, &upstream, counters, || thread::sleep(delay));
    drop(upstream.shutdown(Shutdown::Write));
    drop(answering.join());
    result
}

/// Passes requests on until the client has no more.
fn requests(
    client: impl Read,
    mut server: impl Write,
    counters: &Counters,
    delay: impl Fn(),
) -> std::io::Result<()> {
    let mut client = BufReader::with_capacity(256 << 10, client);
    while let Some((head, body)) = read_head(&mut client)? {
        counters.requests.fetch_add(1, Ordering::SeqCst);
        delay();
        server.write_all(&head)?;
        let bytes = match body {
            Body::Length(len) => std::io::copy(&mut client.by_ref().take(len), &mut server)?,
            Body::Chunked => pass_chunks(&mut client, &mut server)?,
        };
        counters.bytes.fetch_add(bytes, Ordering::SeqCst);
    }
    Ok(())
}

enum Body {
    Length(u64),
    Chunked,
}

fn line(client: &mut impl std::io::BufRead) -> std::io::Result<Vec<u8>> {
    let mut line = Vec::new();
    client.by_ref().take(LINE).read_until(b'\n', &mut line)?;
    Ok(line)
}

fn read_head(client: &mut impl std::io::BufRead) -> std::io::Result<Option<(Vec<u8>, Body)>> {
    let (mut head, mut body) = (Vec::new(), Body::Length(0));
    loop {
        let line = line(client)?;
        if line.is_empty() {
            return Ok(None);
        }
        head.extend_from_slice(&line);
        let text = String::from_utf8_lossy(&line).trim().to_ascii_lowercase();
        if text.is_empty() {
            return Ok(Some((head, body)));
        }
        match text
            .split_once(':')
            .map(|(name, value)| (name, value.trim()))
        {
            Some(("content-length", value)) => {
                body = Body::Length(value.parse().map_err(std::io::Error::other)?);
            }
            Some(("transfer-encoding", "chunked")) => body = Body::Chunked,
            _ => {}
        }
    }
}

/// Passes a body of chunks on; bytes of its content.
fn pass_chunks(
    client: &mut impl std::io::BufRead,
    server: &mut impl Write,
) -> std::io::Result<u64> {
    let mut total = 0;
    loop {
        let size = line(client)?;
        server.write_all(&size)?;
        let text = String::from_utf8_lossy(&size);
        let digits = text.split(';').next().unwrap_or_default().trim();
        let len = u64::from_str_radix(digits, 16).map_err(std::io::Error::other)?;
        if len == 0 {
            // Trailers, up to an empty line.
            loop {
                let trailer = line(client)?;
                server.write_all(&trailer)?;
                if trailer.len() <= 2 {
                    return Ok(total);
                }
            }
        }
        std::io::copy(&mut client.by_ref().take(len + 2), server)?;
        total += len;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn every_request_is_delayed_counted_and_passed_on_as_it_came() {
        let stream = b"PUT /a HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello\
            GET /b HTTP/1.1\r\nHost: x\r\n\r\n\
            PUT /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1;x=y\r\nd\r\n0\r\n\r\n\
            DELETE /d HTTP/1.1\r\n\r\n";
        let (mut passed, delays) = (Vec::new(), Cell::new(0));
        let counters = Counters::default();
        requests(&stream[..], &mut passed, &counters, || {
            delays.set(delays.get() + 1);
        })
        .unwrap();
        assert_eq!(passed, stream);
        assert_eq!(delays.get(), 4);
        assert_eq!(counters.requests.into_inner(), 4);
        assert_eq!(counters.bytes.into_inner(), 9);
    }
}
