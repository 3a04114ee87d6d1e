//! What is deleted, and that it is meant: options shared by all `delete` commands.

use std::io::{self, BufRead, IsTerminal};

use clap::Args;

use super::Context;
use super::output::objects;
use crate::error::{Error, Result};
use crate::kube::{Cluster, Kind};

/// Options of every `delete`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Doomed {
    /// Names
    #[arg(required_unless_present_any = ["all", "selector"])]
    names: Vec<String>,
    /// All there are
    #[arg(long, conflicts_with_all = ["names", "selector"])]
    all: bool,
    /// Those with these labels, as for `kubectl -l`
    #[arg(short = 'l', long, value_name = "SELECTOR", conflicts_with = "names")]
    selector: Option<String>,
    /// Do not ask whether it is meant
    #[arg(long)]
    confirm: bool,
}

impl Doomed {
    /// The objects that are meant, after asking; none if the answer was no. `consequence` ends the question.
    pub(crate) async fn objects<K: Kind>(
        &self,
        context: &Context,
        cluster: &Cluster,
        consequence: &str,
    ) -> Result<Vec<K>> {
        let found = self.found(context, cluster).await?;
        self.meant(context, found, consequence)
    }

    /// The objects that the options name, before anybody is asked.
    pub(crate) async fn found<K: Kind>(
        &self,
        context: &Context,
        cluster: &Cluster,
    ) -> Result<Vec<K>> {
        let names: &[String] = if self.all { &[] } else { &self.names };
        let found: Vec<K> = objects(cluster, names, self.selector.as_deref()).await?;
        if found.is_empty() {
            context.printer.note(&format!(
                "There is no {} to delete in namespace {}.",
                K::kind(&()),
                cluster.namespace()
            ));
        }
        Ok(found)
    }

    /// `found` after asking whether it is meant; nothing if the answer was no. `consequence` ends the question.
    pub(crate) fn meant<K: Kind>(
        &self,
        context: &Context,
        found: Vec<K>,
        consequence: &str,
    ) -> Result<Vec<K>> {
        if self.confirm || found.is_empty() {
            return Ok(found);
        }
        let names: Vec<String> = found.iter().map(kube::ResourceExt::name_any).collect();
        let question = format!(
            "Delete {} {}? {consequence} [y/N]",
            K::kind(&()),
            names.join(", ")
        );
        if !io::stdin().is_terminal() {
            return Err(Error::usage(format!(
                "nothing is deleted unless it is meant: add --confirm ({question})"
            )));
        }
        context.printer.note(&question);
        let mut answer = String::new();
        io::stdin()
            .lock()
            .read_line(&mut answer)
            .map_err(Error::Output)?;
        if matches!(answer.trim(), "y" | "Y" | "yes" | "Yes") {
            return Ok(found);
        }
        context.printer.note("Nothing was deleted.");
        Ok(Vec::new())
    }
}
