//! The log of one backup or restore: every line goes to the process's log and to a spool file that
//! becomes the `logs` artefact. Errors and warnings are also kept as messages for the `results`
//! artefact, so that what the user is told and what is counted are the same thing.
//!
//! A spool file that cannot be written loses lines of the artefact only; that is said once in the
//! process's log and in the results.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ark_api::results::{Messages, Results};
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::causes_once::grouped;
use crate::clock::Clock;
use crate::error::{Error, Result};

/// At most this many errors, and as many warnings, are kept as messages; the rest is in the log.
const MAX_MESSAGES: usize = 10_000;

/// How bad a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Info,
    Warning,
    Error,
}

/// What a message is about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum About<'a> {
    /// Ark itself: store, repository, agents.
    Ark,
    /// A cluster-scoped object.
    Cluster,
    /// An object of this namespace.
    Namespace(&'a str),
}

/// The log of one run. Clones write to the same file.
#[derive(Clone)]
pub(crate) struct RunLog(Arc<Shared>);

struct Shared {
    /// `backup/name` or `restore/name`, for the process's log.
    subject: String,
    clock: Arc<dyn Clock>,
    path: PathBuf,
    state: Mutex<State>,
}

struct State {
    file: Option<GzEncoder<BufWriter<File>>>,
    errors: Messages,
    warnings: Messages,
    error_count: usize,
    warning_count: usize,
}

impl RunLog {
    /// Starts a log about `subject` in a file `logs.gz` in the directory `spool`.
    pub(crate) fn create(subject: &str, spool: &Path, clock: Arc<dyn Clock>) -> Result<Self> {
        let path = spool.join("logs.gz");
        let file = File::create(&path)
            .map_err(Error::io(format!("create the log file {}", path.display())))?;
        Ok(Self(Arc::new(Shared {
            subject: subject.to_owned(),
            clock,
            path,
            state: Mutex::new(State {
                file: Some(GzEncoder::new(BufWriter::new(file), Compression::fast())),
                errors: Messages::default(),
                warnings: Messages::default(),
                error_count: 0,
                warning_count: 0,
            }),
        })))
    }

    /// Something that happened as it should.
    pub(crate) fn info(&self, text: impl AsRef<str>) {
        let text = text.as_ref();
        tracing::info!(subject = self.0.subject, "{text}");
        self.write(&mut self.lock(), Level::Info, text);
    }

    /// Something the user should know.
    pub(crate) fn warn(&self, about: About<'_>, text: impl AsRef<str>) {
        let text = text.as_ref();
        tracing::warn!(subject = self.0.subject, "{text}");
        let mut state = self.lock();
        state.warning_count += 1;
        add(&mut state.warnings, about, text);
        self.write(&mut state, Level::Warning, text);
    }

    /// Something that went wrong.
    pub(crate) fn error(&self, about: About<'_>, text: impl AsRef<str>) {
        let text = text.as_ref();
        tracing::error!(subject = self.0.subject, "{text}");
        let mut state = self.lock();
        state.error_count += 1;
        add(&mut state.errors, about, text);
        self.write(&mut state, Level::Error, text);
    }

    /// Number of errors so far.
    pub(crate) fn errors(&self) -> i32 {
        i32::try_from(self.lock().error_count).unwrap_or(i32::MAX)
    }

    /// Number of warnings so far.
    pub(crate) fn warnings(&self) -> i32 {
        i32::try_from(self.lock().warning_count).unwrap_or(i32::MAX)
    }

    /// Errors and warnings so far, for the `results` artefact, each cause once.
    pub(crate) fn results(&self) -> Results {
        let state = self.lock();
        Results {
            errors: grouped(&state.errors),
            warnings: grouped(&state.warnings),
            items: Vec::new(),
        }
    }

    /// Ends the file, which can then be stored. Later lines reach the process's log only.
    pub(crate) fn finish(&self) -> Result<PathBuf> {
        let file = self.lock().file.take();
        if let Some(file) = file {
            file.finish()
                .and_then(|mut buffer| buffer.flush())
                .map_err(Error::io(format!(
                    "end the log file {}",
                    self.0.path.display()
                )))?;
        }
        Ok(self.0.path.clone())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, state: &mut State, level: Level, text: &str) {
        let Some(file) = state.file.as_mut() else {
            return;
        };
        let level = match level {
            Level::Info => "info",
            Level::Warning => "warning",
            Level::Error => "error",
        };
        let line = format!(
            "time=\"{}\" level={level} msg={text:?}\n",
            self.0.clock.time().0
        );
        if let Err(error) = file.write_all(line.as_bytes()) {
            tracing::error!(subject = self.0.subject, %error, "the log file cannot be written");
            state.file = None;
            let text = format!("the log is incomplete: {error}");
            state.warning_count += 1;
            add(&mut state.warnings, About::Ark, &text);
        }
    }
}

fn add(messages: &mut Messages, about: About<'_>, text: &str) {
    if messages.len() >= MAX_MESSAGES {
        return;
    }
    match about {
        About::Ark => messages.ark.push(text.to_owned()),
        About::Cluster => messages.add("", text),
        About::Namespace(namespace) => messages.add(namespace, text),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;

    use super::*;
    use crate::clock::FixedClock;

    #[test]
    fn lines_and_messages_agree() {
        let spool = tempfile::tempdir().unwrap();
        let clock = Arc::new(FixedClock("2026-01-02T03:04:05Z".parse().unwrap()));
        let log = RunLog::create("backup/b", spool.path(), clock).unwrap();
        log.info("start \"quoted\"");
        log.warn(About::Namespace("shop"), "w");
        log.error(About::Cluster, "e");
        log.error(About::Ark, "f");
        assert_eq!((log.errors(), log.warnings()), (2, 1));
        let results = log.results();
        assert_eq!(results.errors.cluster, ["e"]);
        assert_eq!(results.errors.ark, ["f"]);
        assert_eq!(results.warnings.namespaces["shop"], ["w"]);

        let mut text = String::new();
        GzDecoder::new(File::open(log.finish().unwrap()).unwrap())
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text.lines().count(), 4);
        assert!(text.starts_with(
            "time=\"2026-01-02T03:04:05Z\" level=info msg=\"start \\\"quoted\\\"\"\n"
        ));
    }
}
