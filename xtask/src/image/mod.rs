//! `cargo xtask image`: container images from static programs, without a container tool.
//!
//! Ark's own images hold one or two static programs and the certificate authorities this machine
//! trusts. The others are for the test cluster, where nothing can be pulled: they are made of a
//! static busybox. Archives lie in `target/images`; one whose content did not change is not
//! written, nor imported, again.

mod archive;
mod content;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

pub use archive::Image;
pub use content::{BUSYBOX, NGINX, PAUSE};

use crate::print::{self, Progress};
use crate::tools::{self, Lock, Tool};
use crate::{exec, place};

/// The packages whose programs go into images or are used beside them.
const PACKAGES: [&str; 3] = ["ark-operator", "ark-agent", "ark-cli"];

/// An image archive on disk.
#[derive(Debug, Clone)]
pub struct Archive {
    /// The image's full reference.
    pub reference: String,
    /// The file.
    pub path: PathBuf,
    /// Digest of the file.
    pub digest: String,
}

/// Builds Ark's programs and writes its images.
pub fn ark_images() -> Result<Vec<Archive>> {
    build_programs()?;
    let programs = programs_dir()?;
    write(&[
        content::operator(&programs, place::version()),
        content::agent(&programs, place::version()),
    ])
}

/// Writes the images the test cluster itself is made of.
pub fn test_images() -> Result<Vec<Archive>> {
    tools::ensure(&[Tool::Busybox])?;
    let busybox = tools::static_busybox()?;
    let applets = exec::output(Command::new(&busybox).arg("--list"))?;
    let applets: Vec<&str> = applets.lines().filter(|name| !name.is_empty()).collect();
    write(&[
        content::pause(&busybox),
        content::busybox(&busybox, &applets),
        content::nginx(&busybox, &applets),
    ])
}

/// Where the static programs are, `ark` among them.
pub fn programs_dir() -> Result<PathBuf> {
    Ok(place::target().join(place::rust_target()?).join("release"))
}

/// Environment variable: when it is set, Ark's own packages but the engine are built without
/// optimisation, which takes a third of the processor time. For test runs, never for images that
/// anybody installs.
const QUICK: &str = "ARK_QUICK_PROGRAMS";

/// Builds the static programs. Quick when nothing changed: cargo decides.
pub fn build_programs() -> Result<()> {
    let target = place::rust_target()?;
    let progress = Progress::start("building Ark's static programs");
    let mut command = exec::cargo();
    command
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .args(["build", "--release", "--bins", "--target", target]);
    for package in PACKAGES {
        command.args(["-p", package]);
    }
    if std::env::var_os(QUICK).is_some() {
        // The engine and all dependencies stay as they are released.
        for package in ["ark-operator", "ark-agent", "ark-cli", "ark-api"] {
            let setting = format!("profile.release.package.{package}.opt-level=0");
            command.args(["--config", &setting]);
        }
    }
    exec::run(&mut command)?;
    progress.done();
    Ok(())
}

fn write(images: &[Image]) -> Result<Vec<Archive>> {
    let dir = place::target().join("images");
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let _lock = Lock::take(&dir.join("lock"), "another run is writing images")?;
    images.iter().map(|image| write_one(&dir, image)).collect()
}

fn write_one(dir: &Path, image: &Image) -> Result<Archive> {
    let path = dir.join(image.file_name());
    let digest_file = path.with_extension("tar.sha256");
    let before = std::fs::read_to_string(&digest_file).unwrap_or_default();
    let digest = image.write(&path)?;
    if before != digest {
        let size = std::fs::metadata(&path)
            .with_context(|| format!("cannot read {}", path.display()))?
            .len();
        print::note(&format!("image {}: {}", image.reference, print::size(size)));
        std::fs::write(&digest_file, &digest)
            .with_context(|| format!("cannot write {}", digest_file.display()))?;
    }
    Ok(Archive {
        reference: image.reference.clone(),
        path,
        digest,
    })
}
