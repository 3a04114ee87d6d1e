//! Extended attributes of an entry of an open directory, ACLs and capabilities among them.
//!
//! Works through `/proc/self/fd/<dir>/<name>` with the calls that do not follow a last link, because
//! there is no such call relative to a directory. Needs `/proc`.

use std::{
    ffi::{CString, OsStr},
    os::{
        fd::{AsRawFd as _, BorrowedFd},
        unix::ffi::OsStrExt as _,
    },
};

use rustix::{fs::XattrFlags, io::Errno};

/// The most a value can have on Linux.
const MAX_VALUE: usize = 64 << 10;

fn path(dir: BorrowedFd<'_>, name: &OsStr) -> Result<CString, Errno> {
    let mut path = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
    path.extend_from_slice(name.as_bytes());
    CString::new(path).map_err(|_| Errno::INVAL)
}

/// Names of the attributes; none where the file system has no attributes.
pub(crate) fn list(dir: BorrowedFd<'_>, name: &OsStr) -> Result<Vec<Vec<u8>>, Errno> {
    let path = path(dir, name)?;
    let mut names = vec![0; 1024];
    loop {
        match rustix::fs::llistxattr(&path, &mut names[..]) {
            Ok(len) => {
                names.truncate(len);
                break;
            }
            Err(Errno::RANGE) if names.len() < MAX_VALUE => names.resize(MAX_VALUE, 0),
            Err(Errno::NOTSUP | Errno::NOSYS) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        }
    }
    let names = names.split(|b| *b == 0).filter(|name| !name.is_empty());
    Ok(names.map(<[u8]>::to_vec).collect())
}

/// One value; `None` if it is gone.
pub(crate) fn get(
    dir: BorrowedFd<'_>,
    name: &OsStr,
    attribute: &[u8],
) -> Result<Option<Vec<u8>>, Errno> {
    let path = path(dir, name)?;
    let attribute = CString::new(attribute).map_err(|_| Errno::INVAL)?;
    let mut value = vec![0; 256];
    loop {
        match rustix::fs::lgetxattr(&path, &attribute, &mut value[..]) {
            Ok(len) => {
                value.truncate(len);
                return Ok(Some(value));
            }
            Err(Errno::RANGE) if value.len() < MAX_VALUE => value.resize(MAX_VALUE, 0),
            Err(Errno::NODATA) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}

/// Sets one attribute.
pub(crate) fn set(
    dir: BorrowedFd<'_>,
    name: &OsStr,
    attribute: &[u8],
    value: &[u8],
) -> Result<(), Errno> {
    let attribute = CString::new(attribute).map_err(|_| Errno::INVAL)?;
    rustix::fs::lsetxattr(path(dir, name)?, &attribute, value, XattrFlags::empty())
}
