//! Metadata of one file, as the system has it and as the format writes it.
//!
//! Does: read it by `statx`, translate modes to and from Go's bits. Does not: follow links, read
//! times of access, or look up user names.

use std::os::fd::AsFd;

use jiff::Timestamp;
use rustix::{
    fs::{AtFlags, Statx, StatxFlags, StatxTimestamp},
    io::Errno,
    path::Arg,
};

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Dir,
    Symlink,
    Block,
    Char,
    Fifo,
    Socket,
}

/// What the engine keeps of a file's metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) kind: Kind,
    /// The twelve permission bits.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) size: u64,
    pub(crate) links: u64,
    pub(crate) inode: u64,
    pub(crate) mtime: Timestamp,
    pub(crate) ctime: Timestamp,
    /// The device it lies on.
    pub(crate) device: u64,
    /// The device it is, for devices.
    pub(crate) special: u64,
    /// The mount it lies on; tells bind mounts apart, which `device` does not. The device, where
    /// the system does not know mounts by number.
    pub(crate) mount: u64,
}

impl Meta {
    /// Of an open file.
    pub(crate) fn of(fd: impl AsFd) -> Result<Self, Errno> {
        Self::read(fd, c"", AtFlags::EMPTY_PATH)
    }

    /// Of an entry of an open directory; of a link itself, not of what it points to.
    pub(crate) fn at(dir: impl AsFd, name: impl Arg) -> Result<Self, Errno> {
        Self::read(dir, name, AtFlags::SYMLINK_NOFOLLOW)
    }

    fn read(dir: impl AsFd, name: impl Arg, flags: AtFlags) -> Result<Self, Errno> {
        let flags = flags | AtFlags::NO_AUTOMOUNT;
        let stat = rustix::fs::statx(
            dir,
            name,
            flags,
            StatxFlags::BASIC_STATS | StatxFlags::MNT_ID,
        )?;
        Self::from_statx(&stat).ok_or(Errno::INVAL)
    }

    fn from_statx(stat: &Statx) -> Option<Self> {
        let mode = u32::from(stat.stx_mode);
        let kind = match mode & 0o170_000 {
            0o100_000 => Kind::File,
            0o040_000 => Kind::Dir,
            0o120_000 => Kind::Symlink,
            0o060_000 => Kind::Block,
            0o020_000 => Kind::Char,
            0o010_000 => Kind::Fifo,
            0o140_000 => Kind::Socket,
            _ => return None,
        };
        let device = rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor);
        Some(Self {
            kind,
            mode: mode & 0o7777,
            uid: stat.stx_uid,
            gid: stat.stx_gid,
            size: stat.stx_size,
            links: u64::from(stat.stx_nlink),
            inode: stat.stx_ino,
            mtime: time(stat.stx_mtime),
            ctime: time(stat.stx_ctime),
            device,
            special: rustix::fs::makedev(stat.stx_rdev_major, stat.stx_rdev_minor),
            mount: if stat.stx_mask & StatxFlags::MNT_ID.bits() == 0 {
                // Linux before 5.8: of bind mounts of one file system nothing can be told then.
                device
            } else {
                stat.stx_mnt_id
            },
        })
    }

    /// Whether this is still the same content and metadata as before.
    pub(crate) fn unchanged_since(&self, before: &Self) -> bool {
        self.size == before.size && self.mtime == before.mtime && self.ctime == before.ctime
    }
}

/// File systems can hold times beyond what the format can; those become the nearest it can hold.
fn time(stamp: StatxTimestamp) -> Timestamp {
    let nanos = i32::try_from(stamp.tv_nsec).unwrap_or_default();
    let limit = if stamp.tv_sec < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    };
    Timestamp::new(stamp.tv_sec, nanos).unwrap_or(limit)
}

const GO_DIR: u32 = 1 << 31;
const GO_SYMLINK: u32 = 1 << 27;
const GO_DEVICE: u32 = 1 << 26;
const GO_FIFO: u32 = 1 << 25;
const GO_SOCKET: u32 = 1 << 24;
const GO_SETUID: u32 = 1 << 23;
const GO_SETGID: u32 = 1 << 22;
const GO_CHAR: u32 = 1 << 21;
const GO_STICKY: u32 = 1 << 20;

/// Kind and permission bits as Go's `os.FileMode` has them.
pub(crate) fn go_mode(kind: Kind, mode: u32) -> u32 {
    let kind = match kind {
        Kind::File => 0,
        Kind::Dir => GO_DIR,
        Kind::Symlink => GO_SYMLINK,
        Kind::Block => GO_DEVICE,
        Kind::Char => GO_DEVICE | GO_CHAR,
        Kind::Fifo => GO_FIFO,
        Kind::Socket => GO_SOCKET,
    };
    let bit = |unix: u32, go: u32| if mode & unix == 0 { 0 } else { go };
    kind | (mode & 0o777) | bit(0o4000, GO_SETUID) | bit(0o2000, GO_SETGID) | bit(0o1000, GO_STICKY)
}

/// The twelve permission bits of a Go mode.
pub(crate) fn unix_mode(go: u32) -> u32 {
    let bit = |from: u32, unix: u32| if go & from == 0 { 0 } else { unix };
    (go & 0o777) | bit(GO_SETUID, 0o4000) | bit(GO_SETGID, 0o2000) | bit(GO_STICKY, 0o1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_round_trip() {
        for mode in 0..0o10000 {
            assert_eq!(unix_mode(go_mode(Kind::Dir, mode)), mode);
        }
        assert_eq!(
            go_mode(Kind::Char, 0o1755),
            GO_DEVICE | GO_CHAR | GO_STICKY | 0o755
        );
    }

    #[test]
    fn without_mount_ids_devices_tell_mounts_apart() {
        let flags = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
        let mut stat = rustix::fs::statx(rustix::fs::CWD, "/", AtFlags::empty(), flags).unwrap();
        let meta = Meta::from_statx(&stat).unwrap();
        assert_eq!(meta.mount, stat.stx_mnt_id);
        // As a kernel answers that does not know of them.
        stat.stx_mask &= !StatxFlags::MNT_ID.bits();
        stat.stx_mnt_id = 0;
        let meta = Meta::from_statx(&stat).unwrap();
        assert!(meta.device != 0 && meta.mount == meta.device);
    }

    #[test]
    fn reads_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o1700);
        std::fs::set_permissions(dir.path(), mode).unwrap();
        let meta = Meta::at(rustix::fs::CWD, dir.path()).unwrap();
        assert_eq!((meta.kind, meta.mode), (Kind::Dir, 0o1700));
        assert!(meta.mount != 0);
    }
}
