//! Schedules: the table of `get` and the text of `describe`.

use ark_api::condition::{self, kind};
use ark_api::schedule::{Retention, SchedulePhase, ScheduleStatus};
use ark_api::{Backup, Schedule};
use jiff::Timestamp;
use kube::ResourceExt;
use serde::Serialize;

use super::backup;
use super::describe::{Block, list};
use super::human::{NONE, UNSET, ago, count, map, names, selector, time, until};
use super::list::{LabelColumns, by_name};

/// Everything `describe` knows of a schedule.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ScheduleReport {
    /// The object.
    pub(crate) schedule: Schedule,
    /// The backups that carry its label.
    pub(crate) backups: Vec<Backup>,
}

/// The phase as shown; an object that nobody looked at yet is new.
fn phase(schedule: &Schedule) -> SchedulePhase {
    schedule
        .status
        .as_ref()
        .and_then(|status| status.phase)
        .unwrap_or_default()
}

/// The table of `get`, with the reason below it for each schedule that makes no sense.
pub(crate) fn table(schedules: &[Schedule], columns: &LabelColumns, now: Timestamp) -> String {
    let mut schedules: Vec<&Schedule> = schedules.iter().collect();
    schedules.sort_by(|a, b| by_name(&a.name_any(), &b.name_any()));
    let mut table = columns.table(&[
        "NAME",
        "STATUS",
        "CREATED",
        "SCHEDULE",
        "BACKUP TTL",
        "LAST BACKUP",
        "NEXT RUN",
        "SELECTOR",
        "PAUSED",
    ]);
    let mut reasons = String::new();
    for schedule in schedules {
        let unknown = ScheduleStatus::default();
        let status = schedule.status.as_ref().unwrap_or(&unknown);
        let spec = &schedule.spec;
        let cells = vec![
            schedule.name_any(),
            format!("{:?}", phase(schedule)),
            time(schedule.creation_timestamp().as_ref()),
            when(schedule),
            spec.template
                .ttl
                .map_or_else(|| UNSET.to_owned(), |ttl| ttl.to_string()),
            ago(status.last_backup.as_ref(), now),
            until(status.next_run.as_ref(), now),
            selector(spec.template.label_selector.as_ref()),
            spec.paused.to_string(),
        ];
        table.row(columns.cells(cells, schedule.metadata.labels.as_ref()));
        for error in &status.validation_errors {
            reasons += &format!("{}: {error}\n", schedule.name_any());
        }
    }
    let mut text = table.render("");
    if !reasons.is_empty() {
        text.push('\n');
        text += &reasons;
    }
    text
}

/// The expression, with its time zone if one is named beside it.
fn when(schedule: &Schedule) -> String {
    let spec = &schedule.spec;
    match spec.timezone.as_deref().filter(|zone| !zone.is_empty()) {
        Some(zone) => format!("{} ({zone})", spec.schedule),
        None => spec.schedule.clone(),
    }
}

/// The text of `describe`.
pub(crate) fn describe(report: &ScheduleReport, now: Timestamp) -> String {
    let schedule = &report.schedule;
    let unknown = ScheduleStatus::default();
    let status = schedule.status.as_ref().unwrap_or(&unknown);
    let none = std::collections::BTreeMap::new();
    let labels = schedule.metadata.labels.as_ref().unwrap_or(&none);
    let head = Block::new()
        .line("Name", schedule.name_any())
        .line("Namespace", schedule.namespace().unwrap_or_default())
        .line(
            "Labels",
            if labels.is_empty() {
                NONE.to_owned()
            } else {
                map(labels)
            },
        );
    let waiting = condition::get(&status.conditions, kind::WAITING)
        .filter(|condition| condition.status == "True")
        .map(|condition| condition.message.clone());
    let state = Block::new()
        .line("Phase", format!("{:?}", phase(schedule)))
        .line("Schedule", when(schedule))
        .line("Paused", schedule.spec.paused.to_string())
        .maybe(
            "Paused since",
            status.paused_since.as_ref().map(|since| time(Some(since))),
        )
        .line("Next run", time(status.next_run.as_ref()))
        .maybe("Waiting", waiting)
        .line(
            "Last run",
            match &status.last_backup_name {
                Some(name) => format!("{} ({name})", time(status.last_backup.as_ref())),
                None => time(status.last_backup.as_ref()),
            },
        )
        .line(
            "Last good backup",
            match &status.last_successful_backup {
                Some(name) => format!("{} ({name})", time(status.last_successful_time.as_ref())),
                None => NONE.to_owned(),
            },
        )
        .line(
            "Missed runs",
            match status.missed_runs {
                Some(missed) if missed > 0 => {
                    format!("{missed}, the last {}", time(status.last_missed.as_ref()))
                }
                _ => "0".to_owned(),
            },
        );
    let template = &schedule.spec.template;
    let what = Block::indented()
        .line(
            "Namespaces",
            names(&template.included_namespaces, "all but Ark's own"),
        )
        .line(
            "Excluded namespaces",
            names(&template.excluded_namespaces, NONE),
        )
        .line("Resources", names(&template.included_resources, "all"))
        .line("Selector", selector(template.label_selector.as_ref()))
        .line(
            "Location",
            template
                .storage_location
                .clone()
                .unwrap_or_else(|| "<default>".to_owned()),
        )
        .line(
            "TTL",
            template
                .ttl
                .map_or_else(|| "<default>".to_owned(), |ttl| ttl.to_string()),
        );
    let mut text = head.render();
    text.push('\n');
    text += &state.render();
    if !status.validation_errors.is_empty() {
        text.push('\n');
        text += &list("Validation errors", status.validation_errors.clone());
    }
    text += "\nBackup template:\n";
    text += &what.render();
    if let Some(retention) = &schedule.spec.retention {
        text.push('\n');
        text += "Retention:\n";
        text += &rules(retention).render();
    }
    text.push('\n');
    text += &backups(&report.backups, status, now);
    text
}

/// The rules that keep backups.
fn rules(retention: &Retention) -> Block {
    let number = |number: Option<u32>| number.map(|number| number.to_string());
    Block::indented()
        .maybe("Last", number(retention.keep_last))
        .maybe("Hourly", number(retention.keep_hourly))
        .maybe("Daily", number(retention.keep_daily))
        .maybe("Weekly", number(retention.keep_weekly))
        .maybe("Monthly", number(retention.keep_monthly))
        .maybe("Yearly", number(retention.keep_yearly))
}

/// The backups of a schedule, the newest first, with what its retention makes of them.
fn backups(backups: &[Backup], schedule: &ScheduleStatus, now: Timestamp) -> String {
    let mut backups: Vec<&Backup> = backups.iter().collect();
    backups.sort_by(|a, b| by_name(&a.name_any(), &b.name_any()));
    let lines = backups.iter().map(|backup| {
        let status = backup.status.clone().unwrap_or_default();
        let name = backup.name_any();
        let retained = schedule.retained.iter().find(|one| one.backup == name);
        let kept = match retained {
            Some(retained) if retained.reasons.is_empty() => ", kept by no rule".to_owned(),
            Some(retained) => format!(", kept: {}", retained.reasons.join(", ")),
            None => String::new(),
        };
        format!(
            "{name}  {:?}  expires {}{kept}",
            backup::phase(backup),
            until(status.expiration.as_ref(), now)
        )
    });
    if backups.is_empty() {
        return format!("Backups:  {NONE}\n");
    }
    list(
        &format!(
            "Backups ({})",
            count(i64::try_from(backups.len()).unwrap_or(i64::MAX), "backup")
        ),
        lines,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> ScheduleReport {
        let schedule = serde_json::from_value(serde_json::json!({
            "apiVersion": "ark.heptio.com/v1", "kind": "Schedule",
            "metadata": {"name": "daily", "namespace": "heptio-ark", "labels": {"team": "a"},
                "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"schedule": "0 1 * * *", "timezone": "Europe/Berlin",
                "template": {"includedNamespaces": ["shop"], "ttl": "168h"},
                "retention": {"keepLast": 1, "keepDaily": 7}},
            "status": {"phase": "Enabled", "lastBackup": "2026-01-05T00:00:00Z",
                "lastBackupName": "daily-20260105000013", "nextRun": "2026-01-06T00:00:13Z",
                "lastSuccessfulBackup": "daily-20260104000013", "lastSuccessfulTime": "2026-01-04T00:05:00Z",
                "retained": [{"backup": "daily-20260105000013"},
                    {"backup": "daily-20260104000013", "reasons": ["last snapshot", "daily snapshot"]}],
                "missedRuns": 2, "lastMissed": "2026-01-03T00:00:00Z",
                "conditions": [{"type": "Waiting", "status": "True", "reason": "PreviousRunning",
                    "message": "the run that was due at 2026-01-06T00:00:00Z waits until Backup x has ended",
                    "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
        }))
        .unwrap();
        let backup = |name: &str, phase: &str| {
            serde_json::from_value(serde_json::json!({
                "apiVersion": "ark.heptio.com/v1", "kind": "Backup",
                "metadata": {"name": name}, "spec": {},
                "status": {"phase": phase, "expiration": "2026-01-12T00:05:00Z"},
            }))
            .unwrap()
        };
        ScheduleReport {
            schedule,
            backups: vec![
                backup("daily-20260104000013", "Completed"),
                backup("daily-20260105000013", "PartiallyFailed"),
            ],
        }
    }

    fn now() -> Timestamp {
        "2026-01-05T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn table_says_why_a_schedule_makes_no_sense() {
        let mut bad = report().schedule;
        bad.metadata.name = Some("bad".to_owned());
        bad.status = Some(ScheduleStatus {
            phase: Some(SchedulePhase::FailedValidation),
            validation_errors: vec!["spec.schedule is empty".to_owned()],
            ..ScheduleStatus::default()
        });
        insta::assert_snapshot!(table(
            &[report().schedule, bad],
            &LabelColumns::default(),
            now()
        ));
    }

    #[test]
    fn description_says_what_it_did_and_does_next() {
        insta::assert_snapshot!(describe(&report(), now()));
    }
}
