//! What this machine is, for the head of a report.

use std::{collections::BTreeMap, fs, thread};

use anyhow::Result;

use crate::{program::Program, report::About};

/// The machine, the programs' versions and the time.
pub(crate) fn about(programs: &[(&'static str, &dyn Program)], quick: bool) -> Result<About> {
    let mut versions = BTreeMap::new();
    for (name, program) in programs {
        versions.insert(*name, program.version()?);
    }
    let kernel = rustix::system::uname();
    Ok(About {
        started: jiff::Timestamp::now().to_string(),
        quick,
        versions,
        processor: processor().unwrap_or_else(|| "unknown processor".to_owned()),
        processors: thread::available_parallelism().map_or(1, usize::from),
        kernel: kernel.release().to_string_lossy().into_owned(),
        load: load().unwrap_or_else(|| "unknown".to_owned()),
    })
}

fn processor() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Of the last minute.
fn load() -> Option<String> {
    let text = fs::read_to_string("/proc/loadavg").ok()?;
    text.split(' ').next().map(str::to_owned)
}
