//! Extended attributes of one entry of the source.
//!
//! What cannot be read, or cannot be held by the format, is a row; the others are kept.

use std::{
    ffi::OsStr,
    os::{fd::BorrowedFd, unix::ffi::OsStrExt as _},
    path::Path,
};

use crate::{
    files::xattr,
    rows::{FileOperation, Rows},
};

/// Attributes of an entry, sorted by name, and whether these are all; what cannot be read is a row.
pub(super) fn read(
    dir: BorrowedFd<'_>,
    path: &Path,
    name: &OsStr,
    rows: &Rows,
) -> (Vec<(String, Vec<u8>)>, bool) {
    let mut complete = true;
    let mut row = |message: &dyn std::fmt::Display| {
        complete = false;
        rows.add(path, FileOperation::Xattr, message);
    };
    let names = xattr::list(dir, name).unwrap_or_else(|error| {
        row(&std::io::Error::from(error));
        Vec::new()
    });
    let mut attributes = Vec::new();
    for raw in names {
        let value = match xattr::get(dir, name, &raw) {
            Ok(Some(value)) => value,
            Ok(None) => continue,
            Err(error) => {
                let shown = crate::rows::show_bytes(OsStr::from_bytes(&raw));
                row(&format!("{shown}: {}", std::io::Error::from(error)));
                continue;
            }
        };
        match String::from_utf8(raw) {
            Ok(name) => attributes.push((name, value)),
            Err(_) => row(&"an attribute's name is not UTF-8, which the format cannot hold"),
        }
    }
    attributes.sort();
    (attributes, complete)
}
