//! The table and the JSON document: walls, ratios, gates, and what bounds a case.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::{
    bound::Bound,
    case::{Also, Case},
    program::Who,
    rounds::{Sample, Samples},
    statistics::{Verdict, median, ratio},
};

/// What came of a case.
pub(crate) struct Outcome {
    /// The case.
    pub(crate) case: Case,
    /// All runs.
    pub(crate) samples: Samples,
    /// How long its steps alone would take.
    pub(crate) bound: Option<Bound>,
}

/// A gate with what became of it.
#[derive(Debug, Serialize)]
struct Gate {
    what: &'static str,
    against: Option<&'static str>,
    figure: f64,
    limit: f64,
    verdict: Verdict,
}

impl Outcome {
    fn series(&self, who: Who, of: impl Fn(&Sample) -> f64) -> Vec<f64> {
        self.samples
            .get(&who)
            .into_iter()
            .flatten()
            .map(of)
            .collect()
    }

    fn middle(&self, who: Who, of: impl Fn(&Sample) -> f64) -> f64 {
        median(&self.series(who, of)).unwrap_or(f64::NAN)
    }

    fn against(&self, who: Who, of: impl Fn(&Sample) -> f64 + Copy) -> Option<f64> {
        ratio(&self.series(Who::Ark, of), &self.series(who, of))
    }

    fn gates(&self) -> Vec<Gate> {
        let mut gates = Vec::new();
        let mut add = |what, against: Option<Who>, figure: Option<f64>, limit| {
            if let Some(figure) = figure {
                gates.push(Gate {
                    what,
                    against: against.map(Who::name),
                    figure,
                    limit,
                    verdict: Verdict::at_most(limit, figure),
                });
            }
        };
        for (who, limit) in [
            (Who::Restic, self.case.restic),
            (Who::Rustic, self.case.rustic),
        ] {
            add("wall", Some(who), self.against(who, wall), limit);
        }
        for also in self.case.also {
            match *also {
                Also::Memory(limit) => {
                    let memory = self.middle(Who::Ark, memory);
                    add("peak memory, MiB", None, Some(memory), float(limit) / MIB);
                }
                Also::Processor(limit) => {
                    add(
                        "cpu",
                        Some(Who::Restic),
                        self.against(Who::Restic, cpu),
                        limit,
                    );
                }
                Also::Added(limit) => {
                    for who in [Who::Restic, Who::Rustic] {
                        add("added bytes", Some(who), self.against(who, added), limit);
                    }
                }
            }
        }
        gates
    }

    /// The case's part of the table.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("{}: {}", self.case.name, self.case.title)];
        let runs = self.samples.values().map(Vec::len).min().unwrap_or(0);
        let requests = self
            .samples
            .values()
            .flatten()
            .any(|sample| sample.requests.is_some());
        let mut head = format!(
            "  {:<8}{:>9}{:>7}{:>9}{:>7}{:>9}{:>11}{:>7}",
            "", "wall s", "ark/", "cpu s", "ark/", "RSS MiB", "added MiB", "ark/"
        );
        if requests {
            head.push_str("  requests");
        }
        lines.push(format!("{head}   medians of {runs}"));
        for who in Who::ALL {
            let against = |of: fn(&Sample) -> f64| match who {
                Who::Ark => String::new(),
                _ => self
                    .against(who, of)
                    .map_or("-".to_owned(), |ratio| format!("{ratio:.2}")),
            };
            let mut line = format!(
                "  {:<8}{:>9.2}{:>7}{:>9.2}{:>7}{:>9.0}{:>11.1}{:>7}",
                who.name(),
                self.middle(who, wall),
                against(wall),
                self.middle(who, cpu),
                against(cpu),
                self.middle(who, memory),
                self.middle(who, added) / MIB,
                against(added),
            );
            if requests {
                let count = self.middle(who, |sample| float(sample.requests.unwrap_or(0)));
                let count = format!("{count:>10.0}");
                line.push_str(&count);
            }
            lines.push(line);
        }
        for gate in self.gates() {
            let against = gate
                .against
                .map_or(String::new(), |who| format!(" against {who}"));
            lines.push(format!(
                "  {:<7} {}{against}: {} (at most {})",
                gate.verdict.word(),
                gate.what,
                figure(gate.figure),
                figure(gate.limit)
            ));
        }
        lines.push(self.bound_line());
        lines
    }

    fn bound_line(&self) -> String {
        let Some(bound) = self.bound else {
            return "  bound   none computed: what is read and hashed depends on what is known of the source"
                .to_owned();
        };
        let wall = self.middle(Who::Ark, wall);
        let shares: Vec<String> = bound
            .shares(wall)
            .into_iter()
            .map(|(step, share)| format!("{step} {:.0} %", share * 100.0))
            .collect();
        let best = |who| bound.seconds() / self.middle(who, self::wall);
        format!(
            "  bound   {:.2} s for the steps alone ({:.2} of restic, {:.2} of rustic); of ark's {wall:.2} s: {}",
            bound.seconds(),
            best(Who::Restic),
            best(Who::Rustic),
            shares.join(", ")
        )
    }
}

fn wall(sample: &Sample) -> f64 {
    sample.usage.wall
}

fn cpu(sample: &Sample) -> f64 {
    sample.usage.cpu()
}

fn memory(sample: &Sample) -> f64 {
    float(sample.usage.peak_rss) / MIB
}

fn added(sample: &Sample) -> f64 {
    float(sample.added)
}

const MIB: f64 = 1024.0 * 1024.0;

fn figure(value: f64) -> String {
    if value < 10.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.0}")
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a figure shown needs no more than the 52 bits a float has"
)]
fn float(value: u64) -> f64 {
    value as f64
}

/// Which gates were missed, in one line each; and how many there are.
pub(crate) fn summary(outcomes: &[Outcome]) -> Vec<String> {
    let mut lines = Vec::new();
    let (mut reached, mut missed) = (0, 0);
    for outcome in outcomes {
        for gate in outcome.gates() {
            if gate.verdict == Verdict::Reached {
                reached += 1;
                continue;
            }
            missed += 1;
            let against = gate
                .against
                .map_or(String::new(), |who| format!(" against {who}"));
            lines.push(format!(
                "missed: {}: {}{against} is {}, not {}",
                outcome.case.name,
                gate.what,
                figure(gate.figure),
                figure(gate.limit)
            ));
        }
    }
    lines.push(format!("{reached} gates reached, {missed} missed"));
    lines
}

/// What was measured, by what, on what.
#[derive(Debug, Serialize)]
pub(crate) struct About {
    /// When the run started.
    pub(crate) started: String,
    /// Sizes divided by eight.
    pub(crate) quick: bool,
    /// What the programs say of themselves.
    pub(crate) versions: BTreeMap<&'static str, String>,
    /// The kind of processor.
    pub(crate) processor: String,
    /// How many there are.
    pub(crate) processors: usize,
    /// The kernel.
    pub(crate) kernel: String,
    /// Others' load on the machine before the run.
    pub(crate) load: String,
}

impl About {
    /// As lines before the table.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self
            .versions
            .iter()
            .map(|(who, version)| format!("{who:<9} {version}"))
            .collect();
        lines.push(format!(
            "machine   {} x {}, Linux {}, load {}",
            self.processors, self.processor, self.kernel, self.load
        ));
        if self.quick {
            lines.push("sizes     an eighth of those the gates are for".to_owned());
        }
        lines
    }
}

#[derive(Serialize)]
struct CaseDocument<'a> {
    name: &'a str,
    title: &'a str,
    runs: BTreeMap<&'static str, &'a [Sample]>,
    gates: Vec<Gate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bound_seconds: Option<Bound>,
}

/// Writes everything as JSON.
pub(crate) fn write(path: &Path, about: &About, outcomes: &[Outcome]) -> Result<()> {
    #[derive(Serialize)]
    struct Document<'a> {
        about: &'a About,
        cases: Vec<CaseDocument<'a>>,
    }
    let cases = outcomes
        .iter()
        .map(|outcome| CaseDocument {
            name: outcome.case.name,
            title: outcome.case.title,
            runs: outcome
                .samples
                .iter()
                .map(|(who, runs)| (who.name(), &runs[..]))
                .collect(),
            gates: outcome.gates(),
            bound_seconds: outcome.bound,
        })
        .collect();
    document(path, &Document { about, cases })
}

/// Writes a document as JSON.
pub(crate) fn document(path: &Path, document: &impl Serialize) -> Result<()> {
    let mut text = serde_json::to_string_pretty(document).context("the results are no JSON")?;
    text.push('\n');
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{case::ALL, measure::Usage};

    fn outcome(walls: [f64; 3]) -> Outcome {
        let sample = |wall: f64| Sample {
            usage: Usage {
                wall,
                user: wall,
                system: 0.5,
                peak_rss: 100 << 20,
            },
            added: 1 << 20,
            requests: None,
        };
        let samples = Who::ALL
            .into_iter()
            .zip(walls)
            .map(|(who, wall)| (who, vec![sample(wall)]));
        Outcome {
            case: ALL[0],
            samples: samples.collect(),
            bound: None,
        }
    }

    #[test]
    fn gates_say_what_was_reached() {
        let gates = outcome([3.0, 10.0, 4.0]).gates();
        let verdicts: Vec<_> = gates.iter().map(|gate| (gate.what, gate.verdict)).collect();
        assert_eq!(
            verdicts,
            [
                ("wall", Verdict::Reached),
                ("wall", Verdict::Missed),
                ("peak memory, MiB", Verdict::Reached),
                ("cpu", Verdict::Reached),
            ]
        );
        let summary = summary(&[outcome([3.0, 10.0, 4.0])]);
        assert_eq!(
            summary,
            [
                "missed: initial-dense: wall against rustic is 0.75, not 0.60",
                "3 gates reached, 1 missed",
            ]
        );
    }

    #[test]
    fn the_document_holds_every_run() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bench.json");
        let about = About {
            started: "now".to_owned(),
            quick: true,
            versions: BTreeMap::from([("ark", "1".to_owned())]),
            processor: "x".to_owned(),
            processors: 2,
            kernel: "6".to_owned(),
            load: "0".to_owned(),
        };
        write(&path, &about, &[outcome([1.0, 2.0, 3.0])]).unwrap();
        let read: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        let runs = &read["cases"][0]["runs"];
        assert_eq!(runs["rustic"][0]["wall"], 3.0);
        assert_eq!(runs["ark"][0]["peak_rss"], 100 << 20);
        assert_eq!(read["cases"][0]["gates"][0]["verdict"], "missed");
    }
}
