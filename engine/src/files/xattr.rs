//! Extended attributes, ACLs and capabilities among them: of an open file, or of an entry of an
//! open directory.
//!
//! For entries, works through `/proc/self/fd/<dir>/<name>` with the calls that do not follow a last
//! link, because there is no such call relative to a directory. That needs `/proc`.

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

/// Whose attributes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Of<'a> {
    /// An open file's.
    Open(BorrowedFd<'a>),
    /// Those of an entry of an open directory; of a link itself.
    Entry(BorrowedFd<'a>, &'a OsStr),
}

fn path(dir: BorrowedFd<'_>, name: &OsStr) -> Result<CString, Errno> {
    let mut path = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
    path.extend_from_slice(name.as_bytes());
    CString::new(path).map_err(|_| Errno::INVAL)
}

/// Names of the attributes; none where the file system has no attributes.
pub(crate) fn list(dir: BorrowedFd<'_>, name: &OsStr) -> Result<Vec<Vec<u8>>, Errno> {
    list_of(Of::Entry(dir, name))
}

/// Names of the attributes; none where the file system has no attributes.
pub(crate) fn list_of(of: Of<'_>) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = vec![0; 1024];
    loop {
        let listed = match of {
            Of::Open(fd) => rustix::fs::flistxattr(fd, &mut names[..]),
            Of::Entry(dir, name) => rustix::fs::llistxattr(path(dir, name)?, &mut names[..]),
        };
        match listed {
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
    get_of(Of::Entry(dir, name), attribute)
}

/// One value; `None` if there is none.
pub(crate) fn get_of(of: Of<'_>, attribute: &[u8]) -> Result<Option<Vec<u8>>, Errno> {
    let attribute = CString::new(attribute).map_err(|_| Errno::INVAL)?;
    let mut value = vec![0; 256];
    loop {
        let got = match of {
            Of::Open(fd) => rustix::fs::fgetxattr(fd, &attribute, &mut value[..]),
            Of::Entry(dir, name) => {
                rustix::fs::lgetxattr(path(dir, name)?, &attribute, &mut value[..])
            }
        };
        match got {
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
pub(crate) fn set_of(of: Of<'_>, attribute: &[u8], value: &[u8]) -> Result<(), Errno> {
    let attribute = CString::new(attribute).map_err(|_| Errno::INVAL)?;
    let flags = XattrFlags::empty();
    match of {
        Of::Open(fd) => rustix::fs::fsetxattr(fd, &attribute, value, flags),
        Of::Entry(dir, name) => rustix::fs::lsetxattr(path(dir, name)?, &attribute, value, flags),
    }
}

/// Removes one attribute.
pub(crate) fn remove_of(of: Of<'_>, attribute: &[u8]) -> Result<(), Errno> {
    let attribute = CString::new(attribute).map_err(|_| Errno::INVAL)?;
    match of {
        Of::Open(fd) => rustix::fs::fremovexattr(fd, &attribute),
        Of::Entry(dir, name) => rustix::fs::lremovexattr(path(dir, name)?, &attribute),
    }
}
