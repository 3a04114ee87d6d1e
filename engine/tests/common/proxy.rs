//! A proxy before MinIO that can be told to misbehave.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use ark_engine::Store;

use super::minio::{SECRET, config, minio, quick};

/// The proxy; it lives as long as the process.
pub struct Proxy {
    address: SocketAddr,
    mode: Arc<AtomicU32>,
}

pub const PASS: u32 = 0;
/// Answers 503 to every second request.
pub const FLAKY: u32 = 1;
/// Accepts and says nothing.
pub const SILENT: u32 = 2;
/// Closes at once.
pub const CLOSED: u32 = 3;
/// Breaks answers off after 100 KB.
pub const CUT: u32 = 4;

impl Proxy {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mode = Arc::new(AtomicU32::new(PASS));
        let shared = Arc::clone(&mode);
        let behind = minio().address;
        std::thread::spawn(move || {
            for (n, client) in listener.incoming().enumerate() {
                let (client, mode) = (client.unwrap(), Arc::clone(&shared));
                std::thread::spawn(move || serve(client, behind, &mode, n));
            }
        });
        Self { address, mode }
    }

    pub fn set(&self, mode: u32) {
        self.mode.store(mode, Ordering::SeqCst);
    }

    pub fn store(&self, prefix: &str) -> Store {
        Store::open(&config(self.address, "bucket", prefix, SECRET))
            .unwrap()
            .with_policy(quick())
    }
}

pub fn serve(mut client: TcpStream, behind: SocketAddr, mode: &AtomicU32, n: usize) {
    match mode.load(Ordering::SeqCst) {
        FLAKY if n.is_multiple_of(2) => {
            let mut request = [0; 8 << 10];
            drop(client.read(&mut request));
            drop(client.write_all(
                b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            ));
            return;
        }
        SILENT => {
            let mut sink = [0; 4096];
            while client.read(&mut sink).is_ok_and(|len| len > 0) {}
            return;
        }
        CLOSED => return,
        _ => {}
    }
    let Ok(mut server) = TcpStream::connect(behind) else {
        return;
    };
    let (mut from_client, mut to_server) =
        (client.try_clone().unwrap(), server.try_clone().unwrap());
    std::thread::spawn(move || {
        drop(std::io::copy(&mut from_client, &mut to_server));
        drop(to_server.shutdown(std::net::Shutdown::Write));
    });
    let mut buffer = [0; 16 << 10];
    let mut sent = 0;
    while let Ok(len) = server.read(&mut buffer) {
        let now = mode.load(Ordering::SeqCst);
        if len == 0 || now == CLOSED || (now == CUT && sent > 100_000) {
            break;
        }
        if now == SILENT {
            let mut sink = [0; 4096];
            while server.read(&mut sink).is_ok_and(|len| len > 0) {}
            break;
        }
        if client.write_all(&buffer[..len]).is_err() {
            break;
        }
        sent += len;
    }
    drop(client.shutdown(std::net::Shutdown::Both));
    drop(server.shutdown(std::net::Shutdown::Both));
}
