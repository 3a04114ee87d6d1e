//! `ark restore get`.

use ark_api::Restore;

use super::Context;
use super::output::Get;
use crate::error::Result;
use crate::exit::Exit;
use crate::print;

/// Runs the command.
pub(crate) async fn run(context: &Context, args: Get) -> Result<Exit> {
    let cluster = context.cluster().await?;
    let restores = args.objects::<Restore>(&cluster).await?;
    args.print(context, &restores, print::restore::table)?;
    Ok(Exit::Done)
}
