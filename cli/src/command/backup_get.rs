//! `ark backup get`.

use ark_api::Backup;
use jiff::Timestamp;

use super::Context;
use super::output::Get;
use crate::error::Result;
use crate::exit::Exit;
use crate::print;

/// Runs the command.
pub(crate) async fn run(context: &Context, args: Get) -> Result<Exit> {
    let cluster = context.cluster().await?;
    let backups = args.objects::<Backup>(&cluster).await?;
    args.print(context, &backups, |backups, columns| {
        print::backup::table(backups, columns, Timestamp::now())
    })?;
    Ok(Exit::Done)
}
