//! Writing an image archive without a container tool.
//!
//! The format is the one `docker save` writes and every runtime imports: a layer (a tar of files),
//! a configuration, and a `manifest.json` that names both. The same content always gives the same
//! bytes: entries are sorted, times are zero, owners are root.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use crate::place;

/// What one path of an image holds.
#[derive(Debug, Clone)]
pub(super) enum Entry {
    Folder { mode: u32 },
    Text { text: String, mode: u32 },
    Copy { from: PathBuf, mode: u32 },
    Link { to: String },
}

/// An image: files and how to run them.
#[derive(Debug, Clone)]
pub struct Image {
    /// The full reference, registry and tag included.
    pub reference: String,
    pub(super) entries: BTreeMap<String, Entry>,
    pub(super) entrypoint: Vec<String>,
    pub(super) cmd: Vec<String>,
}

impl Image {
    pub(super) fn new(reference: &str) -> Self {
        Self {
            reference: reference.to_owned(),
            entries: BTreeMap::new(),
            entrypoint: Vec::new(),
            cmd: Vec::new(),
        }
    }

    /// Adds a path (without a leading slash) and the folders above it.
    pub(super) fn add(&mut self, path: &str, entry: Entry) {
        for (at, _) in path.match_indices('/') {
            self.entries
                .entry(path[..at].to_owned())
                .or_insert(Entry::Folder { mode: 0o755 });
        }
        self.entries.insert(path.to_owned(), entry);
    }

    /// The name of the archive's file.
    pub(super) fn file_name(&self) -> String {
        let name = self.reference.trim_start_matches("docker.io/");
        format!("{}.tar", name.replace(['/', ':'], "-"))
    }

    /// Writes the archive and returns its digest.
    pub(super) fn write(&self, path: &Path) -> Result<String> {
        self.write_to(path)
            .with_context(|| format!("cannot write the image {}", path.display()))
    }

    fn write_to(&self, path: &Path) -> Result<String> {
        let layer = self.layer()?;
        let layer_digest = hex::encode(Sha256::digest(&layer));
        let config = json!({
            "architecture": place::image_architecture(),
            "os": "linux",
            "created": "1970-01-01T00:00:00Z",
            "config": {
                "Entrypoint": self.entrypoint,
                "Cmd": self.cmd,
                "Env": ["PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"],
                "WorkingDir": "/",
            },
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer_digest}")]},
            "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "cargo xtask image"}],
        });
        let config = serde_json::to_vec(&config)?;
        let config_name = format!("{}.json", hex::encode(Sha256::digest(&config)));
        let layer_name = format!("{layer_digest}/layer.tar");
        let manifest = json!([{
            "Config": config_name,
            "RepoTags": [self.reference],
            "Layers": [layer_name],
        }]);
        let manifest = serde_json::to_vec(&manifest)?;

        let temporary = path.with_extension("new");
        let mut output = Builder::new(Hashing::new(File::create(&temporary)?));
        append(&mut output, &config_name, 0o644, &config)?;
        append(&mut output, &layer_name, 0o644, &layer)?;
        append(&mut output, "manifest.json", 0o644, &manifest)?;
        let (file, digest) = output.into_inner()?.finish();
        drop(file);
        std::fs::rename(&temporary, path)?;
        Ok(digest)
    }

    fn layer(&self) -> Result<Vec<u8>> {
        let mut layer = Builder::new(Vec::new());
        for (path, entry) in &self.entries {
            match entry {
                Entry::Folder { mode } => {
                    let mut header = header(EntryType::Directory, *mode, 0);
                    layer.append_data(&mut header, format!("{path}/"), io::empty())?;
                }
                Entry::Text { text, mode } => append(&mut layer, path, *mode, text.as_bytes())?,
                Entry::Copy { from, mode } => {
                    let bytes = std::fs::read(from)
                        .with_context(|| format!("cannot read {}", from.display()))?;
                    append(&mut layer, path, *mode, &bytes)?;
                }
                Entry::Link { to } => {
                    let mut header = header(EntryType::Symlink, 0o777, 0);
                    layer.append_link(&mut header, path, to)?;
                }
            }
        }
        Ok(layer.into_inner()?)
    }
}

fn append(to: &mut Builder<impl Write>, path: &str, mode: u32, bytes: &[u8]) -> io::Result<()> {
    let size = u64::try_from(bytes.len()).map_err(io::Error::other)?;
    to.append_data(&mut header(EntryType::Regular, mode, size), path, bytes)
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

/// Passes bytes on and keeps their digest.
struct Hashing {
    to: File,
    digest: Sha256,
}

impl Hashing {
    fn new(to: File) -> Self {
        Self {
            to,
            digest: Sha256::new(),
        }
    }

    fn finish(self) -> (File, String) {
        (self.to, hex::encode(self.digest.finalize()))
    }
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.to.write(bytes)?;
        self.digest.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(dir: &Path) -> Image {
        let program = dir.join("program");
        std::fs::write(&program, "#!").unwrap();
        let mut image = Image::new("docker.io/ark/example:1");
        image.add(
            "usr/bin/program",
            Entry::Copy {
                from: program,
                mode: 0o755,
            },
        );
        image.add(
            "bin",
            Entry::Link {
                to: "usr/bin".to_owned(),
            },
        );
        image.add("tmp", Entry::Folder { mode: 0o1777 });
        image
    }

    #[test]
    fn the_same_content_gives_the_same_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let one = image(dir.path()).write(&dir.path().join("1.tar")).unwrap();
        let two = image(dir.path()).write(&dir.path().join("2.tar")).unwrap();
        assert_eq!(one, two);
        let bytes = std::fs::read(dir.path().join("1.tar")).unwrap();
        assert_eq!(hex::encode(Sha256::digest(&bytes)), one);
    }

    #[test]
    fn folders_come_before_what_they_hold() {
        let dir = tempfile::tempdir().unwrap();
        let layer = image(dir.path()).layer().unwrap();
        let mut archive = tar::Archive::new(&layer[..]);
        let paths: Vec<String> = archive
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(
            paths,
            ["bin", "tmp/", "usr/", "usr/bin/", "usr/bin/program"]
        );
    }

    #[test]
    fn an_archive_is_named_after_its_image() {
        assert_eq!(
            Image::new("docker.io/ark/agent:0.1.0").file_name(),
            "ark-agent-0.1.0.tar"
        );
        assert_eq!(
            Image::new("docker.io/library/nginx:1.29").file_name(),
            "library-nginx-1.29.tar"
        );
    }
}
