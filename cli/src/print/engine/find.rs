//! What was found, as it is found: for people grouped by snapshot, or one JSON list with restic's names.

use std::io::{self, BufWriter, Stdout, Write};

use ark_engine::Snapshot;
use ark_engine::browse::{Found, Listed};
use serde_json::{Map, Value, json};

use super::{entry_long, json::time, local, permissions, short, shown};
use crate::print::Printer;
use crate::print::table::one_line;

/// Writes what is found.
pub(crate) struct Finder {
    printer: Printer,
    out: BufWriter<Stdout>,
    json: bool,
    long: bool,
    /// The snapshot that was written about last.
    last: Option<String>,
    /// Entries of it.
    hits: u64,
    /// Something was written.
    begun: bool,
}

impl Finder {
    pub(crate) fn new(printer: Printer, json: bool, long: bool) -> Self {
        Self {
            printer,
            out: printer.writer(),
            json,
            long,
            last: None,
            hits: 0,
            begun: false,
        }
    }

    /// One more.
    pub(crate) fn found(&mut self, snapshot: &Snapshot, found: &Found) -> io::Result<()> {
        if let Found::Problem { path, message } = found {
            let (path, id) = (shown(path), short(&snapshot.id));
            self.printer.note(&format!(
                "error: snapshot {id}: {path}: {}",
                one_line(message)
            ));
            return Ok(());
        }
        if self.json {
            self.json(snapshot, found)
        } else {
            self.words(snapshot, found)
        }
    }

    fn words(&mut self, snapshot: &Snapshot, found: &Found) -> io::Result<()> {
        if self.last.as_ref() != Some(&snapshot.id) {
            if self.last.is_some() {
                writeln!(self.out)?;
                // Who waits for more sees what there is.
                self.out.flush()?;
            }
            let (id, host) = (short(&snapshot.id), one_line(&snapshot.hostname));
            writeln!(
                self.out,
                "in snapshot {id} of {host}, {}:",
                local(snapshot.time)
            )?;
            self.last = Some(snapshot.id.clone());
        }
        let line = match found {
            Found::Entry { path, info, .. } if self.long => entry_long(&Listed {
                path: path.clone(),
                info: Some(info.clone()),
                problem: None,
            }),
            Found::Entry { path, .. } | Found::Problem { path, .. } => shown(path),
            Found::Blob { id, path, tree } => {
                format!("blob {id} in {} (tree {tree})", shown(path))
            }
            Found::Tree { id, path } => format!("tree {id} is {}", shown(path)),
        };
        writeln!(self.out, "{line}")
    }

    fn json(&mut self, snapshot: &Snapshot, found: &Found) -> io::Result<()> {
        let value = match found {
            Found::Entry { path, info, stored } => {
                let fields = stored
                    .as_deref()
                    .map(serde_json::from_str::<Map<String, Value>>);
                let mut fields = fields.and_then(Result::ok).unwrap_or_default();
                fields.insert("path".to_owned(), path.to_string_lossy().into());
                fields.insert("permissions".to_owned(), permissions(info.go_mode).into());
                Value::Object(fields)
            }
            Found::Blob { id, path, tree } => object("blob", id, path, Some(tree), snapshot),
            Found::Tree { id, path } => object("tree", id, path, None, snapshot),
            Found::Problem { .. } => return Ok(()),
        };
        let grouped = matches!(found, Found::Entry { .. });
        if grouped && self.last.as_ref() != Some(&snapshot.id) {
            self.close()?;
            write!(
                self.out,
                "{}{{\"matches\":[",
                if self.begun { "," } else { "[" }
            )?;
            self.last = Some(snapshot.id.clone());
        } else {
            write!(self.out, "{}", if self.begun { "," } else { "[" })?;
        }
        self.begun = true;
        self.hits += 1;
        write!(self.out, "{value}")
    }

    /// Ends the list of a snapshot.
    fn close(&mut self) -> io::Result<()> {
        if let Some(id) = self.last.take() {
            write!(self.out, "],\"hits\":{},\"snapshot\":\"{id}\"}}", self.hits)?;
            self.out.flush()?;
        }
        self.hits = 0;
        Ok(())
    }

    /// There is no more.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        if self.json {
            self.close()?;
            writeln!(self.out, "{}", if self.begun { "]" } else { "[]" })?;
        }
        self.out.flush()
    }
}

fn object(
    kind: &str,
    id: &str,
    path: &std::path::Path,
    tree: Option<&String>,
    snapshot: &Snapshot,
) -> Value {
    let mut value = json!({
        "object_type": kind,
        "id": id,
        "path": path.to_string_lossy(),
        "snapshot": snapshot.id,
        "time": time(snapshot.time, snapshot.offset),
    });
    if let (Some(tree), Value::Object(map)) = (tree, &mut value) {
        map.insert("parent_tree".to_owned(), tree.clone().into());
    }
    value
}
