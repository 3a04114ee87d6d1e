//! What the listing and creating commands share: `-o`, names, label columns.

use clap::{Args, ValueEnum};
use kube::ResourceExt;

use super::Context;
use crate::error::{Error, Result};
use crate::kube::{Cluster, Kind};
use crate::print::list::LabelColumns;
use crate::print::structured::{self, Form};

/// Form of the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// A table.
    #[default]
    Table,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

impl Output {
    /// The machine-readable form, if it is one.
    pub(crate) fn form(self) -> Option<Form> {
        match self {
            Self::Table => None,
            Self::Json => Some(Form::Json),
            Self::Yaml => Some(Form::Yaml),
        }
    }
}

/// Options of every listing command.
#[derive(Clone, Debug, Args)]
pub(crate) struct Get {
    /// Names; all when left out
    pub(crate) names: Vec<String>,
    /// Only objects with these labels, as for `kubectl -l`
    #[arg(short = 'l', long, value_name = "SELECTOR", conflicts_with = "names")]
    pub(crate) selector: Option<String>,
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Output,
    /// Labels that get a column of their own
    #[arg(short = 'L', long, value_name = "KEY,...", value_delimiter = ',')]
    pub(crate) label_columns: Vec<String>,
    /// Show all labels in a last column
    #[arg(long)]
    pub(crate) show_labels: bool,
}

impl Get {
    /// The label columns.
    pub(crate) fn columns(&self) -> LabelColumns {
        LabelColumns {
            keys: self.label_columns.clone(),
            all: self.show_labels,
        }
    }

    /// The objects that the options name.
    pub(crate) async fn objects<K: Kind>(&self, cluster: &Cluster) -> Result<Vec<K>> {
        objects(cluster, &self.names, self.selector.as_deref()).await
    }

    /// Prints objects in the form that the options name; `table` makes the table.
    pub(crate) fn print<K: Kind>(
        &self,
        context: &Context,
        objects: &[K],
        table: impl FnOnce(&[K], &LabelColumns) -> String,
    ) -> Result<()> {
        match self.output.form() {
            Some(form) => context.printer.out(&structured::objects(objects, form)?),
            None if objects.is_empty() => {
                let namespace = &context.globals.namespace;
                context.printer.note(&format!(
                    "There is no {} in namespace {namespace}{}.",
                    K::kind(&()),
                    if self.selector.is_some() {
                        " with these labels"
                    } else {
                        ""
                    }
                ));
                Ok(())
            }
            None => context.printer.out(&table(objects, &self.columns())),
        }
    }
}

/// The objects of these names, or else all that the selector matches.
pub(crate) async fn objects<K: Kind>(
    cluster: &Cluster,
    names: &[String],
    selector: Option<&str>,
) -> Result<Vec<K>> {
    if names.is_empty() {
        let mut objects = cluster.list::<K>(selector.unwrap_or_default()).await?;
        objects.sort_by(|a, b| crate::print::list::by_name(&a.name_any(), &b.name_any()));
        return Ok(objects);
    }
    let mut objects = Vec::with_capacity(names.len());
    for name in names {
        objects.push(cluster.get(name).await?);
    }
    Ok(objects)
}

/// A name that Kubernetes would take, checked before anything is asked of the cluster.
pub(crate) fn checked_name(name: &str) -> Result<()> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let fits = !name.is_empty()
        && name.len() <= 253
        && name.chars().all(good)
        && ends(name.chars().next())
        && ends(name.chars().last());
    if fits {
        return Ok(());
    }
    Err(Error::usage(format!(
        "{name:?} is not a name: use lower-case letters, digits, '-' and '.', and begin and end with a letter or digit"
    )))
}
