//! What the system says of this machine.

/// The name of this machine, as restic writes it into snapshots and locks. `None` if it has none.
pub fn host_name() -> Option<String> {
    let name = rustix::system::uname();
    let name = name.nodename().to_string_lossy();
    (!name.is_empty()).then(|| name.into_owned())
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_is_the_name_the_kernel_has() {
        let kernel = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        assert_eq!(super::host_name().unwrap_or_default(), kernel.trim_end());
    }
}
