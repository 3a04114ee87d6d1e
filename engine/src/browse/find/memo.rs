//! What is remembered of directories that were read.
//!
//! Does: keep what matters of a directory in a state, as long as there is room; keep of directories
//! in which nothing was found that there is nothing. Does not: read. Threads share it.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{
    items::Item,
    query::{State, USUAL},
    too_much,
};
use crate::{
    ceiling::Beside,
    error::Result,
    index::{Bits, Index},
};

/// A directory by its position in the index, and how the path to it fits.
pub(super) type Key = (u32, State);

/// What an entry of a table takes on top.
const ENTRY: u64 = 64;
/// With less, hardly a directory could be kept.
const LEAST: u64 = 48 << 20;

/// See the module.
#[derive(Debug)]
pub(super) struct Memo {
    kept: Mutex<Kept>,
    /// Directories in the usual state in which there is nothing.
    empty: Bits,
    /// Nothing more can be kept.
    full: AtomicBool,
    limit: u64,
}

#[derive(Debug, Default)]
struct Kept {
    items: HashMap<Key, Remembered>,
    /// Directories in other states in which there is nothing.
    empty: HashSet<Key>,
    memory: u64,
}

#[derive(Debug)]
struct Remembered {
    items: Arc<[Item]>,
    memory: u64,
}

/// What a search needs beside the index.
pub(super) fn needs() -> Beside {
    Beside {
        bytes: LEAST,
        bits: 4,
    }
}

impl Memo {
    /// In a half of so many bytes: the other one is for reading.
    pub(super) fn new(index: &Index, memory: u64) -> Result<Self> {
        let bits = Bits::memory(index.len());
        // The walk has its own.
        let needed = LEAST + 4 * bits;
        if memory < needed {
            return Err(too_much("a search", needed, memory));
        }
        Ok(Self {
            kept: Mutex::default(),
            empty: Bits::new(index.len()),
            full: AtomicBool::new(false),
            limit: memory / 2 - 2 * bits,
        })
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that what is kept may take.
    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    /// Whether there is no more room.
    pub(super) fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    /// Keeps what matters of a directory, if there is room. `None` if there is nothing in it.
    pub(super) fn keep(&self, key: Key, items: Vec<Item>, memory: u64) -> Option<Arc<[Item]>> {
        if items.is_empty() {
            self.set_empty(key);
            return None;
        }
        let items: Arc<[Item]> = items.into();
        let memory = memory + ENTRY;
        let mut kept = self.kept();
        if kept.memory + memory > self.limit {
            self.full.store(true, Ordering::Relaxed);
        } else {
            let remembered = Remembered {
                items: Arc::clone(&items),
                memory,
            };
            kept.memory += memory;
            if let Some(before) = kept.items.insert(key, remembered) {
                kept.memory -= before.memory;
            }
        }
        Some(items)
    }

    /// What is known of a directory.
    pub(super) fn get(&self, key: Key) -> Option<Arc<[Item]>> {
        self.kept()
            .items
            .get(&key)
            .map(|kept| Arc::clone(&kept.items))
    }

    /// Whether it is known that there is nothing in a directory.
    pub(super) fn is_empty(&self, key: Key) -> bool {
        match key {
            (position, USUAL) => self.empty.contains(position),
            _ => self.kept().empty.contains(&key),
        }
    }

    /// Nothing is in a directory, nor below it.
    pub(super) fn set_empty(&self, key: Key) {
        let mut kept = self.kept();
        if let Some(before) = kept.items.remove(&key) {
            kept.memory -= before.memory;
        }
        match key {
            (position, USUAL) => {
                self.empty.insert(position);
            }
            // Where there is no room it will be found again.
            _ if kept.memory + ENTRY <= self.limit => {
                kept.memory += ENTRY;
                kept.empty.insert(key);
            }
            _ => {}
        }
    }
}
