//! Every version this workspace's tools are pinned to, and where each tool comes from.
//!
//! Kubernetes is pinned a second time, with checksums of all its modules, by `xtask/go/kubernetes`.
//! Debian's packages have the version of the machine's Debian.

/// The Kubernetes that the test cluster runs.
pub const KUBERNETES: &str = "1.34.3";
/// The checker of dependencies.
const CARGO_DENY: &str = "0.20.2";
const HELM: &str = "v3.22.0";
const HELM_FLAGS: &str = "-X helm.sh/helm/v3/internal/version.version=v3.22.0 \
    -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor=1 \
    -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor=34 \
    -X helm.sh/helm/v3/pkg/lint/rules.k8sVersionMajor=1 \
    -X helm.sh/helm/v3/pkg/lint/rules.k8sVersionMinor=34";
const MINIO: &str = "v0.0.0-20260212201848-7aac2a2c5b7c";
const LOCAL_PATH_PROVISIONER: &str = "v0.0.30";
/// The newest restic, for comparisons. `xtask/go/restic` pins it a second time, with checksums.
const RESTIC: &str = "v0.19.1";
/// The newest rustic, for comparisons.
const RUSTIC: &str = "0.11.4";

/// A program the tasks need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tool {
    /// The store of the API server.
    Etcd,
    /// The API server.
    KubeApiserver,
    /// The controllers of Kubernetes itself.
    KubeControllerManager,
    /// Places pods on nodes.
    KubeScheduler,
    /// Runs pods.
    Kubelet,
    /// The Kubernetes command line.
    Kubectl,
    /// Installs charts.
    Helm,
    /// The S3 server of tests.
    Minio,
    /// Makes volumes for claims.
    LocalPathProvisioner,
    /// The container runtime.
    Containerd,
    /// Supervises one pod's containers for containerd.
    ContainerdShim,
    /// containerd's own command line.
    Ctr,
    /// Starts containers for containerd.
    Runc,
    /// The pod network plugin (the others lie beside it).
    CniBridge,
    /// Stock restic, which proves that repositories stay readable.
    Restic,
    /// The content of the test images.
    Busybox,
    /// Makes bridges.
    Ip,
    /// Makes mount namespaces.
    Unshare,
    /// Enters mount namespaces.
    Nsenter,
    /// Shows a program's system calls, to prove the order of its writes.
    Strace,
    /// Makes ext4 file systems, for tests on loop devices.
    MkfsExt4,
    /// Makes XFS file systems.
    MkfsXfs,
    /// Makes Btrfs file systems.
    MkfsBtrfs,
    /// Runs the program that writes through a mapping, in tests.
    Python,
    /// The newest restic, which benchmarks compare with.
    NewestRestic,
    /// The newest rustic, which benchmarks compare with.
    Rustic,
    /// Makes a PostgreSQL cluster for benchmarks (server and pgbench lie beside it).
    Initdb,
    /// Checks the dependencies.
    CargoDeny,
}

/// Where a tool comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A command of Kubernetes, built from the wrapper module.
    Kubernetes,
    /// A command of a Go module, built by `go install`.
    Go {
        /// Import path of the command.
        package: &'static str,
        /// Version of its module.
        version: &'static str,
        /// Linker flags on top of the usual ones.
        linker_flags: &'static str,
    },
    /// A command of a Go module, built from a wrapper module that pins it.
    Wrapped {
        /// Folder of the wrapper module below `xtask/go`.
        module: &'static str,
        /// Import path of the command.
        package: &'static str,
        /// Version of its module.
        version: &'static str,
    },
    /// A program of a Rust crate, built by `cargo install`.
    Crate {
        /// Name of the crate.
        name: &'static str,
        /// Its version.
        version: &'static str,
        /// How it is built.
        flags: &'static [&'static str],
    },
    /// A file of a Debian package.
    Debian {
        /// Name of the package.
        package: &'static str,
        /// Where the file may lie, best first.
        paths: &'static [&'static str],
        /// The service that the package starts and nobody here needs.
        service: Option<&'static str>,
    },
}

impl Tool {
    /// Every tool that tests and the cluster need. What only benchmarks or the check of
    /// dependencies need is not among them.
    pub const ALL: [Self; 24] = [
        Self::Etcd,
        Self::KubeApiserver,
        Self::KubeControllerManager,
        Self::KubeScheduler,
        Self::Kubelet,
        Self::Kubectl,
        Self::Helm,
        Self::Minio,
        Self::LocalPathProvisioner,
        Self::Containerd,
        Self::ContainerdShim,
        Self::Ctr,
        Self::Runc,
        Self::CniBridge,
        Self::Restic,
        Self::Busybox,
        Self::Ip,
        Self::Unshare,
        Self::Nsenter,
        Self::Strace,
        Self::MkfsExt4,
        Self::MkfsXfs,
        Self::MkfsBtrfs,
        Self::Python,
    ];

    /// What tests of file systems need.
    pub const FILE_SYSTEMS: [Self; 4] =
        [Self::MkfsExt4, Self::MkfsXfs, Self::MkfsBtrfs, Self::Python];

    /// What an API server with its controllers needs, without a node.
    pub const CONTROL_PLANE: [Self; 4] = [
        Self::Etcd,
        Self::KubeApiserver,
        Self::KubeControllerManager,
        Self::Kubectl,
    ];

    /// What a whole one-node cluster needs.
    pub const CLUSTER: [Self; 17] = [
        Self::Etcd,
        Self::KubeApiserver,
        Self::KubeControllerManager,
        Self::KubeScheduler,
        Self::Kubelet,
        Self::Kubectl,
        Self::Helm,
        Self::LocalPathProvisioner,
        Self::Containerd,
        Self::ContainerdShim,
        Self::Ctr,
        Self::Runc,
        Self::CniBridge,
        Self::Busybox,
        Self::Ip,
        Self::Unshare,
        Self::Nsenter,
    ];

    /// What every benchmark compares with.
    pub const RIVALS: [Self; 2] = [Self::NewestRestic, Self::Rustic];

    /// The name of the program.
    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::KubeApiserver => "kube-apiserver",
            Self::KubeControllerManager => "kube-controller-manager",
            Self::KubeScheduler => "kube-scheduler",
            Self::Kubelet => "kubelet",
            Self::Kubectl => "kubectl",
            Self::Helm => "helm",
            Self::Minio => "minio",
            Self::LocalPathProvisioner => "local-path-provisioner",
            Self::Containerd => "containerd",
            Self::ContainerdShim => "containerd-shim-runc-v2",
            Self::Ctr => "ctr",
            Self::Runc => "runc",
            Self::CniBridge => "bridge",
            Self::Restic | Self::NewestRestic => "restic",
            Self::Rustic => "rustic",
            Self::Initdb => "initdb",
            Self::CargoDeny => "cargo-deny",
            Self::Busybox => "busybox",
            Self::Ip => "ip",
            Self::Unshare => "unshare",
            Self::Nsenter => "nsenter",
            Self::Strace => "strace",
            Self::MkfsExt4 => "mkfs.ext4",
            Self::MkfsXfs => "mkfs.xfs",
            Self::MkfsBtrfs => "mkfs.btrfs",
            Self::Python => "python3",
        }
    }

    /// Where the tool comes from.
    pub fn source(self) -> Source {
        let debian = |package, paths| Source::Debian {
            package,
            paths,
            service: None,
        };
        match self {
            Self::KubeApiserver
            | Self::KubeControllerManager
            | Self::KubeScheduler
            | Self::Kubelet
            | Self::Kubectl => Source::Kubernetes,
            Self::Helm => Source::Go {
                package: "helm.sh/helm/v3/cmd/helm",
                version: HELM,
                // As its own build sets them: without, it takes every cluster for a 1.20.
                linker_flags: HELM_FLAGS,
            },
            Self::Minio => Source::Go {
                package: "github.com/minio/minio",
                version: MINIO,
                linker_flags: "",
            },
            Self::LocalPathProvisioner => Source::Go {
                package: "github.com/rancher/local-path-provisioner",
                version: LOCAL_PATH_PROVISIONER,
                linker_flags: "",
            },
            Self::NewestRestic => Source::Wrapped {
                module: "restic",
                package: "github.com/restic/restic/cmd/restic",
                version: RESTIC,
            },
            Self::Rustic => Source::Crate {
                name: "rustic-rs",
                version: RUSTIC,
                // As its own releases are built.
                flags: &["--no-default-features"],
            },
            Self::CargoDeny => Source::Crate {
                name: "cargo-deny",
                version: CARGO_DENY,
                // It runs for seconds: how long the build takes matters more.
                flags: &["--debug"],
            },
            Self::Initdb => Source::Debian {
                package: "postgresql",
                paths: &[
                    "/usr/lib/postgresql/18/bin/initdb",
                    "/usr/lib/postgresql/17/bin/initdb",
                    "/usr/lib/postgresql/16/bin/initdb",
                    "/usr/lib/postgresql/15/bin/initdb",
                ],
                service: Some("postgresql"),
            },
            Self::Etcd => Source::Debian {
                package: "etcd-server",
                paths: &["/usr/bin/etcd"],
                service: Some("etcd"),
            },
            Self::Containerd => Source::Debian {
                package: "containerd",
                paths: &["/usr/bin/containerd"],
                service: Some("containerd"),
            },
            Self::ContainerdShim => debian("containerd", &["/usr/bin/containerd-shim-runc-v2"]),
            Self::Ctr => debian("containerd", &["/usr/bin/ctr"]),
            Self::Runc => debian("runc", &["/usr/sbin/runc", "/usr/bin/runc"]),
            Self::CniBridge => debian("containernetworking-plugins", &["/usr/lib/cni/bridge"]),
            Self::Restic => debian("restic", &["/usr/bin/restic"]),
            Self::Busybox => debian("busybox-static", &["/bin/busybox", "/usr/bin/busybox"]),
            Self::Ip => debian("iproute2", &["/usr/sbin/ip", "/sbin/ip", "/usr/bin/ip"]),
            Self::Unshare => debian("util-linux", &["/usr/bin/unshare"]),
            Self::Nsenter => debian("util-linux", &["/usr/bin/nsenter"]),
            Self::Strace => debian("strace", &["/usr/bin/strace"]),
            Self::MkfsExt4 => debian("e2fsprogs", &["/usr/sbin/mkfs.ext4", "/sbin/mkfs.ext4"]),
            Self::MkfsXfs => debian("xfsprogs", &["/usr/sbin/mkfs.xfs", "/sbin/mkfs.xfs"]),
            Self::MkfsBtrfs => debian("btrfs-progs", &["/usr/sbin/mkfs.btrfs", "/sbin/mkfs.btrfs"]),
            Self::Python => debian("python3", &["/usr/bin/python3"]),
        }
    }
}
