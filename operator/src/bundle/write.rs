//! Writes a bundle (tar.gz): `metadata/version`, and every item twice, as Velero does: below
//! `resources/<resource>/` and again below its `<version>-preferredversion/`.
//!
//! Blocks; [`Sink`] runs it on a thread of its own behind a short queue, so that memory stays bounded by
//! a few items. A name that cannot be that of a file is encoded ([`file_name`]). Nothing is readable before
//! [`Sink::finish`].

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::file_name;
use crate::error::{Error, Result};

/// Version of the layout.
pub(crate) const FORMAT_VERSION: &str = "1.1.0";
/// Items waiting to be written.
const QUEUE: usize = 8;
/// Mode of every entry, Velero's.
const MODE: u32 = 0o755;

/// One object on its way into the bundle.
#[derive(Debug)]
pub(crate) struct Item {
    /// `deployments.apps`.
    pub(crate) resource: String,
    /// Version it was read in.
    pub(crate) version: String,
    /// Namespace; empty for cluster-scoped objects.
    pub(crate) namespace: String,
    /// Name.
    pub(crate) name: String,
    /// The object as JSON.
    pub(crate) json: Vec<u8>,
}

/// Takes items from async code and writes them on a thread of its own.
pub(crate) struct Sink {
    sender: mpsc::Sender<Item>,
    writer: JoinHandle<io::Result<()>>,
    path: PathBuf,
}

impl Sink {
    /// A bundle in the file `path`, written with times `now` (seconds).
    pub(crate) fn create(path: &Path, now: u64) -> Result<Self> {
        let mut bundle = Writer::create(path, now)
            .map_err(Error::io(format!("create the bundle {}", path.display())))?;
        let (sender, mut receiver) = mpsc::channel::<Item>(QUEUE);
        let writer = tokio::task::spawn_blocking(move || {
            while let Some(item) = receiver.blocking_recv() {
                bundle.add(&item)?;
            }
            bundle.finish()
        });
        Ok(Self {
            sender,
            writer,
            path: path.to_owned(),
        })
    }

    /// Adds an item. Fails when the writer has failed; the reason comes from [`Self::finish`].
    pub(crate) async fn add(&self, item: Item) -> Result<()> {
        self.sender.send(item).await.map_err(|_| Error::Io {
            action: format!("write the bundle {}", self.path.display()),
            source: io::Error::other("the writer stopped; see the end of the run"),
        })
    }

    /// Ends the bundle and returns its file.
    pub(crate) async fn finish(self) -> Result<PathBuf> {
        drop(self.sender);
        self.writer
            .await
            .map_err(|error| Error::Bug(format!("writing a bundle ended badly: {error}")))?
            .map_err(Error::io(format!(
                "write the bundle {}",
                self.path.display()
            )))?;
        Ok(self.path)
    }
}

struct Writer {
    tar: tar::Builder<GzEncoder<BufWriter<File>>>,
    now: u64,
}

impl Writer {
    fn create(path: &Path, now: u64) -> io::Result<Self> {
        let file = BufWriter::with_capacity(256 << 10, File::create(path)?);
        let mut writer = Self {
            tar: tar::Builder::new(GzEncoder::new(file, Compression::new(4))),
            now,
        };
        writer.entry("metadata/version", FORMAT_VERSION.as_bytes())?;
        Ok(writer)
    }

    fn add(&mut self, item: &Item) -> io::Result<()> {
        let Item {
            resource,
            version,
            namespace,
            name,
            json,
        } = item;
        let stem = file_name::stem(name);
        let tail = if namespace.is_empty() {
            format!("cluster/{stem}.json")
        } else {
            format!("namespaces/{namespace}/{stem}.json")
        };
        self.entry(&format!("resources/{resource}/{tail}"), json)?;
        // Directly after its twin, where compression makes next to nothing of it.
        self.entry(
            &format!("resources/{resource}/{version}-preferredversion/{tail}"),
            json,
        )
    }

    fn entry(&mut self, path: &str, content: &[u8]) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(MODE);
        header.set_mtime(self.now);
        header.set_entry_type(tar::EntryType::Regular);
        self.tar.append_data(&mut header, path, content)
    }

    fn finish(self) -> io::Result<()> {
        let mut file = self.tar.into_inner()?.finish()?;
        file.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;

    use super::*;

    #[tokio::test]
    async fn layout_is_veleros() {
        let dir = tempfile::tempdir().unwrap();
        let sink = Sink::create(&dir.path().join("b.tar.gz"), 7).unwrap();
        let long = "n".repeat(200);
        let odd = format!("{}\t", "e".repeat(300));
        for (resource, version, namespace, name) in [
            ("pods", "v1", "shop", "web"),
            (
                "clusterroles.rbac.authorization.k8s.io",
                "v1",
                "",
                "system:node",
            ),
            (
                "widgets.a-rather-long-group.example.org",
                "v1beta1",
                "shop",
                &long,
            ),
            ("events", "v1", "shop", &odd),
        ] {
            let item = Item {
                resource: resource.to_owned(),
                version: version.to_owned(),
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                json: b"{}".to_vec(),
            };
            sink.add(item).await.unwrap();
        }
        let path = sink.finish().await.unwrap();
        let mut archive = tar::Archive::new(GzDecoder::new(File::open(path).unwrap()));
        let mut found = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            found.push((entry.path().unwrap().display().to_string(), text));
        }
        assert_eq!(
            found[0],
            ("metadata/version".to_owned(), "1.1.0".to_owned())
        );
        assert_eq!(found[1].0, "resources/pods/namespaces/shop/web.json");
        assert_eq!(
            found[2].0,
            "resources/pods/v1-preferredversion/namespaces/shop/web.json"
        );
        assert_eq!(
            found[3].0,
            "resources/clusterroles.rbac.authorization.k8s.io/cluster/system:node.json"
        );
        assert!(found[5].0.ends_with(&format!("/shop/{long}.json")));
        let stem = file_name::stem(&odd);
        assert!(found[7].0.ends_with(&format!("/shop/{stem}.json")));
        assert_eq!(found.len(), 9);
        // Every file can be unpacked: no part of a path is longer than file systems allow.
        let longest = found
            .iter()
            .flat_map(|(path, _)| path.split('/'))
            .map(str::len);
        assert!(longest.max().unwrap() <= 255);
    }
}
