//! What is searched for, ready to be held against entries.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    super::{EntryInfo, EntryKind},
    FindWhat, pack,
    pattern::{Masks, Patterns},
    wanted::Wanted,
};
use crate::{
    crypto::Id,
    error::{Error, Result},
    format::{Invalid, null_as_default, tree},
    index::Index,
    repo::{Repository, walk::Node},
    storage::Store,
};

/// Number of what is known of a path; see [`Query::step`].
pub(super) type State = u32;

/// The state nearly everywhere.
pub(super) const USUAL: State = 0;

/// More different states than any sensible patterns meet in any sensible repository.
const MAX_STATES: usize = 1 << 15;

/// What is searched for.
#[derive(Debug)]
pub(super) enum Query {
    Names(Names),
    Objects(Objects),
}

/// Entries by name.
#[derive(Debug)]
pub(super) struct Names {
    patterns: Patterns,
    oldest: Option<Timestamp>,
    newest: Option<Timestamp>,
    kinds: Vec<EntryKind>,
    stored: bool,
    start: Masks,
    usual: Masks,
    /// States besides the usual one: number 1 is the first.
    others: Mutex<Others>,
}

#[derive(Debug, Default)]
struct Others {
    numbers: HashMap<Masks, State>,
    masks: Vec<Masks>,
}

/// Files and directories by ids.
#[derive(Debug, Default)]
pub(super) struct Objects {
    blobs: Wanted,
    trees: Wanted,
    packs: Vec<String>,
}

/// What fits.
#[derive(Debug)]
pub(super) enum Fit {
    Entry {
        info: Box<EntryInfo>,
        stored: Option<String>,
    },
    Blob(Id),
    Tree(Id),
}

impl Query {
    /// # Errors
    /// `InvalidConfig`.
    pub(super) fn new(what: &FindWhat, stored: bool) -> Result<Self> {
        Ok(match what {
            FindWhat::Names(names) => {
                let patterns = Patterns::new(&names.patterns, names.ignore_case)?;
                Self::Names(Names {
                    start: patterns.start(),
                    usual: patterns.usual(),
                    patterns,
                    oldest: names.oldest,
                    newest: names.newest,
                    kinds: names.kinds.clone(),
                    stored,
                    others: Mutex::default(),
                })
            }
            FindWhat::Blobs(ids) => Self::Objects(Objects {
                blobs: Wanted::parse(ids)?,
                ..Objects::default()
            }),
            FindWhat::Trees(ids) => Self::Objects(Objects {
                trees: Wanted::parse(ids)?,
                ..Objects::default()
            }),
            FindWhat::Packs(ids) => {
                Wanted::parse(ids)?;
                Self::Objects(Objects {
                    packs: ids.clone(),
                    ..Objects::default()
                })
            }
        })
    }

    /// The same, knowing what is in the packs.
    pub(super) fn resolve(&self, repo: &Repository, store: &Store, index: &Index) -> Result<Self> {
        Ok(match self {
            Self::Names(names) => Self::Names(Names {
                patterns: names.patterns.clone(),
                oldest: names.oldest,
                newest: names.newest,
                kinds: names.kinds.clone(),
                stored: names.stored,
                start: names.start.clone(),
                usual: names.usual.clone(),
                others: Mutex::default(),
            }),
            Self::Objects(objects) if objects.packs.is_empty() => Self::Objects(Objects {
                blobs: objects.blobs.clone(),
                trees: objects.trees.clone(),
                packs: Vec::new(),
            }),
            Self::Objects(objects) => {
                let (blobs, trees) = pack::blobs(repo, store, index, &objects.packs)?;
                Self::Objects(Objects {
                    blobs,
                    trees,
                    packs: Vec::new(),
                })
            }
        })
    }

    /// Above everything.
    pub(super) fn start(&self) -> Result<State> {
        match self {
            Self::Names(names) => names.number(names.start.clone()),
            Self::Objects(_) => Ok(USUAL),
        }
    }

    /// Whether something may be found in the usual state: if not, most directories need not be read
    /// at all.
    pub(super) fn is_usual_alive(&self) -> bool {
        match self {
            Self::Names(names) => !Patterns::is_dead(&names.usual),
            Self::Objects(_) => true,
        }
    }

    /// What fits of the root directory itself.
    pub(super) fn root(&self, id: &Id) -> Option<Fit> {
        match self {
            Self::Objects(objects) if objects.trees.contains(id) => Some(Fit::Tree(*id)),
            _ => None,
        }
    }

    /// Holds an entry of a directory against it: what fits is handed to `fit`. Returns the state
    /// below it; `None` if nothing can be found there.
    pub(super) fn step(
        &self,
        state: State,
        name: &[u8],
        node: &Node<'_>,
        mut fit: impl FnMut(Fit) -> Result<()>,
    ) -> Result<Result<Option<State>, Invalid>> {
        match self {
            Self::Names(names) => names.step(state, name, node, fit),
            Self::Objects(objects) => {
                if node.kind == "file" && !objects.blobs.is_empty() {
                    for id in node.blobs() {
                        match id {
                            Ok(id) if objects.blobs.contains(&id) => fit(Fit::Blob(id))?,
                            Ok(_) => {}
                            Err(why) => return Ok(Err(why)),
                        }
                    }
                }
                if node.kind == "dir"
                    && let Ok(Some(id)) = node.directory()
                    && objects.trees.contains(&id)
                {
                    fit(Fit::Tree(id))?;
                }
                Ok(Ok(Some(USUAL)))
            }
        }
    }
}

impl Names {
    fn step(
        &self,
        state: State,
        name: &[u8],
        node: &Node<'_>,
        mut fit: impl FnMut(Fit) -> Result<()>,
    ) -> Result<Result<Option<State>, Invalid>> {
        let next = match state {
            USUAL => self.patterns.step(&self.usual, name),
            other => self.patterns.step(&self.masks(other), name),
        };
        if self.patterns.fits(&next) {
            let info = match EntryInfo::parse(node.text()) {
                Ok(info) => info,
                Err(why) => return Ok(Err(why)),
            };
            if self.wants(&info) {
                let stored = match self.stored.then(|| stored(node.text())).transpose() {
                    Ok(stored) => stored,
                    Err(why) => return Ok(Err(why)),
                };
                fit(Fit::Entry {
                    info: Box::new(info),
                    stored,
                })?;
            }
        }
        if node.kind != "dir" || Patterns::is_dead(&next) {
            return Ok(Ok(None));
        }
        self.number(next).map(|state| Ok(Some(state)))
    }

    fn wants(&self, info: &EntryInfo) -> bool {
        let kind = self.kinds.is_empty() || self.kinds.contains(&info.kind);
        let since = self
            .oldest
            .is_none_or(|oldest| info.modified.is_some_and(|at| at >= oldest));
        let until = self
            .newest
            .is_none_or(|newest| info.modified.is_some_and(|at| at <= newest));
        kind && since && until
    }

    fn masks(&self, state: State) -> Masks {
        let others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        let masks = (state as usize)
            .checked_sub(1)
            .and_then(|at| others.masks.get(at));
        masks.cloned().unwrap_or_default()
    }

    fn number(&self, masks: Masks) -> Result<State> {
        if masks == self.usual {
            return Ok(USUAL);
        }
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = others.numbers.get(&masks) {
            return Ok(*known);
        }
        let next = others.masks.len() + 1;
        let number = u32::try_from(next).ok().filter(|_| next < MAX_STATES);
        let number = number.ok_or_else(|| Error::InvalidConfig {
            what: "pattern",
            message: "paths of this repository fit it in too many ways; use fewer components that are only *".to_owned(),
        })?;
        others.masks.push(masks.clone());
        others.numbers.insert(masks, number);
        Ok(number)
    }
}

/// What is told of an entry, parsed without its content.
#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Brief {
    #[serde(rename = "type", deserialize_with = "null_as_default")]
    kind: String,
    #[serde(deserialize_with = "null_as_default")]
    mode: u32,
    #[serde(deserialize_with = "null_as_default")]
    mtime: String,
    #[serde(deserialize_with = "null_as_default")]
    uid: u32,
    #[serde(deserialize_with = "null_as_default")]
    gid: u32,
    #[serde(deserialize_with = "null_as_default")]
    inode: u64,
    #[serde(deserialize_with = "null_as_default")]
    size: u64,
    #[serde(deserialize_with = "null_as_default")]
    links: u64,
    #[serde(deserialize_with = "null_as_default")]
    linktarget: String,
}

impl EntryInfo {
    /// From a node's JSON, whose content may be long and is left alone.
    fn parse(text: &str) -> Result<Self, Invalid> {
        let brief: Brief =
            serde_json::from_str(text).map_err(|error| Invalid(format!("not a node: {error}")))?;
        let Brief {
            kind,
            mode,
            mtime,
            uid,
            gid,
            inode,
            size,
            links,
            linktarget,
        } = brief;
        Ok(Self::of(&tree::Node {
            kind,
            mode,
            mtime,
            uid,
            gid,
            inode,
            size,
            links,
            linktarget,
            ..tree::Node::default()
        }))
    }
}

/// The fields of a node that are told as they are stored.
#[derive(Deserialize, Serialize)]
struct Stored<'a> {
    #[serde(borrow, rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'a RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    mode: Option<&'a RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    mtime: Option<&'a RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    atime: Option<&'a RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    ctime: Option<&'a RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    uid: Option<&'a RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    gid: Option<&'a RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    user: Option<&'a RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    group: Option<&'a RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    inode: Option<&'a RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    device_id: Option<&'a RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    size: Option<&'a RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    links: Option<&'a RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    linktarget: Option<&'a RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    linktarget_raw: Option<&'a RawValue>,
}

fn stored(text: &str) -> Result<String, Invalid> {
    let fields: Stored<'_> =
        serde_json::from_str(text).map_err(|error| Invalid(format!("not a node: {error}")))?;
    serde_json::to_string(&fields).map_err(Invalid::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_of_an_entry() {
        let text = r#"{"name":"a","type":"symlink","mode":7,"mtime":"2024-01-02T03:04:05Z","atime":"x","uid":5,"content":["y"],"size":null,"linktarget":"t","new":1}"#;
        let info = EntryInfo::parse(text).unwrap();
        assert_eq!((info.kind, info.uid, info.size), (EntryKind::Symlink, 5, 0));
        assert_eq!(
            stored(text).unwrap(),
            r#"{"type":"symlink","mode":7,"mtime":"2024-01-02T03:04:05Z","atime":"x","uid":5,"linktarget":"t"}"#
        );
        assert!(EntryInfo::parse(r#"{"uid":-1}"#).is_err());
    }
}
