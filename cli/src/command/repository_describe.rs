//! `ark restic repo describe`.

use ark_api::ResticRepository;

use super::Context;
use super::output::Get;
use crate::error::Result;
use crate::exit::Exit;
use crate::print;

/// Runs the command.
pub(crate) async fn run(context: &Context, args: Get) -> Result<Exit> {
    let cluster = context.cluster().await?;
    let repositories = args.objects::<ResticRepository>(&cluster).await?;
    args.print(context, &repositories, |repositories, _| {
        let texts: Vec<String> = repositories
            .iter()
            .map(print::repository::describe)
            .collect();
        texts.join("\n\n")
    })?;
    Ok(Exit::Done)
}
