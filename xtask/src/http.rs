//! Fetching a page over plain HTTP, as a health check or a reader of the example does.
//!
//! HTTP/1.0 and one request a connection, so that the answer ends where the connection does.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};

const LIMIT: Duration = Duration::from_secs(5);

/// What a server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The page.
    pub body: Vec<u8>,
}

/// Fetches `path` from a server.
pub fn get(server: (impl Into<IpAddr>, u16), path: &str) -> Result<Answer> {
    let server = SocketAddr::new(server.0.into(), server.1);
    fetch(server, path).with_context(|| format!("no page from http://{server}{path}"))
}

fn fetch(server: SocketAddr, path: &str) -> Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&server, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    write!(
        stream,
        "GET {path} HTTP/1.0\r\nHost: {server}\r\nConnection: close\r\n\r\n"
    )?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    parse(&bytes).context("the answer is not HTTP")
}

fn parse(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let status = head.lines().next()?.split(' ').nth(1)?.parse().ok()?;
    Some(Answer {
        status,
        body: bytes[end + 4..].to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_and_body_are_told_apart() {
        let answer = parse(b"HTTP/1.1 404 Not Found\r\nServer: x\r\n\r\n<p>\r\n\r\n</p>").unwrap();
        assert_eq!(answer.status, 404);
        assert_eq!(answer.body, b"<p>\r\n\r\n</p>");
        assert_eq!(parse(b"hello"), None);
    }
}
