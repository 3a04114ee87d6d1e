//! `ark schedule get`.

use ark_api::Schedule;
use jiff::Timestamp;

use super::Context;
use super::output::Get;
use crate::error::Result;
use crate::exit::Exit;
use crate::print;

/// Runs the command.
pub(crate) async fn run(context: &Context, args: Get) -> Result<Exit> {
    let cluster = context.cluster().await?;
    let schedules = args.objects::<Schedule>(&cluster).await?;
    args.print(context, &schedules, |schedules, columns| {
        print::schedule::table(schedules, columns, Timestamp::now())
    })?;
    Ok(Exit::Done)
}
