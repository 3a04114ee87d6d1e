//! What the tests of the agent share.
#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test, in its helpers too"
)]
#![allow(
    dead_code,
    unreachable_pub,
    reason = "not every test program uses everything"
)]

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use ark_api::PodVolumeBackup;
use ark_api::pod_volume_backup::{PodVolumeBackupStatus, VolumePhase};
use ark_tests::node::{Node, until};
use kube::ResourceExt as _;

pub type Phase = VolumePhase;

/// Creates a backup and waits for its end.
pub async fn back_up(node: &Node, backup: PodVolumeBackup) -> PodVolumeBackupStatus {
    let name = backup.name_any();
    node.create(backup).await;
    node.ended(&name).await.status.unwrap()
}

/// Phase and reason.
pub fn said(status: &PodVolumeBackupStatus) -> (Phase, &str) {
    (
        status.phase.unwrap(),
        status.reason.as_deref().unwrap_or_default(),
    )
}

/// A few files of several kinds.
pub fn files(dir: &Path) {
    fs::create_dir_all(dir.join("sub")).unwrap();
    fs::write(dir.join("index.html"), "hello").unwrap();
    fs::write(dir.join("sub/data"), vec![7; 100_000]).unwrap();
    fs::set_permissions(dir.join("sub/data"), fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::chown(dir.join("sub/data"), Some(1234), Some(4321)).unwrap();
    std::os::unix::fs::symlink("index.html", dir.join("link")).unwrap();
}

/// Checks that they are there as they were.
pub fn same_files(dir: &Path) {
    assert_eq!(fs::read_to_string(dir.join("index.html")).unwrap(), "hello");
    let data = dir.join("sub/data");
    assert_eq!(fs::read(&data).unwrap(), vec![7; 100_000]);
    let metadata = fs::metadata(&data).unwrap();
    let seen = (metadata.mode() & 0o7777, metadata.uid(), metadata.gid());
    assert_eq!(seen, (0o640, 1234, 4321));
    assert_eq!(
        fs::read_link(dir.join("link")).unwrap(),
        Path::new("index.html")
    );
}

/// Waits until a backup is in progress.
pub async fn in_progress(node: &Node, name: &str) {
    let api = node.api::<PodVolumeBackup>();
    until("progress", async || {
        let status = api.get(name).await.unwrap().status?;
        (status.phase? == Phase::InProgress).then_some(())
    })
    .await;
}

/// A file of random bytes: nothing about it can be saved, so storing it takes a moment.
pub fn fill(path: &Path, size: u64) {
    use std::io::Read as _;
    let random = fs::File::open("/dev/urandom").unwrap();
    let mut file = fs::File::create(path).unwrap();
    std::io::copy(&mut random.take(size), &mut file).unwrap();
}
