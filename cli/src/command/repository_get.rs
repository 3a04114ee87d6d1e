//! `ark restic repo get`.

use ark_api::ResticRepository;

use super::output::Get;
use super::{Context, key_warning};
use crate::error::Result;
use crate::exit::Exit;
use crate::print;

/// Runs the command.
pub(crate) async fn run(context: &Context, args: Get) -> Result<Exit> {
    let cluster = context.cluster().await?;
    let repositories = args.objects::<ResticRepository>(&cluster).await?;
    args.print(context, &repositories, print::repository::table)?;
    let locations = repositories
        .iter()
        .map(|r| r.spec.backup_storage_location.clone())
        .collect();
    key_warning::for_locations(context, &cluster, locations).await;
    Ok(Exit::Done)
}
