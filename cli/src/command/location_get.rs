//! `ark backup-location get`.

use ark_api::BackupStorageLocation;
use jiff::Timestamp;

use super::output::Get;
use super::{Context, key_warning};
use crate::error::Result;
use crate::exit::Exit;
use crate::print;

/// Runs the command.
pub(crate) async fn run(context: &Context, args: Get) -> Result<Exit> {
    let cluster = context.cluster().await?;
    let locations = args.objects::<BackupStorageLocation>(&cluster).await?;
    args.print(context, &locations, |locations, columns| {
        print::location::table(locations, columns, Timestamp::now())
    })?;
    key_warning::show(context, &locations);
    Ok(Exit::Done)
}
