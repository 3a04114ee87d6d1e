//! `ark-agent maintain`: what a maintenance Job runs.
//!
//! For each repository it is given, one after the other: prune (frees the space of what no snapshot
//! needs), check (the structure, and a share of the data, another one each time), and write what
//! came of both into the status of its `ResticRepository`. Backups go on meanwhile; the prune waits
//! for them at its end.
//!
//! Order: prune, check, status. A process that is killed leaves a repository that every program can
//! read, and no word about it; the operator then writes that the Job ended without a result. What
//! fails for one repository is its result and does not keep the next from its turn.

mod outcome;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use ark_api::maintenance::{MaintenanceRun, Wanted};
use ark_api::repository::ResticRepositorySpec;
use ark_api::{ResticRepository, annotation, env};
use ark_engine::maintain::{self, CHECK_MEMORY, CheckRequest, DataShare, PruneRequest};
use ark_engine::{Cancel, OpenOptions, Progress, Repository, Store};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;
use kube::api::PostParams;
use tokio_util::sync::CancellationToken;

use self::outcome::{Checked, Outcome};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::location::{self, Use};
use crate::metrics::Metrics;
use crate::pods::Pods;
use crate::settings::Settings;
use crate::thread;

/// The word on the command line that asks for maintenance.
pub(crate) const COMMAND: &str = "maintain";
/// How long a prune waits, at its end, for backups and restores that are still running.
const LOCK_PATIENCE: Duration = Duration::from_hours(1);
/// The least memory a check or a prune is given, in bytes.
const LEAST_MEMORY: u64 = 96 << 20;
/// How often a status is written again when somebody else changed it meanwhile.
const WRITES: u32 = 8;

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Order {
    /// Into how many shares the data is divided; a check reads one of them.
    shares: u32,
    /// Names of `ResticRepository` objects.
    repositories: Vec<String>,
}

impl Order {
    /// Reads `--shares=N NAME…`.
    fn parse(args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut order = Self {
            shares: 1,
            repositories: Vec::new(),
        };
        for arg in args {
            match arg.strip_prefix("--shares=").map(str::parse) {
                Some(Ok(shares @ 1..)) => order.shares = shares,
                Some(_) => return Err(format!("{arg}: a number from 1 on is needed")),
                None if arg.starts_with('-') => return Err(format!("unknown option {arg}")),
                None => order.repositories.push(arg),
            }
        }
        if order.repositories.is_empty() {
            return Err(format!(
                "no repository is named: {COMMAND} --shares=N NAME…"
            ));
        }
        Ok(order)
    }
}

/// Does what the command line asks for. Fails if one of the repositories could not be maintained,
/// or the process is asked to end.
pub(crate) async fn run(
    client: kube::Client,
    settings: Settings,
    args: impl Iterator<Item = String>,
) -> anyhow::Result<ExitCode> {
    let order = Order::parse(args).map_err(anyhow::Error::msg)?;
    let metrics = Arc::new(Metrics::default());
    // Nothing here asks for the pods of this node, so nobody watches them.
    let (pods, _) = Pods::start(client.clone(), &settings.node, Arc::clone(&metrics));
    let stop = CancellationToken::new();
    let ctx = Arc::new(Context::new(client, settings, pods, metrics, stop.clone()));
    let work = async {
        let mut all_well = true;
        for name in &order.repositories {
            if stop.is_cancelled() {
                return false;
            }
            all_well &= maintain(&ctx, name, order.shares, &stop).await;
        }
        all_well
    };
    let mut work = std::pin::pin!(work);
    let all_well = tokio::select! {
        all_well = &mut work => all_well,
        signal = crate::stop_signal() => {
            signal?;
            tracing::info!("stopping; a later Job goes on from here");
            stop.cancel();
            // The repository's lock is put away first.
            work.await
        }
    };
    Ok(if all_well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Maintains one repository and writes its status; whether all went well.
async fn maintain(ctx: &Context, name: &str, shares: u32, stop: &CancellationToken) -> bool {
    let start = now();
    let object = match get(ctx, name).await {
        Ok(object) => object,
        Err(error) => {
            tracing::error!(repository = name, "{}", error.told());
            return false;
        }
    };
    let request = object.annotations().get(annotation::MAINTENANCE_REQUEST);
    // A request that was carried out before is none.
    let done = object
        .status
        .as_ref()
        .and_then(|s| s.maintenance_request.clone());
    let request = request
        .filter(|request| done.as_ref() != Some(request))
        .cloned();
    let wanted = request
        .as_deref()
        .map_or(Wanted::Maintenance, Wanted::of_request);
    let turn = object
        .status
        .as_ref()
        .and_then(|status| status.verification.as_ref())
        .map_or(0, |verification| verification.turn);
    let share = match wanted {
        Wanted::FullCheck => DataShare::All,
        Wanted::Maintenance if shares <= 1 => DataShare::All,
        Wanted::Maintenance => DataShare::Rotating {
            of: shares,
            turn: u64::try_from(turn).unwrap_or_default(),
        },
    };
    let outcome = match work(ctx, &object, wanted, share, stop).await {
        Ok(outcome) => outcome,
        Err(error) => Outcome::failed(error.told()),
    };
    let job = std::env::var(env::JOB_NAME).unwrap_or_default();
    let run = MaintenanceRun {
        job,
        start_timestamp: Some(start),
        complete_timestamp: Some(now()),
        ..MaintenanceRun::default()
    };
    let well = outcome.problem.is_none();
    match &outcome.problem {
        None => tracing::info!(repository = name, freed = outcome.freed(), "maintained"),
        Some(problem) => tracing::error!(repository = name, problem, "not maintained"),
    }
    match write(ctx, &object, &outcome, &run, request.as_deref()).await {
        Ok(()) => well,
        Err(error) => {
            tracing::error!(repository = name, "{}", error.told());
            false
        }
    }
}

/// Prunes and checks. What the check finds is in the outcome; an error is what kept the work from
/// being done.
async fn work(
    ctx: &Context,
    object: &ResticRepository,
    wanted: Wanted,
    share: DataShare,
    stop: &CancellationToken,
) -> Result<Outcome> {
    let ResticRepositorySpec {
        backup_storage_location,
        volume_namespace,
        ..
    } = &object.spec;
    let (access, options) =
        location::access(ctx, backup_storage_location, volume_namespace, Use::Backup).await?;
    let options = OpenOptions {
        retry_lock: LOCK_PATIENCE,
        ..options
    };
    let runtime = tokio::runtime::Handle::current();
    let stop = stop.clone();
    let memory = memory(std::env::var(env::MEMORY_LIMIT).ok().as_deref());
    thread::run("maintain", move || {
        let store = Store::open(&access.config)?
            .child(&access.prefix)
            .with_cancel(stop.clone());
        let repository = Repository::open(store, &[access.key], options, runtime)?;
        let mut outcome = Outcome::default();
        if wanted == Wanted::Maintenance {
            prune(&repository, memory, &stop, &mut outcome)?;
        }
        check(&repository, share, memory, &stop, &mut outcome)?;
        Ok(outcome)
    })
    .await
}

/// A prune that cannot be done is part of the outcome, because the check that follows tells why.
fn prune(repository: &Repository, memory: u64, stop: &Cancel, outcome: &mut Outcome) -> Result<()> {
    let request = PruneRequest {
        memory,
        ..PruneRequest::default()
    };
    match maintain::prune(repository, &request, &Progress::new(), stop) {
        Ok(report) => outcome.pruned = Some(report),
        Err(ark_engine::Error::Cancelled) => return Err(Error::Cancelled),
        Err(error) => {
            let error = Error::from(error);
            outcome.problem = Some(format!("the prune: {}", error.told()));
        }
    }
    Ok(())
}

fn check(
    repository: &Repository,
    share: DataShare,
    memory: u64,
    stop: &Cancel,
    outcome: &mut Outcome,
) -> Result<()> {
    let shares = match share {
        DataShare::Rotating { of, .. } => of,
        _ => 1,
    };
    let request = CheckRequest {
        data: share,
        memory,
    };
    let report = maintain::check_with(repository, &request, &Progress::new(), stop)?;
    let affected: Vec<String> = report
        .findings
        .iter()
        .flat_map(|finding| finding.snapshots.iter().cloned())
        .collect();
    let backups = if affected.is_empty() {
        Vec::new()
    } else {
        outcome::backups_of(&repository.snapshots()?, &affected)
    };
    outcome.checked = Some(Checked {
        report,
        backups,
        shares,
    });
    Ok(())
}

/// Three quarters of the container's limit: the rest is for what is outside an operation's count.
fn memory(limit: Option<&str>) -> u64 {
    limit
        .and_then(|text| text.parse::<u64>().ok())
        .map_or(CHECK_MEMORY, |limit| (limit / 4 * 3).max(LEAST_MEMORY))
}

async fn get(ctx: &Context, name: &str) -> Result<ResticRepository> {
    ctx.own::<ResticRepository>()
        .get_opt(name)
        .await
        .map_err(|source| Error::api(format!("get ResticRepository {name}"), source))?
        .ok_or_else(|| Error::InvalidSpec(format!("ResticRepository {name} does not exist")))
}

/// Writes the outcome into the newest state of the status.
async fn write(
    ctx: &Context,
    object: &ResticRepository,
    outcome: &Outcome,
    run: &MaintenanceRun,
    request: Option<&str>,
) -> Result<()> {
    let name = object.name_any();
    let api = ctx.own::<ResticRepository>();
    for _ in 0..WRITES {
        let mut newest = get(ctx, &name).await?;
        if newest.uid() != object.uid() {
            return Err(Error::ObjectGone);
        }
        outcome::apply(&mut newest, outcome, run, request);
        match api
            .replace_status(&name, &PostParams::default(), &newest)
            .await
        {
            Ok(_) => return Ok(()),
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(source) => {
                let doing = format!("write the status of ResticRepository {name}");
                return Err(Error::api(doing, source));
            }
        }
    }
    Err(Error::Bug(format!(
        "the status of ResticRepository {name} changed {WRITES} times while it was written"
    )))
}

/// The time now as the API writes it: whole seconds.
fn now() -> Time {
    let now = jiff::Timestamp::now();
    Time(jiff::Timestamp::from_second(now.as_second()).unwrap_or(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Order, String> {
        Order::parse(args.iter().map(|arg| (*arg).to_owned()))
    }

    #[test]
    fn repositories_and_shares_are_read_from_the_command_line() {
        let order = parse(&["--shares=30", "a", "b"]).unwrap();
        assert_eq!((order.shares, order.repositories.len()), (30, 2));
        for wrong in [
            &["--shares=0", "a"][..],
            &["--share=1", "a"],
            &["--shares=3"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn an_operation_gets_three_quarters_of_the_limit() {
        assert_eq!(memory(Some("1073741824")), 768 << 20);
        assert_eq!(memory(Some("1048576")), LEAST_MEMORY);
        assert_eq!(memory(None), CHECK_MEMORY);
    }
}
