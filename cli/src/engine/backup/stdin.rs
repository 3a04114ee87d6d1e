//! Standard input that can be cancelled: a program that writes nothing must not hold up Ctrl-C.
//!
//! A thread reads, and stays blocked in a read after a cancel until the process ends.

use std::io::{self, Read};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use ark_engine::Cancel;

/// Bytes read at once.
const PIECE: usize = 1 << 20;
/// Pieces read ahead.
const AHEAD: usize = 4;
/// How often a cancel is looked for while nothing comes.
const LOOK: Duration = Duration::from_millis(100);

/// Standard input.
pub(super) struct Input {
    pieces: Receiver<io::Result<Vec<u8>>>,
    piece: Vec<u8>,
    at: usize,
    cancel: Cancel,
}

impl Input {
    /// Starts reading.
    pub(super) fn start(cancel: Cancel) -> io::Result<Self> {
        let (sender, pieces) = mpsc::sync_channel(AHEAD);
        std::thread::Builder::new()
            .name("stdin".to_owned())
            .spawn(move || {
                let mut input = io::stdin().lock();
                loop {
                    let mut piece = Vec::with_capacity(PIECE);
                    let read = (&mut input).take(PIECE as u64).read_to_end(&mut piece);
                    let ended = !matches!(read, Ok(1..));
                    if sender.send(read.map(|_| piece)).is_err() || ended {
                        return;
                    }
                }
            })?;
        Ok(Self {
            pieces,
            piece: Vec::new(),
            at: 0,
            cancel,
        })
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.piece.len() {
            match self.pieces.recv_timeout(LOOK) {
                // An empty piece is the end.
                Ok(Ok(piece)) if piece.is_empty() => return Ok(0),
                Ok(Ok(piece)) => (self.piece, self.at) = (piece, 0),
                Ok(Err(error)) => return Err(error),
                Err(RecvTimeoutError::Timeout) if self.cancel.is_cancelled() => {
                    return Err(io::Error::other("interrupted"));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(0),
            }
        }
        let length = buffer.len().min(self.piece.len() - self.at);
        buffer[..length].copy_from_slice(&self.piece[self.at..self.at + length]);
        self.at += length;
        Ok(length)
    }
}
