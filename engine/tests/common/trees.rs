//! Source trees.

use std::{
    ffi::OsStr,
    fs::{self, File},
    os::unix::{
        ffi::OsStrExt as _,
        fs::{FileExt as _, PermissionsExt as _, lchown, symlink},
    },
    path::Path,
};

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, makedev};

/// Bytes that do not compress and are the same for the same seed.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

pub fn set_mtime(path: &Path, seconds: i64, nanos: i64) {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: nanos,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// Everything a volume can hold. Needs root.
pub fn everything(dir: &Path) {
    let at = |name: &str| dir.join(name);
    fs::write(at("empty"), "").unwrap();
    fs::write(at("small"), "hello\n").unwrap();
    fs::write(at("large"), noise(1, 5 << 20)).unwrap();
    fs::write(at("zeros"), vec![0; 3 << 20]).unwrap();
    let sparse = File::create(at("sparse")).unwrap();
    sparse.set_len(64 << 20).unwrap();
    sparse.write_at(b"in the middle", 40 << 20).unwrap();
    fs::create_dir_all(at("dir/empty dir")).unwrap();
    fs::write(at("dir/file"), "in a directory").unwrap();
    let deep = (0..60).fold(at("deep"), |path, n| path.join(format!("level {n}")));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("bottom"), "found").unwrap();

    fs::hard_link(at("small"), at("dir/small too")).unwrap();
    symlink("small", at("link")).unwrap();
    symlink("/nowhere/at all", at("dangling")).unwrap();
    symlink(OsStr::from_bytes(b"raw \xff target"), at("raw link")).unwrap();
    let device = |name, kind, major, minor| {
        rustix::fs::mknodat(
            CWD,
            at(name),
            kind,
            Mode::RUSR | Mode::WUSR,
            makedev(major, minor),
        )
        .unwrap();
    };
    device("fifo", FileType::Fifo, 0, 0);
    device("null", FileType::CharacterDevice, 1, 3);
    device("block", FileType::BlockDevice, 7, 300);

    for name in [
        &b"not \xff utf-8 \xfe"[..],
        b"new\nline\ttab",
        b"quote\" back\\slash",
        b"<html>&",
        "\u{e9}\u{1f4af}".as_bytes(),
        &[b'n'; 255],
    ] {
        fs::write(dir.join(OsStr::from_bytes(name)), name).unwrap();
    }

    for (name, mode) in [
        ("small", 0o4751),
        ("large", 0o640),
        ("dir", 0o2775),
        ("dir/empty dir", 0o1777),
        ("empty", 0o000),
    ] {
        fs::set_permissions(at(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    for (name, uid, gid) in [
        ("large", 1000, 1001),
        ("dir", 999, 0),
        ("link", 12, 34),
        ("fifo", 5, 6),
    ] {
        lchown(at(name), Some(uid), Some(gid)).unwrap();
    }
    let xattr = |name: &str, key: &str, value: &[u8]| {
        rustix::fs::lsetxattr(at(name), key, value, XattrFlags::empty()).unwrap();
    };
    xattr("small", "user.note", b"some\0bytes\xff");
    xattr("dir", "user.empty", b"");
    xattr("link", "trusted.on-a-link", b"yes");
    xattr("dir", "system.posix_acl_default", ACL);
    xattr("large", "system.posix_acl_access", ACL);
    xattr("large", "security.capability", CAPABILITY);

    set_mtime(&at("small"), 1_000_000_000, 123_456_789);
    set_mtime(&at("large"), 1, 1);
    set_mtime(&at("link"), 1_500_000_000, 5);
    set_mtime(&at("fifo"), -5, 500_000_000);
    set_mtime(&at("dir/empty dir"), 1_600_000_000, 999_999_999);
    set_mtime(&at("dir"), 1_600_000_001, 0);
    set_mtime(dir, 1_234_567_890, 42);
}

/// `u::rwx, u:1000:rw-, g::r-x, m::rwx, o::r--` as the kernel stores it.
const ACL: &[u8] = &[
    2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255, 2, 0, 6, 0, 232, 3, 0, 0, 4, 0, 5, 0, 255, 255,
    255, 255, 16, 0, 7, 0, 255, 255, 255, 255, 32, 0, 4, 0, 255, 255, 255, 255,
];

/// `cap_net_bind_service+ep`, version 2.
const CAPABILITY: &[u8] = &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// A tree of plain files, without anything that needs root.
pub fn plain(dir: &Path, files: usize, size: usize) {
    for n in 0..files {
        let sub = dir.join(format!("d{}", n % 7));
        fs::create_dir_all(&sub).unwrap();
        fs::write(sub.join(format!("f{n}")), noise(n as u64, size)).unwrap();
    }
}
