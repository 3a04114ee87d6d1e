//! Backups to an object store that is a network away.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::{
    PAGES_CHUNK, Servers,
    minio::{BUCKET, KEY, Minio, SECRET},
    usual,
};
use crate::{
    data::pages::{self, Fill},
    measure, print,
    program::Place,
    proxy::Proxy,
    rounds::Sample,
    run::{Run, bound_of_backup},
};

const SEED: u64 = 4;
const DELAY: Duration = Duration::from_millis(50);

/// First backups of a database file to MinIO, each request delayed.
pub(super) fn minio(run: &mut Run, servers: &Servers) -> Result<()> {
    let Some(case) = run.case("minio") else {
        return Ok(());
    };
    let program = servers
        .minio
        .as_deref()
        .context("no MinIO: name its program")?;
    let source = run.work.folder("source")?;
    pages::write(
        &source.join("16384"),
        run.sizes.remote_pages,
        SEED,
        Fill::Dense,
    )?;
    let minio = Minio::start(&run.work, program)?;
    let proxy = Proxy::start(minio.address, DELAY)?;
    print::step(&format!("{}: {}", case.name, case.title));
    let samples = run.rounds.run(|who, round| {
        let prefix = format!("{}-{round}", who.name());
        let place = Place::S3 {
            endpoint: format!("http://{}", proxy.address()),
            bucket: BUCKET.to_owned(),
            prefix: prefix.clone(),
            key: KEY.to_owned(),
            secret: SECRET.to_owned(),
        };
        measure::run(&run.work, &run.program(who).init(&place))?;
        proxy.take();
        let call = run.program(who).backup(&place, &usual(&source));
        let usage = measure::run(&run.work, &call)?;
        let (requests, added) = proxy.take();
        minio.empty(&prefix)?;
        Ok(Sample {
            usage,
            added,
            requests: Some(requests),
        })
    })?;
    let speeds = run.speeds(&source, PAGES_CHUNK)?;
    let bound = speeds.map(|speeds| bound_of_backup(&speeds, &source, &samples));
    run.done(case, samples, bound.transpose()?);
    run.work.remove("source")
}
