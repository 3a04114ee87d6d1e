//! What the system says of this machine.

/// The name of this machine, as restic writes it into snapshots and locks. `None` if it has none.
pub fn host_name() -> Option<String> {
    let name = rustix::system::uname();
    let name = name.nodename().to_string_lossy();
    (!name.is_empty()).then(|| name.into_owned())
}

/// A text that this run of this machine's kernel has and no other; containers share it with their
/// host. `None` if the system does not tell.
pub fn boot_id() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    let id = id
        .inspect_err(|error| tracing::debug!(%error, "there is no boot id"))
        .ok()?;
    let id = id.trim();
    (!id.is_empty()).then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_boot_has_one_id() {
        let id = super::boot_id().unwrap();
        assert_eq!(id.len(), 36);
        assert_eq!(super::boot_id(), Some(id));
    }

    #[test]
    fn it_is_the_name_the_kernel_has() {
        let kernel = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        assert_eq!(super::host_name().unwrap_or_default(), kernel.trim_end());
    }
}
